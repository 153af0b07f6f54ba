/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything outside of the process that a test replaces: time, randomness, network, child
 * processes. The flows reach them through a struct world only. world_new() gives the real one;
 * tests/lib has a fake with a virtual clock.
 *
 * The wrappers below are what flows call: a function pointer hides MAY_SUSPEND from the compiler, a
 * wrapper does not.
 */
#pragma once

#include "base/child.h"
#include "base/http.h"
#include "base/net.h"
#include "base/tls.h"

struct dns_wire_request {
    struct addr to;
    bool tcp; /* two-byte length prefix is added and removed here */
    const void *data;
    size_t len;
    int64_t wait_ms;
    bool (*accept)(void *arg, const uint8_t *data,
            size_t len); /* UDP: is this the reply to my question? */
    void *arg;
};

struct world;
struct world_ops {
    struct wall (*wall_now)(struct world *world);
    struct mono (*mono_now)(struct world *world);
    void (*random)(struct world *world, void *buf, size_t len);
    /* ca_bundle selects the connection pool: NULL is the system's store. */
    struct err *(*http)(struct world *world, const char *ca_bundle,
            const struct http_request *request, struct http_reply *ret);
    struct err *(*dns_wire)(
            struct world *world, const struct dns_wire_request *request, struct buf *ret_reply);
    struct err *(*tls_probe)(struct world *world, const struct tls_probe_request *request,
            struct tls_probe_result *ret);
    struct err *(*child)(
            struct world *world, const struct child_request *request, struct child_result *ret);
    struct err *(*resolve)(struct world *world, const char *host, uint16_t port,
            struct addr ret[NET_RESOLVE_MAX], size_t *ret_n);
};

struct world {
    const struct world_ops *ops;
    struct loop *loop;
};

/* The real world on a loop (borrowed). */
struct err *world_new(struct loop *loop, const char *user_agent, struct world **ret) NODISCARD;
void world_free(struct world *world);
DEFINE_FREEP(struct world, world_free)

static inline struct wall world_now(struct world *w)
{
    return w->ops->wall_now(w);
}

static inline struct mono world_mono(struct world *w)
{
    return w->ops->mono_now(w);
}

static inline void world_random(struct world *w, void *buf, size_t len)
{
    w->ops->random(w, buf, len);
}

/* Uniform in [0, below). */
uint64_t world_random_below(struct world *w, uint64_t below);

struct err *world_http(struct world *w, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret) MAY_SUSPEND NODISCARD;
struct err *world_dns_wire(struct world *w, const struct dns_wire_request *request,
        struct buf *ret_reply) MAY_SUSPEND NODISCARD;
struct err *world_tls_probe(struct world *w, const struct tls_probe_request *request,
        struct tls_probe_result *ret) MAY_SUSPEND NODISCARD;
struct err *world_child(struct world *w, const struct child_request *request,
        struct child_result *ret) MAY_SUSPEND NODISCARD;
struct err *world_resolve(struct world *w, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n) MAY_SUSPEND NODISCARD;
