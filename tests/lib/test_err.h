/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions on struct err. Both free the error. Include after cmocka.h. */
#pragma once

#include <stdio.h>

#include "base/err.h"

static inline ATTR_MAYBE_UNUSED void assert_ok_at(struct err *e, const char *file, int line)
{
    if (e == NULL)
        return;
    char text[512];
    snprintf(text, sizeof(text), "%s", err_text(e));
    err_free(e);
    print_error("unexpected error: %s\n", text);
    _fail(file, line);
}
#define assert_ok(expr) assert_ok_at(expr, __FILE__, __LINE__)

/* An error of that kind whose text or advice holds the part given. */
static inline ATTR_MAYBE_UNUSED void assert_err_at(
        struct err *e, enum err_kind kind, const char *part, const char *file, int line)
{
    char text[1024] = "no error";
    enum err_kind found = ERR_KIND_MAX;
    if (e != NULL) {
        const char *advice = err_advice(e);
        snprintf(text, sizeof(text), "%s\n%s", err_text(e), advice != NULL ? advice : "");
        found = err_kind(e);
        err_free(e);
    }
    if (found == kind && strstr(text, part) != NULL)
        return;
    print_error("expected a %s error with \"%s\", found (%s): %s\n", err_kind_name(kind), part,
            found == ERR_KIND_MAX ? "-" : err_kind_name(found), text);
    _fail(file, line);
}
#define assert_err(expr, kind, part) assert_err_at(expr, kind, part, __FILE__, __LINE__)
