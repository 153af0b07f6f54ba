/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS servers in a fake world: a resolver at 192.0.2.53 and .54 that knows all zones, authoritative
 * servers at whatever address the zones give their name servers, with wildcards and empty
 * non-terminals as RFC 4592 has them. Rules make single servers or names misbehave.
 */
#pragma once

#include "dns/query.h"
#include "tests/lib/fake_world.h"

enum fake_dns_action {
    FAKE_DNS_DROP,
    FAKE_DNS_REFUSE,       /* ICMP: ECONNREFUSED */
    FAKE_DNS_UNREACHABLE,  /* ENETUNREACH */
    FAKE_DNS_LOCAL,        /* a fault of this machine */
    FAKE_DNS_RCODE,        /* an empty reply with this rcode */
    FAKE_DNS_TRUNCATE,     /* UDP only */
    FAKE_DNS_WRONG_FIRST,  /* strangers first: wrong id, wrong question, a query, noise */
    FAKE_DNS_GARBAGE,      /* our header and question, then noise */
    FAKE_DNS_OTHER,        /* the reply to another question, and nothing else */
    FAKE_DNS_NO_EDNS,      /* rcode if the question has OPT */
    FAKE_DNS_NO_EDNS_BARE, /* the same, a header only */
    FAKE_DNS_NOT_AA,
    FAKE_DNS_REFERRAL, /* NOERROR, only NS in the authority section */
    FAKE_DNS_RECORDS,  /* these records as answer section, NOERROR, nothing else */
};

struct fake_dns_rule {
    const char *server; /* IP, NULL: any */
    const char *owner;  /* NULL: any */
    ldns_rr_type type;  /* 0: any */
    enum fake_dns_action action;
    int rcode;
    unsigned times;      /* 0: always */
    bool unless_checked; /* only without CD */
    const char *records; /* one per line */
};

#define FAKE_DNS_ZONES 6
#define FAKE_DNS_RULES 8
struct fake_dns {
    struct fake_world fw;
    const char *zones[FAKE_DNS_ZONES]; /* zone files: one record per line, SOA first */
    struct fake_dns_rule rules[FAKE_DNS_RULES];
    size_t n_udp, n_tcp, n_edns;
    uint16_t ids[64]; /* of the first questions */
    struct addr last_to;
    int64_t last_wait_ms;
    struct dns_resolver *resolver;
    /* own */
    ldns_rr_list *parsed[FAKE_DNS_ZONES];
};

/* Zones and rules are set between init and start; rules may change later. */
void fake_dns_init(struct fake_dns *d);
/* servers: 1 or 2. */
void fake_dns_start(struct fake_dns *d, size_t n_servers);
void fake_dns_done(struct fake_dns *d);

/* Builds a reply to the question given in wire format, for tests of the codec. Owned by the caller:
 * free(). */
uint8_t *fake_dns_reply(const void *query, size_t len, int rcode, const char *answer,
        const char *authority, size_t *ret_len);
