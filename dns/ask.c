/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/ask.h"

#include <stdio.h>

struct dns_ask *dns_asks_add(struct dns_asks *asks, const char *owner, ldns_rr_type type)
{
    struct dns_ask *ask = MEM_NEW(struct dns_ask);
    snprintf(ask->owner, sizeof(ask->owner), "%s", owner);
    ask->type = type;
    asks->v = mem_realloc_array(asks->v, asks->n + 1, sizeof(*asks->v));
    asks->v[asks->n++] = ask;
    return ask;
}

static struct err *run(void *arg) MAY_SUSPEND;
static struct err *run(void *arg)
{
    struct dns_ask *ask = arg;
    if (ask->at_server)
        return dns_query_at(ask->resolver, &ask->server, ask->owner, ask->type, &ask->answer);
    if (ask->unchecked)
        return dns_query_unchecked(ask->resolver, ask->owner, ask->type, &ask->answer);
    return dns_query(ask->resolver, ask->owner, ask->type, &ask->answer);
}

struct err *dns_asks_run(struct dns_asks *asks, struct dns_resolver *resolver)
{
    struct fiber_group group;
    fiber_group_init(&group);
    for (size_t i = 0; i < asks->n; i++) {
        if (asks->v[i]->resolver != NULL)
            continue;
        asks->v[i]->resolver = resolver;
        fiber_group_spawn(&group, "DNS query", run, asks->v[i]);
    }
    return fiber_group_wait(&group);
}

void dns_asks_done(struct dns_asks *asks)
{
    for (size_t i = 0; i < asks->n; i++) {
        dns_answer_done(&asks->v[i]->answer);
        free(asks->v[i]);
    }
    free(asks->v);
    *asks = (struct dns_asks){0};
}
