/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The middle part of the flow: from an order's authorizations to answered challenges, all names at
 * once, and back again. An answer counts as presented before present() is called, so that remove()
 * comes for each one that may exist.
 */
#include <stdio.h>

#include "acme/flow.h"

#define REMOVE_MS     (60 * CLOCK_SEC)
#define VERDICT_MS    (3 * CLOCK_SEC)
#define ANSWER_TRIES  3
#define ANSWER_PAUSE  250
#define REASON_MAX    600
#define REASONS_SHOWN 5

typedef struct err *item_fn(void *item);

/* Runs fn on every item at once. */
static struct err *for_each_item(
        struct acme_flow *f, const char *what, item_fn *fn, bool keep_going) MAY_SUSPEND;
static struct err *for_each_item(
        struct acme_flow *f, const char *what, item_fn *fn, bool keep_going)
{
    struct fiber_group group;

    fiber_group_init(&group);
    group.keep_going = keep_going;
    for (size_t i = 0; i < f->n_items; i++) {
        LOG_SCOPE(LOG_STR("name", f->items[i].name.text));
        fiber_group_spawn(&group, what, fn, &f->items[i]);
    }
    return fiber_group_wait(&group);
}

void acme_flow_drop_items(struct acme_flow *f)
{
    for (size_t i = 0; i < f->n_items; i++) {
        free(f->items[i].url);
        free(f->items[i].challenge.key_authorization);
        acme_authorization_done(&f->items[i].authorization);
    }
    free(f->items);
    f->items = NULL;
    f->n_items = 0;
}

/* ---- authorizations ---- */

static struct err *fetch_one(void *arg) MAY_SUSPEND;
static struct err *fetch_one(void *arg)
{
    struct acme_item *item = arg;
    struct acme_authorization now = {0};

    TRY(acme_authorization_fetch(
            item->flow->client, item->url, item->flow->issue->solver->type, &now));
    acme_authorization_done(&item->authorization);
    item->authorization = now;
    return NULL;
}

/* They come in any order, and a CA may list the names sorted: each says itself whose it is. */
static struct err *find_name(struct acme_item *item)
{
    const struct acme_authorization *a = &item->authorization;
    const struct acme_flow *f = item->flow;

    snprintf(item->name.text, sizeof(item->name.text), "%s%.*s", a->wildcard ? "*." : "",
            a->wildcard ? NAME_MAX_TEXT - 3 : NAME_MAX_TEXT - 1, a->name.text);
    if (!name_list_has(&f->order.identifiers, &item->name))
        return ERR(ERR_PROTOCOL, "order %s: authorization %s is for %s, which is not of the order",
                f->order.url, item->url, item->name.text);
    for (struct acme_item *other = f->items; other < item; other++)
        if (name_equal(&other->name, &item->name))
            return ERR(ERR_PROTOCOL, "order %s: two authorizations for %s", f->order.url,
                    item->name.text);
    return NULL;
}

struct err *acme_flow_fetch_authorizations(struct acme_flow *f)
{
    size_t n = f->order.authorizations.n;

    acme_flow_drop_items(f);
    f->items = mem_array(n, sizeof(f->items[0]));
    f->n_items = n;
    for (size_t i = 0; i < n; i++) {
        f->items[i].flow = f;
        f->items[i].url = str_dup(f->order.authorizations.v[i]);
    }
    TRY(for_each_item(f, "authorization", fetch_one, false));
    for (size_t i = 0; i < n; i++) {
        struct acme_item *item = &f->items[i];
        TRY(find_name(item));
        acme_flow_progress(f, &item->name,
                item->authorization.status == ACME_VALID ? ACME_STEP_VALID : ACME_STEP_AUTHORIZE,
                NULL);
    }
    return NULL;
}

bool acme_flow_authorizations_alive(const struct acme_flow *f)
{
    for (size_t i = 0; i < f->n_items; i++) {
        enum acme_status status = f->items[i].authorization.status;
        if (status != ACME_PENDING && status != ACME_VALID)
            return false;
    }
    return true;
}

/* ---- challenges ---- */

/* Something of ours failed for this name. */
static struct err *tell_failure(const struct acme_item *item, struct err *e)
{
    if (e == NULL || err_is(e, ERR_CANCELED))
        return e;
    acme_flow_progress(item->flow, &item->name, ACME_STEP_FAILED, err_text(e));
    return err_context(e, "%s", item->name.text);
}

static struct err *choose_challenge(struct acme_item *item)
{
    const struct acme_authorization *a = &item->authorization;
    const struct acme_flow *f = item->flow;
    const char *type = f->issue->solver->type;
    char thumbprint[KEY_THUMBPRINT_MAX];

