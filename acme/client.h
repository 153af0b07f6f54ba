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
    const char *cache_path; /* file for the directory, so that a start needs one round trip less;
                               NULL: none */
    size_t max_new_orders;  /* newOrder requests at once; 0: 4 (pebble 2.4 deadlocks under many) */
};

struct acme_client;
struct err *acme_client_new(struct world *world, const struct acme_client_options *options,
        struct acme_client **ret) NODISCARD;
void acme_client_free(struct acme_client *client);
DEFINE_FREEP(struct acme_client, acme_client_free)
struct world *acme_client_world(struct acme_client *client);
const char *acme_client_directory_url(const struct acme_client *client);
/* Requests sent to the CA so far, of any kind. */
uint64_t acme_client_requests(const struct acme_client *client);

/* Fetched once (single flight), cached for 24 h; borrowed until the client is freed or the
 * directory refetched. */
struct err *acme_client_directory(struct acme_client *client, const struct acme_directory **ret)
        MAY_SUSPEND NODISCARD;

/* The account that signs; both borrowed until changed. kid NULL: requests embed the public key. */
void acme_client_set_account(struct acme_client *client, const struct key *key, const char *kid);
const struct key *acme_client_key(const struct acme_client *client);
const char *acme_client_kid(const struct acme_client *client); /* or NULL */

/* One signed POST. url must lie on the directory's host. badNonce is retried here (at most 10
 * times, with the nonce of the reply), never seen by the caller; other problem documents become
 * errors with acme_problem_of(). payload as in struct key_jws. accept: NULL for JSON, else the
 * media type wanted. */
struct err *acme_client_post(struct acme_client *client, const char *url, const char *payload,
        const char *accept, struct http_reply *ret) MAY_SUSPEND NODISCARD;
/* Asks for nonces in the background so that n requests at once find one each; bounded by the CA's
 * limits. */
void acme_client_want_nonces(struct acme_client *client, size_t n);
/* Is the URL one that this CA may send us to: https, the directory's host and port (or an extra
 * host), no user information? ERR_PROTOCOL "what: …". */
struct err *acme_client_check_url(
        const struct acme_client *client, const char *what, const char *url) NODISCARD;
