/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that can be known about a host's names before the CA is asked (design 8): what DNS
 * says, and whether a probe token comes back from each address. One verdict per name, with the
 * sentence and the record for the operator.
 */
#pragma once

#include "acme/http01.h"
#include "agent/hosts.h"
#include "dns/preflight.h"

enum name_verdict {
    NAME_READY,
    NAME_WARN,    /* ready, but the operator should know the sentence */
    NAME_BLOCKED, /* nothing is sent to the CA for it */
    NAME_VERDICT_MAX
};
const char *name_verdict_name(
        enum name_verdict verdict); /* "ready", "warning", "blocked"; stable, for JSON */

struct name_check {
    enum name_verdict verdict;
    struct dns_verdict dns;
    char *sentence; /* NULL when ready */
    char *record;   /* zone-file line that mends it, or NULL */
    size_t n_probed;
    size_t n_came_back; /* probes that found our token */
};

struct host_check {
    size_t n;
    struct name_check *v; /* in the order of the host's names */
    size_t n_ready;       /* NAME_READY and NAME_WARN */
    bool host_ready;      /* the XMPP host itself, without which no certificate is ordered */
    int64_t retry_s;      /* the longest negative TTL among the blocked, 0: unknown */
};
void host_check_done(struct host_check *check);
#define AUTO_HOST_CHECK AUTO(host_check_done)

struct host_check_request {
    const struct config *config;
    struct dns_resolver *resolver;
    struct http01 *http01; /* for the probe; NULL: none is made */
    const struct host *host;
};
struct err *host_check_run(const struct host_check_request *request, struct host_check *ret)
        MAY_SUSPEND NODISCARD;
/* The names that may be ordered now. */
void host_check_ready(
        const struct host_check *check, const struct host *host, struct name_list *ret);
