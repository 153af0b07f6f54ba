/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS questions and answers. ldns is the codec, the world carries the bytes: EDNS0 (1232 octets), a
 * fresh source port and id per query, the question compared, TC repeated over TCP, tries spread
 * over the servers. Two ways of asking: a stub asks recursive resolvers (RD=1); an authoritative
 * query asks one server (RD=0). What the DNS says is an outcome, not an error.
 */
#pragma once

/* Before ldns, which makes bool a signed char where nobody has defined it yet. */
#include <stdbool.h>

#include <ldns/ldns.h>

#include "base/name.h"
#include "base/world.h"

enum dns_outcome {
    DNS_ANSWER, /* NOERROR with data of the type asked for (at the end of the CNAME chain) */
    DNS_NODATA, /* NOERROR without */
    DNS_NXDOMAIN,
    DNS_SERVFAIL,
    DNS_REFUSED,
    DNS_LAME,        /* authoritative query: not AA; resolver: a referral instead of an answer */
    DNS_TIMEOUT,     /* no usable reply after all tries */
    DNS_UNREACHABLE, /* no route to the server: nothing is known (IPv6 in a container without it) */
    DNS_LOOP,        /* CNAME loop, or more than DNS_CHAIN_MAX hops */
    DNS_BROKEN, /* a reply that is not DNS, another rcode (rcode says), or a CNAME to a name that
                   struct name can't hold */
    DNS_OUTCOME_MAX
};
const char *dns_outcome_name(
        enum dns_outcome outcome); /* "NXDOMAIN", "no such data", … as people write it */

#define DNS_CHAIN_MAX 8
struct dns_answer {
    enum dns_outcome outcome;
    int rcode;
    bool aa, ad;
    struct addr server;               /* who answered last */
    size_t n_chain;                   /* CNAME hops */
    struct name chain[DNS_CHAIN_MAX]; /* targets, in order; unlike other names they may hold "_" or
                                         be one label, as dns_message_name_text() says */
    ldns_rr_list *records; /* of the type asked for, at the last name of the chain; NULL unless
                              DNS_ANSWER */
    ldns_pkt *packet;      /* whole last reply, or NULL */
    /* Negative answer: the zone that says no. "" if unknown; with n_chain > 0 and DNS_NODATA from
     * dns_query_at() then, the server knows the alias but not its target. */
    struct name soa_owner;
    uint32_t negative_ttl; /* seconds, RFC 2308 */
    uint32_t ttl;          /* the least of the chain and the records */
};
void dns_answer_done(struct dns_answer *answer);
#define AUTO_DNS_ANSWER AUTO(dns_answer_done)

#define DNS_SERVERS_MAX 8
struct dns_resolver;
struct dns_resolver_options {
    struct addr servers[DNS_SERVERS_MAX];
    size_t n_servers;        /* 0: nameserver lines of resolv_conf */
    const char *resolv_conf; /* NULL: /etc/resolv.conf; read once, in dns_resolver_new() */
    int64_t try_ms;          /* first try; doubles; 0: 2 s */
    unsigned tries;          /* per server; 0: 3 */
    size_t max_in_flight;    /* 0: 100 */
    uint16_t authority_port; /* 0: 53; tests */
};
struct err *dns_resolver_new(struct world *world, const struct dns_resolver_options *options,
        struct dns_resolver **ret) NODISCARD;
void dns_resolver_free(struct dns_resolver *resolver);
DEFINE_FREEP(struct dns_resolver, dns_resolver_free)
/* Borrowed; for sentences that name the servers, and for those who ask further servers. */
const struct dns_resolver_options *dns_resolver_options(const struct dns_resolver *resolver);
struct world *dns_resolver_world(const struct dns_resolver *resolver);

/* owner is any domain name in presentation form ("_acme-challenge.im.example.org"). Follows the
 * CNAMEs that the reply holds and asks on where it stops. Errors are our own faults only (cancel, a
 * name that can't be encoded). */
struct err *dns_query(struct dns_resolver *resolver, const char *owner, ldns_rr_type type,
        struct dns_answer *ret) MAY_SUSPEND NODISCARD;
/* The same without DNSSEC validation by the resolver (CD=1): what answers only here is bogus. */
struct err *dns_query_unchecked(struct dns_resolver *resolver, const char *owner, ldns_rr_type type,
        struct dns_answer *ret) MAY_SUSPEND NODISCARD;
/* One authoritative server; the chain is followed only within the reply. */
struct err *dns_query_at(struct dns_resolver *resolver, const struct addr *server,
        const char *owner, ldns_rr_type type, struct dns_answer *ret) MAY_SUSPEND NODISCARD;

/* A and AAAA of the records, port 0; at most max. */
size_t dns_answer_addresses(const struct dns_answer *answer, struct addr *ret, size_t max);
