/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nonces are a circulating supply: a signed request spends one and its reply brings one back. How
 * many circulate decides how much can go on in parallel, so flows announce how many requests they
 * are about to make at once, and the difference to what is here or on its way back is fetched. Each
 * announced request takes its announcement back when it takes its nonce.
 *
 * The newest is used first, since a CA forgets old ones; what is left over ages out at the other
 * end. One that waits counts as a fetch of its own, but is served by whatever comes first.
 *
 * Where nonces are short, who has the longest way to go comes first: flows then keep in step, and
 * in the end the last of them doesn't go its way alone, with nonces to spare.
 */
#include "acme/nonce.h"

#include <assert.h>

#include "acme/base64url.h"

/* Boulder keeps a bounded number of nonces, others keep them for a while: an hour is safe to drop,
 * and a stale one costs only the badNonce answer, which brings a fresh one. */
#define AGE_MAX CLOCK_HOUR

struct acme_nonce_waiter {
    struct fiber_wait wait;
    unsigned to_follow;
    char *nonce;
    struct err *error;
    struct acme_nonce_waiter *next;
};

void acme_nonces_init(struct acme_nonces *p, struct world *world, size_t per_second,
        void (*wanted)(void *arg), void *arg)
{
    *p = (struct acme_nonces){.world = world, .wanted = wanted, .arg = arg};
    p->pace_ms = 1000 / (per_second > 0 ? per_second : ACME_NONCE_RATE);
    p->burst = per_second / 10;
    if (p->burst < ACME_NONCE_BURST)
        p->burst = ACME_NONCE_BURST;
    if (p->burst > ACME_NONCES_MAX)
        p->burst = ACME_NONCES_MAX;
}

static void drop_oldest(struct acme_nonces *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(p->pool[i].text);
    p->n -= count;
    memmove(p->pool, p->pool + count, p->n * sizeof(p->pool[0]));
}

void acme_nonces_done(struct acme_nonces *p)
{
    assert(p->n_waiters == 0);
    drop_oldest(p, p->n);
}

static void expire(struct acme_nonces *p)
{
    struct mono now = world_mono(p->world);
    size_t old = 0;

    while (old < p->n && mono_diff(now, p->pool[old].since) > AGE_MAX)
        old++;
    drop_oldest(p, old);
}

static struct acme_nonce_waiter *pop_waiter(struct acme_nonces *p)
{
    struct acme_nonce_waiter *w = p->first;

    p->first = w->next;
    if (p->first == NULL)
        p->last = NULL;
    p->n_waiters--;
    return w;
}

static void add_waiter(struct acme_nonces *p, struct acme_nonce_waiter *w)
{
    struct acme_nonce_waiter *before = p->last;

    if (before != NULL && before->to_follow < w->to_follow) {
        before = NULL;
        for (struct acme_nonce_waiter *i = p->first; i->to_follow >= w->to_follow; i = i->next)
            before = i;
    }
    w->next = before != NULL ? before->next : p->first;
    if (before != NULL)
        before->next = w;
    else
        p->first = w;
    if (w->next == NULL)
        p->last = w;
    p->n_waiters++;
}

static void remove_waiter(struct acme_nonces *p, struct acme_nonce_waiter *w)
{
    struct acme_nonce_waiter *before = NULL;

    for (struct acme_nonce_waiter *i = p->first; i != w; i = i->next)
        before = i;
    if (before != NULL)
        before->next = w->next;
    else
        p->first = w->next;
    if (p->last == w)
        p->last = before;
    p->n_waiters--;
}

struct err *acme_nonces_take(struct acme_nonces *p, unsigned to_follow, char **ret)
{
    struct acme_nonce_waiter w = {.to_follow = to_follow};

    TRY(fiber_check());
    expire(p);
    if (p->announced > 0)
        p->announced--;
    if (p->n > 0) {
        *ret = STEAL(p->pool[--p->n].text);
        return NULL;
    }
    fiber_wait_init(&w.wait, "nonce", false);
    add_waiter(p, &w);
    p->wanted(p->arg);
    struct err *stop = fiber_wait_for(&w.wait);
    if (stop != NULL) {
        remove_waiter(p, &w);
        return stop;
    }
    if (w.error != NULL)
        return w.error;
    *ret = w.nonce;
    return NULL;
}

bool acme_nonce_ok(const char *text)
{
    return text != NULL && base64url_is_token(text, 1, ACME_NONCE_LEN_MAX);
}

void acme_nonces_give(struct acme_nonces *p, const char *text)
{
    if (!acme_nonce_ok(text))
        return;
    if (p->first != NULL) {
        struct acme_nonce_waiter *w = pop_waiter(p);
        w->nonce = str_dup(text);
        fiber_wait_wake(&w->wait);
        return;
    }
    if (p->n == ACME_NONCES_MAX)
        drop_oldest(p, 1);
    p->pool[p->n++] = (struct acme_nonce){str_dup(text), world_mono(p->world)};
}

void acme_nonces_announce(struct acme_nonces *p, size_t n)
{
    p->announced = n > ACME_NONCES_MAX - p->announced ? ACME_NONCES_MAX : p->announced + n;
    p->wanted(p->arg);
}

size_t acme_nonces_missing(struct acme_nonces *p)
{
    expire(p);
    size_t coming = p->n + p->posts;
    size_t need = p->n_waiters + (p->announced > coming ? p->announced - coming : 0);

    if (need > p->burst)
        need = p->burst;
    return need > p->fetching ? need - p->fetching : 0;
}

int64_t acme_nonces_pace(struct acme_nonces *p)
{
    struct mono now = world_mono(p->world);
    uint64_t burst = (p->burst - 1) * p->pace_ms;

    if (p->next_fetch.ms < now.ms)
        p->next_fetch = now;
    uint64_t ahead = p->next_fetch.ms - now.ms;
    p->next_fetch = mono_add(p->next_fetch, p->pace_ms);
    return ahead > burst ? (int64_t)(ahead - burst) : 0;
}

static struct err *copy_error(const struct err *e)
{
    struct err *copy = err_kind(e) == ERR_RETRY_AT ? ERR_AT(err_retry_at(e), "%s", err_text(e))
                                                   : ERR(err_kind(e), "%s", err_text(e));

    return err_advice(e) != NULL ? err_advise(copy, "%s", err_advice(e)) : copy;
}

void acme_nonces_failed(struct acme_nonces *p, const struct err *e)
{
    /* Nobody waits for what was only announced; asking on and on would be a loop. */
    p->announced = 0;
    while (p->n_waiters > p->fetching) {
        struct acme_nonce_waiter *w = pop_waiter(p);
        w->error = copy_error(e);
        fiber_wait_wake(&w->wait);
    }
}