    if (!a->offered) {
        AUTO_FREE char *types = strv_join(&a->types, ", ");
        return err_advise(ERR(ERR_CONFIG, "the CA does not offer %s but %s", type,
                                  a->types.n > 0 ? types : "nothing"),
                "choose another challenge for this name");
    }
    TRY(key_thumbprint(acme_client_key(f->client), thumbprint));
    item->challenge.name = a->name;
    item->challenge.wildcard = a->wildcard;
    item->challenge.type = type;
    memcpy(item->challenge.token, a->token, sizeof(item->challenge.token));
    item->challenge.key_authorization = str_printf("%s.%s", a->token, thumbprint);
    return NULL;
}

static bool is_pending(const struct acme_item *item)
{
    return item->authorization.status == ACME_PENDING;
}

static struct err *present_one(void *arg) MAY_SUSPEND;
static struct err *present_one(void *arg)
{
    struct acme_item *item = arg;

    if (!is_pending(item))
        return NULL;
    acme_flow_progress(item->flow, &item->name, ACME_STEP_PRESENT, NULL);
    item->presented = true;
    return tell_failure(item, acme_solver_present(item->flow->issue->solver, &item->challenge));
}

static struct err *wait_visible(struct acme_flow *f) MAY_SUSPEND;
static struct err *wait_visible(struct acme_flow *f)
{
    AUTO_FREE const struct acme_challenge **challenges = mem_array(f->n_items + 1, sizeof(void *));
    size_t n = 0;

    for (size_t i = 0; i < f->n_items; i++) {
        if (!is_pending(&f->items[i]))
            continue;
        challenges[n++] = &f->items[i].challenge;
        acme_flow_progress(f, &f->items[i].name, ACME_STEP_VISIBLE, NULL);
    }
    return n == 0 ? NULL : acme_solver_wait_visible(f->issue->solver, challenges, n);
}

/* Whether the CA has the answer, where its reply does not tell. */
static struct err *look_after_answer(
        struct acme_item *item, struct err *e, unsigned tries, bool *ret_arrived) MAY_SUSPEND;
static struct err *look_after_answer(
        struct acme_item *item, struct err *e, unsigned tries, bool *ret_arrived)
{
    AUTO_ERR struct err *why = e;
    bool passing = err_is(why, ERR_RETRY) || err_is(why, ERR_TIMEOUT);

    TRY(fiber_check());
    if (passing)
        TRY(fiber_sleep(ANSWER_PAUSE));
    AUTO_ERR struct err *stop = fetch_one(item);
    if (stop == NULL) {
        *ret_arrived = !is_pending(item) || item->authorization.challenge_status != ACME_PENDING;
        if (*ret_arrived || (passing && tries < ANSWER_TRIES))
            return NULL;
    }
    return STEAL(why);
}

static struct err *tell_ca(struct acme_item *item) MAY_SUSPEND;
static struct err *tell_ca(struct acme_item *item)
{
    bool arrived = false;

    /* A challenge that is "processing" was answered by an earlier run. */
    if (item->authorization.challenge_status != ACME_PENDING)
        return NULL;
    item->told = true;
    for (unsigned tries = 1; !arrived; tries++) {
        struct err *e =
                acme_challenge_answer(item->flow->client, item->authorization.challenge_url);
        if (e == NULL)
            return NULL;
        TRY(look_after_answer(item, e, tries, &arrived));
    }
    return NULL;
}

static struct err *answer_one(void *arg) MAY_SUSPEND;
static struct err *answer_one(void *arg)
{
    struct acme_item *item = arg;

    if (!is_pending(item))
        return NULL;
    struct err *e = acme_solver_verify(item->flow->issue->solver, &item->challenge);
    if (e == NULL)
        e = tell_ca(item);
    if (e == NULL)
        acme_flow_progress(item->flow, &item->name, ACME_STEP_ANSWERED, NULL);
    return tell_failure(item, e);
}

struct err *acme_flow_answer_challenges(struct acme_flow *f)
{
    for (size_t i = 0; i < f->n_items; i++)
        if (is_pending(&f->items[i]))
            TRY(tell_failure(&f->items[i], choose_challenge(&f->items[i])));
    TRY(for_each_item(f, "present", present_one, false));
    TRY(wait_visible(f));
    return for_each_item(f, "answer", answer_one, false);
}

static struct err *keep_one(void *arg) MAY_SUSPEND;
static struct err *keep_one(void *arg)
{
    struct acme_item *item = arg;

    return item->presented ? acme_solver_verify(item->flow->issue->solver, &item->challenge) : NULL;
}

void acme_flow_keep_answers(struct acme_flow *f)
{
    err_ignore(for_each_item(f, "keep", keep_one, true), "the CA says what it makes of it");
}

