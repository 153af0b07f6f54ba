/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shape of the flow decides how long a certificate takes: on a warm connection, with nonces in
 * hand, it is seven round trips deep however many names the order has: order, authorizations,
 * challenges, poll, finalize, poll, certificate. Therefore
 *
 * - everything about names goes on at once, and only the order is polled (RFC 8555 7.1.6: it
 * follows its authorizations);
 * - the first poll is sent at once: the CA had a round trip of time already;
 * - key and CSR are made beside the validation, answers are taken away beside the issuance;
 * - the nonces for the names are fetched while newOrder is under way.
 *
 * The flow enters at whatever state the order has, so that one which was interrupted goes on.
 */
#include "acme/issue.h"

#include "acme/cert.h"
#include "acme/flow.h"

#define VALIDATION_MS  (5 * CLOCK_MIN)
#define FINALIZE_MS    (10 * CLOCK_MIN)
#define ORDER_GRACE_MS (3 * CLOCK_SEC)
/* Short notes on the caller's disk, which a cancel must not prevent. */
#define NOTE_MS (30 * CLOCK_SEC)
/* Between polls: a round trip, at least and at most so long, then growing by 1.6 up to the last. */
#define PAUSE_MIN_MS   50
#define PAUSE_FIRST_MS 250
#define PAUSE_MAX_MS   (5 * CLOCK_SEC)
/* Polls that may fail in a row: an outage of seconds is no reason to give up an order. */
#define POLL_FAILURES  4
#define FINALIZE_TRIES 3

static const char *const step_names[ACME_STEP_MAX] = {
        [ACME_STEP_ORDER] = "order",
        [ACME_STEP_AUTHORIZE] = "authorize",
        [ACME_STEP_PRESENT] = "present",
        [ACME_STEP_VISIBLE] = "visible",
        [ACME_STEP_ANSWERED] = "answered",
        [ACME_STEP_VALID] = "valid",
        [ACME_STEP_FAILED] = "failed",
        [ACME_STEP_FINALIZE] = "finalize",
        [ACME_STEP_DOWNLOAD] = "download",
};

const char *acme_step_name(enum acme_step step)
{
    return (unsigned)step < ACME_STEP_MAX ? step_names[step] : "?";
}

void acme_issue_result_done(struct acme_issue_result *result)
{
    buf_done(&result->chain_pem);
    for (size_t i = 0; i < result->n_failed; i++)
        err_free(result->failed[i].error);
    free(result->failed);
    *result = (struct acme_issue_result){0};
}

void acme_flow_progress(
        const struct acme_flow *f, const struct name *name, enum acme_step step, const char *detail)
{
    if (f->issue->progress != NULL)
        f->issue->progress(f->issue->arg, name, step, detail);
}

static bool is_problem(const struct err *e, enum acme_problem_type type)
{
    const struct acme_problem *p = acme_problem_of(e);

    return p != NULL && p->type == type;
}

/* ---- what the caller keeps ---- */

static struct err *note_order(struct acme_flow *f) MAY_SUSPEND;
static struct err *note_order(struct acme_flow *f)
{
    FIBER_SHIELD(NOTE_MS);
    f->order_known = true;
    return f->issue->order_made(f->issue->arg, f->order.url);
}

static struct err *drop_order(struct acme_flow *f) MAY_SUSPEND;
static struct err *drop_order(struct acme_flow *f)
{
    FIBER_SHIELD(NOTE_MS);
    acme_order_done(&f->order);
    if (!f->order_known)
        return NULL;
    f->order_known = false;
    return f->issue->order_dropped(f->issue->arg);
}

/* ---- the order ---- */

static bool same_names(const struct name_list *a, const struct name_list *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!name_list_has(b, &a->v[i]))
            return false;
    return true;
}

