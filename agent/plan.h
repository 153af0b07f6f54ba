/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be done for one XMPP host now, and why: a pure function of facts (what is on disk,
 * what the checks say, the time), so that every rule of design 7 to 9 can be tested without a disk
 * or a network.
 */
#pragma once

#include "agent/check.h"
#include "agent/store.h"

enum plan_action {
    PLAN_NOTHING, /* the certificate is good and deployed everywhere */
    PLAN_DEPLOY,  /* issued, but not live or not proved on every node */
    PLAN_ORDER,   /* names says for what */
    PLAN_WAIT,    /* an order is wanted, but not now: DNS, back-off, growth limit */
    PLAN_ACTION_MAX
};
const char *plan_action_name(
        enum plan_action action); /* "nothing", "deploy", "order", "wait"; stable, for JSON */

/* Why an order is wanted. */
enum plan_want {
    WANT_NONE,
    WANT_FIRST, /* there is no certificate */
    WANT_DUE,   /* renewal */
    WANT_GROW,  /* wanted names are missing in it */
    WANT_FORCED,
    WANT_CA, /* it comes from another CA (staging) than the configured one */
    WANT_MAX
};
const char *plan_want_name(
        enum plan_want want); /* "none", "first", "due", "grow", "forced", "ca" */

/* What is on disk and in the configuration about the host. */
struct host_facts {
    const struct config *config;
    const struct host *host;
    struct wall now;
    struct host_state state;
    struct store_pending pending;
    struct store_generation generation; /* newest good one; number 0: none */
    enum store_live live;
    struct cert_info live_cert; /* where live is good */
};
void host_facts_done(struct host_facts *facts);
#define AUTO_HOST_FACTS AUTO(host_facts_done)

struct plan_options {
    bool force;    /* --force: renew although it is not due */
    bool named;    /* the operator named this host: our own back-off does not hold him up */
    bool one_shot; /* `renew`: partial_after is 0, and only the CA's back-off holds it up */
};

struct plan {
    enum plan_action action;
    enum plan_want want;
    char *reason;           /* one sentence, always set */
    struct wall at;         /* when it is looked at again; ms == 0: not known */
    struct wall due;        /* instant of renewal of what there is; ms == 0: there is nothing */
    struct name_list names; /* of the order */
    bool partial;           /* names are not all that are wanted */
};
void plan_done(struct plan *plan);
#define AUTO_PLAN AUTO(plan_done)

/* Is an order wanted at all? Cheap: no checks were made yet. Fills want, reason, due and the action
 * for WANT_NONE or for a back-off that still runs; otherwise action is PLAN_ORDER with all names,
 * subject to plan_check(). */
void plan_first(
        const struct host_facts *facts, const struct plan_options *options, struct plan *ret);
/* With the verdicts of the names: which of them, or wait. */
void plan_check(const struct host_facts *facts, const struct plan_options *options,
        const struct host_check *check, struct plan *plan);
/* While an order is waited for or has failed: is there a certificate that is to be made live, or
 * proved on some node, now? */
bool plan_deploys_meanwhile(const struct host_facts *facts, const struct plan_options *options);

/* When a certificate is to be renewed: 1/3 of its lifetime left, 1/2 if it lives less than 10 days
 * (design 6). */
struct wall plan_due(const struct cert_info *cert);
/* The next attempt after the n-th failure in a row (n >= 1): 1, 10, 100 minutes, then daily, +-20
 * %. */
int64_t plan_back_off(unsigned attempts, uint64_t random);
/* The pause after a failure that cost the CA nothing: as long as it has failed already, a minute at
 * least, an hour at most, +-20 %. */
int64_t plan_pause(int64_t failing_ms, uint64_t random);
