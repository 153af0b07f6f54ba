/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Problem documents (RFC 7807 as used by RFC 8555 6.7) as typed errors. One table maps each
 * registered type to the kind of error; a type we do not know is judged by the HTTP status. Foreign
 * text is cut and made safe here.
 */
#pragma once

#include "base/http.h"
#include "base/json.h"
#include "base/name.h"

enum acme_problem_type {
    ACME_PROBLEM_UNKNOWN,
    ACME_ACCOUNT_DOES_NOT_EXIST,
    ACME_ALREADY_REPLACED,
    ACME_ALREADY_REVOKED,
    ACME_BAD_CSR,
    ACME_BAD_NONCE,
    ACME_BAD_PUBLIC_KEY,
    ACME_BAD_REVOCATION_REASON,
    ACME_BAD_SIGNATURE_ALGORITHM,
    ACME_CAA,
    ACME_COMPOUND,
    ACME_CONFLICT,
    ACME_CONNECTION,
    ACME_DNS,
    ACME_EXTERNAL_ACCOUNT_REQUIRED,
    ACME_INCORRECT_RESPONSE,
    ACME_INVALID_CONTACT,
    ACME_INVALID_PROFILE,
    ACME_MALFORMED,
    ACME_ORDER_NOT_READY,
    ACME_RATE_LIMITED,
    ACME_REJECTED_IDENTIFIER,
    ACME_SERVER_INTERNAL,
    ACME_TLS,
    ACME_UNAUTHORIZED,
    ACME_UNSUPPORTED_CONTACT,
    ACME_UNSUPPORTED_IDENTIFIER,
    ACME_USER_ACTION_REQUIRED,
    ACME_PROBLEM_MAX
};

#define ACME_SUBPROBLEMS_MAX 16
struct acme_subproblem {
    enum acme_problem_type type;
    char *type_text;
    char *detail;
    char *identifier; /* or NULL */
};
struct acme_problem {
    enum acme_problem_type type;
    char *type_text; /* as sent, safe to print */
    char *detail;    /* at most 1 KiB */
    char *instance;  /* or NULL; also the Link rel="help" target if there is one */
    long status;
    size_t n_subproblems;
    struct acme_subproblem subproblems[ACME_SUBPROBLEMS_MAX];
};

extern const struct err_detail_type acme_problem_detail;    /* for err_detail() */
const char *acme_problem_name(enum acme_problem_type type); /* "badNonce" */
enum err_kind acme_problem_kind(enum acme_problem_type type, long http_status);

/* From a reply that is not a success; never fails: a body that is no problem document becomes one
 * of unknown type with its first line as detail. Retry-After makes it ERR_RETRY_AT where the kind
 * is one of waiting. */
struct err *acme_problem_from_reply(const struct http_reply *reply, struct wall now) NODISCARD;
/* From the "error" member of an authorization, challenge or order. */
struct err *acme_problem_from_json(const json_t *problem) NODISCARD;
/* e's problem document, or NULL. */
const struct acme_problem *acme_problem_of(const struct err *e);