static bool order_usable(const struct acme_flow *f)
{
    const struct acme_order *o = &f->order;
    struct wall now = world_now(acme_client_world(f->client));

    if (!same_names(&o->identifiers, f->issue->names) || o->status == ACME_INVALID)
        return false;
    return o->status == ACME_VALID || o->expires.ms == 0 || wall_before(now, o->expires);
}

/* The CA has no such order (any more), or not for this account. */
static bool order_gone(const struct err *e)
{
    const struct acme_problem *p = acme_problem_of(e);

    return p != NULL && p->type != ACME_ACCOUNT_DOES_NOT_EXIST &&
           p->type != ACME_USER_ACTION_REQUIRED && (err_is(e, ERR_DENIED) || err_is(e, ERR_CONFIG));
}

static struct err *resume_order(struct acme_flow *f, const char *url, bool *ret_usable) MAY_SUSPEND;
static struct err *resume_order(struct acme_flow *f, const char *url, bool *ret_usable)
{
    f->order_known = true;
    *ret_usable = false;
    AUTO_ERR struct err *foreign = acme_client_check_url(f->client, "the order", url);
    if (foreign != NULL)
        return NULL;
    struct err *e = acme_order_fetch(f->client, url, &f->order);
    if (order_gone(e)) {
        err_ignore(e, "a new order is made");
        return NULL;
    }
    TRY(e);
    if (!order_usable(f))
        return NULL;
    if (f->order.status == ACME_PENDING) {
        TRY(acme_flow_fetch_authorizations(f));
        if (!acme_flow_authorizations_alive(f))
            return NULL;
    }
    *ret_usable = true;
    return NULL;
}

struct order_request {
    struct acme_flow *flow;
    struct fiber_event answered;
};

static struct err *send_order(void *arg) MAY_SUSPEND;
static struct err *send_order(void *arg)
{
    struct order_request *r = arg;
    const struct acme_issue *issue = r->flow->issue;
    struct err *e = acme_order_new(r->flow->client, issue->names, issue->profile, &r->flow->order);

    fiber_event_set(&r->answered);
    return e;
}

static struct err *await_order(struct fiber_group *group) MAY_SUSPEND;
static struct err *await_order(struct fiber_group *group)
{
    FIBER_SHIELD(ORDER_GRACE_MS);
    return fiber_group_wait(group);
}

/* An order whose URL we never learn is an order too many: a cancel waits a little for the reply. */
static struct err *new_order(struct acme_flow *f) MAY_SUSPEND;
static struct err *new_order(struct acme_flow *f)
{
    struct order_request r = {.flow = f};
    struct fiber_group group;
    bool answered;

    fiber_event_init(&r.answered);
    fiber_group_init(&group);
    fiber_group_spawn(&group, "new order", send_order, &r);
    err_ignore(fiber_event_wait(&r.answered, -1, &answered), "seen again below");
    struct err *e = await_order(&group);
    return e == NULL ? NULL : err_first(fiber_check(), e);
}

static struct err *make_order(struct acme_flow *f) MAY_SUSPEND;
static struct err *make_order(struct acme_flow *f)
{
    const struct acme_issue *issue = f->issue;

    acme_flow_drop_items(f); /* of an order before this one */
    acme_client_want_nonces(f->client, issue->names->n);
    TRY(new_order(f));
    f->new_order = true;
    if (!same_names(&f->order.identifiers, issue->names))
        return ERR(ERR_PROTOCOL, "newOrder: the CA's order %s is for other names than asked for",
                f->order.url);
    return note_order(f);
}

static struct err *open_order(struct acme_flow *f, const char *url) MAY_SUSPEND;
static struct err *open_order(struct acme_flow *f, const char *url)
{
    bool usable = false;

    acme_flow_progress(f, NULL, ACME_STEP_ORDER, url);
    if (url != NULL) {
        TRY(resume_order(f, url, &usable));
        if (usable)
            return NULL;
        TRY(drop_order(f));
    }
    return make_order(f);
}

/* ---- polling it ---- */

