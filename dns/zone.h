/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a name is served: the zone cut above it and the addresses of every authoritative server
 * (RFC 9499). Found by SOA queries from the name upwards: an SOA in the answer section counts if
 * its owner is the name asked for, one in the authority section of a negative answer if no alias
 * was on the way (behind an alias it is the target's zone).
 */
#pragma once

#include "dns/query.h"

#define DNS_ZONE_SERVERS_MAX 32
struct dns_zone_server {
    struct name name;
    struct addr addr; /* with the resolver's authority_port */
};
struct dns_zone {
    struct name apex; /* may be one label ("org"): then the domain does not exist */
    size_t n_servers; /* one entry per server and address, sorted by server name */
    struct dns_zone_server servers[DNS_ZONE_SERVERS_MAX];
};

/* *ret_found false: no zone could be determined; *ret_why (owned sentence) says so. */
struct err *dns_zone_find(struct dns_resolver *resolver, const struct name *name,
        struct dns_zone *ret, bool *ret_found, char **ret_why) MAY_SUSPEND NODISCARD;
/* The same where the apex is known already, as from soa_owner of a negative answer. */
struct err *dns_zone_servers(struct dns_resolver *resolver, const struct name *apex,
        struct dns_zone *ret, bool *ret_found, char **ret_why) MAY_SUSPEND NODISCARD;
