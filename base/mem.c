/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every allocation of a size that we choose ourselves comes through here, so that "no memory" has
 * exactly one way out. abort() rather than exit(): no handler may run on a heap that is exhausted,
 * and the core dump shows who asked for how much.
 */
#include "base/mem.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static size_t put_decimal(char *out, size_t value)
{
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (size_t i = 0; i < n; i++)
        out[i] = digits[n - 1 - i];
    return n;
}

_Noreturn void mem_fail(size_t wanted)
{
    static const char before[] = "certherd: out of memory, wanted ";
    static const char after[] = " bytes; stopping, the state on disk is intact\n";
    char line[sizeof(before) + sizeof(after) + 24];
    size_t n = sizeof(before) - 1;
    memcpy(line, before, n);
    n += put_decimal(line + n, wanted);
    memcpy(line + n, after, sizeof(after) - 1);
    n += sizeof(after) - 1;
    /* Nothing can be done about a stderr that refuses. */
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
    abort();
}

/* malloc(0) may return NULL; ours never does. */
static size_t at_least_one(size_t size)
{
    return size == 0 ? 1 : size;
}

void *mem_alloc(size_t size)
{
    void *p = malloc(at_least_one(size));
    if (p == NULL)
        mem_fail(size);
    return p;
}

void *mem_zalloc(size_t size)
{
    return mem_array(1, size);
}

void *mem_array(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        mem_fail(SIZE_MAX);
    void *p = calloc(1, at_least_one(bytes));
    if (p == NULL)
        mem_fail(bytes);
    return p;
}

void *mem_realloc_array(void *ptr, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        mem_fail(SIZE_MAX);
    void *p = realloc(ptr, at_least_one(bytes));
    if (p == NULL)
        mem_fail(bytes);
    return p;
}

void *mem_dup(const void *data, size_t size)
{
    if (size == SIZE_MAX)
        mem_fail(size);
    char *copy = mem_alloc(size + 1);
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}

char *str_dup(const char *s)
{
    return mem_dup(s, strlen(s));
}

char *str_dup_null(const char *s)
{
    return s == NULL ? NULL : str_dup(s);
}

char *str_printf(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s = str_vprintf(fmt, ap);
    va_end(ap);
    return s;
}

char *str_vprintf(const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int len = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    /* Negative only for text beyond INT_MAX: our formats and locale cannot fail otherwise. */
    if (len < 0)
        mem_fail(SIZE_MAX);
    char *s = mem_alloc((size_t)len + 1);
    int written = vsnprintf(s, (size_t)len + 1, fmt, ap);
    assert(written == len);
    (void)written;
    return s;
}

int str_to_u64(const char *s, unsigned long long max, unsigned long long *ret)
{
    unsigned long long value = 0;
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        if (*s < '0' || *s > '9')
            return false;
        if (__builtin_mul_overflow(value, 10ULL, &value) ||
                __builtin_add_overflow(value, (unsigned long long)(*s - '0'), &value))
            return false;
    }
    if (value > max)
        return false;
    *ret = value;
    return true;
}

int str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

int str_ends(const char *s, const char *suffix)
{
    size_t len = strlen(s);
    size_t tail = strlen(suffix);
    return len >= tail && memcmp(s + len - tail, suffix, tail) == 0;
}

void strv_add(struct strv *l, const char *s)
{
    strv_take(l, str_dup(s));
}

void strv_take(struct strv *l, char *owned)
{
    /* Capacity is the next power of two, so it needs no field of its own. */
    if ((l->n & (l->n - 1)) == 0)
        l->v = mem_realloc_array(l->v, l->n == 0 ? 1 : 2 * l->n, sizeof(*l->v));
    l->v[l->n++] = owned;
}

int strv_has(const struct strv *l, const char *s)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i], s) == 0)
            return true;
    return false;
}

void strv_copy(struct strv *ret, const struct strv *from)
{
    struct strv copy = {0};
    for (size_t i = 0; i < from->n; i++)
        strv_add(&copy, from->v[i]);
    *ret = copy;
}

char *strv_join(const struct strv *l, const char *sep)
{
    size_t sep_len = strlen(sep);
    size_t total = 0;
    for (size_t i = 0; i < l->n; i++)
        total += strlen(l->v[i]) + (i > 0 ? sep_len : 0);
    char *joined = mem_alloc(total + 1);
    char *at = joined;
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0)
            at = mempcpy(at, sep, sep_len);
        at = mempcpy(at, l->v[i], strlen(l->v[i]));
    }
    *at = '\0';
    return joined;
}

void strv_done(struct strv *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i]);
    free(l->v);
    *l = (struct strv){0};
}