static bool passing(const struct err *e)
{
    return err_is(e, ERR_RETRY) || err_is(e, ERR_RETRY_AT) || err_is(e, ERR_TIMEOUT);
}

struct poll {
    unsigned waiting_for_end_of; /* bits of the states that are not the end */
    struct mono until;
    int64_t pause_ms;
    struct wall not_before; /* the CA's wish */
    unsigned failures;
};

static struct err *poll_pause(const struct acme_flow *f, struct poll *p, bool *ret_late)
        MAY_SUSPEND;
static struct err *poll_pause(const struct acme_flow *f, struct poll *p, bool *ret_late)
{
    struct world *world = acme_client_world(f->client);
    int64_t left = mono_diff(p->until, world_mono(world));
    int64_t pause = p->pause_ms;

    if (p->not_before.ms != 0) /* Retry-After wins, also over a first poll at once */
        pause = wall_diff(p->not_before, world_now(world));
    *ret_late = left <= 0;
    if (*ret_late || pause <= 0)
        return NULL;
    return fiber_sleep(pause < left ? pause : left);
}

static void poll_slow_down(struct poll *p, int64_t rtt_ms)
{
    if (p->pause_ms == 0)
        p->pause_ms = rtt_ms < PAUSE_MIN_MS     ? PAUSE_MIN_MS
                      : rtt_ms > PAUSE_FIRST_MS ? PAUSE_FIRST_MS
                                                : rtt_ms;
    else
        p->pause_ms = p->pause_ms * 8 / 5;
    if (p->pause_ms > PAUSE_MAX_MS)
        p->pause_ms = PAUSE_MAX_MS;
}

static struct err *poll_once(struct acme_flow *f, struct poll *p) MAY_SUSPEND;
static struct err *poll_once(struct acme_flow *f, struct poll *p)
{
    AUTO_ORDER struct acme_order next = {0};

    struct err *e = acme_order_fetch(f->client, f->order.url, &next);
    if (e != NULL) {
        AUTO_ERR struct err *stop = fiber_check();
        if (stop != NULL || !passing(e) || ++p->failures > POLL_FAILURES)
            return e;
        p->not_before = err_is(e, ERR_RETRY_AT) ? err_retry_at(e) : (struct wall){0};
        err_ignore(e, "the order is asked for again");
        return NULL;
    }
    p->failures = 0;
    p->not_before = next.retry_after;
    struct acme_order old = f->order;
    f->order = next;
    next = old;
    return NULL;
}

static struct err *poll_order(struct acme_flow *f, struct poll *p, bool *ret_late) MAY_SUSPEND;
static struct err *poll_order(struct acme_flow *f, struct poll *p, bool *ret_late)
{
    struct world *world = acme_client_world(f->client);

    for (;;) {
        TRY(poll_pause(f, p, ret_late));
        if (*ret_late)
            return NULL;
        struct mono sent = world_mono(world);
        TRY(poll_once(f, p));
        if ((p->waiting_for_end_of & 1u << f->order.status) == 0)
            return NULL;
        if (f->order.status == ACME_PENDING)
            acme_flow_keep_answers(f);
        poll_slow_down(p, mono_diff(world_mono(world), sent));
    }
}

/* ---- validation ---- */

static struct mono limit(const struct acme_flow *f, int64_t wanted, int64_t otherwise)
{
    int64_t ms = wanted > 0 ? wanted : otherwise;

    return mono_add(world_mono(acme_client_world(f->client)), (uint64_t)ms);
}

static struct err *await_validation(struct acme_flow *f) MAY_SUSPEND;
static struct err *await_validation(struct acme_flow *f)
{
    struct poll poll = {
            .waiting_for_end_of = 1u << ACME_PENDING,
            .until = limit(f, f->issue->validation_ms, VALIDATION_MS),
    };
    bool late = false;

