/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop alternates between two phases: run every fiber that is ready, then one turn of libuv,
 * which blocks only if no fiber is ready. Callbacks of libuv make fibers ready, so no fiber ever
 * runs inside one.
 *
 * Each fiber waits for at most one instant (the earliest of its sleep and its deadlines), so the
 * timers are a heap of fibers. A real loop arms one uv_timer for the top of the heap. A virtual
 * loop, when nothing is ready and no fiber waits for the real world, moves its clocks to the top
 * instead.
 */
#include "base/loop.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

#include "base/loop_private.h"

/* ---- run queue ---- */

void loop_ready(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;

    if (fiber->ready || fiber->ended)
        return;
    fiber->ready = true;
    fiber->next_ready = NULL;
    if (loop->ready_last != NULL)
        loop->ready_last->next_ready = fiber;
    else
        loop->ready_first = fiber;
    loop->ready_last = fiber;
    /* libuv runs timers before it polls: without this, what a timer made ready would sleep until
     * the next event from outside. (Outside of uv_run() it would make the next one not poll.) */
    if (loop->in_uv)
        uv_stop(&loop->uv);
}

/* Only those that are ready now: one that yields comes back after libuv had its turn. */
static void run_ready(struct loop *loop)
{
    struct fiber *f = loop->ready_first;

    loop->ready_first = loop->ready_last = NULL;
    while (f != NULL) {
        struct fiber *next = f->next_ready;
        f->ready = false;
        f->next_ready = NULL;
        fiber_resume(f);
        f = next;
    }
}

/* ---- timer heap ---- */

static bool heap_before(const struct fiber *a, const struct fiber *b)
{
    return a->wake_at.ms < b->wake_at.ms;
}

static void heap_put(struct loop *loop, size_t i, struct fiber *f)
{
    loop->heap[i] = f;
    f->heap_index = i;
}

