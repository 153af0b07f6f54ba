/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One certificate, from order to chain: the flow of RFC 8555 7.4 in the order of its steps. It is a
 * reconciler: given the URL of an earlier order it goes on from wherever that order stands. What
 * must survive a crash is handed to the caller before the step that relies on it.
 */
#pragma once

#include "acme/account.h"
#include "acme/challenge.h"
#include "acme/order.h"

enum acme_step {
    ACME_STEP_ORDER,     /* of the order: name is NULL */
    ACME_STEP_AUTHORIZE, /* the authorization is fetched */
    ACME_STEP_PRESENT,
    ACME_STEP_VISIBLE,  /* waiting until the CA may look */
    ACME_STEP_ANSWERED, /* the CA validates */
    ACME_STEP_VALID,
    ACME_STEP_FAILED, /* detail: why */
    ACME_STEP_FINALIZE,
    ACME_STEP_DOWNLOAD,
    ACME_STEP_MAX
};
const char *acme_step_name(enum acme_step step);

struct acme_issue {
    struct acme_client *client;
    struct acme_account *account;
    const struct name_list *names;
    const char *profile; /* or NULL */
    const struct acme_solver *solver;
    const char *order_url; /* to go on with; NULL: a new order */
    int64_t validation_ms; /* limit for the validation of all names; 0: 5 min */
    int64_t finalize_ms;   /* limit for finalize and download; 0: 10 min */

    /* Makes the order's URL durable; called right after newOrder, before anything else happens with
     * it. May suspend. */
    struct err *(*order_made)(void *arg, const char *order_url);
    /* The earlier order is of no use (invalid, expired, other names): forget it durably. May
     * suspend. */
    struct err *(*order_dropped)(void *arg);
    /* The certificate's key, durable on disk, and its CSR; called while the CA validates. May
     * suspend. */
    struct err *(*make_csr)(void *arg, char **ret_csr);
    /* For people: which name is at which step. detail may be NULL. Must not suspend. */
    void (*progress)(void *arg, const struct name *name, enum acme_step step, const char *detail);
    void *arg;
};

/* Which name failed and why: filled on failure of a validation. */
struct acme_failed_name {
    struct name name;
    struct err *error;
};
struct acme_issue_result {
    struct buf chain_pem;
    bool new_order;
    size_t n_failed;
    struct acme_failed_name *failed;
};
void acme_issue_result_done(struct acme_issue_result *result);

/* The chain is checked in form (cert.h) but not stored: that, and the checks against key and names,
 * are the caller's. Every answer presented has been removed when this returns, whatever happened.
 */
struct err *acme_issue(const struct acme_issue *issue, struct acme_issue_result *ret)
        MAY_SUSPEND NODISCARD;
