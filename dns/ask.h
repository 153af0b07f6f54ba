/* SPDX-License-Identifier: Apache-2.0 */
/* Several questions at once; inside of dns/ only. */
#pragma once

#include "dns/query.h"

struct dns_ask {
    char owner[NAME_MAX_TEXT + 64];
    ldns_rr_type type;
    bool at_server; /* ask server with RD=0, else the resolver */
    bool unchecked; /* the resolver with CD=1 */
    struct addr server;
    struct dns_answer answer;      /* done by dns_asks_done() */
    struct dns_resolver *resolver; /* set by dns_asks_run() */
};

/* A list of questions; zero-initialised is empty. The pointer that dns_asks_add() returns is valid
 * until the list is done. */
struct dns_asks {
    struct dns_ask **v;
    size_t n;
};
struct dns_ask *dns_asks_add(struct dns_asks *asks, const char *owner, ldns_rr_type type);
/* All that have not been asked yet, in parallel. The first fault of our own cancels the rest. */
struct err *dns_asks_run(struct dns_asks *asks, struct dns_resolver *resolver)
        MAY_SUSPEND NODISCARD;
void dns_asks_done(struct dns_asks *asks);
