/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growth doubles, but never beyond max plus the NUL byte. A buffer that refused once refuses all
 * that follows, so a reader never sees a text with a hole in it.
 */
#include "base/buf.h"

#include <stdio.h>

#define FIRST_CAPACITY ((size_t)256)
/* Keeps the sums and the doubling below from wrapping. */
#define MAX_OF_MAX (SIZE_MAX / 4)

static bool is_closed(const struct buf *b)
{
    return b->overflow || b->nomem;
}

static char *grown(struct buf *b, size_t cap)
{
    if (!b->wipe)
        return realloc(b->data, cap);
    /* realloc() would leave a copy of the secret behind. */
    char *data = malloc(cap);
    if (data == NULL || b->data == NULL)
        return data;
    memcpy(data, b->data, b->len + 1);
    explicit_bzero(b->data, b->cap);
    free(b->data);
    return data;
}

/* Room for `more` bytes and the NUL byte. */
static bool reserve(struct buf *b, size_t more)
{
    size_t max = b->max < MAX_OF_MAX ? b->max : MAX_OF_MAX;
    if (is_closed(b))
        return false;
    if (b->len > max || more > max - b->len) {
        b->overflow = true;
        return false;
    }
    size_t wanted = b->len + more + 1;
    if (wanted <= b->cap)
        return true;
    size_t cap = b->cap < FIRST_CAPACITY ? FIRST_CAPACITY : b->cap;
    while (cap < wanted)
        cap *= 2;
    if (cap > max + 1)
        cap = max + 1;
    char *data = grown(b, cap);
    if (data == NULL) {
        b->nomem = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return true;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    if (!reserve(b, len) || len == 0)
        return;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len < 0) {
        b->overflow = true;
        return;
    }
    if (!reserve(b, (size_t)len))
        return;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)len + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)len;
}

struct err *buf_check(const struct buf *b, const char *what_fmt, ...)
{
    if (!is_closed(b))
        return NULL;
    if (b->nomem)
        return err_nomem();
    va_list ap;
    va_start(ap, what_fmt);
    AUTO_FREE char *what = str_vprintf(what_fmt, ap);
    va_end(ap);
    return ERR(ERR_PROTOCOL, "%s is larger than %zu bytes", what, b->max);
}

const char *buf_str(const struct buf *b)
{
    return b->data == NULL ? "" : b->data;
}

char *buf_steal(struct buf *b)
{
    char *text = b->data == NULL ? str_dup("") : b->data;
    *b = (struct buf){.max = b->max, .wipe = b->wipe};
    return text;
}

void buf_reset(struct buf *b)
{
    if (b->wipe && b->data != NULL)
        explicit_bzero(b->data, b->cap);
    b->len = 0;
    b->overflow = false;
    b->nomem = false;
    if (b->data != NULL)
        b->data[0] = '\0';
}

void buf_done(struct buf *b)
{
    buf_reset(b);
    free(b->data);
    *b = (struct buf){.max = b->max, .wipe = b->wipe};
}

/* ---- foreign text ---- */

/* Table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF. */
size_t str_utf8_decode(const char *text, size_t len, uint32_t *ret)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (len == 0)
        return 0;
    unsigned char lead = (unsigned char)text[0];
    size_t need = lead < 0x80   ? 1
                  : lead < 0xc2 ? 0
                  : lead < 0xe0 ? 2
                  : lead < 0xf0 ? 3
                  : lead < 0xf5 ? 4
                                : 0;
    if (need == 0 || need > len)
        return 0;
    uint32_t character = need == 1 ? lead : lead & (0x7fU >> need);
    for (size_t i = 1; i < need; i++) {
        unsigned char next = (unsigned char)text[i];
        if ((next & 0xc0) != 0x80)
            return 0;
        character = character << 6 | (next & 0x3f);
    }
    if (character < smallest[need] || character > 0x10ffff ||
            (character >= 0xd800 && character <= 0xdfff))
        return 0;
    *ret = character;
    return need;
}

bool str_is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029 || c == 0x200e ||
           c == 0x200f || c == 0x061c || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

void buf_put_foreign(struct buf *b, const char *text, size_t len, size_t max)
{
    size_t at = 0;
    while (at < len) {
        uint32_t character;
        size_t size = str_utf8_decode(text + at, len - at, &character);
        bool bad = size == 0 || str_is_control(character);
        size = size == 0 ? 1 : size;
        if (at + size > max)
            break;
        if (bad)
            buf_putc(b, '?');
        else
            buf_append(b, text + at, size);
        at += size;
    }
    if (at < len)
        buf_puts(b, "…");
}

char *str_foreign(const char *text, size_t max)
{
    size_t len = strlen(text);
    size_t taken = len < max ? len : max;
    AUTO_BUF struct buf b = BUF_INIT(taken + sizeof("…"));
    buf_put_foreign(&b, text, len, max);
    if (b.nomem)
        mem_fail(taken);
    return buf_steal(&b);
}