    TRY(poll_order(f, &poll, &late));
    if (late || f->order.status == ACME_INVALID) {
        struct err *e = acme_flow_explain_failure(f, late);
        return err_first(e, drop_order(f));
    }
    for (size_t i = 0; i < f->n_items; i++)
        if (f->items[i].authorization.status != ACME_VALID)
            acme_flow_progress(f, &f->items[i].name, ACME_STEP_VALID, NULL);
    return NULL;
}

static struct err *validate(void *arg) MAY_SUSPEND;
static struct err *validate(void *arg)
{
    struct acme_flow *f = arg;

    if (f->n_items == 0)
        TRY(acme_flow_fetch_authorizations(f));
    if (acme_flow_authorizations_alive(f))
        TRY(acme_flow_answer_challenges(f));
    return await_validation(f);
}

static struct err *prepare_csr(void *arg) MAY_SUSPEND;
static struct err *prepare_csr(void *arg)
{
    struct acme_flow *f = arg;

    return f->csr != NULL ? NULL : f->issue->make_csr(f->issue->arg, &f->csr);
}

static struct err *validate_and_prepare(struct acme_flow *f) MAY_SUSPEND;
static struct err *validate_and_prepare(struct acme_flow *f)
{
    struct fiber_group group;

    fiber_group_init(&group);
    fiber_group_spawn(&group, "validation", validate, f);
    fiber_group_spawn(&group, "key and CSR", prepare_csr, f);
    return fiber_group_wait(&group);
}

/* ---- issuance ---- */

/* A finalize whose reply did not arrive, or that came too early: the order says what became of it.
 */
static struct err *look_after_finalize(struct acme_flow *f, struct err *e, unsigned tries)
        MAY_SUSPEND;
static struct err *look_after_finalize(struct acme_flow *f, struct err *e, unsigned tries)
{
    struct poll poll = {0};
    bool again = (err_is(e, ERR_RETRY) || err_is(e, ERR_TIMEOUT)) && tries < FINALIZE_TRIES;

    if (!again)
        return e;
    AUTO_ERR struct err *stop = fiber_sleep(PAUSE_FIRST_MS);
    if (stop == NULL)
        stop = poll_once(f, &poll);
    if (stop != NULL)
        return e;
    err_ignore(e, "the order tells whether the CA has begun");
    return NULL;
}

static struct err *finalize(struct acme_flow *f) MAY_SUSPEND;
static struct err *finalize(struct acme_flow *f)
{
    TRY(prepare_csr(f));
    for (unsigned tries = 1; f->order.status == ACME_READY; tries++) {
        struct acme_order next = {0};
        struct err *e = acme_order_finalize(f->client, &f->order, f->csr, &next);
        if (e != NULL) {
            TRY(look_after_finalize(f, e, tries));
            continue;
        }
        /* It may say "ready" once more before it says "processing": polled either way. */
        acme_order_done(&f->order);
        f->order = next;
        return NULL;
    }
    return NULL;
}

static struct err *issuance_late(const struct acme_flow *f, struct wall come_back)
{
    struct err *e = come_back.ms != 0 ? ERR_AT(come_back, "the CA asks to come back later")
                                      : ERR(ERR_TIMEOUT, "the CA is still processing the order");

    return err_advise(e, "nothing to do: the same order is gone on with later");
}

static struct err *await_issuance(struct acme_flow *f) MAY_SUSPEND;
static struct err *await_issuance(struct acme_flow *f)
{
    struct poll poll = {
            .waiting_for_end_of = 1u << ACME_PROCESSING | 1u << ACME_READY,
            .until = limit(f, f->issue->finalize_ms, FINALIZE_MS),
            .not_before = f->order.retry_after,
    };
    bool late = false;

    if (f->order.status != ACME_PROCESSING && f->order.status != ACME_READY)
        return NULL;
    TRY(poll_order(f, &poll, &late));
    return late ? err_context(issuance_late(f, poll.not_before), "order %s", f->order.url) : NULL;
}

