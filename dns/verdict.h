/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what was found out about one name to its verdict: check, sentence, record. No questions are
 * asked here; inside of dns/ only (dns/preflight.c asks).
 */
#pragma once

#include "dns/preflight.h"

/* What one authoritative server says about the addresses of a name. */
enum dns_saying { DNS_SAYS_NOTHING, DNS_SAYS_YES, DNS_SAYS_NXDOMAIN, DNS_SAYS_NODATA };

struct dns_finding {
    const struct dns_preflight *preflight;
    const struct name *name;
    const struct dns_answer *a, *aaaa;           /* of the name, from the resolver */
    const struct dns_answer *mail_a, *mail_aaaa; /* of the mail host; NULL without one */
    bool wildcard;

    /* For a negative answer: about subject, the name at the end of the chain. */
    const struct dns_zone *zone; /* or NULL, then zone_why says why */
    const char *zone_why;
    enum dns_saying says[DNS_ZONE_SERVERS_MAX];
    bool sibling_resolves; /* a wildcard stands beside the name */
    bool wildcard_below;   /* a wildcard supplies names below it */
    bool other_data;       /* the name owns SOA, MX or TXT, so it can't be an alias */

    /* For SERVFAIL. */
    const struct dns_answer *unchecked; /* the same question with CD=1; or NULL */
    bool loop;                          /* walking the aliases one by one led into a loop */
    size_t n_walk;
    struct name walk[DNS_CHAIN_MAX];
};

/* The verdict of the resolver alone, from A and AAAA together; *ret_answer is the one of the two
 * that decides. */
enum dns_check dns_verdict_merge(const struct dns_answer *a, const struct dns_answer *aaaa,
        const struct dns_answer **ret_answer);
/* Where the chain of an answer ends; name itself without a chain. */
const struct name *dns_verdict_subject(const struct name *name, const struct dns_answer *answer);
/* The check with what is known so far. */
enum dns_check dns_verdict_check(const struct dns_finding *finding);
/* Fills all of *ret. */
void dns_verdict_make(const struct dns_finding *finding, struct dns_verdict *ret);
