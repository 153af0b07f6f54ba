/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stackful fibers on one loop: straight code that may wait. A function that may suspend carries
 * MAY_SUSPEND, which clang's thread-safety analysis checks: calling one from a plain callback does
 * not compile. It is not seen through function pointers, so a vtable gets one wrapper per call that
 * carries it.
 *
 * Cancellation is an error (ERR_CANCELED) returned by the wait, never a jump; so is a deadline that
 * passed (ERR_TIMEOUT). Each wait returns at once with the same error from then on, until the flow
 * has ended; clean-up that has to wait does so under FIBER_SHIELD. Nothing durable lives in a
 * fiber.
 *
 *     FIBER_DEADLINE(30 * CLOCK_SEC, "the order");
 *     struct fiber_group group;
 *     fiber_group_init(&group);
 *     for (size_t i = 0; i < n; i++)
 *         fiber_group_spawn(&group, "authorization", fetch_one, &items[i]);
 *     TRY(fiber_group_wait(&group));
 */
#pragma once

#include "base/log.h"
#include "base/loop.h"

#if defined(__clang__)
#define FIBER_TSA(x) __attribute__((x))
#else
#define FIBER_TSA(x)
#endif
/* A capability that exists only for the compiler: "we are on a fiber". */
struct FIBER_TSA(capability("fiber")) fiber_context {
    char unused;
};
extern struct fiber_context fiber_context;
#define MAY_SUSPEND FIBER_TSA(requires_capability(fiber_context))

typedef struct err *fiber_fn(void *arg);
/* A fiber's entry is declared as: static struct err *run(void *arg) MAY_SUSPEND; */

/* ---- lifecycle ---- */

/* Starts a fiber that nobody joins; it inherits the log scope. done (may be NULL) gets its result
 * (owned, or NULL) on the loop's stack after it ended; without done an error is logged at debug
 * level and freed. */
struct fiber *fiber_spawn(struct loop *loop, const char *name, fiber_fn *fn, void *arg,
        void (*done)(void *arg, struct err *result));
/* Legal at any time, also twice, also from callbacks. */
void fiber_cancel(struct fiber *fiber);
/* NULL outside of fibers. */
struct fiber *fiber_self(void);
const char *fiber_name(const struct fiber *fiber);

/* ---- may suspend ---- */

struct err *fiber_sleep(int64_t ms) MAY_SUSPEND NODISCARD;
/* Lets others run; also a point where cancellation is seen. */
struct err *fiber_yield(void) MAY_SUSPEND NODISCARD;
/* NULL, or ERR_CANCELED / ERR_TIMEOUT if this fiber was asked to stop; never suspends. */
struct err *fiber_check(void) NODISCARD;

/* Runs fn on libuv's thread pool and returns its result. Even when canceled it waits for fn's end,
 * since fn's data may lie on this stack; what fn did is then the truth, and the cancellation is
 * seen at the next wait. Only a work that has not begun is given up (ERR_CANCELED, ERR_TIMEOUT). fn
 * must not touch fibers, loop or world, except world_random(). */
struct err *fiber_work(struct err *(*fn)(void *arg), void *arg) MAY_SUSPEND NODISCARD;

/* One-shot completion between a callback and the fiber that waits for it. */
struct fiber_wait {
    struct fiber *fiber;
    bool woken;
    bool real; /* holds virtual time still while waiting */
    const char *what;
};
/* what: shown by `flows`, e.g. "HTTP reply". real: the event comes from outside (socket, child,
 * thread). */
void fiber_wait_init(struct fiber_wait *wait, const char *what, bool real);
/* Returns NULL as soon as fiber_wait_wake() was called (also before); else ERR_CANCELED or
 * ERR_TIMEOUT, and the caller must then make sure that the wake never comes. */
struct err *fiber_wait_for(struct fiber_wait *wait) MAY_SUSPEND NODISCARD;
/* From callbacks or fibers; never runs the fiber, only makes it ready. */
void fiber_wait_wake(struct fiber_wait *wait);

