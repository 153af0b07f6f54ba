/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one flow behind `renew` and `run` (design 9), per XMPP host: load facts, decide, check,
 * issue, store; then one deploy for everything that became ready together. It does the next missing
 * thing and saves, so it may be killed at any instant and called again.
 */
#pragma once

#include "agent/agent.h"
#include "agent/deploy.h"

struct reconcile_options {
    struct plan_options plan;
};

/* results: n of them, zero-initialised, owned by the caller; each is filled whatever happens. The
 * error is for what concerns no host (canceled, the state directory is unusable). */
struct err *reconcile(struct agent *agent, const struct host *const *hosts, size_t n,
        const struct reconcile_options *options, struct host_result *results) MAY_SUSPEND NODISCARD;

/* Everything on disk about a host. */
struct err *reconcile_load_facts(
        struct agent *agent, const struct host *host, struct host_facts *ret) MAY_SUSPEND NODISCARD;
/* Plan with checks but without doing anything; probe: fetch a probe token (it is the only thing
 * written). The outcome is that of today: an order to be made is waited for. */
struct err *reconcile_plan(struct agent *agent, const struct host *host,
        const struct plan_options *options, bool probe, struct host_result *ret)
        MAY_SUSPEND NODISCARD;
