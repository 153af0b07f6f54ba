/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fiber is suspended in exactly one place, suspend(), and made ready in exactly two: by the wake
 * of what it waits for, and by its timer or a cancel. Why it came back is decided after the switch
 * from facts (woken? canceled? deadline passed?), so a wake and a cancel in the same turn can't be
 * confused: the wake wins, the cancel is seen at the next wait.
 */
#include "base/fiber.h"

#include <assert.h>
#include <stdio.h>

#include "base/loop_private.h"

struct fiber_context fiber_context;
static struct fiber *current;

/* ---- lifecycle ---- */

static void run_to_end(void)
{
    struct fiber *f = current;

    fiber_switch_arrived(f);
    f->result = f->fn(f->arg);
    assert(f->deadline == NULL); /* a scope was left open */
    f->ended = true;
    fiber_switch_out(f, true);
    abort();
}

static void prepare_context(struct fiber *f)
{
    int rc = getcontext(&f->context);

    assert(rc == 0);
    (void)rc;
    f->context.uc_stack.ss_sp = f->stack->base;
    f->context.uc_stack.ss_size = FIBER_STACK_SIZE;
    f->context.uc_link = NULL;
    makecontext(&f->context, run_to_end, 0);
}

static struct fiber *start(struct loop *loop, const char *name, fiber_fn *fn, void *arg)
{
    struct fiber *f = MEM_NEW(struct fiber);

    snprintf(f->name, sizeof(f->name), "%s", name);
    f->loop = loop;
    f->fn = fn;
    f->arg = arg;
    f->wake_at = MONO_NEVER;
    f->since = loop_mono(loop);
    f->log_snapshot = log_scope_snapshot();
    f->log_scope = f->log_snapshot;
    f->stack = fiber_stack_get();
    prepare_context(f);
    f->next = loop->first;
    if (loop->first != NULL)
        loop->first->prev = f;
    loop->first = f;
    loop->n_fibers++;
    loop_ready(f);
    return f;
}

struct fiber *fiber_spawn(struct loop *loop, const char *name, fiber_fn *fn, void *arg,
        void (*done)(void *arg, struct err *result))
{
    struct fiber *f = start(loop, name, fn, arg);

    f->done = done;
    return f;
}

static void group_member_ended(struct fiber *f);

static void finish(struct fiber *f)
{
    struct loop *loop = f->loop;

    loop_timer_set(f, MONO_NEVER);
    if (f->prev != NULL)
        f->prev->next = f->next;
    else
        loop->first = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    loop->n_fibers--;
    fiber_stack_put(STEAL(f->stack));
    if (f->group != NULL)
        group_member_ended(f);
    else if (f->done != NULL)
        f->done(f->arg, STEAL(f->result));
    err_ignore(STEAL(f->result), f->name);
    log_scope_snapshot_free(f->log_snapshot);
    free(f);
}

void fiber_resume(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;

    assert(current == NULL);
    loop_timer_set(fiber, MONO_NEVER);
    current = fiber;
    log_scope_set_current(fiber->log_scope);
    fiber_switch_in(fiber);
    fiber->log_scope = log_scope_current();
    log_scope_set_current(loop->log_scope);
    current = NULL;
    if (fiber->ended)
        finish(fiber);
}

struct fiber *fiber_self(void)
{
    return current;
}

const char *fiber_name(const struct fiber *fiber)
{
    return fiber->name;
}

void fiber_cancel(struct fiber *fiber)
{
    if (fiber->ended || fiber->canceled)
        return;
    fiber->canceled = true;
    if (fiber != current)
        loop_ready(fiber);
}

/* ---- being asked to stop ---- */

/* The scope that ends first, up to the innermost shield. */
static const struct fiber_deadline *earliest(const struct fiber *f, bool *ret_shielded)
{
    const struct fiber_deadline *first = NULL;

    *ret_shielded = false;
    for (const struct fiber_deadline *d = f->deadline; d != NULL; d = d->outer) {
        if (first == NULL || d->at.ms < first->at.ms)
            first = d;
        if (d->shield) {
            *ret_shielded = true;
            break;
        }
    }
    return first;
}

struct err *fiber_check(void)
{
    struct fiber *f = current;
    bool shielded;

    assert(f != NULL);
    const struct fiber_deadline *d = earliest(f, &shielded);
    if (f->canceled && !shielded)
        return ERR(ERR_CANCELED, "canceled");
    if (d != NULL && d->at.ms <= loop_mono(f->loop).ms) {
        char span[WALL_TEXT_MAX];
        return ERR(ERR_TIMEOUT, "%s took longer than %s", d->what, clock_span(d->ms, span));
    }
    return NULL;
}

/* ---- waiting ---- */

enum suspend_mode { INTERRUPTIBLE, UNINTERRUPTIBLE };

/* Until woken (NULL), asked to stop (error), or `until` has come (NULL, *ret_expired). */
static struct err *suspend(
        struct fiber_wait *wait, struct mono until, enum suspend_mode mode, bool *ret_expired)
{
    struct fiber *f = current;

