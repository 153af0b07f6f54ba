/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proof on the wire: a handshake for every name on every port of an ejabberd node, compared with
 * the certificate that should be served. Design 9: 5222 proves the XMPP host (a component is
 * host-unknown there), with and without SNI; 5269 every name by stream "to", with and without SNI;
 * 5443, 5223, 5270 every name by SNI; /upload answers 404 at the host.
 */
#pragma once

#include "base/world.h"

enum proof_port { PROOF_C2S, PROOF_S2S, PROOF_HTTPS, PROOF_C2S_TLS, PROOF_S2S_TLS, PROOF_PORT_MAX };
const char *proof_port_name(enum proof_port port); /* "c2s", "s2s", "https", "c2s_tls", "s2s_tls" */

/* Connections at once to one port of one node. Erlang's listen queue holds 5 unless ejabberd's
 * `backlog` says otherwise; a SYN that finds it full is lost and comes again only a second later.
 */
#define PROOF_PORT_AT_ONCE ((size_t)4)
struct proof_limits {
    struct fiber_sem port[PROOF_PORT_MAX];
};
void proof_limits_init(struct proof_limits *limits);

struct proof_request {
    const char *node;               /* name, for messages */
    const char *probe_host;         /* where the ports are; address or host name */
    uint16_t ports[PROOF_PORT_MAX]; /* 0: not probed */
    const struct name *host;
    const struct name_list *names; /* host and components in the certificate */
    const char *roots;             /* PEM, or NULL for the system's */
    struct proof_limits *limits;   /* shared by all proofs of this node; NULL: its own */
    const uint8_t *leaf_sha256;    /* what should be served; NULL: any valid one */
};

enum proof_state {
    PROOF_OK,
    PROOF_OTHER_CERTIFICATE, /* valid, but not the newest */
    PROOF_NOT_VALID,         /* untrusted, wrong name, expired */
    PROOF_NOT_SERVED,        /* host-unknown: ejabberd does not know the name */
    PROOF_FAILED,            /* no handshake: refused, no STARTTLS, <failure/> */
    PROOF_REPORTED           /* looked at, counts for nothing (https without SNI) */
};
struct proof_check {
    enum proof_port port;
    struct name name;
    bool sni;
    enum proof_state state;
    char *detail;            /* sentence, or NULL when ok */
    uint8_t leaf_sha256[32]; /* zero if there was no handshake */
    struct wall not_after;
};
struct proof_result {
    size_t n;
    struct proof_check *checks;
    size_t n_failed;    /* neither OK nor REPORTED */
    long upload_status; /* of /upload at the host, 404 where all is well; 0: not asked, or no answer
                           under a valid certificate */
};
void proof_result_done(struct proof_result *result);
#define AUTO_PROOF_RESULT AUTO(proof_result_done)
const char *proof_state_name(enum proof_state state); /* stable, for JSON */

/* All checks in parallel (at most PROOF_PORT_AT_ONCE to a port), each with 10 s; reported by port,
 * then name in the order given, with SNI first. What is found is the result, also that probe_host
 * has no address or nobody listens; errors are our own faults only (roots that can't be read, being
 * canceled). */
struct err *proof_run(struct world *world, const struct proof_request *request,
        struct proof_result *ret) MAY_SUSPEND NODISCARD;