/* ---- groups: run N, the first error cancels the rest, wait() returns only when all ended ---- */

struct fiber_group {
    struct loop *loop;
    size_t running;
    bool keep_going; /* set after init: an error does not cancel the others; wait() still returns
                        the first */
    struct err *first;
    struct fiber_wait *waiter;
    struct fiber *members; /* linked by the fiber core */
};
void fiber_group_init(struct fiber_group *group);
void fiber_group_spawn(struct fiber_group *group, const char *name, fiber_fn *fn, void *arg);
void fiber_group_cancel(struct fiber_group *group);
/* If the waiting fiber is canceled, the members are canceled and waited for. Must be called before
 * the group's scope ends, once. */
struct err *fiber_group_wait(struct fiber_group *group) MAY_SUSPEND NODISCARD;

/* ---- counting semaphore: global caps ---- */

struct fiber_sem_waiter;
struct fiber_sem {
    size_t free;
    struct fiber_sem_waiter *first, *last;
};
void fiber_sem_init(struct fiber_sem *sem, size_t count);
struct err *fiber_sem_acquire(struct fiber_sem *sem) MAY_SUSPEND NODISCARD;
void fiber_sem_release(struct fiber_sem *sem);

/* ---- event: sticky flag that wakes all who wait (webhook, signal) ---- */

struct fiber_event {
    bool set;
    struct fiber_sem_waiter *first, *last;
};
void fiber_event_init(struct fiber_event *event);
void fiber_event_set(struct fiber_event *event);
void fiber_event_clear(struct fiber_event *event);
/* Until the event is set or ms have passed (ms < 0: for ever). *ret_set says which. */
struct err *fiber_event_wait(struct fiber_event *event, int64_t ms, bool *ret_set)
        MAY_SUSPEND NODISCARD;

/* ---- scopes ---- */

/* Waits within the scope end with ERR_TIMEOUT "<what> took longer than <ms>" once ms have passed.
 * Scopes nest; the earliest instant wins. */
struct fiber_deadline {
    struct fiber_deadline *outer;
    struct mono at;
    int64_t ms;
    const char *what;
    bool shield; /* outer deadlines and cancellation stop here */
};
void fiber_deadline_push(struct fiber_deadline *deadline, int64_t ms, const char *what);
void fiber_deadline_pop(struct fiber_deadline *deadline);
#define FIBER_DEADLINE(ms, what)                                                                   \
    AUTO(fiber_deadline_pop) struct fiber_deadline LOG_CONCAT(fiber_deadline_, __LINE__);          \
    fiber_deadline_push(&LOG_CONCAT(fiber_deadline_, __LINE__), ms, what)
/* In a shield, cancellation and outer deadlines are not delivered: for undoing outside effects.
 * Bounded by its own deadline of at most ms. */
struct fiber_shield {
    struct fiber_deadline deadline;
};
void fiber_shield_push(struct fiber_shield *shield, int64_t ms);
void fiber_shield_pop(struct fiber_shield *shield);
#define FIBER_SHIELD(ms)                                                                           \
    AUTO(fiber_shield_pop) struct fiber_shield LOG_CONCAT(fiber_shield_, __LINE__);                \
    fiber_shield_push(&LOG_CONCAT(fiber_shield_, __LINE__), ms)

/* ---- looking in ---- */

struct fiber_info {
    const char *name;
    const char *waits_for; /* NULL: runs or is ready */
    struct mono since;
    struct mono deadline; /* ms == UINT64_MAX: none */
    bool canceled;
};
void fiber_each(
        struct loop *loop, void (*visit)(void *arg, const struct fiber_info *info), void *arg);
#define FIBER_STACK_SIZE ((size_t)256 * 1024)
/* Deepest use of any fiber's stack so far, in bytes. Measured only when the stacks are painted: set
 * before spawning. */
void fiber_paint_stacks(bool on);
size_t fiber_stack_high_water(void);
