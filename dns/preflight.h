/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What DNS says about one name, before a CA hears of it: is there an address, does it lead to the
 * mail host, and if not, which record is to be made. Verdicts after the table in design 8; a
 * negative answer is confirmed at the zone's authoritative servers, so that a cached "no" does not
 * hold up a record that has just been made.
 */
#pragma once

#include "dns/zone.h"

enum dns_check {
    DNS_CHECK_OK,      /* same addresses as the mail host */
    DNS_CHECK_DIFFERS, /* has addresses, other ones: decided by the http probe */
    DNS_CHECK_NXDOMAIN,
    DNS_CHECK_NODATA, /* the name exists, but has no address */
    DNS_CHECK_SERVFAIL,
    DNS_CHECK_LOOP,
    DNS_CHECK_TIMEOUT, /* nobody answered: nothing is known */
    DNS_CHECK_STALE, /* resolver says no, every authoritative server says yes: wait out the negative
                        TTL */
    DNS_CHECK_MAX
};
const char *dns_check_name(
        enum dns_check check); /* "ok", "differs", "nxdomain", … stable, for JSON */

#define DNS_ADDRESSES_MAX 16
struct dns_verdict {
    struct name name;
    enum dns_check check;
    size_t n_chain;
    struct name chain[DNS_CHAIN_MAX];
    bool wildcard; /* a wildcard supplied the CNAME (or the address) */
    size_t n_addrs;
    struct addr addrs[DNS_ADDRESSES_MAX];
    size_t n_expected;
    struct addr expected[DNS_ADDRESSES_MAX]; /* of the mail host */
    char *sentence;  /* what is wrong, with server names: "conference.im.example.org has no address
                        (NXDOMAIN at ns1.example.net, …)"; NULL if ok */
    char *record;    /* zone-file line that mends it, or several with "\n" between them (A and AAAA
                        where no CNAME can be); NULL if none would */
    int64_t retry_s; /* how long the present answer may be cached, in seconds; 0: unknown */
};
void dns_verdict_done(struct dns_verdict *verdict);

struct dns_preflight {
    struct dns_resolver *resolver;
    const struct name *host;      /* the XMPP host: a missing component is mended by "*.host" */
    const struct name *mail_host; /* or NULL: any address is ok */
};
/* All names at once, in parallel; verdicts (n of them) are in the order of names. Errors are our
 * own faults only. */
struct err *dns_preflight(const struct dns_preflight *preflight, const struct name *names, size_t n,
        struct dns_verdict *ret) MAY_SUSPEND NODISCARD;
