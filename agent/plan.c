/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/plan.h"

const char *plan_action_name(enum plan_action action)
{
    static const char *const names[PLAN_ACTION_MAX] = {"nothing", "deploy", "order", "wait"};

    return names[action];
}

const char *plan_want_name(enum plan_want want)
{
    static const char *const names[WANT_MAX] = {"none", "first", "due", "grow", "forced", "ca"};

    return names[want];
}

void host_facts_done(struct host_facts *facts)
{
    host_state_done(&facts->state);
    store_pending_done(&facts->pending);
    store_generation_done(&facts->generation);
    cert_info_done(&facts->live_cert);
}

void plan_done(struct plan *plan)
{
    free(plan->reason);
    name_list_done(&plan->names);
    *plan = (struct plan){0};
}

/* ---- time ---- */

struct wall plan_due(const struct cert_info *cert)
{
    int64_t lifetime = wall_diff(cert->not_after, cert->not_before);
    int64_t left = lifetime < 10 * CLOCK_DAY ? lifetime / 2 : lifetime / 3;

    return wall_add(cert->not_after, -left);
}

static int64_t jittered(int64_t ms, uint64_t random)
{
    return ms - ms / 5 + (int64_t)(random % (uint64_t)(2 * ms / 5));
}

int64_t plan_back_off(unsigned attempts, uint64_t random)
{
    /* Let's Encrypt's integration guide: 1, 10, 100 minutes, then at most daily. */
    static const int64_t steps[] = {CLOCK_MIN, 10 * CLOCK_MIN, 100 * CLOCK_MIN, CLOCK_DAY};
    size_t i = attempts == 0 ? 0 : attempts - 1;

    return jittered(steps[i < ARRAY_SIZE(steps) ? i : ARRAY_SIZE(steps) - 1], random);
}

int64_t plan_pause(int64_t failing_ms, uint64_t random)
{
    int64_t ms = failing_ms < CLOCK_HOUR ? failing_ms : CLOCK_HOUR;

    return jittered(ms > CLOCK_MIN ? ms : CLOCK_MIN, random);
}

/* None of our pauses is longer than this: what lies further ahead was written while the clock was
 * wrong, and holds nobody. */
#define PAUSE_MAX      (2 * CLOCK_DAY)
#define CA_PAUSE_MAX   (8 * CLOCK_DAY) /* Retry-After is cut at 7 days (acme/problem.c) */
#define POLL_MAX_S     ((int64_t)3600)
#define POLL_UNKNOWN_S ((int64_t)60)

static bool lies_ahead(struct wall now, struct wall t, int64_t max_ms)
{
    return wall_before(now, t) && wall_diff(t, now) <= max_ms;
}

/* Notes of the past that lie in the future are of now. */
static struct wall past(struct wall now, struct wall t)
{
    return wall_before(now, t) ? now : t;
}

static struct wall earlier(struct wall a, struct wall b)
{
    return wall_before(b, a) ? b : a;
}

/* ---- is an order wanted? ---- */

static size_t missing_names(const struct host_facts *f, const char **ret_first)
{
    size_t missing = 0;

    for (size_t i = 0; i < f->host->names.n; i++) {
        if (cert_covers(&f->generation.cert, &f->host->names.v[i]))
            continue;
        if (missing++ == 0)
            *ret_first = f->host->names.v[i].text;
    }
    return missing;
}

static char *more(const char *first, size_t n)
{
    return n == 1 ? str_dup(first) : str_printf("%s and %zu more", first, n - 1);
}

/* Nothing else may have asked for it than a --force that was cut short. */
static bool order_begun(const struct host_facts *f)
{
    const struct store_pending *p = &f->pending;

    if (!p->exists || p->order_url == NULL || p->directory == NULL ||
            strcmp(p->directory, f->config->acme.directory) != 0 || p->names.n != f->host->names.n)
        return false;
    for (size_t i = 0; i < p->names.n; i++)
        if (!name_list_has(&f->host->names, &p->names.v[i]))
            return false;
    return true;
}

