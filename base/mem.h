/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory: allocation that cannot fail, and ownership by attribute.
 *
 * The policy is "crash-only": what is small and of our own choosing is allocated by these
 * functions, which end the process through the one door mem_fail() when there is no memory; the
 * state on disk stands at every instant, so a restart resumes. What a peer can make large goes into
 * a struct buf (buf.h), which has a maximum and fails politely.
 *
 *     AUTO_FREE char *path = str_printf("%s/%s", dir, name);
 *     return STEAL(path);
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ATTR_PRINTF(fmt, first)         __attribute__((format(printf, fmt, first)))
#define ATTR_MALLOC                     __attribute__((malloc, returns_nonnull, warn_unused_result))
#define ATTR_MAYBE_UNUSED               __attribute__((unused)) /* ldns has an ATTR_UNUSED */
#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* A local that owns: AUTO(err_freep) struct err *e = NULL; the function gets the address of the
 * variable. */
#define AUTO(cleanup_fn) __attribute__((cleanup(cleanup_fn)))
/* Moves ownership out of a local (or a field) and leaves NULL behind. */
#define STEAL(ptr)                                                                                 \
    ({                                                                                             \
        __typeof__(ptr) *_p = &(ptr);                                                              \
        __typeof__(ptr) _v = *_p;                                                                  \
        *_p = NULL;                                                                                \
        _v;                                                                                        \
    })
/* Defines name_freep(T **) from name_free(T *), for AUTO(). */
#define DEFINE_FREEP(type, free_fn)                                                                \
    static inline ATTR_MAYBE_UNUSED void free_fn##p(type **owned)                                  \
    {                                                                                              \
        free_fn(*owned);                                                                           \
        *owned = NULL;                                                                             \
    }

static inline void mem_freep(void *owned)
{
    void **p = owned;
    free(*p);
    *p = NULL;
}
#define AUTO_FREE AUTO(mem_freep)

/* The one door out when there is no memory: says so on stderr without allocating, then abort(). */
_Noreturn void mem_fail(size_t wanted);

ATTR_MALLOC void *mem_alloc(size_t size);               /* not initialised */
ATTR_MALLOC void *mem_zalloc(size_t size);              /* zeroed */
ATTR_MALLOC void *mem_array(size_t count, size_t size); /* zeroed, overflow checked */
void *mem_realloc_array(void *ptr, size_t count, size_t size)
        __attribute__((returns_nonnull, warn_unused_result));
ATTR_MALLOC void *mem_dup(const void *data, size_t size); /* with a NUL byte behind it */
#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

ATTR_MALLOC char *str_dup(const char *s);
/* NULL stays NULL. */
char *str_dup_null(const char *s);
ATTR_MALLOC char *str_printf(const char *fmt, ...) ATTR_PRINTF(1, 2);
ATTR_MALLOC char *str_vprintf(const char *fmt, va_list ap) ATTR_PRINTF(1, 0);
/* Whole string, decimal, no sign, no space, at most max. false: not such a number; *ret untouched.
 */
int str_to_u64(const char *s, unsigned long long max, unsigned long long *ret);
int str_starts(const char *s, const char *prefix);
int str_ends(const char *s, const char *suffix);

/* A list of owned strings. Zero-initialised is empty. */
struct strv {
    char **v;
    size_t n;
};
void strv_add(struct strv *l, const char *s); /* copies */
void strv_take(struct strv *l, char *owned);  /* takes over */
int strv_has(const struct strv *l, const char *s);
void strv_copy(struct strv *ret, const struct strv *from);
ATTR_MALLOC char *strv_join(const struct strv *l, const char *sep);
void strv_done(struct strv *l);
#define AUTO_STRV AUTO(strv_done)
