/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the targets share. A target takes the bytes as the parser would get them from outside, and
 * asserts what must hold of everything that is accepted; sanitizers do the rest. A decoder that is
 * static is reached by including its .c, which takes the place of the library's object.
 */
#pragma once

#include <assert.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Foreign bytes may go into any message, and every message may reach a terminal. */
static inline ATTR_MAYBE_UNUSED void fuzz_check_text(const char *text)
{
    size_t len = strlen(text);
    for (size_t at = 0; at < len;) {
        uint32_t c = 0;
        size_t size = str_utf8_decode(text + at, len - at, &c);
        assert(size > 0 && !str_is_control(c));
        at += size;
    }
}

/* Frees it. Whether there was one; kinds is what it may be, as 1u << ERR_X. */
static inline ATTR_MAYBE_UNUSED bool fuzz_refused(struct err *owned, unsigned kinds)
{
    AUTO_ERR struct err *e = owned;
    if (e == NULL)
        return false;
    assert(err_kind(e) < ERR_KIND_MAX && (kinds & 1u << err_kind(e)) != 0);
    fuzz_check_text(err_text(e));
    if (err_advice(e) != NULL)
        fuzz_check_text(err_advice(e));
    return true;
}