/* The caller's note goes, unless the order may still come to something. */
static struct err *refused(struct acme_flow *f) MAY_SUSPEND;
static struct err *refused(struct acme_flow *f)
{
    struct err *e = STEAL(f->order.error);

    if (f->order.status != ACME_INVALID)
        return ERR(ERR_RETRY, "order %s went back to %s", f->order.url,
                acme_status_name(f->order.status));
    if (e == NULL)
        e = ERR(ERR_DENIED, "no reason is given");
    e = err_context(e, "the CA refuses the certificate");
    return err_first(e, drop_order(f));
}

static struct err *download(struct acme_flow *f) MAY_SUSPEND;
static struct err *download(struct acme_flow *f)
{
    AUTO(cert_info_done) struct cert_info info = {0};

    acme_flow_progress(f, NULL, ACME_STEP_DOWNLOAD, NULL);
    TRY(acme_order_download(f->client, &f->order, &f->chain_pem));
    TRY_CTX(cert_parse(buf_str(&f->chain_pem), f->chain_pem.len, false, &info), "certificate %s",
            f->order.certificate);
    return NULL;
}

static struct err *finish(void *arg) MAY_SUSPEND;
static struct err *finish(void *arg)
{
    struct acme_flow *f = arg;

    if (f->order.status != ACME_VALID)
        acme_flow_progress(f, NULL, ACME_STEP_FINALIZE, NULL);
    if (f->order.status == ACME_READY)
        TRY(finalize(f));
    TRY(await_issuance(f));
    return f->order.status == ACME_VALID ? download(f) : refused(f);
}

static struct err *tidy(void *arg) MAY_SUSPEND;
static struct err *tidy(void *arg)
{
    acme_flow_remove_answers(arg);
    return NULL;
}

static struct err *finish_and_tidy(struct acme_flow *f) MAY_SUSPEND;
static struct err *finish_and_tidy(struct acme_flow *f)
{
    struct fiber_group group;

    fiber_group_init(&group);
    group.keep_going = true;
    fiber_group_spawn(&group, "removal of answers", tidy, f);
    fiber_group_spawn(&group, "issuance", finish, f);
    return fiber_group_wait(&group);
}

/* ---- the whole ---- */

static struct err *run(struct acme_flow *f, const char *order_url) MAY_SUSPEND;
static struct err *run(struct acme_flow *f, const char *order_url)
{
    TRY(open_order(f, order_url));
    if (f->order.status == ACME_PENDING)
        TRY(validate_and_prepare(f));
    return finish_and_tidy(f);
}

/* The CA has forgotten the account, and with it the order. */
static struct err *run_with_new_account(struct acme_flow *f, unsigned generation) MAY_SUSPEND;
static struct err *run_with_new_account(struct acme_flow *f, unsigned generation)
{
    if (acme_account_generation(f->issue->account) == generation)
        TRY(acme_account_recreate(f->issue->account));
    TRY(drop_order(f));
    return run(f, NULL);
}

struct err *acme_issue(const struct acme_issue *issue, struct acme_issue_result *ret)
{
    struct acme_flow f = {.issue = issue, .client = issue->client};
    unsigned generation = acme_account_generation(issue->account);

    struct err *e = run(&f, issue->order_url);
    if (err_is(e, ERR_CANCELED))
        acme_flow_await_verdicts(&f);
    acme_flow_remove_answers(&f);
    if (is_problem(e, ACME_ACCOUNT_DOES_NOT_EXIST)) {
        err_ignore(e, "the account is made again");
        e = run_with_new_account(&f, generation);
        acme_flow_remove_answers(&f);
    }
    ret->new_order = f.new_order;
    ret->n_failed = f.n_failed;
    ret->failed = STEAL(f.failed);
    if (e == NULL) {
        ret->chain_pem = f.chain_pem;
        f.chain_pem = (struct buf){0};
    }
    buf_done(&f.chain_pem);
    acme_flow_drop_items(&f);
    acme_order_done(&f.order);
    free(f.csr);
    return e;
}
