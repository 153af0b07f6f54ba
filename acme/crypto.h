/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to keys and cert: OpenSSL's types as owned locals, and the strict reading of PEM. Nobody
 * else in acme/ needs an OpenSSL header.
 */
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "acme/cert.h"
#include "acme/keys.h"

static inline void x509_stack_free(STACK_OF(X509) *certs)
{
    sk_X509_pop_free(certs, X509_free);
}

DEFINE_FREEP(BIO, BIO_free_all)
DEFINE_FREEP(EVP_PKEY, EVP_PKEY_free)
DEFINE_FREEP(X509, X509_free)
DEFINE_FREEP(STACK_OF(X509), x509_stack_free)
#define AUTO_BIO        AUTO(BIO_free_allp)
#define AUTO_PKEY       AUTO(EVP_PKEY_freep)
#define AUTO_X509       AUTO(X509_freep)
#define AUTO_X509_STACK AUTO(x509_stack_freep)

/* A joined file: the chain and one key. */
#define CRYPTO_KEY_MAX    ((size_t)16 * 1024)
#define CRYPTO_CHAIN_LEN  10
#define CRYPTO_JOINED_MAX (CERT_CHAIN_MAX + CRYPTO_KEY_MAX)

struct key {
    EVP_PKEY *pkey;
    enum key_type type;
};

/* The certificates of a PEM text in their order; at least one, at most CRYPTO_CHAIN_LEN. Without
 * allow_key nothing but certificates and empty lines may be in it (RFC 8555 9.1); with it, text and
 * private keys are passed over. ERR_PROTOCOL. */
struct err *crypto_read_certs(const char *pem, size_t len, bool allow_key, STACK_OF(X509) **ret)
        NODISCARD;
/* The certificate that this PEM text was decoded to before, owned by the caller, or NULL; and the
 * note of it. Any thread. */
X509 *crypto_cache_get(const char *text, size_t len) NODISCARD;
void crypto_cache_put(const char *text, size_t len, X509 *cert);
/* The first private key of a PEM text, and its type. ERR_CONFIG for a key with a password or of a
 * type that CAs or ejabberd don't take; what names the place in messages. */
struct err *crypto_read_key(const char *pem, size_t len, const char *what, struct key **ret)
        NODISCARD;
/* ERR_PROTOCOL if the public halves differ. */
struct err *crypto_check_pair(const EVP_PKEY *key, X509 *leaf) NODISCARD;
