/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sentence is kept whole: a context is put in front when it is added, so reading costs nothing
 * and errors are const for whoever looks. Each part passes str_foreign() on its way in, since texts
 * quote peers, files and the command line: an error is always one line of clean UTF-8, whoever
 * prints it.
 */
#include "base/err.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <uv.h>

#include "base/buf.h"
#include "base/log.h"

#define TEXT_MAX   ((size_t)4096) /* bytes of one part of the sentence */
#define ADVICE_MAX ((size_t)1024)

struct err {
    enum err_kind kind;
    enum err_origin origin;
    long number;
    struct wall retry_at;
    const struct err_detail_type *detail_type;
    void *detail;
    char *text;
    char *advice;
    char *where;
    bool fixed; /* the static object: never changed, never freed */
};

static struct err no_memory = {
        .kind = ERR_NOMEM,
        .text = (char[]){"out of memory"},
        .where = (char[]){"-"},
        .fixed = true,
};

/* ---- making ---- */

static char *clean_vprintf(size_t max, const char *fmt, va_list ap) ATTR_PRINTF(2, 0);
static char *clean_vprintf(size_t max, const char *fmt, va_list ap)
{
    AUTO_FREE char *raw = str_vprintf(fmt, ap);
    return str_foreign(raw, max);
}

/* Builds run in a directory below the top or far from it; the part of __FILE__ that this file
 * shares with the others is cut, so that the place reads "base/err.c:12" in every build. */
static char *place(const char *file, int line)
{
    static const char own[] = __FILE__;
    static const char own_relative[] = "base/err.c";
    size_t prefix = sizeof(own) - sizeof(own_relative);
    if (strncmp(file, own, prefix) == 0)
        file += prefix;
    return str_printf("%s:%d", file, line);
}

static struct err *make(const char *file, int line, enum err_kind kind, enum err_origin origin,
        long number, char *owned_text)
{
    assert(kind < ERR_KIND_MAX);
    struct err *e = MEM_NEW(struct err);
    e->kind = kind;
    e->origin = origin;
    e->number = number;
    e->text = owned_text;
    e->where = place(file, line);
    return e;
}

struct err *err_new_at(const char *file, int line, enum err_kind kind, enum err_origin origin,
        long number, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = clean_vprintf(TEXT_MAX, fmt, ap);
    va_end(ap);
    return make(file, line, kind, origin, number, text);
}

static enum err_kind kind_of_errno(int number)
{
    switch (number) {
    case EACCES:
    case EPERM:
    case ENOENT:
    case ENOTDIR:
    case EROFS:
        return ERR_CONFIG;
    default:
        return ERR_LOCAL;
    }
}

struct err *err_errno_at(const char *file, int line, int errno_value, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *what = clean_vprintf(TEXT_MAX, fmt, ap);
    va_end(ap);
    /* strerror() keeps its text per thread, in glibc since 2.32 and in musl. */
    char *text = str_printf("%s: %s", what, strerror(errno_value));
    return make(file, line, kind_of_errno(errno_value), ERR_FROM_ERRNO, errno_value, text);
}

static enum err_kind kind_of_uv(int code)
{
    switch (code) {
    case UV_ECANCELED:
        return ERR_CANCELED;
    case UV_ECONNREFUSED:
    case UV_ECONNRESET:
    case UV_ECONNABORTED:
    case UV_ETIMEDOUT:
    case UV_EHOSTUNREACH:
    case UV_EHOSTDOWN:
    case UV_ENETUNREACH:
    case UV_ENETDOWN:
    case UV_ENOTCONN:
    case UV_EPIPE:
    case UV_EAGAIN:
    case UV_EOF:
        return ERR_RETRY;
    case UV_EADDRINUSE:
    case UV_EADDRNOTAVAIL:
        return ERR_CONFIG;
    default:
        break;
    }
    /* The codes of getaddrinfo() lie between these two. */
    if (code <= UV_EAI_ADDRFAMILY && code >= UV_EAI_PROTOCOL)
        return ERR_RETRY;
    return kind_of_errno(-code);
}

struct err *err_uv_at(const char *file, int line, int uv_code, const char *fmt, ...)
{
    char reason[128];
    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *what = clean_vprintf(TEXT_MAX, fmt, ap);
    va_end(ap);
    uv_strerror_r(uv_code, reason, sizeof(reason));
    char *text = str_printf("%s: %s", what, reason);
    return make(file, line, kind_of_uv(uv_code), ERR_FROM_UV, uv_code, text);
}

/* "reason (data)" of one entry of the queue. */
static void put_openssl_entry(struct buf *b, unsigned long code, const char *data, int flags)
{
    const char *reason =
            ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    const char *library = ERR_lib_error_string(code);
    if (reason != NULL)
        buf_puts(b, reason);
    else
        buf_printf(b, "%s error %lx", library != NULL ? library : "OpenSSL", code);
    if ((flags & ERR_TXT_STRING) != 0 && data != NULL && *data != '\0')
        buf_printf(b, " (%s)", data);
}

