/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/test_certs.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

/* Not assert(): it must hold in builds with NDEBUG too. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static EVP_PKEY *make_key(const struct test_cert_spec *spec)
{
    if (spec->key_pem != NULL) {
        BIO *bio = BIO_new_mem_buf(spec->key_pem, -1);
        EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        BIO_free(bio);
        return key;
    }
    if (spec->rsa_bits > 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)spec->rsa_bits);
    return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
}

static void set_time(ASN1_TIME *to, struct wall when, int default_days)
{
    time_t now = time(NULL);
    if (when.ms == 0)
        MUST(ASN1_TIME_adj(to, now, default_days, 0) != NULL);
    else
        MUST(ASN1_TIME_set(to, (time_t)(when.ms / CLOCK_SEC)) != NULL);
}

/* Two certificates of one issuer must differ in serial number. */
static void set_serial(X509 *x509)
{
    BIGNUM *number = BN_new();
    MUST(BN_rand(number, 120, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1);
    MUST(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x509)) != NULL);
    BN_free(number);
}

static void add_name(GENERAL_NAMES *names, const char *text)
{
    GENERAL_NAME *general = GENERAL_NAME_new();
    if (str_starts(text, "IP:")) {
        GENERAL_NAME_set0_value(general, GEN_IPADD, a2i_IPADDRESS(text + 3));
    } else {
        AUTO_FREE char *octets = str_dup(text);
        size_t len = strlen(octets);
        for (size_t i = 0; i < len; i++) {
            if (octets[i] == '\1')
                octets[i] = '\0';
        }
        ASN1_IA5STRING *value = ASN1_IA5STRING_new();
        MUST(ASN1_STRING_set(value, octets, (int)len) == 1);
        GENERAL_NAME_set0_value(general, GEN_DNS, value);
    }
    MUST(sk_GENERAL_NAME_push(names, general) > 0);
}

static void add_names(X509 *x509, const char *list)
{
    AUTO_FREE char *copy = str_dup(list);
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    char *rest = copy;
    for (char *one = strsep(&rest, ","); one != NULL; one = strsep(&rest, ","))
        add_name(names, one);
    MUST(X509_add1_ext_i2d(x509, NID_subject_alt_name, names, 0, 0) == 1);
    GENERAL_NAMES_free(names);
}

static void add_extension(X509 *x509, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x509, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    MUST(extension != NULL);
    MUST(X509_add_ext(x509, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void take_csr(X509 *x509, const struct test_cert_spec *spec)
{
    const unsigned char *at = spec->csr;
    X509_REQ *csr = d2i_X509_REQ(NULL, &at, (long)spec->csr_len);
    MUST(csr != NULL && X509_REQ_verify(csr, X509_REQ_get0_pubkey(csr)) == 1);
    MUST(X509_set_pubkey(x509, X509_REQ_get0_pubkey(csr)) == 1);
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr);
    for (int i = 0; i < sk_X509_EXTENSION_num(extensions); i++)
        MUST(X509_add_ext(x509, sk_X509_EXTENSION_value(extensions, i), -1) == 1);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(csr);
}

struct test_cert *test_cert_new(const struct test_cert_spec *spec)
{
    struct test_cert *cert = MEM_NEW(struct test_cert);
    X509 *x509 = X509_new();
    *cert = (struct test_cert){.x509 = x509, .issuer = spec->issuer};
    MUST(X509_set_version(x509, X509_VERSION_3) == 1);
    set_serial(x509);
    set_time(X509_getm_notBefore(x509), spec->not_before, -1);
    set_time(X509_getm_notAfter(x509), spec->not_after, 90);
    X509_NAME *subject = X509_get_subject_name(x509);
    if (spec->cn != NULL)
        MUST(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                     (const unsigned char *)spec->cn, -1, -1, 0) == 1);
    X509 *issuer = spec->issuer != NULL ? spec->issuer->x509 : x509;
    MUST(X509_set_issuer_name(x509, X509_get_subject_name(issuer)) == 1);
    if (spec->csr != NULL) {
        take_csr(x509, spec);
    } else {
        cert->key = make_key(spec);
        MUST(cert->key != NULL && X509_set_pubkey(x509, cert->key) == 1);
    }
    if (spec->names != NULL)
        add_names(x509, spec->names);
    add_extension(x509, issuer, NID_basic_constraints, spec->ca ? "critical,CA:TRUE" : "CA:FALSE");
    if (spec->ca)
        add_extension(x509, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(x509, issuer, NID_subject_key_identifier, "hash");
    if (spec->issuer != NULL)
        add_extension(x509, issuer, NID_authority_key_identifier, "keyid:always");
    EVP_PKEY *signer = spec->issuer != NULL ? spec->issuer->key : cert->key;
    MUST(X509_sign(x509, signer, EVP_sha256()) > 0);
    return cert;
}

void test_cert_free(struct test_cert *cert)
{
    if (cert == NULL)
        return;
    X509_free(cert->x509);
    EVP_PKEY_free(cert->key);
    free(cert);
}

static char *bio_to_text(BIO *bio)
{
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    char *text = mem_dup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

char *test_cert_pem(const struct test_cert *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    MUST(PEM_write_bio_X509(bio, cert->x509) == 1);
    return bio_to_text(bio);
}

char *test_cert_chain(const struct test_cert *cert, bool with_root)
{
    BIO *bio = BIO_new(BIO_s_mem());
    for (const struct test_cert *at = cert; at != NULL; at = at->issuer) {
        if (at == cert || at->issuer != NULL || with_root)
            MUST(PEM_write_bio_X509(bio, at->x509) == 1);
    }
    return bio_to_text(bio);
}

char *test_cert_key_pem(const struct test_cert *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    MUST(PEM_write_bio_PKCS8PrivateKey(bio, cert->key, NULL, NULL, 0, NULL, NULL) == 1);
    return bio_to_text(bio);
}

void test_cert_sha256(const struct test_cert *cert, uint8_t ret[32])
{
    unsigned len = 32;
    MUST(X509_digest(cert->x509, EVP_sha256(), ret, &len) == 1);
}
