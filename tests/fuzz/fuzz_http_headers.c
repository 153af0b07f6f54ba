/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A response as libcurl hands it over: header lines one by one, the body in pieces. Then what we
 * read from it.
 */
#include "base/http_private.h"
#include "tests/fuzz/fuzz.h"

#define BODY_MAX 100

static void feed(struct http_transfer *t, const char *text, size_t len)
{
    bool in_body = false;
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t n = newline != NULL ? (size_t)(newline + 1 - text) - at : len - at;
        /* libcurl's buffers are its own: the callback may not write into them or read behind. */
        AUTO_FREE char *line = mem_dup(text + at, n);
        size_t taken =
                in_body ? http_reply_on_body(line, 1, n, t) : http_reply_on_header(line, 1, n, t);
        assert(memcmp(line, text + at, n) == 0);
        assert((taken == n) == (t->refused == HTTP_REFUSED_NOT));
        if (taken != n)
            return;
        in_body |= n <= 2 && (line[0] == '\r' || line[0] == '\n');
        at += n;
    }
}

static void check_headers(const struct http_reply *reply)
{
    size_t bytes = 0;
    assert(reply->n_headers <= HTTP_REPLY_HEADERS_MAX);
    for (size_t i = 0; i < reply->n_headers; i++) {
        const struct http_header *h = &reply->headers[i];
        assert(strpbrk(h->name, ":ABCDEFGHIJKLMNOPQRSTUVWXYZ") == NULL);
        bytes += strlen(h->name) + strlen(h->value);
        const char *first = http_reply_header(reply, h->name);
        assert(first != NULL);
    }
    assert(bytes <= HTTP_REPLY_HEADER_MAX);
}

static void check_links(const struct http_reply *reply)
{
    static const char *const relations[] = {"index", "alternate", "help", "up", ""};
    for (size_t i = 0; i < ARRAY_SIZE(relations); i++) {
        AUTO_STRV struct strv found = {0};
        AUTO_FREE char *first = http_reply_link(reply, relations[i]);
        http_reply_links(reply, relations[i], &found);
        assert((first == NULL) == (found.n == 0));
        assert(first == NULL || strcmp(first, found.v[0]) == 0);
        for (size_t k = 0; k < found.n; k++)
            assert(strchr(found.v[k], '>') == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct wall now = {1795348800000};
    AUTO_HTTP_REPLY struct http_reply reply = {.body = BUF_INIT(BODY_MAX)};
    struct http_transfer t = {.reply = &reply, .max_body = BODY_MAX, .follows = len % 2 == 1};
    struct wall when = {0};
    feed(&t, (const char *)data, len);
    assert(t.status >= 0 && t.status <= 999);
    assert(reply.body.len <= BODY_MAX && !reply.body.overflow);
    check_headers(&reply);
    check_links(&reply);
    if (http_retry_after(&reply, now, CLOCK_HOUR, &when))
        assert(wall_diff(when, now) >= CLOCK_SEC && wall_diff(when, now) <= CLOCK_HOUR);
    return 0;
}
