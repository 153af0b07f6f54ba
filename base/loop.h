/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one event loop of the process: a uv_loop_t, the run queue of the fibers and their timers.
 * Real or virtual: a virtual loop has its own clocks, which stand still while anything can run and
 * jump to the next timer when nothing can; so ninety days of a flow take milliseconds in a test.
 *
 * Fibers never run inside a libuv or libcurl callback: callbacks only make fibers ready, and one
 * check handle drains the run queue (an idle handle keeps the loop from blocking while the queue is
 * not empty).
 */
#pragma once

#include <uv.h>

#include "base/err.h"

struct loop;
struct fiber;

struct err *loop_new(struct loop **ret) NODISCARD;
/* Virtual clocks starting at the instant given. Real handles (sockets, children, thread pool) still
 * work: while any fiber waits for one the clock does not jump. */
struct err *loop_new_virtual(struct wall start, struct loop **ret) NODISCARD;
/* All fibers must have ended. */
void loop_free(struct loop *loop);
DEFINE_FREEP(struct loop, loop_free)

/* Runs until no fiber is left. */
void loop_run(struct loop *loop);
/* Cancels every fiber; loop_run() then returns when they have cleaned up. Callable from callbacks
 * and fibers. */
void loop_cancel_all(struct loop *loop);

struct mono loop_mono(struct loop *loop);
struct wall loop_wall(struct loop *loop);
/* Virtual only: moves the wall clock alone, as NTP or an operator would. */
void loop_shift_wall(struct loop *loop, int64_t ms);
uv_loop_t *loop_uv(struct loop *loop);
/* Rim code that waits for a real event on behalf of a fiber brackets it by these, so that virtual
 * time stands still. */
void loop_real_begin(struct loop *loop);
void loop_real_end(struct loop *loop);
/* Closes a handle that was malloc'ed and frees it when libuv is done with it. */
void loop_close_free(uv_handle_t *owned);
