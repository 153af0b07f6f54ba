/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets for fibers: one UDP exchange from a fresh port, and a TCP stream. Everything that waits
 * obeys the fiber's deadline; nothing here has one of its own.
 */
#pragma once

#include "base/addr.h"
#include "base/buf.h"
#include "base/fiber.h"

/* Sends the datagram from a new connected socket (new random source port; strangers are dropped by
 * the kernel) and waits for the first datagram that accept() approves; others are ignored. wait_ms
 * bounds it: ERR_TIMEOUT. ICMP refusal is ERR_RETRY with UV_ECONNREFUSED; no route is ERR_RETRY
 * with UV_ENETUNREACH or UV_EHOSTUNREACH as err_number(). */
struct net_udp_request {
    struct addr to;
    const void *data;
    size_t len;
    size_t max_reply;
    int64_t wait_ms;
    bool (*accept)(void *arg, const uint8_t *data, size_t len);
    void *arg;
};
struct err *net_udp_exchange(struct loop *loop, const struct net_udp_request *request,
        struct buf *ret_reply) MAY_SUSPEND NODISCARD;

struct net_stream;
struct err *net_connect(struct loop *loop, const struct addr *to, struct net_stream **ret)
        MAY_SUSPEND NODISCARD;
/* Writes all of it. */
struct err *net_write(struct net_stream *stream, const void *data, size_t len)
        MAY_SUSPEND NODISCARD;
/* At least one byte unless the peer has closed (*ret_len == 0). */
struct err *net_read(struct net_stream *stream, void *data, size_t size, size_t *ret_len)
        MAY_SUSPEND NODISCARD;
/* Exactly len bytes, else ERR_RETRY "closed the connection after n of len bytes". */
struct err *net_read_full(struct net_stream *stream, void *data, size_t len) MAY_SUSPEND NODISCARD;
void net_close(struct net_stream *stream); /* NULL is fine; never waits */
DEFINE_FREEP(struct net_stream, net_close)

/* Addresses of a host by the system's resolver (getaddrinfo on the thread pool); also takes literal
 * addresses. */
#define NET_RESOLVE_MAX 16
struct err *net_resolve(struct loop *loop, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n) MAY_SUSPEND NODISCARD;
