/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An imitation of an ACME server behind a fake world's http operation. It knows as much of RFC 8555
 * as it takes to be picky (nonces used once, url, kid and content type as they must be) and has a
 * knob for each way in which a CA can be slow, unlucky or broken.
 *
 *     struct fake_ca ca;
 *     fake_ca_init(&ca, &fw);
 *     ca.latency_ms = 100;
 *     fw.http = fake_ca_http;
 *     fw.http_arg = &ca;
 *
 * What the CA objects to is in violations/violation: a test asserts that there was none.
 */
#pragma once

#include "tests/lib/fake_world.h"
#include "tests/lib/test_certs.h"

#define FAKE_CA_DIRECTORY  "https://ca.test:14000/dir"
#define FAKE_CA_ORDERS_MAX 64
#define FAKE_CA_NAMES_MAX  8
#define FAKE_CA_FAULTS_MAX 4

enum fake_resource {
    FAKE_CA_DIR,
    FAKE_CA_NONCE,
    FAKE_CA_NEW_ACCOUNT,
    FAKE_CA_NEW_ORDER,
    FAKE_CA_ORDER,
    FAKE_CA_AUTHZ,
    FAKE_CA_CHALLENGE,
    FAKE_CA_FINALIZE,
    FAKE_CA_CERT,
    FAKE_CA_RESOURCE_MAX
};

struct fake_ca_authz {
    char *name; /* without "*." */
    bool wildcard;
    char token[64];
    bool answered, deactivated;
    struct mono answered_at;
};

struct fake_ca_order {
    struct fake_ca_authz authz[FAKE_CA_NAMES_MAX];
    size_t n;
    bool reused; /* authorizations are valid from the start */
    bool finalized, dead;
    struct mono finalized_at;
    char *chain;
};

/* The requests from the n-th to one resource on are answered by an error. */
struct fake_ca_fault {
    enum fake_resource resource;
    unsigned nth;   /* 1: the first; 0: the fault is off */
    unsigned times; /* 0: for ever */
    long status;
    const char *type; /* "rateLimited"; NULL: an HTML body */
    const char *detail;
    const char *retry_after;
};

struct fake_ca {
    struct fake_world *fw;

    /* Knobs. */
    int64_t latency_ms;       /* of each request, half before and half after it takes effect */
    int64_t validation_ms;    /* from the answer to the verdict */
    int64_t issuance_ms;      /* from finalize to the certificate */
    unsigned bad_nonce_every; /* each n-th good nonce is refused */
    bool no_nonces;           /* in replies to POSTs */
    bool reuse_authz;
    bool reverse_order;  /* identifiers and authorizations come back reversed */
    bool finalize_valid; /* finalize answers "valid" at once */
    bool external_account;
    bool no_location;         /* newOrder and newAccount */
    const char *silent_name;  /* its validation never ends */
    const char *failing_name; /* its validation fails */
    const char *failing_type; /* with this problem; NULL: connection */
    const char *refuse;       /* problem type that makes finalized orders invalid */
    const char *token;        /* instead of good ones */
    const char *offered;      /* challenge type; NULL: http-01 (others are offered too) */
    const char *order_retry_after;
    const char *content_type; /* of the certificate */
    unsigned path_version;    /* in the URLs of the directory; old ones are then unknown */
    struct fake_ca_fault faults[FAKE_CA_FAULTS_MAX];
    /* May change any reply before it is sent. */
    void (*tamper)(void *arg, enum fake_resource resource, struct http_reply *reply);
    void *tamper_arg;
    /* Is the answer there? NULL: always. */
    bool (*visible)(void *arg, const char *name, const char *token);
    void *visible_arg;

    /* What was seen. */
    unsigned requests;
    unsigned of[FAKE_CA_RESOURCE_MAX];
    unsigned new_orders_at_once, new_orders_most;
    unsigned nonces_at_once, nonces_most;
    unsigned accounts_made, deactivated;
    unsigned violations;
    char violation[200];

    /* State. */
    bool account_known;
    unsigned account_id;
    struct fake_ca_order orders[FAKE_CA_ORDERS_MAX];
    size_t n_orders;
    struct strv nonces;
    unsigned good_nonces, serial;
    struct test_cert *root, *intermediate;
};

void fake_ca_init(struct fake_ca *ca, struct fake_world *fw);
void fake_ca_done(struct fake_ca *ca);
/* Accounts and orders are gone, as after a restart of pebble. */
void fake_ca_forget(struct fake_ca *ca);
void fake_ca_clear_counters(struct fake_ca *ca);
struct err *fake_ca_http(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret) MAY_SUSPEND;