static void find_want(
        const struct host_facts *f, const struct plan_options *options, struct plan *plan)
{
    const char *first = NULL;
    char span[WALL_TEXT_MAX];

    if (f->generation.number == 0) {
        plan->want = WANT_FIRST;
        plan->reason = str_dup("there is no certificate yet");
        return;
    }
    plan->due = plan_due(&f->generation.cert);
    int64_t left = wall_diff(f->generation.cert.not_after, f->now);
    size_t missing = missing_names(f, &first);
    if (options->force) {
        plan->want = WANT_FORCED;
        plan->reason = str_dup("renewal was asked for");
    } else if (f->generation.directory != NULL &&
               strcmp(f->generation.directory, f->config->acme.directory) != 0) {
        plan->want = WANT_CA;
        plan->reason = str_printf("the certificate is from %s", f->generation.directory);
    } else if (left <= 0) {
        plan->want = WANT_DUE;
        plan->reason = str_printf("the certificate expired %s ago", clock_span(-left, span));
    } else if (!wall_before(f->now, plan->due)) {
        plan->want = WANT_DUE;
        plan->reason = str_printf("renewal is due, %s left", clock_span(left, span));
    } else if (missing > 0) {
        AUTO_FREE char *names = more(first, missing);
        plan->want = WANT_GROW;
        plan->reason = str_printf("%s not in the certificate", names);
    } else if (order_begun(f)) {
        plan->want = WANT_FORCED;
        plan->reason = str_dup("an order that was begun is gone on with");
    } else {
        plan->want = WANT_NONE;
        plan->reason = str_printf("nothing due, %s left", clock_span(left, span));
    }
}

static bool is_live(const struct host_facts *f)
{
    return f->live == STORE_LIVE_GOOD &&
           memcmp(f->live_cert.leaf_sha256, f->generation.cert.leaf_sha256,
                   sizeof(f->live_cert.leaf_sha256)) == 0;
}

static const char *undeployed_node(const struct host_facts *f)
{
    for (size_t i = 0; i < f->config->n_nodes; i++) {
        const struct config_node *node = &f->config->nodes[i];
        bool deployed = false;
        for (size_t j = 0; j < f->state.n_deployed; j++)
            deployed |= strcmp(f->state.deployed[j].node, node->name) == 0 &&
                        f->state.deployed[j].generation == f->generation.number;
        if (!deployed)
            return node->name;
    }
    return NULL;
}

static void set_reason(struct plan *plan, char *owned)
{
    free(plan->reason);
    plan->reason = owned;
}

/* The pauses are the agent's; somebody who calls `renew` wants it tried. */
static bool may_deploy(const struct host_facts *f, const struct plan_options *options)
{
    return options->named || options->one_shot ||
           !lies_ahead(f->now, f->state.next_deploy, PAUSE_MAX);
}

bool plan_deploys_meanwhile(const struct host_facts *facts, const struct plan_options *options)
{
    return facts->generation.number != 0 &&
           wall_before(facts->now, facts->generation.cert.not_after) &&
           (!is_live(facts) || undeployed_node(facts) != NULL) && may_deploy(facts, options);
}

static void plan_deploy(
        const struct host_facts *f, const struct plan_options *options, struct plan *plan)
{
    const char *node = undeployed_node(f);

    if (!is_live(f)) {
        plan->action = PLAN_DEPLOY;
        set_reason(plan, str_dup("the newest certificate is not the live file"));
    } else if (node != NULL) {
        plan->action = PLAN_DEPLOY;
        set_reason(plan, str_printf("issued, not yet proved on %s", node));
    } else {
        plan->action = PLAN_NOTHING;
        plan->at = plan->due;
    }
    if (plan->action == PLAN_DEPLOY && !may_deploy(f, options)) {
        plan->action = PLAN_WAIT;
        plan->at = f->state.next_deploy;
    }
}

/* The CA's own Retry-After always wins; our back-off yields to an operator who names the host. */
static bool held_back(
        const struct host_facts *f, const struct plan_options *options, struct wall *ret_until)
{
    const struct host_state *s = &f->state;
    struct wall ours = options->one_shot ? s->renew_from : s->next_try;

    if (lies_ahead(f->now, s->not_before, CA_PAUSE_MAX)) {
        *ret_until = s->not_before;
        return true;
    }
    *ret_until = ours;
    return lies_ahead(f->now, ours, PAUSE_MAX) && !options->named && !options->force;
}

void plan_first(
        const struct host_facts *facts, const struct plan_options *options, struct plan *ret)
{
    struct wall until;

    *ret = (struct plan){0};
    find_want(facts, options, ret);
    if (ret->want == WANT_NONE) {
        plan_deploy(facts, options, ret);
        return;
    }
    if (held_back(facts, options, &until)) {
        ret->action = PLAN_WAIT;
        ret->at = until;
        char when[WALL_TEXT_MAX];
        set_reason(ret,
                str_printf("%s; waiting until %s after: %s", ret->reason,
                        wall_format(ret->at, when),
                        facts->state.error_text != NULL ? facts->state.error_text : "a failure"));
        return;
    }
    ret->action = PLAN_ORDER;
    for (size_t i = 0; i < facts->host->names.n; i++)
        name_list_add(&ret->names, &facts->host->names.v[i]);
}

