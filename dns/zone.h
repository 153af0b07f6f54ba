/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a name is served: the zone cut above it and the addresses of every authoritative server
 * (RFC 9499). Found by SOA queries from the name upwards; only an SOA in the answer section whose
 * owner is the name asked for counts.
 */
#pragma once

#include "dns/query.h"

#define DNS_ZONE_SERVERS_MAX 32
struct dns_zone_server {
    struct name name;
    struct addr addr;
};
struct dns_zone {
    struct name apex;
    size_t n_servers; /* one entry per server and address */
    struct dns_zone_server servers[DNS_ZONE_SERVERS_MAX];
};

/* *ret_found false: no zone could be determined; *ret_why (owned sentence) says so. */
struct err *dns_zone_find(struct dns_resolver *resolver, const struct name *name,
        struct dns_zone *ret, bool *ret_found, char **ret_why) MAY_SUSPEND NODISCARD;
