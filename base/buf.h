/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer with a maximum that is given at birth. Appending never fails visibly: an
 * overflow (or lack of memory) is remembered and everything later is dropped; buf_check() turns it
 * into an error once, at the end.
 *
 *     struct buf b = BUF_INIT(64 * 1024);
 *     buf_printf(&b, "%s=%d", key, value);
 *     TRY(buf_check(&b, "the reply of %s", url));
 *
 * data is NUL-terminated whenever it is not NULL; the NUL does not count in len.
 */
#pragma once

#include "base/err.h"

struct buf {
    char *data;
    size_t len;
    size_t cap;
    size_t max;
    bool overflow; /* more than max was appended */
    bool nomem;    /* it could not grow */
    bool wipe;     /* contents are erased on free and on growth */
};

#define BUF_INIT(maximum)        ((struct buf){.max = (maximum)})
#define BUF_INIT_SECRET(maximum) ((struct buf){.max = (maximum), .wipe = true})

void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) ATTR_PRINTF(2, 3);
/* ERR_PROTOCOL if it overflowed: "<what> is larger than N bytes"; ERR_NOMEM if it could not grow.
 */
struct err *buf_check(const struct buf *b, const char *what_fmt, ...) ATTR_PRINTF(2, 3) NODISCARD;
/* "" for an empty one. */
const char *buf_str(const struct buf *b);
/* Gives the contents away as an owned string ("" if empty); b is empty and usable again. */
ATTR_MALLOC char *buf_steal(struct buf *b);
void buf_reset(struct buf *b);
void buf_done(struct buf *b);
#define AUTO_BUF AUTO(buf_done)

/* Decodes one character of at most len bytes: its length, 0 if that is not well-formed UTF-8 (or
 * len is 0). */
size_t str_utf8_decode(const char *text, size_t len, uint32_t *ret);
/* C0, DEL, C1, line separators and the marks that turn the direction of writing: what must not
 * reach a terminal. */
bool str_is_control(uint32_t character);

/* Foreign text made safe for a terminal, a log line or JSON: control characters and broken UTF-8
 * become '?', at most max bytes are taken and a cut is marked by "…". */
void buf_put_foreign(struct buf *b, const char *text, size_t len, size_t max);
ATTR_MALLOC char *str_foreign(const char *text, size_t max);
