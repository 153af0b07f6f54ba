/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain non-blocking sockets; the only callback says "may be ready" and all system calls are made
 * by the fiber, so that a cancel needs no more than to stop watching. A watch is for one event: it
 * is stopped by the event itself, else a socket that nobody reads just now would spin the loop.
 */
#include "base/net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <unistd.h>

struct socket_watch {
    uv_poll_t poll; /* first: loop_close_free() frees the whole by this address */
    struct fiber_wait *waiter;
};

struct net_stream {
    int fd;
    struct socket_watch *watch;
    char peer[ADDR_TEXT_MAX];
};

/* ---- waiting for a socket ---- */

static struct err *watch_new(struct loop *loop, int fd, struct socket_watch **ret)
{
    struct socket_watch *watch = MEM_NEW(struct socket_watch);
    int rc = uv_poll_init(loop_uv(loop), &watch->poll, fd);

    if (rc != 0) {
        free(watch);
        return ERR_UV(rc, "watching a socket");
    }
    *ret = watch;
    return NULL;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct socket_watch *watch = CONTAINER_OF(poll, struct socket_watch, poll);

    /* An error status too is only a hint to look: the system call tells what it is. */
    uv_poll_stop(poll);
    if (watch->waiter != NULL)
        fiber_wait_wake(watch->waiter);
}

static struct err *watch_wait(struct socket_watch *watch, int events, const char *what) MAY_SUSPEND;

static struct err *watch_wait(struct socket_watch *watch, int events, const char *what)
{
    struct fiber_wait wait;

    assert(watch->waiter == NULL); /* one fiber at a time */
    fiber_wait_init(&wait, what, true);
    watch->waiter = &wait;
    int rc = uv_poll_start(&watch->poll, events, on_ready);
    struct err *stop = rc == 0 ? fiber_wait_for(&wait) : ERR_UV(rc, "watching a socket");
    watch->waiter = NULL;
    uv_poll_stop(&watch->poll);
    return stop;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK;
}

/* A connected socket (TCP: connecting) with its watch. */
static struct err *open_socket(
        struct loop *loop, const struct addr *to, int type, struct net_stream **ret)
{
    AUTO(net_closep) struct net_stream *s = MEM_NEW(struct net_stream);

    addr_format(to, s->peer);
    s->fd = socket(addr_family(to), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return ERR_UV(-errno, "%s", s->peer);
    if (connect(s->fd, &to->sa, addr_len(to)) != 0 && errno != EINPROGRESS)
        return ERR_UV(-errno, "%s", s->peer);
    TRY_CTX(watch_new(loop, s->fd, &s->watch), "%s", s->peer);
    *ret = STEAL(s);
    return NULL;
}

void net_close(struct net_stream *stream)
{
    if (stream == NULL)
        return;
    if (stream->watch != NULL)
        loop_close_free((uv_handle_t *)&stream->watch->poll);
    if (stream->fd >= 0)
        close(stream->fd);
    free(stream);
}

/* ---- UDP ---- */

/* Reads what is there. *ret_done: a datagram was taken, its bytes are in ret. */
static struct err *udp_read(struct net_stream *s, const struct net_udp_request *request,
        struct buf *ret, bool *ret_done)
{
    AUTO_FREE uint8_t *data = mem_alloc(request->max_reply + 1);

    for (;;) {
        ssize_t n = recv(s->fd, data, request->max_reply + 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && would_block())
            return NULL;
        if (n < 0)
            return ERR_UV(-errno, "%s", s->peer);
        /* Longer than allowed is no reply to us, whoever sent it. */
        if ((size_t)n > request->max_reply)
            continue;
        if (request->accept != NULL && !request->accept(request->arg, data, (size_t)n))
            continue;
        buf_append(ret, data, (size_t)n);
        *ret_done = true;
        return NULL;
    }
}

struct err *net_udp_exchange(
        struct loop *loop, const struct net_udp_request *request, struct buf *ret_reply)
{
    AUTO(net_closep) struct net_stream *s = NULL;
    AUTO_BUF struct buf reply = BUF_INIT(request->max_reply);
    FIBER_DEADLINE(request->wait_ms, "the reply by UDP");
    bool done = false;

    TRY(fiber_check());
    TRY(open_socket(loop, &request->to, SOCK_DGRAM, &s));
    while (send(s->fd, request->data, request->len, MSG_NOSIGNAL) < 0) {
        if (errno == EINTR)
            continue;
        if (!would_block())
            return ERR_UV(-errno, "%s", s->peer);
        TRY_CTX(watch_wait(s->watch, UV_WRITABLE, "UDP"), "%s", s->peer);
    }
    for (;;) {
        TRY_CTX(watch_wait(s->watch, UV_READABLE, "UDP reply"), "%s", s->peer);
        TRY(udp_read(s, request, &reply, &done));
        if (done)
            break;
    }
    *ret_reply = reply;
    reply = (struct buf){0};
    return NULL;
}

/* ---- TCP ---- */

struct err *net_connect(struct loop *loop, const struct addr *to, struct net_stream **ret)
{
    AUTO(net_closep) struct net_stream *s = NULL;
    int error = 0;
    socklen_t len = sizeof(error);

