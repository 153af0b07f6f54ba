/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors as objects. A function that can fail for more than one reason returns struct err *: NULL
 * is success, anything else is owned by the caller. The *kind* says what to do about it, the
 * *origin* where the number comes from, and each level on the way up may add a fact in front.
 * Expected outcomes ("pending", "no such record") are enum results, never errors. Nobody matches on
 * the text.
 *
 *     TRY(file_read(path, LIMIT, &data));
 *     TRY_CTX(acme_order_fetch(c, url, &order), "order %s", url);
 *
 * Errors are logged once, by the one who gives up on them or schedules again.
 *
 * Texts quote peers and files freely: each part becomes one line of clean UTF-8 here (controls turn
 * into '?', 4 KiB at most), so err_text() and err_advice() are safe for a terminal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/mem.h"

enum err_kind {
    ERR_RETRY,    /* passing: try again later, with back-off */
    ERR_RETRY_AT, /* passing, and the peer named the instant: err_retry_at() */
    ERR_CONFIG,   /* somebody has to change configuration, DNS or permissions first */
    ERR_DENIED,   /* the peer understood and refuses */
    ERR_PROTOCOL, /* the peer does not keep to its protocol */
    ERR_TIMEOUT,  /* a deadline of ours passed */
    ERR_CANCELED, /* the flow was asked to stop */
    ERR_LOCAL,    /* this machine: disk, descriptors, limits */
    ERR_NOMEM,    /* a bounded buffer could not grow */
    ERR_KIND_MAX
};

enum err_origin {
    ERR_FROM_SELF,    /* number is 0 */
    ERR_FROM_ERRNO,   /* errno */
    ERR_FROM_UV,      /* negative libuv code */
    ERR_FROM_CURL,    /* CURLcode */
    ERR_FROM_HTTP,    /* HTTP status */
    ERR_FROM_DNS,     /* rcode */
    ERR_FROM_OPENSSL, /* ERR_get_error(), the queue was drained */
    ERR_FROM_X509,    /* X509_V_ERR_ code */
    ERR_FROM_ACME,    /* enum acme_problem_type; err_detail() is the problem document */
};

struct err;
#define NODISCARD __attribute__((warn_unused_result))
/* Makers never return NULL; the compiler then sees that nothing goes on after one. */
#define ERR_MAKER __attribute__((warn_unused_result, returns_nonnull))

/* ---- making ---- */

struct err *err_new_at(const char *file, int line, enum err_kind kind, enum err_origin origin,
        long number, const char *fmt, ...) ATTR_PRINTF(6, 7) ERR_MAKER;
/* A plain error of our own: ERR(ERR_CONFIG, "no mail_host is set"). */
#define ERR(kind, ...) err_new_at(__FILE__, __LINE__, kind, ERR_FROM_SELF, 0, __VA_ARGS__)
#define ERR_FROM(kind, origin, number, ...)                                                        \
    err_new_at(__FILE__, __LINE__, kind, origin, number, __VA_ARGS__)
/* Appends ": " strerror(errno_value); kind ERR_LOCAL, but ERR_CONFIG for EACCES, EPERM, ENOENT,
 * ENOTDIR, EROFS. */
struct err *err_errno_at(const char *file, int line, int errno_value, const char *fmt, ...)
        ATTR_PRINTF(4, 5) ERR_MAKER;
#define ERR_ERRNO(errno_value, ...) err_errno_at(__FILE__, __LINE__, errno_value, __VA_ARGS__)
/* The same for a negative libuv code; network conditions become ERR_RETRY. */
struct err *err_uv_at(const char *file, int line, int uv_code, const char *fmt, ...)
        ATTR_PRINTF(4, 5) ERR_MAKER;
#define ERR_UV(uv_code, ...) err_uv_at(__FILE__, __LINE__, uv_code, __VA_ARGS__)
/* Drains OpenSSL's queue of this thread into the message. Must run before the fiber waits: the
 * queue is per thread. */
struct err *err_openssl_at(const char *file, int line, enum err_kind kind, const char *fmt, ...)
        ATTR_PRINTF(4, 5) ERR_MAKER;
#define ERR_OPENSSL(kind, ...) err_openssl_at(__FILE__, __LINE__, kind, __VA_ARGS__)
struct err *err_retry_at_new_at(const char *file, int line, struct wall when, const char *fmt, ...)
        ATTR_PRINTF(4, 5) ERR_MAKER;
#define ERR_AT(when, ...) err_retry_at_new_at(__FILE__, __LINE__, when, __VA_ARGS__)
/* The one static object; err_free() leaves it alone. */
struct err *err_nomem(void) ERR_MAKER;

/* Adds a fact in front ("order https://…"). Takes and returns e; NULL passes through. */
struct err *err_context(struct err *e, const char *fmt, ...) ATTR_PRINTF(2, 3) NODISCARD;
/* What the operator should do, one line without a full stop. The innermost advice stays. */
struct err *err_advise(struct err *e, const char *fmt, ...) ATTR_PRINTF(2, 3) NODISCARD;
/* Changes what is to be done, keeps the rest. */
struct err *err_rekind(struct err *e, enum err_kind kind) NODISCARD;
/* The kind becomes ERR_RETRY_AT. */
struct err *err_set_retry_at(struct err *e, struct wall when) NODISCARD;
/* Hangs a typed document on the error, freed with it. type is compared by address. */
struct err_detail_type {
    const char *name;
    void (*free)(void *detail);
};
struct err *err_set_detail(struct err *e, const struct err_detail_type *type, void *owned)
        NODISCARD;

/* ---- reading (e must not be NULL) ---- */

enum err_kind err_kind(const struct err *e);
const char *err_kind_name(
        enum err_kind kind); /* "retry", "config", … stable: it is stored and printed as JSON */
bool err_kind_parse(const char *name, enum err_kind *ret);
enum err_origin err_origin(const struct err *e);
long err_number(const struct err *e);
/* Only where kind is ERR_RETRY_AT. */
struct wall err_retry_at(const struct err *e);
/* The whole sentence, contexts first: "im.example.org: order https://…: connection refused". Owned
 * by e. */
const char *err_text(const struct err *e);
const char *err_advice(const struct err *e);                               /* or NULL */
const char *err_where(const struct err *e);                                /* file:line */
void *err_detail(const struct err *e, const struct err_detail_type *type); /* or NULL; owned by e */
bool err_is(const struct err *e, enum err_kind kind);                      /* false for NULL */

void err_free(struct err *e);
DEFINE_FREEP(struct err, err_free)
#define AUTO_ERR AUTO(err_freep)
/* Keeps the first of two: for cleaning up after an error. */
struct err *err_first(struct err *a, struct err *b) NODISCARD;
/* For the rare place where a failure changes nothing; logs at debug level so that it is not silent.
 */
void err_ignore(struct err *e, const char *why);

#define TRY(expr)                                                                                  \
    do {                                                                                           \
        struct err *_e = (expr);                                                                   \
        if (_e != NULL)                                                                            \
            return _e;                                                                             \
    } while (0)
#define TRY_CTX(expr, ...)                                                                         \
    do {                                                                                           \
        struct err *_e = (expr);                                                                   \
        if (_e != NULL)                                                                            \
            return err_context(_e, __VA_ARGS__);                                                   \
    } while (0)