static struct err *await_verdict(void *arg) MAY_SUSPEND;
static struct err *await_verdict(void *arg)
{
    struct acme_item *item = arg;

    while (item->told && is_pending(item)) {
        TRY(fetch_one(item));
        if (is_pending(item))
            TRY(fiber_sleep(ANSWER_PAUSE));
    }
    return NULL;
}

void acme_flow_await_verdicts(struct acme_flow *f)
{
    FIBER_SHIELD(VERDICT_MS);
    err_ignore(for_each_item(f, "verdict", await_verdict, true), "then they fail");
}

static struct err *remove_one(void *arg) MAY_SUSPEND;
static struct err *remove_one(void *arg)
{
    struct acme_item *item = arg;

    if (!item->presented)
        return NULL;
    item->presented = false;
    err_ignore(acme_solver_remove(item->flow->issue->solver, &item->challenge),
            "the solver's journal keeps it for the next sweep");
    return NULL;
}

void acme_flow_remove_answers(struct acme_flow *f)
{
    FIBER_SHIELD(REMOVE_MS);
    err_ignore(for_each_item(f, "remove", remove_one, true), "the next sweep removes it");
}

/* ---- failure ---- */

static struct err *look_or_give_up(void *arg) MAY_SUSPEND;
static struct err *look_or_give_up(void *arg)
{
    struct acme_item *item = arg;

    if (item->authorization.status == ACME_VALID)
        return NULL;
    TRY(fetch_one(item));
    return is_pending(item) ? acme_authorization_deactivate(item->flow->client, item->url) : NULL;
}

static void add_failed(struct acme_flow *f, const struct acme_item *item, struct err *owned)
{
    f->failed = mem_realloc_array(f->failed, f->n_failed + 1, sizeof(f->failed[0]));
    f->failed[f->n_failed++] = (struct acme_failed_name){item->name, owned};
    acme_flow_progress(f, &item->name, ACME_STEP_FAILED, err_text(owned));
}

static void collect_failed(struct acme_flow *f, bool late)
{
    for (size_t i = 0; i < f->n_items; i++) {
        struct acme_item *item = &f->items[i];
        enum acme_status status = item->authorization.status;
        if (item->authorization.error != NULL && status != ACME_VALID)
            add_failed(f, item, STEAL(item->authorization.error));
        else if (status == ACME_PENDING && late)
            add_failed(f, item, ERR(ERR_TIMEOUT, "the CA did not come to a verdict in time"));
        else if (status != ACME_PENDING && status != ACME_VALID)
            add_failed(f, item,
                    ERR(ERR_DENIED, "the authorization is %s, no reason is given",
                            acme_status_name(status)));
    }
}

/* Of several names the one decides that a person has to do something about. */
static const struct err *decisive(const struct acme_flow *f)
{
    for (size_t i = 0; i < f->n_failed; i++)
        if (err_is(f->failed[i].error, ERR_CONFIG))
            return f->failed[i].error;
    return f->failed[0].error;
}

static struct err *summary(const struct acme_flow *f)
{
    AUTO_BUF struct buf text = BUF_INIT((size_t)8 * 1024);
    const struct err *why = decisive(f);

    for (size_t i = 0; i < f->n_failed && i < REASONS_SHOWN; i++) {
        const char *reason = err_text(f->failed[i].error);
        buf_printf(&text, "%s%s: ", i == 0 ? "" : "; ", f->failed[i].name.text);
        buf_put_foreign(&text, reason, strlen(reason), REASON_MAX);
    }
    if (f->n_failed > REASONS_SHOWN)
        buf_printf(&text, "; and %zu more", f->n_failed - REASONS_SHOWN);
    struct err *e = ERR_FROM(err_kind(why) == ERR_RETRY_AT ? ERR_RETRY : err_kind(why),
            err_origin(why), err_number(why), "the CA could not validate %zu of %zu names: %s",
            f->n_failed, f->order.identifiers.n, buf_str(&text));
    return err_advice(why) != NULL ? err_advise(e, "%s", err_advice(why)) : e;
}

struct err *acme_flow_explain_failure(struct acme_flow *f, bool late)
{
    struct err *stop = for_each_item(f, "reason", look_or_give_up, true);

    if (err_is(stop, ERR_CANCELED))
        return stop;
    err_ignore(stop, "the reasons that are known have to do");
    collect_failed(f, late);
    if (f->n_failed > 0)
        return summary(f);
    if (f->order.error != NULL)
        return err_context(STEAL(f->order.error), "the CA gave up the order");
    return late ? ERR(ERR_TIMEOUT, "the CA did not come to a verdict in time")
                : ERR(ERR_DENIED, "the CA gave up the order, no reason is given");
}
