/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TLS handshake as a client would do it, to look at the certificate that is served: direct, or
 * after STARTTLS of XMPP (RFC 6120 5: client and server streams). The certificate never decides
 * whether the handshake goes through; it is verified afterwards and the verdict is part of the
 * result.
 */
#pragma once

#include "base/addr.h"
#include "base/buf.h"
#include "base/fiber.h"
#include "base/name.h"

enum tls_start {
    TLS_DIRECT,
    TLS_STARTTLS_C2S, /* <stream:stream xmlns='jabber:client' to='…'> */
    TLS_STARTTLS_S2S, /* <stream:stream xmlns='jabber:server' to='…'> */
};

struct tls_probe_request {
    struct addr to;
    enum tls_start start;
    const char *stream_to; /* U-labels: ejabberd does not know its hosts by A-label; for STARTTLS */
    const struct name *sni;    /* NULL: none is sent */
    const char *alpn;          /* "xmpp-client", "xmpp-server", or NULL */
    const struct name *expect; /* the name the certificate must cover; NULL: not checked */
    const char *roots;         /* PEM file that the chain must lead to; NULL: the system's store */
    int64_t total_ms;          /* 0: 10 s */
};

enum tls_verdict {
    TLS_VALID,
    TLS_UNTRUSTED, /* chain leads to no root; detail says */
    TLS_WRONG_NAME,
    TLS_EXPIRED, /* or not yet valid */
};

struct tls_probe_result {
    enum tls_verdict verdict;
    char *detail;            /* sentence for a verdict other than valid */
    uint8_t leaf_sha256[32]; /* of the DER */
    struct wall not_before, not_after;
    char *issuer;     /* for people */
    char *version;    /* "TLSv1.3" */
    size_t chain_len; /* certificates sent */
};
void tls_probe_result_done(struct tls_probe_result *result);
#define AUTO_TLS_RESULT AUTO(tls_probe_result_done)

/* Failures before there is a certificate: refused, closed, "host-unknown" (ERR_CONFIG: the server
 * does not serve that name), no STARTTLS offered, <failure/> after it (no usable certificate), TLS
 * alert. */
struct err *tls_probe(struct loop *loop, const struct tls_probe_request *request,
        struct tls_probe_result *ret) MAY_SUSPEND NODISCARD;

/* What stood in the way, where it makes a difference to the caller. */
enum tls_failure {
    TLS_FAILURE_OTHER,        /* refused, unreachable, time-out, not our protocol */
    TLS_FAILURE_CLOSED,       /* the connection was closed or reset during the dialogue */
    TLS_FAILURE_HOST_UNKNOWN, /* the server does not serve that name */
    TLS_FAILURE_STREAM,       /* another stream error */
    TLS_FAILURE_NO_STARTTLS,  /* not offered */
    TLS_FAILURE_REFUSED,      /* offered, then <failure/>: no usable certificate */
    TLS_FAILURE_ALERT,        /* a TLS alert from the server */
};
/* Of an error that tls_probe() returned; also with contexts added. */
enum tls_failure tls_failure(const struct err *e);

/* The system's store as one PEM file, or NULL if it is at none of the usual places. */
const char *tls_system_roots(void);
