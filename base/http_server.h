/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP server: libmicrohttpd without threads, driven by the loop, with the guards it needs in
 * public (absolute deadlines for header, request and idle connection; request smuggling refused;
 * caps on connections, header, URL, body). One handler that answers at once: what takes time is
 * answered 202 and done later.
 */
#pragma once

#include "base/addr.h"
#include "base/buf.h"
#include "base/http.h"
#include "base/loop.h"

/* Everything is borrowed and valid until the handler returns. */
struct http_server_request {
    const char *method;
    const char *path; /* without the query, as it was sent: "%2e" is not decoded; begins with "/" */
    const char *query; /* or NULL */
    const char *host;  /* or NULL */
    struct addr peer;
    size_t n_headers;
    const struct http_header *headers; /* names as they were sent */
    const void *body;
    size_t body_len;
};
/* The first header of that name in any case, or NULL. */
const char *http_server_header(const struct http_server_request *request, const char *name);

#define HTTP_SERVER_REPLY_HEADERS_MAX 4
/* Every reply gets "Cache-Control: no-store" and "X-Content-Type-Options: nosniff". */
struct http_server_reply {
    unsigned status;
    const char *content_type; /* static string, or NULL */
    /* The page's own: what it may load. Static string; NULL: "default-src 'none'". */
    const char *security_policy;
    /* More, up to name == NULL. Copied right after the handler has returned: static strings, or
     * memory of arg. */
    struct http_header headers[HTTP_SERVER_REPLY_HEADERS_MAX];
    struct buf body; /* filled by the handler, sent and freed by the server */
};

struct http_server_options {
    struct addr listen;     /* [::] also serves IPv4; where there is no IPv6, IPv4 alone is used */
    int listen_fd;          /* used instead of listen when > 2 (socket activation) */
    size_t max_connections; /* 0: 1024 */
    size_t max_connections_per_ip;          /* 0: 32; SIZE_MAX: no limit */
    size_t max_body;                        /* 0: no body is accepted (413) */
    int64_t header_ms, request_ms, idle_ms; /* 0: 10 s, 30 s, 15 s */
    void (*handle)(
            void *arg, const struct http_server_request *request, struct http_server_reply *reply);
    void *arg;
};

struct http_server;
/* ERR_CONFIG for an address in use or without the right (the message names the address and the
 * fix). */
struct err *http_server_start(struct loop *loop, const struct http_server_options *options,
        struct http_server **ret) NODISCARD;
struct addr http_server_address(
        const struct http_server *server); /* the port in use, if 0 was asked for */
void http_server_stop(struct http_server *server);
DEFINE_FREEP(struct http_server, http_server_stop)
