/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes: fixed argv, clean environment, own process group, bounded output and time. Never
 * a shell.
 */
#pragma once

#include "base/buf.h"
#include "base/fiber.h"

struct child_request {
    const char *const *argv; /* argv[0] is an absolute path */
    const char *const
            *env;      /* "KEY=value", NULL-terminated; nothing is inherited. NULL: only PATH */
    const void *input; /* for its standard input; NULL: /dev/null */
    size_t input_len;
    size_t max_output; /* kept of stdout and of stderr each; the rest is drained and dropped; 0: 64
                          KiB */
    int64_t total_ms;  /* 0: 60 s; then SIGTERM to the group, 5 s later SIGKILL: ERR_TIMEOUT */
};

struct child_result {
    int64_t exit_status; /* or -1 */
    int term_signal;     /* or 0 */
    struct buf output, errors;
};
void child_result_done(struct child_result *result);
#define AUTO_CHILD_RESULT AUTO(child_result_done)

/* Returns when the process has ended (a grandchild that keeps the pipes open is not waited for).
 * Any exit status is success here. A cancel ends the group the same way as the deadline does. */
struct err *child_run(struct loop *loop, const struct child_request *request,
        struct child_result *ret) MAY_SUSPEND NODISCARD;
