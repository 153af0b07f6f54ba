/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real world, and the wrappers through which every world is called. HTTP clients are kept per
 * CA bundle, because libcurl's pool of connections and its parsed bundle belong to one client.
 */
#include "base/world.h"

#include <assert.h>
#include <stdio.h>
#include <sys/random.h>

#define DNS_REPLY_MAX ((size_t)65535)

struct pooled {
    struct pooled *next;
    char *ca_bundle; /* NULL: the system's */
    struct http_client *client;
};

struct real_world {
    struct world world; /* first: a struct world * is one of these */
    char *user_agent;
    struct pooled *clients;
};

static struct real_world *real(struct world *world)
{
    return CONTAINER_OF(world, struct real_world, world);
}

/* ---- time and chance ---- */

static struct wall real_wall(struct world *world)
{
    return loop_wall(world->loop);
}

static struct mono real_mono(struct world *world)
{
    return loop_mono(world->loop);
}

/* Without randomness there is no safe way on: nonces and tokens would be guessable. */
static void real_random(struct world *world, void *buf, size_t len)
{
    uint8_t *p = buf;

    (void)world;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fprintf(stderr, "certherd: getrandom: %s\n", strerror(errno));
            abort();
        }
        p += n;
        len -= (size_t)n;
    }
}

uint64_t world_random_below(struct world *w, uint64_t below)
{
    uint64_t value;

    assert(below > 0);
    /* The lowest 2^64 mod below values would be met once too often. */
    uint64_t skip = (0 - below) % below;
    do
        world_random(w, &value, sizeof(value));
    while (value < skip);
    return value % below;
}

/* ---- network and children ---- */

