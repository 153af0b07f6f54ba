/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What loop.c, fiber.c and fiber_stack.c share; nobody else includes it.
 */
#pragma once

#include <ucontext.h>

#include "base/fiber.h"

#define FIBER_NAME_MAX 48
#define MONO_NEVER     ((struct mono){UINT64_MAX})

struct fiber_stack {
    void *base; /* lowest usable address; the guard page lies below */
    unsigned valgrind_id;
    struct fiber_stack *next;
};

struct fiber {
    char name[FIBER_NAME_MAX];
    struct loop *loop;
    struct fiber_group *group; /* or NULL */
    fiber_fn *fn;
    void *arg;
    void (*done)(void *arg, struct err *result);
    struct err *result;

    ucontext_t context;
    struct fiber_stack *stack;
    void *asan_stack; /* AddressSanitizer's fake stack while we are switched out */

    struct log_scope *log_scope;    /* current; swapped on each switch */
    struct log_scope *log_snapshot; /* inherited at spawn */
    struct fiber_deadline *deadline;
    bool canceled;
    bool ended;

    struct fiber_wait *waits_for; /* NULL: runs or is ready */
    struct mono since;
    struct mono wake_at; /* in the loop's timer heap unless MONO_NEVER */
    size_t heap_index;   /* valid while in the heap */
    bool ready;          /* in the run queue */
    struct fiber *next_ready;
    struct fiber *prev, *next;             /* all fibers of the loop */
    struct fiber *group_prev, *group_next; /* members of the group */
};

struct loop {
    uv_loop_t uv;
    uv_timer_t timer;
    bool is_virtual;
    bool in_uv;       /* uv_run() is on the stack */
    struct wall wall; /* virtual clocks */
    struct mono mono;
    int64_t wall_shift;
    size_t real_waits;
    struct fiber *first; /* all fibers */
    size_t n_fibers;
    struct fiber *ready_first, *ready_last;
    struct fiber **heap; /* by wake_at */
    size_t heap_len, heap_cap;
    ucontext_t context; /* of loop_run() */
    void *asan_stack;
    const void *asan_bottom;
    size_t asan_size;
    struct log_scope *log_scope;
};

/* loop.c */
void loop_ready(struct fiber *fiber);
void loop_timer_set(struct fiber *fiber, struct mono at); /* MONO_NEVER takes it out */

/* fiber.c */
void fiber_resume(struct fiber *fiber);

/* fiber_stack.c: the switch, and what tools need to know about it */
struct fiber_stack *fiber_stack_get(void);
void fiber_stack_put(struct fiber_stack *stack);
void fiber_stack_free_cache(void);
/* From the loop into the fiber and, when that switches out, back. */
void fiber_switch_in(struct fiber *fiber);
/* From the fiber to the loop. ending: it will never be switched in again. */
void fiber_switch_out(struct fiber *fiber, bool ending);
/* First thing on a new fiber's stack. */
void fiber_switch_arrived(struct fiber *fiber);
