/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of anti-replay nonces of one client (RFC 8555 6.5). Private to client.c, which sends the
 * requests; here is only who gets which nonce and how many have to be fetched.
 */
#pragma once

#include "base/world.h"

#define ACME_NONCES_MAX    ((size_t)64)
#define ACME_NONCE_LEN_MAX ((size_t)512)
/* Let's Encrypt's limit for new-nonce: 20 a second with a burst of 10
 * (https://letsencrypt.org/docs/rate-limits/, 2026-08-05). */
#define ACME_NONCE_BURST ((size_t)10)
#define ACME_NONCE_RATE  ((size_t)20)

struct acme_nonce {
    char *text;
    struct mono since;
};
struct acme_nonce_waiter;
struct acme_nonces {
    struct world *world;
    struct acme_nonce pool[ACME_NONCES_MAX]; /* oldest first */
    size_t n;
    struct acme_nonce_waiter *first, *last;
    size_t n_waiters;
    size_t announced; /* requests to come */
    size_t fetching;  /* newNonce requests under way */
    size_t posts;     /* signed requests under way: each brings a nonce back */
    size_t burst;     /* fetches at once */
    uint64_t pace_ms; /* between two fetches, once a burst is used up */
    struct mono next_fetch;
    void (*wanted)(void *arg); /* more may be missing now; must not suspend */
    void *arg;
};

/* per_second: fetches; 0: ACME_NONCE_RATE. A tenth of it at once, at least ACME_NONCE_BURST. */
void acme_nonces_init(struct acme_nonces *p, struct world *world, size_t per_second,
        void (*wanted)(void *arg), void *arg);
/* Nobody may be waiting. */
void acme_nonces_done(struct acme_nonces *p);

/* One that nobody has used; waits for one to come, from a reply or a fetch. Those who wait are
 * served by the number of requests that must still follow theirs, most first, then in turn. */
struct err *acme_nonces_take(struct acme_nonces *p, unsigned to_follow, char **ret)
        MAY_SUSPEND NODISCARD;

/* Is this text a nonce we want to send back? (base64url, RFC 8555 6.5.1) */
bool acme_nonce_ok(const char *text);
/* From a reply; NULL and unusable ones are dropped. */
void acme_nonces_give(struct acme_nonces *p, const char *text);
/* n requests come soon, at once. */
void acme_nonces_announce(struct acme_nonces *p, size_t n);
/* How many fetches to start now. */
size_t acme_nonces_missing(struct acme_nonces *p);
/* Reserves the next slot for a fetch: milliseconds until it may be sent. */
int64_t acme_nonces_pace(struct acme_nonces *p);
/* A fetch ended without a nonce: those who wait for it get the error (borrowed). */
void acme_nonces_failed(struct acme_nonces *p, const struct err *e);