/* Returns the first code, which is the innermost cause; 0 for an empty queue. */
static unsigned long drain_openssl(struct buf *b)
{
    unsigned long first = 0;
    unsigned long code;
    const char *data;
    int flags;
    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
        buf_puts(b, first == 0 ? "" : "; ");
        put_openssl_entry(b, code, data, flags);
        if (first == 0)
            first = code;
    }
    return first;
}

struct err *err_openssl_at(const char *file, int line, enum err_kind kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = clean_vprintf(TEXT_MAX, fmt, ap);
    va_end(ap);
    AUTO_BUF struct buf queue = BUF_INIT(TEXT_MAX);
    unsigned long code = drain_openssl(&queue);
    struct err *e = make(file, line, kind, ERR_FROM_OPENSSL, (long)code, text);
    if (code == 0)
        return e;
    AUTO_FREE char *what = STEAL(e->text);
    AUTO_FREE char *reasons = str_foreign(buf_str(&queue), TEXT_MAX);
    e->text = str_printf("%s: %s", what, reasons);
    return e;
}

struct err *err_retry_at_new_at(const char *file, int line, struct wall when, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = clean_vprintf(TEXT_MAX, fmt, ap);
    va_end(ap);
    return err_set_retry_at(make(file, line, ERR_RETRY_AT, ERR_FROM_SELF, 0, text), when);
}

struct err *err_nomem(void)
{
    return &no_memory;
}

/* ---- changing ---- */

struct err *err_context(struct err *e, const char *fmt, ...)
{
    if (e == NULL || e->fixed)
        return e;
    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *fact = clean_vprintf(TEXT_MAX, fmt, ap);
    va_end(ap);
    AUTO_FREE char *inner = STEAL(e->text);
    e->text = str_printf("%s: %s", fact, inner);
    return e;
}

struct err *err_advise(struct err *e, const char *fmt, ...)
{
    if (e == NULL || e->fixed || e->advice != NULL)
        return e;
    va_list ap;
    va_start(ap, fmt);
    e->advice = clean_vprintf(ADVICE_MAX, fmt, ap);
    va_end(ap);
    return e;
}

struct err *err_rekind(struct err *e, enum err_kind kind)
{
    assert(kind < ERR_KIND_MAX);
    if (e != NULL && !e->fixed)
        e->kind = kind;
    return e;
}

struct err *err_set_retry_at(struct err *e, struct wall when)
{
    if (e == NULL || e->fixed)
        return e;
    e->kind = ERR_RETRY_AT;
    e->retry_at = when;
    return e;
}

static void free_detail(const struct err_detail_type *type, void *detail)
{
    if (type != NULL && type->free != NULL && detail != NULL)
        type->free(detail);
}

struct err *err_set_detail(struct err *e, const struct err_detail_type *type, void *owned)
{
    if (e == NULL || e->fixed) {
        free_detail(type, owned);
        return e;
    }
    free_detail(e->detail_type, e->detail);
    e->detail_type = type;
    e->detail = owned;
    return e;
}

/* ---- reading ---- */

enum err_kind err_kind(const struct err *e)
{
    return e->kind;
}

static const char *const kind_names[ERR_KIND_MAX] = {
        [ERR_RETRY] = "retry",
        [ERR_RETRY_AT] = "retry_at",
        [ERR_CONFIG] = "config",
        [ERR_DENIED] = "denied",
        [ERR_PROTOCOL] = "protocol",
        [ERR_TIMEOUT] = "timeout",
        [ERR_CANCELED] = "canceled",
        [ERR_LOCAL] = "local",
        [ERR_NOMEM] = "nomem",
};

const char *err_kind_name(enum err_kind kind)
{
    assert(kind < ERR_KIND_MAX);
    return kind_names[kind];
}

bool err_kind_parse(const char *name, enum err_kind *ret)
{
    for (size_t i = 0; i < ERR_KIND_MAX; i++) {
        if (strcmp(kind_names[i], name) != 0)
            continue;
        *ret = (enum err_kind)i;
        return true;
    }
    return false;
}

enum err_origin err_origin(const struct err *e)
{
    return e->origin;
}

long err_number(const struct err *e)
{
    return e->number;
}

struct wall err_retry_at(const struct err *e)
{
    assert(e->kind == ERR_RETRY_AT);
    return e->retry_at;
}

const char *err_text(const struct err *e)
{
    return e->text;
}

const char *err_advice(const struct err *e)
{
    return e->advice;
}

const char *err_where(const struct err *e)
{
    return e->where;
}

void *err_detail(const struct err *e, const struct err_detail_type *type)
{
    return e->detail_type == type ? e->detail : NULL;
}

bool err_is(const struct err *e, enum err_kind kind)
{
    return e != NULL && e->kind == kind;
}

/* ---- ending ---- */

void err_free(struct err *e)
{
    if (e == NULL || e->fixed)
        return;
    free_detail(e->detail_type, e->detail);
    free(e->text);
    free(e->advice);
    free(e->where);
    free(e);
}

struct err *err_first(struct err *a, struct err *b)
{
    if (a == NULL)
        return b;
    err_free(b);
    return a;
}

void err_ignore(struct err *e, const char *why)
{
    if (e == NULL)
        return;
    log_debug("error_ignored", why, LOG_STR("error", e->text), LOG_STR("where", e->where));
    err_free(e);
}
