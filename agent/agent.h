/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects that the flows of one process share: made once, opened lazily (a `renew` with nothing
 * due opens neither web root nor CA). All on one loop.
 */
#pragma once

#include "acme/account.h"
#include "acme/http01.h"
#include "agent/hosts.h"
#include "agent/report.h"
#include "agent/store.h"
#include "dns/query.h"

struct agent {
    struct world *world;
    struct config *config;
    struct host_set hosts;
    struct store *store;
    struct report *report;
    struct dns_resolver *resolver;

    struct fiber_sem opening; /* the lazily opened ones, one at a time */
    struct http01 *http01;
    struct acme_client *client;
    struct acme_account *account;
    struct err *ca_failed; /* why the last try to open them failed, and when */
    struct mono ca_failed_at;
    bool writable; /* store_check_writable() has passed */

    struct fiber_sem orders; /* cap on hosts being issued at once */
};

struct agent_options {
    bool read_only; /* nothing is made or changed on disk */
};
/* config is referenced; report is borrowed. */
struct err *agent_open(struct world *world, struct config *config,
        const struct agent_options *options, struct report *report, struct agent **ret)
        MAY_SUSPEND NODISCARD;
void agent_close(struct agent *agent);
DEFINE_FREEP(struct agent, agent_close)

/* At the end of a run: takes away the tokens that an earlier one left and that nobody has presented
 * again, also when nothing was due. Under a shield; never fails. */
void agent_sweep(struct agent *agent) MAY_SUSPEND;
/* The http-01 solver: web root, or our own responder. */
struct err *agent_http01(struct agent *agent, struct http01 **ret) MAY_SUSPEND NODISCARD;
/* The CA's client with its account; asks the CA only if the account is not known yet. Who asks
 * within seconds of a failure shares it: a thousand hosts need not each wait for a CA that is down.
 */
struct err *agent_ca(struct agent *agent, struct acme_client **ret_client,
        struct acme_account **ret_account) MAY_SUSPEND NODISCARD;
/* What makes the state unusable is our own failure, whatever has to be done about it: ERR_LOCAL. */
struct err *agent_state_failed(struct err *e) NODISCARD;
/* A certificate that can't be stored must not be ordered. Asked once. */
struct err *agent_check_writable(struct agent *agent) MAY_SUSPEND NODISCARD;
