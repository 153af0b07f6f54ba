/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What http_client.c (libcurl on the loop), http_request.c (one request) and http_reply.c share;
 * nobody else includes it.
 */
#pragma once

#include <curl/curl.h>

#include "base/http.h"

#define HTTP_REPLY_HEADERS_MAX 64
#define HTTP_REPLY_HEADER_MAX  ((size_t)64 * 1024)
#define HTTP_REDIRECTS_MAX     10
#define HTTP_REDIRECT_BODY_MAX ((size_t)64 * 1024)

struct http_client {
    struct loop *loop;
    CURLM *multi;
    uv_timer_t *timer;
    struct http_watch *watches; /* sockets that libcurl wants to hear of */
    char *user_agent;
    char *ca_bundle; /* NULL: libcurl's own default, where the system has no bundle that we know */
    size_t running;
};

/* One request at one URL. Lives on the stack of the fiber that waits for it; libcurl's callbacks
 * write into it until the easy handle has left the multi handle. */
struct http_transfer {
    CURL *easy;
    bool done;
    CURLcode result;
    struct fiber_wait wait;
    char error_text[CURL_ERROR_SIZE];

    struct http_reply *reply;
    long status;         /* of the status line seen last */
    size_t header_bytes; /* of the header section seen last */
    size_t folded;       /* lines of it that go on with the one before */
    bool in_header;
    size_t max_body;
    bool follows; /* a redirect's own body is of no interest: dropped, with a limit of its own */
    size_t dropped;
    enum { HTTP_REFUSED_NOT, HTTP_REFUSED_HEADER, HTTP_REFUSED_BODY } refused;
};

/* Hands the easy handle to libcurl and waits; on return it is no longer libcurl's. NULL: the
 * transfer has ended and transfer->result says how. */
struct err *http_client_perform(struct http_client *client, struct http_transfer *transfer)
        MAY_SUSPEND NODISCARD;

/* libcurl's callbacks for what arrives; arg is the transfer. */
size_t http_reply_on_header(char *data, size_t size, size_t n, void *arg);
size_t http_reply_on_body(char *data, size_t size, size_t n, void *arg);
