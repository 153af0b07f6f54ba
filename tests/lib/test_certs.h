/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates made in the test's own process: a root, an intermediate, leaves for names. Every
 * fault of a certificate that a test needs can be asked for. Failures end the test.
 *
 *     struct test_cert *root = test_cert_new(&(struct test_cert_spec){.cn = "Root", .ca = true});
 *     struct test_cert *leaf = test_cert_new(&(struct test_cert_spec){
 *             .names = "im.example.org,conference.im.example.org", .issuer = root});
 */
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/mem.h"

struct test_cert {
    X509 *x509;
    EVP_PKEY *key;
    const struct test_cert *issuer; /* NULL: self-signed */
};

struct test_cert_spec {
    const char *cn;    /* NULL: an empty subject */
    const char *names; /* SAN, by commas; "IP:192.0.2.1" is an address; '\1' becomes a NUL byte */
    struct wall not_before, not_after; /* ms == 0: a day ago, in 90 days, by the system's clock */
    bool ca;
    const struct test_cert *issuer; /* borrowed; must outlive the certificate */
    int rsa_bits;                   /* 0: EC P-256 */
    const char *key_pem;            /* NULL: a new key */
    const void *csr;                /* DER: its key and names are used */
    size_t csr_len;
};

struct test_cert *test_cert_new(const struct test_cert_spec *spec);
void test_cert_free(struct test_cert *cert);
DEFINE_FREEP(struct test_cert, test_cert_free)
#define AUTO_TEST_CERT AUTO(test_cert_freep)

/* All PEM texts are owned by the caller. */
char *test_cert_pem(const struct test_cert *cert);
/* The certificate and its issuers, without the root unless with_root. */
char *test_cert_chain(const struct test_cert *cert, bool with_root);
char *test_cert_key_pem(const struct test_cert *cert); /* PKCS#8; not for one made from a CSR */
/* SHA-256 of the DER. */
void test_cert_sha256(const struct test_cert *cert, uint8_t ret[32]);
