/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/zone.h"

#include "dns/ask.h"
#include "dns/message.h"

#define ZONE_NS_MAX 16

/* ---- the cut ---- */

/* What one SOA query says about the apex. */
enum climb { CLIMB_FOUND, CLIMB_ON, CLIMB_STUCK };

static enum climb judge(const struct dns_answer *answer, const char *candidate, struct name *ret)
{
    /* Behind an alias everything belongs to the target's zone. */
    if (answer->n_chain > 0)
        return CLIMB_ON;
    switch (answer->outcome) {
    case DNS_ANSWER:
        *ret = (struct name){0};
        memcpy(ret->text, candidate, strlen(candidate));
        return CLIMB_FOUND;
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        if (answer->soa_owner.text[0] == '\0')
            return CLIMB_ON;
        *ret = answer->soa_owner;
        return CLIMB_FOUND;
    default:
        return CLIMB_STUCK;
    }
}

static struct err *find_apex(struct dns_resolver *resolver, const struct name *name,
        struct name *ret, bool *ret_found, char **ret_why) MAY_SUSPEND;
static struct err *find_apex(struct dns_resolver *resolver, const struct name *name,
        struct name *ret, bool *ret_found, char **ret_why)
{
    for (const char *at = name->text; at != NULL; at = strchr(at, '.')) {
        at += *at == '.';
        AUTO_DNS_ANSWER struct dns_answer answer = {0};
        TRY(dns_query(resolver, at, LDNS_RR_TYPE_SOA, &answer));
        enum climb climb = judge(&answer, at, ret);
        if (climb == CLIMB_FOUND) {
            *ret_found = true;
            return NULL;
        }
        if (climb == CLIMB_STUCK) {
            char text[ADDR_TEXT_MAX];
            *ret_why = str_printf("the zone of %s can't be found: %s for the SOA of %s from %s",
                    name->text, dns_outcome_name(answer.outcome), at,
                    addr_format(&answer.server, text));
            *ret_found = false;
            return NULL;
        }
    }
    *ret_why = str_printf("the zone of %s can't be found: no SOA record above it", name->text);
    *ret_found = false;
    return NULL;
}

/* ---- its servers ---- */

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    return strcmp(x->text, y->text);
}

/* Sorted, so that sentences stay the same while servers rotate their answers. */
static size_t ns_names(const struct dns_answer *answer, struct name ret[ZONE_NS_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < ldns_rr_list_rr_count(answer->records) && n < ZONE_NS_MAX; i++) {
        const ldns_rr *rr = ldns_rr_list_rr(answer->records, i);
        n += dns_message_name_text(ldns_rr_rdf(rr, 0), &ret[n]) ? 1 : 0;
    }
    qsort(ret, n, sizeof(*ret), compare_names);
    return n;
}

static bool has_server(const struct dns_zone *zone, const struct dns_zone_server *server)
{
    for (size_t i = 0; i < zone->n_servers; i++) {
        if (addr_equal_ip(&zone->servers[i].addr, &server->addr))
            return true;
    }
    return false;
}

static void add_servers(
        struct dns_zone *zone, const char *name, const struct dns_answer *answer, uint16_t port)
{
    struct addr addrs[DNS_ZONE_SERVERS_MAX];
    size_t n = dns_answer_addresses(answer, addrs, DNS_ZONE_SERVERS_MAX);
    for (size_t i = 0; i < n && zone->n_servers < DNS_ZONE_SERVERS_MAX; i++) {
        struct dns_zone_server server = {.addr = addrs[i]};
        memcpy(server.name.text, name, strlen(name));
        addr_set_port(&server.addr, port);
        if (!has_server(zone, &server))
            zone->servers[zone->n_servers++] = server;
    }
}

struct err *dns_zone_servers(struct dns_resolver *resolver, const struct name *apex,
        struct dns_zone *ret, bool *ret_found, char **ret_why)
{
    AUTO_DNS_ANSWER struct dns_answer ns = {0};
    TRY(dns_query(resolver, apex->text, LDNS_RR_TYPE_NS, &ns));
    struct name names[ZONE_NS_MAX];
    size_t n_names = ns_names(&ns, names);

    AUTO(dns_asks_done) struct dns_asks asks = {0};
    for (size_t i = 0; i < n_names; i++) {
        dns_asks_add(&asks, names[i].text, LDNS_RR_TYPE_A);
        dns_asks_add(&asks, names[i].text, LDNS_RR_TYPE_AAAA);
    }
    TRY(dns_asks_run(&asks, resolver));
    AUTO_FREE struct dns_zone *zone = MEM_NEW(struct dns_zone);
    zone->apex = *apex;
    uint16_t port = dns_resolver_options(resolver)->authority_port;
    for (size_t i = 0; i < asks.n; i++)
        add_servers(zone, asks.v[i]->owner, &asks.v[i]->answer, port);

    *ret_found = zone->n_servers > 0;
    if (zone->n_servers > 0)
        *ret = *zone;
    else if (n_names == 0)
        *ret_why = str_printf("the name servers of %s are unknown (%s for its NS)", apex->text,
                dns_outcome_name(ns.outcome));
    else
        *ret_why = str_printf("no name server of %s has an address", apex->text);
    return NULL;
}

struct err *dns_zone_find(struct dns_resolver *resolver, const struct name *name,
        struct dns_zone *ret, bool *ret_found, char **ret_why)
{
    struct name apex;
    bool found;
    char *why;
    TRY(find_apex(resolver, name, &apex, &found, &why));
    if (!found) {
        *ret_found = false;
        *ret_why = why;
        return NULL;
    }
    return dns_zone_servers(resolver, &apex, ret, ret_found, ret_why);
}