static void heap_up(struct loop *loop, size_t i)
{
    struct fiber *f = loop->heap[i];

    while (i > 0 && heap_before(f, loop->heap[(i - 1) / 2])) {
        heap_put(loop, i, loop->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(loop, i, f);
}

static void heap_down(struct loop *loop, size_t i)
{
    struct fiber *f = loop->heap[i];

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= loop->heap_len)
            break;
        if (child + 1 < loop->heap_len && heap_before(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!heap_before(loop->heap[child], f))
            break;
        heap_put(loop, i, loop->heap[child]);
        i = child;
    }
    heap_put(loop, i, f);
}

static void heap_remove(struct loop *loop, struct fiber *f)
{
    size_t i = f->heap_index;
    struct fiber *last = loop->heap[--loop->heap_len];

    if (last == f)
        return;
    heap_put(loop, i, last);
    heap_up(loop, i);
    heap_down(loop, last->heap_index);
}

void loop_timer_set(struct fiber *fiber, struct mono at)
{
    struct loop *loop = fiber->loop;

    if (fiber->wake_at.ms != UINT64_MAX)
        heap_remove(loop, fiber);
    fiber->wake_at = at;
    if (at.ms == UINT64_MAX)
        return;
    if (loop->heap_len == loop->heap_cap) {
        loop->heap_cap = loop->heap_cap == 0 ? 64 : loop->heap_cap * 2;
        loop->heap = mem_realloc_array(loop->heap, loop->heap_cap, sizeof(struct fiber *));
    }
    heap_put(loop, loop->heap_len++, fiber);
    heap_up(loop, loop->heap_len - 1);
}

static void run_timers(struct loop *loop)
{
    struct mono now = loop_mono(loop);

    while (loop->heap_len > 0 && loop->heap[0]->wake_at.ms <= now.ms) {
        struct fiber *f = loop->heap[0];
        loop_timer_set(f, MONO_NEVER);
        loop_ready(f);
    }
}

/* ---- lifecycle ---- */

/* Its only purpose is to end uv_run(). It makes nobody ready itself, so one that is due already
 * when uv_run() begins would be over before the poll and not end that. */
static void on_timer(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

struct err *loop_new(struct loop **ret)
{
    struct loop *loop = MEM_NEW(struct loop);
    int rc = uv_loop_init(&loop->uv);

    if (rc != 0) {
        free(loop);
        return ERR_UV(rc, "event loop");
    }
    uv_timer_init(&loop->uv, &loop->timer);
    *ret = loop;
    return NULL;
}

struct err *loop_new_virtual(struct wall start, struct loop **ret)
{
    struct loop *loop = NULL;

    TRY(loop_new(&loop));
    loop->is_virtual = true;
    loop->wall = start;
    loop->mono = (struct mono){1};
    *ret = loop;
    return NULL;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    assert(loop->n_fibers == 0);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&loop->uv);
    assert(rc == 0); /* a handle was not closed by its owner */
    (void)rc;
    free(loop->heap);
    free(loop);
    fiber_stack_free_cache();
}

/* ---- running ---- */

/* A bug, never an outside condition: no event can ever come. */
static _Noreturn void deadlock(struct loop *loop)
{
    fprintf(stderr, "certherd: bug: every fiber waits for another:\n");
    for (const struct fiber *f = loop->first; f != NULL; f = f->next)
        fprintf(stderr, "  %s: %s\n", f->name, f->waits_for != NULL ? f->waits_for->what : "?");
    abort();
}

static void run_uv(struct loop *loop, uv_run_mode mode)
{
    loop->in_uv = true;
    uv_run(&loop->uv, mode);
    loop->in_uv = false;
}

static void turn_real(struct loop *loop)
{
    if (loop->ready_first != NULL) {
        run_uv(loop, UV_RUN_NOWAIT);
        return;
    }
    if (loop->heap_len > 0) {
        int64_t ms = mono_diff(loop->heap[0]->wake_at, loop_mono(loop));
        uv_update_time(&loop->uv);
        uv_timer_start(&loop->timer, on_timer, ms < 1 ? 1 : (uint64_t)ms, 0);
    } else if (!uv_loop_alive(&loop->uv)) {
        deadlock(loop);
    }
    run_uv(loop, UV_RUN_ONCE);
    uv_timer_stop(&loop->timer);
}

static void turn_virtual(struct loop *loop)
{
    if (loop->ready_first != NULL || loop->real_waits == 0)
        run_uv(loop, UV_RUN_NOWAIT);
    else
        run_uv(loop, UV_RUN_ONCE);
    if (loop->ready_first != NULL || loop->real_waits > 0)
        return;
    if (loop->heap_len == 0)
        deadlock(loop);
    int64_t ms = mono_diff(loop->heap[0]->wake_at, loop->mono);
    if (ms > 0) {
        loop->mono = mono_add(loop->mono, (uint64_t)ms);
        loop->wall = wall_add(loop->wall, ms);
    }
}

void loop_run(struct loop *loop)
{
    loop->log_scope = log_scope_current();
    while (loop->n_fibers > 0) {
        run_ready(loop);
        if (loop->n_fibers == 0)
            break;
        if (loop->is_virtual)
            turn_virtual(loop);
        else
            turn_real(loop);
        run_timers(loop);
    }
    /* Close callbacks of handles that the last fibers closed. */
    uv_run(&loop->uv, UV_RUN_NOWAIT);
}

void loop_cancel_all(struct loop *loop)
{
    /* Members of groups are canceled by the fiber that waits for them, which may be in a shield. */
    for (struct fiber *f = loop->first; f != NULL; f = f->next)
        if (f->group == NULL)
            fiber_cancel(f);
}

/* ---- clocks ---- */

static int64_t system_ms(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct mono loop_mono(struct loop *loop)
{
    if (loop->is_virtual)
        return loop->mono;
    return (struct mono){(uint64_t)system_ms(CLOCK_MONOTONIC)};
}

struct wall loop_wall(struct loop *loop)
{
    if (loop->is_virtual)
        return loop->wall;
    return (struct wall){system_ms(CLOCK_REALTIME)};
}

void loop_shift_wall(struct loop *loop, int64_t ms)
{
    assert(loop->is_virtual);
    loop->wall = wall_add(loop->wall, ms);
}

/* ---- libuv ---- */

uv_loop_t *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

void loop_real_begin(struct loop *loop)
{
    loop->real_waits++;
}

void loop_real_end(struct loop *loop)
{
    assert(loop->real_waits > 0);
    loop->real_waits--;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void loop_close_free(uv_handle_t *owned)
{
    uv_close(owned, free_handle);
}