    TRY(fiber_check());
    TRY(open_socket(loop, to, SOCK_STREAM, &s));
    TRY_CTX(watch_wait(s->watch, UV_WRITABLE, "TCP connection"), "%s", s->peer);
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error != 0)
        return ERR_UV(-error, "%s", s->peer);
    *ret = STEAL(s);
    return NULL;
}

struct err *net_write(struct net_stream *stream, const void *data, size_t len)
{
    const uint8_t *p = data;

    TRY(fiber_check());
    while (len > 0) {
        ssize_t n = send(stream->fd, p, len, MSG_NOSIGNAL);
        if (n >= 0) {
            p += n;
            len -= (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (!would_block())
            return ERR_UV(-errno, "%s", stream->peer);
        TRY_CTX(watch_wait(stream->watch, UV_WRITABLE, "TCP, to write"), "%s", stream->peer);
    }
    return NULL;
}

struct err *net_read(struct net_stream *stream, void *data, size_t size, size_t *ret_len)
{
    TRY(fiber_check());
    for (;;) {
        ssize_t n = recv(stream->fd, data, size, 0);
        if (n >= 0) {
            *ret_len = (size_t)n;
            return NULL;
        }
        if (errno == EINTR)
            continue;
        if (!would_block())
            return ERR_UV(-errno, "%s", stream->peer);
        TRY_CTX(watch_wait(stream->watch, UV_READABLE, "TCP, to read"), "%s", stream->peer);
    }
}

struct err *net_read_full(struct net_stream *stream, void *data, size_t len)
{
    uint8_t *p = data;

    for (size_t have = 0; have < len;) {
        size_t n = 0;
        TRY(net_read(stream, p + have, len - have, &n));
        if (n == 0)
            return ERR_FROM(ERR_RETRY, ERR_FROM_UV, UV_EOF,
                    "%s: closed the connection after %zu of %zu bytes", stream->peer, have, len);
        have += n;
    }
    return NULL;
}

/* ---- names ---- */

/* getaddrinfo() can't be stopped once a thread runs it. So the request is on its own: the fiber
 * that gives up leaves it behind, and its callback frees it. */
struct resolve {
    uv_getaddrinfo_t req;
    struct fiber_wait *waiter; /* NULL: abandoned */
    int status;
    struct addrinfo *list;
    bool done;
};

static void resolve_free(struct resolve *r)
{
    uv_freeaddrinfo(r->list);
    free(r);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct resolve *r = CONTAINER_OF(req, struct resolve, req);

    r->status = status;
    r->list = list;
    r->done = true;
    if (r->waiter != NULL)
        fiber_wait_wake(r->waiter);
    else
        resolve_free(r);
}

static size_t copy_addresses(
        const struct addrinfo *list, uint16_t port, struct addr ret[NET_RESOLVE_MAX])
{
    size_t n = 0;

    for (const struct addrinfo *i = list; i != NULL && n < NET_RESOLVE_MAX; i = i->ai_next) {
        struct addr a = {0};
        if (i->ai_addr == NULL || i->ai_addrlen > sizeof(a) ||
                (i->ai_family != AF_INET && i->ai_family != AF_INET6))
            continue;
        memcpy(&a, i->ai_addr, i->ai_addrlen);
        addr_set_port(&a, port);
        ret[n++] = a;
    }
    return n;
}

static struct err *resolve_error(const char *host, int status)
{
    /* "No such name" is for somebody to put right; everything else may pass. */
    if (status == UV_EAI_NONAME || status == UV_EAI_NODATA)
        return ERR_FROM(ERR_CONFIG, ERR_FROM_UV, status, "%s: has no address (%s)", host,
                uv_strerror(status));
    return ERR_UV(status, "%s: can't be resolved", host);
}

struct err *net_resolve(struct loop *loop, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct resolve *r = MEM_NEW(struct resolve);
    struct fiber_wait wait;

    fiber_wait_init(&wait, "name resolution", true);
    r->waiter = &wait;
    int rc = uv_getaddrinfo(loop_uv(loop), &r->req, on_resolved, host, NULL, &hints);
    if (rc != 0) {
        free(r);
        return resolve_error(host, rc);
    }
    struct err *stop = fiber_wait_for(&wait);
    if (stop != NULL && !r->done) {
        r->waiter = NULL;
        uv_cancel((uv_req_t *)&r->req);
        return err_context(stop, "%s", host);
    }
    err_free(stop);
    int status = r->status;
    size_t n = status == 0 ? copy_addresses(r->list, port, ret) : 0;
    resolve_free(r);
    if (status == 0 && n == 0)
        status = UV_EAI_NODATA;
    if (status != 0)
        return resolve_error(host, status);
    *ret_n = n;
    return NULL;
}
