/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders and authorizations as typed data (RFC 8555 7.1.3, 7.1.4): one codec per resource, strict
 * about everything that is used, tolerant of what is not (unknown challenge types, additional
 * members).
 */
#pragma once

#include "acme/client.h"

#define ACME_ORDER_NAMES_MAX 100

enum acme_status {
    ACME_PENDING,
    ACME_READY,
    ACME_PROCESSING,
    ACME_VALID,
    ACME_INVALID,
    ACME_DEACTIVATED,
    ACME_EXPIRED,
    ACME_REVOKED,
    ACME_STATUS_MAX
};
const char *acme_status_name(enum acme_status status);

struct acme_order {
    char *url;
    enum acme_status status;
    struct wall expires;          /* ms == 0: not said */
    struct name_list identifiers; /* wildcards keep their "*." */
    struct strv authorizations;
    char *finalize;
    char *certificate;       /* or NULL */
    struct err *error;       /* the problem of an invalid order, or NULL */
    struct wall retry_after; /* ms == 0: not said */
};
void acme_order_done(struct acme_order *order);
#define AUTO_ORDER AUTO(acme_order_done)

struct acme_authorization {
    char *url;
    enum acme_status status;
    struct name name; /* without "*." */
    bool wildcard;
    bool offered;        /* the wanted challenge type is among them */
    char *challenge_url; /* of that challenge */
    char token[129];
    enum acme_status challenge_status;
    struct err *error; /* of that challenge, or NULL */
    struct strv types; /* offered, for the message */
    struct wall retry_after;
};
void acme_authorization_done(struct acme_authorization *authorization);

struct err *acme_order_new(struct acme_client *client, const struct name_list *names,
        const char *profile, struct acme_order *ret) MAY_SUSPEND NODISCARD;
struct err *acme_order_fetch(struct acme_client *client, const char *url, struct acme_order *ret)
        MAY_SUSPEND NODISCARD;
struct err *acme_order_finalize(struct acme_client *client, const struct acme_order *order,
        const char *csr, struct acme_order *ret) MAY_SUSPEND NODISCARD;
struct err *acme_order_download(struct acme_client *client, const struct acme_order *order,
        struct buf *ret_chain) MAY_SUSPEND NODISCARD;
struct err *acme_authorization_fetch(struct acme_client *client, const char *url,
        const char *challenge_type, struct acme_authorization *ret) MAY_SUSPEND NODISCARD;
struct err *acme_authorization_deactivate(struct acme_client *client, const char *url)
        MAY_SUSPEND NODISCARD;
struct err *acme_challenge_answer(struct acme_client *client, const char *challenge_url)
        MAY_SUSPEND NODISCARD;

/* The codecs, for tests and fuzzers; client (may be NULL) checks URLs. */
struct err *acme_order_decode(const struct acme_client *client, const char *url, const char *text,
        size_t len, struct acme_order *ret) NODISCARD;
struct err *acme_authorization_decode(const struct acme_client *client, const char *url,
        const char *challenge_type, const char *text, size_t len, struct acme_authorization *ret)
        NODISCARD;
