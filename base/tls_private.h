/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tls.c (the handshake), tls_xmpp.c (what comes before it on an XMPP port), tls_verify.c (what
 * the certificate is worth) and tls_roots.c (against which roots) share; nobody else includes it.
 */
#pragma once

#include <openssl/x509.h>

#include "base/net.h"
#include "base/tls.h"

/* Borrowed, valid until the next call. The file is read again when it has changed. */
struct err *tls_roots_store(const char *path, X509_STORE **ret) NODISCARD;

/* Marks an error with what stood in the way. */
struct err *tls_fail(struct err *e, enum tls_failure failure) NODISCARD;

/* Speaks XMPP on the stream until the TLS handshake may begin. */
struct err *tls_xmpp_start(struct net_stream *stream, const struct tls_probe_request *request)
        MAY_SUSPEND NODISCARD;

/* Fills ret from what the server has sent; never suspends. chain: leaf first. */
struct err *tls_verify(const struct tls_probe_request *request, struct wall now,
        STACK_OF(X509) *chain, struct tls_probe_result *ret) NODISCARD;
