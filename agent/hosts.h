/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host set: for each XMPP domain its XMPP host and components, from all sources, with the
 * origin of each. Plain computation, no I/O.
 */
#pragma once

#include "agent/config.h"

struct host {
    struct name host; /* the XMPP host: names the lineage */
    struct name domain;
    char prefix[64];
    struct name_list names; /* host first, then components, in order of configuration */
    enum config_challenge challenge;
    enum config_names shape;
    char *origin;
};

struct host_set {
    size_t n;
    struct host *v; /* sorted by host */
};
void host_set_done(struct host_set *set);
#define AUTO_HOST_SET AUTO(host_set_done)

/* ERR_CONFIG for a host that two domains claim, the mail host itself, more than 100 names. */
struct err *host_set_make(const struct config *config, struct host_set *ret) NODISCARD;
/* The hosts named on the command line (XMPP host or mail domain, any spelling); ERR_CONFIG for an
 * unknown one, with the nearest that exists. n == 0: all. ret is sorted as set. Borrows from set.
 */
struct err *host_set_select(const struct host_set *set, char *const *wanted, size_t n,
        const struct host ***ret, size_t *ret_n) NODISCARD;
