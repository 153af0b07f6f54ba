/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is signed with a key: JWS (RFC 7515, RFC 8555 6.2) and CSR (RFC 2986). OpenSSL's ECDSA
 * signature is a DER sequence of two integers; JWS wants both at full width, one after the other
 * (RFC 7518 3.4), so leading zeros must be put back.
 */
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/sha.h>

#include "acme/base64url.h"
#include "acme/crypto.h"
#include "base/json.h"

#define FIELD_MAX     512 /* octets of an RSA 4096 modulus */
#define CSR_NAMES_MAX 100

struct algorithm {
    const char *name; /* RFC 7518 3.1 */
    const char *digest;
    const char *curve; /* RFC 7518 6.2.1.1; NULL: RSA */
    int width;         /* octets of a coordinate */
};

static const struct algorithm algorithms[KEY_TYPE_MAX] = {
        [KEY_P256] = {"ES256", "SHA256", "P-256", 32},
        [KEY_P384] = {"ES384", "SHA384", "P-384", 48},
        [KEY_RSA2048] = {"RS256", "SHA256", NULL, 0},
        [KEY_RSA3072] = {"RS256", "SHA256", NULL, 0},
        [KEY_RSA4096] = {"RS256", "SHA256", NULL, 0},
};

DEFINE_FREEP(ECDSA_SIG, ECDSA_SIG_free)
DEFINE_FREEP(EVP_MD_CTX, EVP_MD_CTX_free)
DEFINE_FREEP(X509_REQ, X509_REQ_free)

static void free_extensions(STACK_OF(X509_EXTENSION) *list)
{
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}
DEFINE_FREEP(STACK_OF(X509_EXTENSION), free_extensions)
DEFINE_FREEP(GENERAL_NAMES, GENERAL_NAMES_free)

/* ---- the public key as JWK ---- */

/* One number of the public key as base64url; width 0: as many octets as it needs. */
static struct err *put_number(
        json_t *jwk, const char *member, const struct key *key, const char *param, int width)
{
    BIGNUM *number = NULL;
    if (EVP_PKEY_get_bn_param(key->pkey, param, &number) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "the public key's %s could not be read", member);
    unsigned char octets[FIELD_MAX];
    int len = width > 0 ? width : BN_num_bytes(number);
    int done = len <= FIELD_MAX ? BN_bn2binpad(number, octets, len) : -1;
    BN_free(number);
    if (done != len)
        return ERR(ERR_LOCAL, "the public key's %s does not fit its type", member);
    AUTO_FREE char *text = base64url_encode(octets, (size_t)len);
    json_put_str(jwk, member, text);
    return NULL;
}

/* Only the required members, in lexicographic order: the compact text of this object is what RFC
 * 7638 3 hashes. */
static struct err *make_jwk(const struct key *key, json_t **ret)
{
    const struct algorithm *algorithm = &algorithms[key->type];
    AUTO_JSON json_t *jwk = json_object();
    if (jwk == NULL)
        mem_fail(0);
    if (algorithm->curve != NULL) {
        json_put_str(jwk, "crv", algorithm->curve);
        json_put_str(jwk, "kty", "EC");
        TRY(put_number(jwk, "x", key, OSSL_PKEY_PARAM_EC_PUB_X, algorithm->width));
        TRY(put_number(jwk, "y", key, OSSL_PKEY_PARAM_EC_PUB_Y, algorithm->width));
    } else {
        TRY(put_number(jwk, "e", key, OSSL_PKEY_PARAM_RSA_E, 0));
        json_put_str(jwk, "kty", "RSA");
        TRY(put_number(jwk, "n", key, OSSL_PKEY_PARAM_RSA_N, 0));
    }
    *ret = STEAL(jwk);
    return NULL;
}

struct err *key_thumbprint(const struct key *key, char ret[KEY_THUMBPRINT_MAX])
{
    AUTO_JSON json_t *jwk = NULL;
    TRY(make_jwk(key, &jwk));
    AUTO_FREE char *text = json_text(jwk);
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)text, strlen(text), hash);
    AUTO_FREE char *encoded = base64url_encode(hash, sizeof(hash));
    memcpy(ret, encoded, KEY_THUMBPRINT_MAX);
    return NULL;
}

/* ---- signatures ---- */

static struct err *sign_raw(
        const struct key *key, const char *text, unsigned char **ret, size_t *ret_len)
{
    AUTO(EVP_MD_CTX_freep) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx == NULL)
        mem_fail(0);
    const unsigned char *data = (const unsigned char *)text;
    size_t len = 0;
    if (EVP_DigestSignInit_ex(
                ctx, NULL, algorithms[key->type].digest, NULL, NULL, key->pkey, NULL) != 1 ||
            EVP_DigestSign(ctx, NULL, &len, data, strlen(text)) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "a signature could not be started");
    AUTO_FREE unsigned char *signature = mem_alloc(len);
    if (EVP_DigestSign(ctx, signature, &len, data, strlen(text)) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "a signature could not be made");
    *ret = STEAL(signature);
    *ret_len = len;
    return NULL;
}

