/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a generation to the wire: live files, one reload per ejabberd node for all of them, proof by
 * handshakes, and the roll-back of design 9: a new file is taken back only if a handshake that
 * worked before, with another certificate, fails now.
 */
#pragma once

#include "agent/agent.h"

struct deploy_item {
    struct host_facts *facts;   /* state is saved by the deploy */
    struct host_result *result; /* nodes, outcome, next and error are filled; an error that is there
                                   already (of an order) stays */
    bool allow_earlier_expiry;
    struct err *left_out; /* set and freed by deploy(): why its file could not be made live */
};

/* Items whose generation is already live are only proved again and, where another certificate is
 * served, reloaded. */
struct err *deploy(struct agent *agent, struct deploy_item *items, size_t n) MAY_SUSPEND NODISCARD;