/* ---- which names? ---- */

static void wait_for(struct plan *plan, struct wall at, char *reason)
{
    plan->action = PLAN_WAIT;
    plan->at = at;
    name_list_done(&plan->names);
    plan->names = (struct name_list){0};
    set_reason(plan, reason);
}

/* Of the wanted names, what the live certificate covers and this order would lose; where its file
 * is lost, the one that is going to be put back. An expired one has nothing to lose, nor has a
 * self-signed one, which no client takes (store_rules.c). */
static const char *would_lose(const struct host_facts *f, const struct name_list *ready)
{
    const struct cert_info *live = f->live == STORE_LIVE_GOOD ? &f->live_cert : &f->generation.cert;

    if ((f->live != STORE_LIVE_GOOD && f->generation.number == 0) || live->self_signed ||
            !wall_before(f->now, live->not_after))
        return NULL;
    for (size_t i = 0; i < f->host->names.n; i++) {
        const struct name *name = &f->host->names.v[i];
        if (cert_covers(live, name) && !name_list_has(ready, name))
            return name->text;
    }
    return NULL;
}

static bool gains(const struct host_facts *f, const struct name_list *ready)
{
    for (size_t i = 0; i < ready->n; i++)
        if (!cert_covers(&f->generation.cert, &ready->v[i]))
            return true;
    return false;
}

/* Some names are not ready: may the others go ahead? */
static void plan_partial(const struct host_facts *f, const struct plan_options *options,
        struct plan *plan, const struct name_list *ready, struct wall poll)
{
    const char *lost = would_lose(f, ready);
    int64_t wait_ms = options->one_shot ? 0 : f->config->partial_after_ms;
    struct wall since = f->state.incomplete_since.ms != 0 ? f->state.incomplete_since : f->now;
    struct wall partial_at = wall_add(past(f->now, since), wait_ms);
    struct wall growth_at = wall_add(past(f->now, f->state.last_growth), CLOCK_DAY);

    if (!f->config->partial_allow)
        wait_for(plan, poll, str_dup("not all names are ready, and partial: deny"));
    else if (lost != NULL)
        wait_for(plan, poll,
                str_printf("the live certificate has %s, which is not ready, so it stays", lost));
    else if (plan->want == WANT_GROW && !gains(f, ready))
        wait_for(plan, poll, str_dup("the missing names are not ready"));
    else if (plan->want == WANT_GROW && wall_before(f->now, growth_at))
        wait_for(plan, earlier(poll, growth_at),
                str_dup("names are added at most once a day while others are missing"));
    else if (wall_before(f->now, partial_at))
        wait_for(plan, earlier(poll, partial_at),
                str_dup("waiting for the other names before a partial order"));
    else {
        plan->partial = true;
        plan->at = poll;
    }
}

/* DNS that is not there yet is polled cheaply: not before the negative answer may change, and the
 * more seldom the longer it has been missing. */
static struct wall next_poll(const struct host_facts *f, const struct host_check *check)
{
    int64_t poll_s = check->retry_s > 0 && check->retry_s < 600 ? check->retry_s : POLL_UNKNOWN_S;
    struct wall since = f->state.incomplete_since;
    int64_t age_s = since.ms != 0 ? wall_diff(f->now, past(f->now, since)) / CLOCK_SEC / 10 : 0;

    if (age_s > POLL_MAX_S)
        age_s = POLL_MAX_S;
    return wall_add(f->now, (poll_s > age_s ? poll_s : age_s) * CLOCK_SEC);
}

void plan_check(const struct host_facts *facts, const struct plan_options *options,
        const struct host_check *check, struct plan *plan)
{
    struct name_list ready;
    struct wall poll = next_poll(facts, check);

    if (plan->action != PLAN_ORDER)
        return;
    host_check_ready(check, facts->host, &ready);
    if (!check->host_ready)
        wait_for(plan, poll, str_printf("%s itself is not ready", facts->host->host.text));
    else if (ready.n < facts->host->names.n)
        plan_partial(facts, options, plan, &ready, poll);
    if (plan->action == PLAN_ORDER) {
        name_list_done(&plan->names);
        plan->names = ready;
    } else {
        name_list_done(&ready);
    }
}
