/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP client: libcurl's multi interface on the loop, one call for a fiber. Each request states its
 * own limits; nothing is unbounded. Only https unless the request says otherwise; redirects are off
 * unless asked for. The library's connection pool (with HTTP/2 multiplexing) belongs to the client
 * object.
 *
 * Finished transfers are reaped after every action, not only after socket events (libcurl may
 * finish one inside a timeout action); completions only wake the fiber.
 */
#pragma once

#include "base/addr.h"
#include "base/buf.h"
#include "base/fiber.h"
#include "base/secret.h"

enum http_redirects {
    HTTP_REDIRECT_NONE,   /* a 3xx is returned as it is */
    HTTP_REDIRECT_LIKE_CA /* up to 10, http and https on ports 80 and 443 only, certificates not
                             checked: what an ACME validator does (Let's Encrypt: at most 10, these
                             ports) */
};

struct http_header {
    const char *name;
    const char *value;
};

#define HTTP_HEADERS_MAX 16
/* Zero-initialised is a GET with the defaults named. All strings are borrowed until the call
 * returns. */
struct http_request {
    const char *method; /* NULL: GET, or POST if there is a body */
    const char *url;
    struct http_header headers[HTTP_HEADERS_MAX]; /* ends at name == NULL */
    const void *body;
    size_t body_len;
    size_t max_body;    /* of the reply; 0: 64 KiB */
    int64_t connect_ms; /* 0: 10 s */
    int64_t stall_ms;   /* less than 1 byte per second for so long; 0: 30 s */
    int64_t total_ms;   /* 0: 60 s */
    enum http_redirects redirects;
    bool allow_http;               /* http:// is fine */
    bool insecure;                 /* does not check the certificate: only for probing */
    int family;                    /* AF_UNSPEC, AF_INET, AF_INET6 */
    const char *unix_socket;       /* connect there instead */
    const struct addr *connect_to; /* connect there whatever the URL's host resolves to */
    const char *basic_user;        /* with basic_password */
    const struct secret *basic_password;
    const struct secret *bearer;
};

struct http_reply {
    long status;
    char *effective_url;
    struct addr peer; /* sa.sa_family == AF_UNSPEC where unknown (unix socket) */
    int http_version; /* 10, 11, 20 */
    size_t n_headers;
    struct http_header *
            headers; /* of the last response; names in lower case; at most 64 and 64 KiB together */
    struct buf body;
};
void http_reply_done(struct http_reply *reply);
#define AUTO_HTTP_REPLY AUTO(http_reply_done)
/* The first header of that name (lower case), or NULL. */
const char *http_reply_header(const struct http_reply *reply, const char *name);
/* Seconds or HTTP-date; clamped to at least 1 s and at most max_ms from now. false: absent or not
 * understood. */
bool http_retry_after(
        const struct http_reply *reply, struct wall now, int64_t max_ms, struct wall *ret);
/* The target of the Link header with that relation, resolved as it stands; owned, NULL if there is
 * none. */
char *http_reply_link(const struct http_reply *reply, const char *rel);
/* All of them, in order, appended to *ret. */
void http_reply_links(const struct http_reply *reply, const char *rel, struct strv *ret);

struct http_client;
struct http_client_options {
    const char *user_agent;
    const char *ca_bundle;           /* PEM file, or NULL: the system's */
    size_t max_connections_per_host; /* 0: 6 */
};
struct err *http_client_new(struct loop *loop, const struct http_client_options *options,
        struct http_client **ret) NODISCARD;
/* No request may be under way. */
void http_client_free(struct http_client *client);
DEFINE_FREEP(struct http_client, http_client_free)

/* Any HTTP status is success; errors are transport errors: ERR_RETRY (connection, DNS),
 * ERR_TIMEOUT, ERR_CONFIG (certificate not trusted: the message says which bundle; URL not
 * allowed), ERR_PROTOCOL (too large, not HTTP). */
struct err *http_client_do(struct http_client *client, const struct http_request *request,
        struct http_reply *ret) MAY_SUSPEND NODISCARD;
