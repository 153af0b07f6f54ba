/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What issue.c (the flow) and authorize.c (its middle part, the names) share; nobody else includes
 * it. A flow lives on the stack of acme_issue().
 */
#pragma once

#include "acme/issue.h"

/* One name of the order with its authorization. */
struct acme_item {
    struct acme_flow *flow;
    char *url;        /* of the authorization */
    struct name name; /* as in the order, wildcards with "*." */
    struct acme_authorization authorization;
    struct acme_challenge challenge;
    bool told;      /* the CA may have been asked to validate */
    bool presented; /* present() was called and remove() was not */
};

struct acme_flow {
    const struct acme_issue *issue;
    struct acme_client *client;
    struct acme_order order;
    bool order_known; /* the caller holds its URL */
    bool new_order;
    struct acme_item *items;
    size_t n_items; /* 0: the authorizations were not fetched */
    char *csr;
    struct buf chain_pem;
    size_t n_failed;
    struct acme_failed_name *failed;
};

void acme_flow_progress(const struct acme_flow *f, const struct name *name, enum acme_step step,
        const char *detail);
void acme_flow_drop_items(struct acme_flow *f);

/* Fetches all authorizations of the order at once and gives each to its name. */
struct err *acme_flow_fetch_authorizations(struct acme_flow *f) MAY_SUSPEND NODISCARD;
/* Can the order still become valid, as far as they go? */
bool acme_flow_authorizations_alive(const struct acme_flow *f);
/* Presents an answer for each that is pending, waits until all are visible, tells the CA. */
struct err *acme_flow_answer_challenges(struct acme_flow *f) MAY_SUSPEND NODISCARD;
/* While the CA validates: what somebody else took away is presented again. */
void acme_flow_keep_answers(struct acme_flow *f) MAY_SUSPEND;
/* For a flow that was canceled: a validation that is under way fails if its answer is taken away
 * now, and the order with it. Waits a few seconds for the CA's verdicts. */
void acme_flow_await_verdicts(struct acme_flow *f) MAY_SUSPEND;
/* Takes away what was presented; never fails, bounded, heeds no cancel. */
void acme_flow_remove_answers(struct acme_flow *f) MAY_SUSPEND;
/* After a validation that came to nothing: which names failed and why (into f->failed), pending
 * authorizations given up. The error that says it all; late: our limit passed. */
struct err *acme_flow_explain_failure(struct acme_flow *f, bool late) MAY_SUSPEND NODISCARD;