    assert(f != NULL && wait->fiber == f);
    *ret_expired = false;
    f->since = loop_mono(f->loop);
    while (!wait->woken) {
        struct mono at = until;
        if (mode == INTERRUPTIBLE) {
            bool shielded;
            struct err *e = fiber_check();
            if (e != NULL)
                return e;
            const struct fiber_deadline *d = earliest(f, &shielded);
            if (d != NULL && d->at.ms < at.ms)
                at = d->at;
        }
        if (until.ms <= loop_mono(f->loop).ms) {
            *ret_expired = true;
            return NULL;
        }
        f->waits_for = wait;
        if (wait->real)
            loop_real_begin(f->loop);
        loop_timer_set(f, at);
        fiber_switch_out(f, false);
        if (wait->real)
            loop_real_end(f->loop);
        f->waits_for = NULL;
    }
    return NULL;
}

void fiber_wait_init(struct fiber_wait *wait, const char *what, bool real)
{
    assert(current != NULL);
    *wait = (struct fiber_wait){.fiber = current, .what = what, .real = real};
}

struct err *fiber_wait_for(struct fiber_wait *wait)
{
    bool expired;

    return suspend(wait, MONO_NEVER, INTERRUPTIBLE, &expired);
}

/* For what must have ended before this stack may be left. */
static void wait_for_end(struct fiber_wait *wait)
{
    bool expired;
    struct err *e = suspend(wait, MONO_NEVER, UNINTERRUPTIBLE, &expired);

    assert(e == NULL);
    (void)e;
}

void fiber_wait_wake(struct fiber_wait *wait)
{
    if (wait->woken)
        return;
    wait->woken = true;
    if (wait->fiber->waits_for == wait)
        loop_ready(wait->fiber);
}

struct err *fiber_sleep(int64_t ms)
{
    struct fiber_wait wait;
    bool expired;

    fiber_wait_init(&wait, "sleep", false);
    return suspend(&wait, mono_add(loop_mono(current->loop), ms < 0 ? 0 : (uint64_t)ms),
            INTERRUPTIBLE, &expired);
}

struct err *fiber_yield(void)
{
    struct fiber *f = current;

    TRY(fiber_check());
    loop_ready(f);
    fiber_switch_out(f, false);
    return fiber_check();
}

/* ---- thread pool ---- */

struct work {
    uv_work_t req;
    struct err *(*fn)(void *arg);
    void *arg;
    struct err *result;
    bool ran;
    struct fiber_wait wait;
};

static void work_run(uv_work_t *req)
{
    struct work *w = CONTAINER_OF(req, struct work, req);

    w->result = w->fn(w->arg);
    w->ran = true;
}

static void work_done(uv_work_t *req, int status)
{
    struct work *w = CONTAINER_OF(req, struct work, req);

    (void)status;
    fiber_wait_wake(&w->wait);
}

struct err *fiber_work(struct err *(*fn)(void *arg), void *arg)
{
    struct work w = {.fn = fn, .arg = arg};

    TRY(fiber_check());
    fiber_wait_init(&w.wait, "thread pool", true);
    int rc = uv_queue_work(&current->loop->uv, &w.req, work_run, work_done);
    if (rc != 0)
        return ERR_UV(rc, "thread pool");
    AUTO_ERR struct err *stop = fiber_wait_for(&w.wait);
    if (stop != NULL) {
        uv_cancel((uv_req_t *)&w.req); /* if it has not begun; either way work_done() comes */
        wait_for_end(&w.wait);
    }
    return w.ran ? w.result : STEAL(stop);
}

/* ---- groups ---- */

void fiber_group_init(struct fiber_group *group)
{
    assert(current != NULL);
    *group = (struct fiber_group){.loop = current->loop};
}

void fiber_group_spawn(struct fiber_group *group, const char *name, fiber_fn *fn, void *arg)
{
    struct fiber *f = start(group->loop, name, fn, arg);

    f->group = group;
    f->group_next = group->members;
    if (group->members != NULL)
        group->members->group_prev = f;
    group->members = f;
    group->running++;
}

void fiber_group_cancel(struct fiber_group *group)
{
    for (struct fiber *f = group->members; f != NULL; f = f->group_next)
        fiber_cancel(f);
}

static void group_member_ended(struct fiber *f)
{
    struct fiber_group *group = f->group;

    if (f->group_prev != NULL)
        f->group_prev->group_next = f->group_next;
    else
        group->members = f->group_next;
    if (f->group_next != NULL)
        f->group_next->group_prev = f->group_prev;
    group->running--;
    if (f->result != NULL) {
        if (group->first == NULL && !group->keep_going)
            fiber_group_cancel(group);
        group->first = err_first(group->first, STEAL(f->result));
    }
    if (group->running == 0 && group->waiter != NULL)
        fiber_wait_wake(group->waiter);
}

struct err *fiber_group_wait(struct fiber_group *group)
{
    struct fiber_wait wait;
    struct err *stop = NULL;

