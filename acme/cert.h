/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates as data: what a PEM chain says, and whether it may be stored. Strict: a chain is
 * what RFC 8555 9.1 allows (certificates only, leaf first, each certified by the next), capped in
 * size, never identified by a subject CN.
 */
#pragma once

#include "base/buf.h"
#include "base/name.h"

#define CERT_CHAIN_MAX  ((size_t)128 * 1024)
#define CERT_SERIAL_MAX 64

struct cert_info {
    struct strv names;            /* SAN dNSName, lower case, as in the certificate */
    char serial[CERT_SERIAL_MAX]; /* hex, lower case */
    char *issuer;                 /* CN, else organisation, of the issuer, made safe to print */
    struct wall not_before, not_after;
    uint8_t leaf_sha256[32];
    size_t chain_len;
    size_t n_other_names; /* SAN entries that are no dNSName */
    bool upper_case;      /* a name has capitals: ejabberd compares octets and never finds it */
    bool self_signed;
};
void cert_info_done(struct cert_info *info);
void cert_info_copy(struct cert_info *ret, const struct cert_info *from);
#define AUTO_CERT_INFO AUTO(cert_info_done)

/* Parses and checks the form (order, links, caps); text before, between or behind the certificates
 * is refused unless allow_key, which a joined file needs. ERR_PROTOCOL. */
struct err *cert_parse(const char *pem, size_t len, bool allow_key, struct cert_info *ret)
        NODISCARD;
bool cert_covers(const struct cert_info *info, const struct name *name);
/* Chain to a root in roots (PEM file; NULL: system store) at the instant given. NULL: trusted. */
struct err *cert_check_trust(const char *pem, size_t len, const char *roots, struct wall now)
        NODISCARD;
/* What a CA sent may be stored: every name of the order covered and no other, valid now (notBefore
 * at most slack in the future), not expired. ERR_PROTOCOL naming the first thing wrong. */
struct err *cert_check_issued(
        const struct cert_info *info, const struct name_list *names, struct wall now) NODISCARD;
