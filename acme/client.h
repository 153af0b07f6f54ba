/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of one CA with one account: directory, nonces, signed requests. Flows use the functions
 * of account.h, order.h and issue.h, which stand on this one. Objects of several flows share one
 * client (one warm HTTP/2 connection, one nonce pool); all of it lives on one loop.
 */
#pragma once

#include "acme/keys.h"
#include "acme/problem.h"
#include "base/world.h"

struct acme_directory {
    char *new_nonce, *new_account, *new_order, *revoke_cert, *key_change;
    char *renewal_info;     /* or NULL */
    char *terms_of_service; /* or NULL */
    bool external_account_required;
    struct strv caa_identities;
    struct strv profiles;
    struct wall fetched;
};
void acme_directory_done(struct acme_directory *directory);

struct acme_client_options {
    const char *directory_url;      /* https only, no user information */
    const char *ca_bundle;          /* for the directory's TLS; NULL: system */
    const struct strv *extra_hosts; /* other hosts that the CA's URLs may have; or NULL */
    const char *cache_path;   /* file for the directory, so that a start needs one round trip less;
                                 NULL: none */
    size_t nonces_per_second; /* fetched at most; a tenth of them at once, at least 10. 0: 20, the
                                 limit of Let's Encrypt. It decides how fast many orders at once
                                 go. */
    size_t max_new_orders;    /* newOrder requests at once; 0: 20 */
};

struct acme_client;
struct err *acme_client_new(struct world *world, const struct acme_client_options *options,
        struct acme_client **ret) NODISCARD;
/* Fetches of nonces that are under way end within the next turns of the loop, so the world must
 * outlive loop_run(). */
void acme_client_free(struct acme_client *client);
DEFINE_FREEP(struct acme_client, acme_client_free)
struct world *acme_client_world(struct acme_client *client);
const char *acme_client_directory_url(const struct acme_client *client);
/* Requests sent to the CA so far, of any kind. */
uint64_t acme_client_requests(const struct acme_client *client);

/* Fetched once (single flight), cached for 24 h; borrowed until the client is freed. A cached one
 * is fetched again when the CA no longer knows a URL in it. */
struct err *acme_client_directory(struct acme_client *client, const struct acme_directory **ret)
        MAY_SUSPEND NODISCARD;

/* The account that signs; both borrowed until changed. kid NULL: requests embed the public key. */
void acme_client_set_account(struct acme_client *client, const struct key *key, const char *kid);
const struct key *acme_client_key(const struct acme_client *client);
const char *acme_client_kid(const struct acme_client *client); /* or NULL */

/* Where a request goes whose URL the directory has. */
enum acme_resource { ACME_NEW_NONCE, ACME_NEW_ACCOUNT, ACME_NEW_ORDER, ACME_RESOURCE_MAX };

/* After a transport error it is unknown whether the CA has acted: how often the request may be sent
 * again, with a small back-off and a new nonce. */
#define ACME_RETRIES 2
/* What follows each: account, order, authorizations, challenges, poll, finalize, poll, certificate.
 * A poll counts as the first of the two. */
enum {
    ACME_AFTER_ACCOUNT = 7,
    ACME_AFTER_ORDER = 6,
    ACME_AFTER_AUTHORIZATION = 5,
    ACME_AFTER_CHALLENGE = 4,
    ACME_AFTER_POLL = 3,
    ACME_AFTER_FINALIZE = 2,
};
struct acme_request {
    const char *url; /* on the directory's host; NULL: resource */
    enum acme_resource resource;
    const char *payload; /* as in struct key_jws */
    const char *accept;  /* media type wanted; NULL: JSON */
    unsigned retries;
    unsigned to_follow; /* decides who gets the next nonce; the last of all is 0 */
};
/* One signed POST. badNonce is retried here (with the nonce of the reply), never seen by the caller
 * unless the CA goes on for ever; other problem documents become errors with acme_problem_of(). */
struct err *acme_client_send(struct acme_client *client, const struct acme_request *request,
        struct http_reply *ret) MAY_SUSPEND NODISCARD;
/* The same for a URL; sent again after a transport error only if it is a POST-as-GET (payload
 * NULL). */
struct err *acme_client_post(struct acme_client *client, const char *url, const char *payload,
        const char *accept, struct http_reply *ret) MAY_SUSPEND NODISCARD;
/* Announces that n requests come soon, all at once: what circulates too little of nonces is fetched
 * in the background, within the CA's limits. Each request sent takes back one announcement. */
void acme_client_want_nonces(struct acme_client *client, size_t n);
/* Held by each newOrder request. */
struct fiber_sem *acme_client_order_slots(struct acme_client *client);
/* Is the URL one that this CA may send us to: https, the directory's host and port (or an extra
 * host), no user information? ERR_PROTOCOL "what: …". */
struct err *acme_client_check_url(
        const struct acme_client *client, const char *what, const char *url) NODISCARD;