    fiber_wait_init(&wait, "group", false);
    if (group->running > 0) {
        group->waiter = &wait;
        stop = fiber_wait_for(&wait);
        if (stop != NULL) {
            fiber_group_cancel(group);
            wait_for_end(&wait);
        }
        group->waiter = NULL;
    }
    return err_first(stop, STEAL(group->first));
}

/* ---- semaphore and event ---- */

struct fiber_sem_waiter {
    struct fiber_wait wait;
    struct fiber_sem_waiter *next;
};

static void queue_push(
        struct fiber_sem_waiter **first, struct fiber_sem_waiter **last, struct fiber_sem_waiter *w)
{
    w->next = NULL;
    if (*last != NULL)
        (*last)->next = w;
    else
        *first = w;
    *last = w;
}

static struct fiber_sem_waiter *queue_pop(
        struct fiber_sem_waiter **first, struct fiber_sem_waiter **last)
{
    struct fiber_sem_waiter *w = *first;

    if (w != NULL) {
        *first = w->next;
        if (*first == NULL)
            *last = NULL;
    }
    return w;
}

static void queue_remove(
        struct fiber_sem_waiter **first, struct fiber_sem_waiter **last, struct fiber_sem_waiter *w)
{
    struct fiber_sem_waiter *before = NULL;

    for (struct fiber_sem_waiter *i = *first; i != NULL; before = i, i = i->next) {
        if (i != w)
            continue;
        if (before != NULL)
            before->next = w->next;
        else
            *first = w->next;
        if (*last == w)
            *last = before;
        return;
    }
}

void fiber_sem_init(struct fiber_sem *sem, size_t count)
{
    *sem = (struct fiber_sem){.free = count};
}

struct err *fiber_sem_acquire(struct fiber_sem *sem)
{
    struct fiber_sem_waiter w;

    TRY(fiber_check());
    if (sem->free > 0) {
        sem->free--;
        return NULL;
    }
    fiber_wait_init(&w.wait, "its turn", false);
    queue_push(&sem->first, &sem->last, &w);
    struct err *e = fiber_wait_for(&w.wait);
    if (e != NULL)
        queue_remove(&sem->first, &sem->last, &w);
    return e;
}

void fiber_sem_release(struct fiber_sem *sem)
{
    struct fiber_sem_waiter *w = queue_pop(&sem->first, &sem->last);

    /* The place goes straight to the first in line, so nobody can overtake. */
    if (w != NULL)
        fiber_wait_wake(&w->wait);
    else
        sem->free++;
}

void fiber_event_init(struct fiber_event *event)
{
    *event = (struct fiber_event){0};
}

void fiber_event_set(struct fiber_event *event)
{
    struct fiber_sem_waiter *w;

    event->set = true;
    while ((w = queue_pop(&event->first, &event->last)) != NULL)
        fiber_wait_wake(&w->wait);
}

void fiber_event_clear(struct fiber_event *event)
{
    event->set = false;
}

struct err *fiber_event_wait(struct fiber_event *event, int64_t ms, bool *ret_set)
{
    struct fiber_sem_waiter w;
    bool expired = false;
    struct err *e = NULL;

    TRY(fiber_check());
    if (!event->set) {
        struct mono until = ms < 0 ? MONO_NEVER : mono_add(loop_mono(current->loop), (uint64_t)ms);
        fiber_wait_init(&w.wait, "an event", false);
        queue_push(&event->first, &event->last, &w);
        e = suspend(&w.wait, until, INTERRUPTIBLE, &expired);
        if (e != NULL || expired)
            queue_remove(&event->first, &event->last, &w);
    }
    if (e == NULL)
        *ret_set = !expired;
    return e;
}

/* ---- scopes ---- */

void fiber_deadline_push(struct fiber_deadline *deadline, int64_t ms, const char *what)
{
    struct fiber *f = current;

    assert(f != NULL);
    *deadline = (struct fiber_deadline){.outer = f->deadline,
            .at = mono_add(loop_mono(f->loop), ms < 0 ? 0 : (uint64_t)ms),
            .ms = ms,
            .what = what};
    f->deadline = deadline;
}

void fiber_deadline_pop(struct fiber_deadline *deadline)
{
    assert(current->deadline == deadline);
    current->deadline = deadline->outer;
}

void fiber_shield_push(struct fiber_shield *shield, int64_t ms)
{
    fiber_deadline_push(&shield->deadline, ms, "cleaning up");
    shield->deadline.shield = true;
}

void fiber_shield_pop(struct fiber_shield *shield)
{
    fiber_deadline_pop(&shield->deadline);
}

/* ---- looking in ---- */

void fiber_each(
        struct loop *loop, void (*visit)(void *arg, const struct fiber_info *info), void *arg)
{
    for (const struct fiber *f = loop->first; f != NULL; f = f->next) {
        bool shielded;
        const struct fiber_deadline *d = earliest(f, &shielded);
        struct fiber_info info = {.name = f->name,
                .waits_for = f->waits_for != NULL ? f->waits_for->what : NULL,
                .since = f->since,
                .deadline = d != NULL ? d->at : MONO_NEVER,
                .canceled = f->canceled};
        visit(arg, &info);
    }
}