static struct err *ecdsa_to_fixed(
        const unsigned char *der, size_t len, int width, unsigned char ret[FIELD_MAX])
{
    AUTO(ECDSA_SIG_freep) ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)len);
    if (pair == NULL)
        return ERR_OPENSSL(ERR_LOCAL, "an ECDSA signature could not be decoded");
    if (BN_bn2binpad(ECDSA_SIG_get0_r(pair), ret, width) != width ||
            BN_bn2binpad(ECDSA_SIG_get0_s(pair), ret + width, width) != width)
        return ERR_OPENSSL(ERR_LOCAL, "an ECDSA signature is wider than its curve");
    return NULL;
}

static struct err *sign_text(const struct key *key, const char *text, char **ret_base64url)
{
    AUTO_FREE unsigned char *signature = NULL;
    size_t len = 0;
    TRY(sign_raw(key, text, &signature, &len));
    int width = algorithms[key->type].width;
    if (width == 0) {
        *ret_base64url = base64url_encode(signature, len);
        return NULL;
    }
    unsigned char fixed[FIELD_MAX];
    TRY(ecdsa_to_fixed(signature, len, width, fixed));
    *ret_base64url = base64url_encode(fixed, (size_t)width * 2);
    return NULL;
}

static struct err *make_protected(
        const struct key *key, const struct key_jws *jws, char **ret_base64url)
{
    AUTO_JSON json_t *header = json_object();
    if (header == NULL)
        mem_fail(0);
    json_put_str(header, "alg", algorithms[key->type].name);
    if (jws->kid != NULL) {
        json_put_str(header, "kid", jws->kid);
    } else {
        json_t *jwk = NULL;
        TRY(make_jwk(key, &jwk));
        json_put(header, "jwk", jwk);
    }
    if (jws->nonce != NULL)
        json_put_str(header, "nonce", jws->nonce);
    json_put_str(header, "url", jws->url);
    AUTO_FREE char *text = json_text(header);
    *ret_base64url = base64url_encode(text, strlen(text));
    return NULL;
}

struct err *key_sign_jws(const struct key *key, const struct key_jws *jws, char **ret_json)
{
    AUTO_FREE char *header = NULL;
    TRY(make_protected(key, jws, &header));
    const char *plain = jws->payload != NULL ? jws->payload : "";
    AUTO_FREE char *payload = base64url_encode(plain, strlen(plain));
    AUTO_FREE char *input = str_printf("%s.%s", header, payload);
    AUTO_FREE char *signature = NULL;
    TRY(sign_text(key, input, &signature));
    *ret_json = str_printf("{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}", header,
            payload, signature);
    return NULL;
}

/* ---- CSR ---- */

static void add_dns_name(GENERAL_NAMES *names, const struct name *name)
{
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    if (general == NULL || text == NULL || ASN1_STRING_set(text, name->text, -1) != 1)
        mem_fail(0);
    GENERAL_NAME_set0_value(general, GEN_DNS, text);
    if (sk_GENERAL_NAME_push(names, general) == 0)
        mem_fail(0);
}

static struct err *add_names(X509_REQ *csr, const struct name_list *list)
{
    AUTO(GENERAL_NAMES_freep) GENERAL_NAMES *names = GENERAL_NAMES_new();
    AUTO(free_extensionsp) STACK_OF(X509_EXTENSION) *extensions = NULL;
    if (names == NULL)
        mem_fail(0);
    for (size_t i = 0; i < list->n; i++)
        add_dns_name(names, &list->v[i]);
    /* Critical, because the subject is empty (RFC 5280 4.2.1.6). */
    if (X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) != 1 ||
            X509_REQ_add_extensions(csr, extensions) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "the names could not be added to the CSR");
    return NULL;
}

struct err *key_make_csr(const struct key *key, const struct name_list *names, char **ret_base64url)
{
    if (names->n == 0 || names->n > CSR_NAMES_MAX)
        return ERR(ERR_CONFIG, "a certificate can be asked for 1 to %d names, not %zu",
                CSR_NAMES_MAX, names->n);
    AUTO(X509_REQ_freep) X509_REQ *csr = X509_REQ_new();
    if (csr == NULL)
        mem_fail(0);
    TRY(add_names(csr, names));
    const EVP_MD *digest = EVP_get_digestbyname(algorithms[key->type].digest);
    if (X509_REQ_set_version(csr, X509_REQ_VERSION_1) != 1 ||
            X509_REQ_set_pubkey(csr, key->pkey) != 1 || X509_REQ_sign(csr, key->pkey, digest) == 0)
        return ERR_OPENSSL(ERR_LOCAL, "the CSR could not be signed");
    unsigned char *der = NULL;
    int len = i2d_X509_REQ(csr, &der);
    if (len <= 0)
        return ERR_OPENSSL(ERR_LOCAL, "the CSR could not be encoded");
    *ret_base64url = base64url_encode(der, (size_t)len);
    OPENSSL_free(der);
    return NULL;
}