static bool same_bundle(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static struct err *client_for(struct real_world *w, const char *ca_bundle, struct http_client **ret)
{
    struct http_client_options options = {.user_agent = w->user_agent, .ca_bundle = ca_bundle};
    struct http_client *client = NULL;

    for (struct pooled *p = w->clients; p != NULL; p = p->next) {
        if (same_bundle(p->ca_bundle, ca_bundle)) {
            *ret = p->client;
            return NULL;
        }
    }
    TRY(http_client_new(w->world.loop, &options, &client));
    struct pooled *p = MEM_NEW(struct pooled);
    p->ca_bundle = str_dup_null(ca_bundle);
    p->client = client;
    p->next = w->clients;
    w->clients = p;
    *ret = client;
    return NULL;
}

static struct err *real_http(struct world *world, const char *ca_bundle,
        const struct http_request *request, struct http_reply *ret) MAY_SUSPEND;
static struct err *real_dns_wire(struct world *world, const struct dns_wire_request *request,
        struct buf *ret_reply) MAY_SUSPEND;
static struct err *real_tls_probe(struct world *world, const struct tls_probe_request *request,
        struct tls_probe_result *ret) MAY_SUSPEND;
static struct err *real_child(struct world *world, const struct child_request *request,
        struct child_result *ret) MAY_SUSPEND;
static struct err *real_resolve(struct world *world, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n) MAY_SUSPEND;

static struct err *real_http(struct world *world, const char *ca_bundle,
        const struct http_request *request, struct http_reply *ret)
{
    struct http_client *client = NULL;

    TRY(client_for(real(world), ca_bundle, &client));
    return http_client_do(client, request, ret);
}

static struct err *dns_udp(struct loop *loop, const struct dns_wire_request *request,
        struct buf *ret_reply) MAY_SUSPEND;

static struct err *dns_udp(
        struct loop *loop, const struct dns_wire_request *request, struct buf *ret_reply)
{
    struct net_udp_request udp = {.to = request->to,
            .data = request->data,
            .len = request->len,
            .max_reply = DNS_REPLY_MAX,
            .wait_ms = request->wait_ms,
            .accept = request->accept,
            .arg = request->arg};

    return net_udp_exchange(loop, &udp, ret_reply);
}

/* RFC 1035 4.2.2: two bytes of length before each message. */
static struct err *dns_tcp(struct loop *loop, const struct dns_wire_request *request,
        struct buf *ret_reply) MAY_SUSPEND;

static struct err *dns_tcp(
        struct loop *loop, const struct dns_wire_request *request, struct buf *ret_reply)
{
    AUTO(net_closep) struct net_stream *stream = NULL;
    AUTO_BUF struct buf out = BUF_INIT(DNS_REPLY_MAX + 2);
    AUTO_BUF struct buf reply = BUF_INIT(DNS_REPLY_MAX);
    FIBER_DEADLINE(request->wait_ms, "the DNS reply by TCP");
    uint8_t head[2] = {(uint8_t)(request->len >> 8), (uint8_t)request->len};

    assert(request->len <= DNS_REPLY_MAX);
    buf_append(&out, head, sizeof(head)); /* one write: some servers want it in one segment */
    buf_append(&out, request->data, request->len);
    TRY(net_connect(loop, &request->to, &stream));
    TRY(net_write(stream, out.data, out.len));
    TRY(net_read_full(stream, head, sizeof(head)));
    size_t len = (size_t)head[0] << 8 | head[1];
    AUTO_FREE uint8_t *data = mem_alloc(len + 1);
    TRY(net_read_full(stream, data, len));
    buf_append(&reply, data, len);
    *ret_reply = reply;
    reply = (struct buf){0};
    return NULL;
}

static struct err *real_dns_wire(
        struct world *world, const struct dns_wire_request *request, struct buf *ret_reply)
{
    if (request->tcp)
        return dns_tcp(world->loop, request, ret_reply);
    return dns_udp(world->loop, request, ret_reply);
}

static struct err *real_tls_probe(
        struct world *world, const struct tls_probe_request *request, struct tls_probe_result *ret)
{
    return tls_probe(world->loop, request, ret);
}

static struct err *real_child(
        struct world *world, const struct child_request *request, struct child_result *ret)
{
    return child_run(world->loop, request, ret);
}

static struct err *real_resolve(struct world *world, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n)
{
    return net_resolve(world->loop, host, port, ret, ret_n);
}

/* ---- lifecycle ---- */

static const struct world_ops real_ops = {
        .wall_now = real_wall,
        .mono_now = real_mono,
        .random = real_random,
        .http = real_http,
        .dns_wire = real_dns_wire,
        .tls_probe = real_tls_probe,
        .child = real_child,
        .resolve = real_resolve,
};

struct err *world_new(struct loop *loop, const char *user_agent, struct world **ret)
{
    struct real_world *w = MEM_NEW(struct real_world);

    w->world = (struct world){.ops = &real_ops, .loop = loop};
    w->user_agent = str_dup(user_agent);
    *ret = &w->world;
    return NULL;
}

void world_free(struct world *world)
{
    if (world == NULL)
        return;
    struct real_world *w = real(world);
    while (w->clients != NULL) {
        struct pooled *p = w->clients;
        w->clients = p->next;
        http_client_free(p->client);
        free(p->ca_bundle);
        free(p);
    }
    free(w->user_agent);
    free(w);
}

/* ---- what flows call ---- */

struct err *world_http(struct world *w, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret)
{
    return w->ops->http(w, ca_bundle, request, ret);
}

struct err *world_dns_wire(
        struct world *w, const struct dns_wire_request *request, struct buf *ret_reply)
{
    return w->ops->dns_wire(w, request, ret_reply);
}

struct err *world_tls_probe(
        struct world *w, const struct tls_probe_request *request, struct tls_probe_result *ret)
{
    return w->ops->tls_probe(w, request, ret);
}

struct err *world_child(
        struct world *w, const struct child_request *request, struct child_result *ret)
{
    return w->ops->child(w, request, ret);
}

struct err *world_resolve(struct world *w, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n)
{
    return w->ops->resolve(w, host, port, ret, ret_n);
}
