/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's PEM reader skips whatever is not PEM and stops at a NUL byte, so it would take a
 * certificate out of an HTML page. Therefore the form is checked here line by line first (RFC 7468
 * 2), and each block goes to OpenSSL alone.
 */
#include "acme/crypto.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#define BEGIN      "-----BEGIN "
#define END        "-----END "
#define DASHES     "-----"
#define LABEL_MAX  64
#define LABEL_CERT "CERTIFICATE"

/* ---- lines and blocks ---- */

struct scan {
    const char *at;
    const char *end;
    size_t line_no;
    const char *line; /* of the last next_line(), without the line end */
    size_t line_len;
    bool allow_key;
};

static bool next_line(struct scan *s)
{
    if (s->at == s->end)
        return false;
    const char *newline = memchr(s->at, '\n', (size_t)(s->end - s->at));
    const char *stop = newline != NULL ? newline : s->end;
    s->line = s->at;
    s->line_len = (size_t)(stop - s->at);
    s->at = newline != NULL ? newline + 1 : s->end;
    s->line_no++;
    while (s->line_len > 0 && strchr(" \t\r", s->line[s->line_len - 1]) != NULL)
        s->line_len--;
    return true;
}

static bool line_is_base64(const struct scan *s)
{
    static const char alphabet[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    for (size_t i = 0; i < s->line_len; i++) {
        if (strchr(alphabet, s->line[i]) == NULL)
            return false;
    }
    return s->line_len > 0;
}

/* "-----BEGIN X-----" or END: the label X. */
static bool line_label(const struct scan *s, const char *start, char ret_label[LABEL_MAX])
{
    size_t n_start = strlen(start), n_dashes = strlen(DASHES);
    if (s->line_len <= n_start + n_dashes || s->line_len - n_start - n_dashes >= LABEL_MAX)
        return false;
    if (memcmp(s->line, start, n_start) != 0)
        return false;
    if (memcmp(s->line + s->line_len - n_dashes, DASHES, n_dashes) != 0)
        return false;
    size_t n = s->line_len - n_start - n_dashes;
    memcpy(ret_label, s->line + n_start, n);
    ret_label[n] = '\0';
    return true;
}

static struct err *unexpected_line(const struct scan *s, const char *expected)
{
    AUTO_BUF struct buf shown = BUF_INIT(256);
    buf_put_foreign(&shown, s->line, s->line_len, 60);
    return ERR(ERR_PROTOCOL, "line %zu of the certificate chain: expected %s, found \"%s\"",
            s->line_no, expected, buf_str(&shown));
}

/* Goes to the end of the block whose BEGIN line was read. *ret_len: from the BEGIN line on. */
static struct err *finish_block(
        struct scan *s, const char *begin, const char *label, size_t *ret_len)
{
    size_t first_line = s->line_no;
    while (next_line(s)) {
        char found[LABEL_MAX];
        if (line_label(s, END, found)) {
            if (strcmp(found, label) != 0)
                return unexpected_line(s, "the END line of the same block");
            *ret_len = (size_t)(s->line + s->line_len - begin);
            return NULL;
        }
        if (strcmp(label, LABEL_CERT) == 0 && !line_is_base64(s))
            return unexpected_line(s, "base64");
    }
    return ERR(ERR_PROTOCOL,
            "the certificate chain is cut off: the block at line %zu (%s) has no END line",
            first_line, label);
}

/* The next certificate block; *ret_begin == NULL: there is no further one. */
static struct err *next_certificate(struct scan *s, const char **ret_begin, size_t *ret_len)
{
    while (next_line(s)) {
        char label[LABEL_MAX];
        const char *begin = s->line;
        if (!line_label(s, BEGIN, label)) {
            if (s->line_len > 0 && !s->allow_key)
                return unexpected_line(s, "only certificates");
            continue;
        }
        bool is_cert = strcmp(label, LABEL_CERT) == 0;
        if (!is_cert && !s->allow_key)
            return ERR(ERR_PROTOCOL,
                    "line %zu of the certificate chain: expected only certificates, found a "
                    "block of %s",
                    s->line_no, label);
        size_t len = 0;
        TRY(finish_block(s, begin, label, &len));
        if (is_cert) {
            *ret_begin = begin;
            *ret_len = len;
            return NULL;
        }
    }
    *ret_begin = NULL;
    return NULL;
}

static struct err *decode_certificate(const char *block, size_t len, size_t index, X509 **ret)
{
    X509 *known = crypto_cache_get(block, len);
    if (known != NULL) {
        *ret = known;
        return NULL;
    }
    AUTO_BIO BIO *bio = BIO_new_mem_buf(block, (int)len);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;
    long der_len = 0;
    if (bio == NULL || PEM_read_bio(bio, &name, &header, &der, &der_len) != 1)
        return ERR_OPENSSL(ERR_PROTOCOL, "certificate %zu of the chain is no PEM", index + 1);
    const unsigned char *at = der;
    AUTO_X509 X509 *cert = d2i_X509(NULL, &at, der_len);
    bool whole = at == der + der_len;
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(der);
    if (cert == NULL)
        return ERR_OPENSSL(ERR_PROTOCOL, "certificate %zu of the chain is no X.509", index + 1);
    if (!whole)
        return ERR(ERR_PROTOCOL, "certificate %zu of the chain has bytes behind it", index + 1);
    crypto_cache_put(block, len, cert);
    *ret = STEAL(cert);
    return NULL;
}

struct err *crypto_read_certs(const char *pem, size_t len, bool allow_key, STACK_OF(X509) **ret)
{
    size_t max = allow_key ? CRYPTO_JOINED_MAX : CERT_CHAIN_MAX;
    if (len > max)
        return ERR(ERR_PROTOCOL, "the certificate chain has %zu bytes, more than %zu", len, max);
    if (memchr(pem, '\0', len) != NULL)
        return ERR(ERR_PROTOCOL, "the certificate chain holds a NUL byte");
    AUTO_X509_STACK STACK_OF(X509) *certs = sk_X509_new_null();
    if (certs == NULL)
        mem_fail(0);
    struct scan scan = {.at = pem, .end = pem + len, .allow_key = allow_key};
    for (;;) {
        const char *block = NULL;
        size_t block_len = 0;
        TRY(next_certificate(&scan, &block, &block_len));
        if (block == NULL)
            break;
        if (sk_X509_num(certs) == CRYPTO_CHAIN_LEN)
            return ERR(ERR_PROTOCOL, "the chain has more than %d certificates", CRYPTO_CHAIN_LEN);
        X509 *cert = NULL;
        TRY(decode_certificate(block, block_len, (size_t)sk_X509_num(certs), &cert));
        if (sk_X509_push(certs, cert) == 0)
            mem_fail(0);
    }
    if (sk_X509_num(certs) == 0)
        return ERR(ERR_PROTOCOL, "there is no certificate in it (%zu bytes)", len);
    *ret = STEAL(certs);
    return NULL;
}

/* ---- keys ---- */

static struct err *ec_type(const EVP_PKEY *pkey, const char *what, enum key_type *ret)
{
    char group[80] = "an unnamed curve";
    (void)EVP_PKEY_get_utf8_string_param(
            pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), NULL);
    ERR_clear_error();
    if (strcmp(group, "prime256v1") == 0 || strcmp(group, "P-256") == 0) {
        *ret = KEY_P256;
        return NULL;
    }
    if (strcmp(group, "secp384r1") == 0 || strcmp(group, "P-384") == 0) {
        *ret = KEY_P384;
        return NULL;
    }
    return ERR(ERR_CONFIG, "%s: an EC key on %s; CAs take P-256 and P-384", what, group);
}

static struct err *rsa_type(const EVP_PKEY *pkey, const char *what, enum key_type *ret)
{
    int bits = EVP_PKEY_get_bits(pkey);
    switch (bits) {
    case 2048:
        *ret = KEY_RSA2048;
        return NULL;
    case 3072:
        *ret = KEY_RSA3072;
        return NULL;
    case 4096:
        *ret = KEY_RSA4096;
        return NULL;
    default:
        return ERR(
                ERR_CONFIG, "%s: an RSA key of %d bits; CAs take 2048, 3072 and 4096", what, bits);
    }
}

static struct err *find_type(const EVP_PKEY *pkey, const char *what, enum key_type *ret)
{
    switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_EC:
        return ec_type(pkey, what, ret);
    case EVP_PKEY_RSA:
        return rsa_type(pkey, what, ret);
    default: {
        const char *name = EVP_PKEY_get0_type_name(pkey);
        return ERR(ERR_CONFIG,
                "%s: a key of type %s, which CAs refuse and which makes ejabberd's TLS crash", what,
                name != NULL ? name : "unknown");
    }
    }
}

static int note_password(char *buf, int size, int rwflag, void *arg)
{
    bool *asked = arg;
    *asked = true;
    return -1;
}

static struct err *advise_key(struct err *e)
{
    return err_advise(e, "use an unencrypted EC P-256, EC P-384 or RSA key (2048, 3072, 4096 bits) "
                         "in PEM, or remove the file to have one made");
}

struct err *crypto_read_key(const char *pem, size_t len, const char *what, struct key **ret)
{
    if (len > CRYPTO_JOINED_MAX)
        return ERR(ERR_CONFIG, "%s: %zu bytes are too many for a key", what, len);
    AUTO_BIO BIO *bio = BIO_new_mem_buf(pem, (int)len);
    if (bio == NULL)
        mem_fail(0);
    bool asked = false;
    AUTO_PKEY EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, note_password, &asked);
    if (pkey == NULL && asked) {
        ERR_clear_error();
        return advise_key(
                ERR(ERR_CONFIG, "%s: the private key is encrypted with a password", what));
    }
    if (pkey == NULL)
        return advise_key(ERR_OPENSSL(ERR_CONFIG, "%s: no private key could be read", what));
    enum key_type type = KEY_P256;
    struct err *e = find_type(pkey, what, &type);
    if (e != NULL)
        return advise_key(e);
    struct key *key = MEM_NEW(struct key);
    key->pkey = STEAL(pkey);
    key->type = type;
    *ret = key;
    return NULL;
}

struct err *crypto_check_pair(const EVP_PKEY *key, X509 *leaf)
{
    const EVP_PKEY *certified = X509_get0_pubkey(leaf);
    if (certified == NULL)
        return ERR_OPENSSL(ERR_PROTOCOL, "the certificate's public key could not be read");
    if (EVP_PKEY_eq(key, certified) != 1) {
        ERR_clear_error();
        return ERR(ERR_PROTOCOL, "the certificate is for another key than ours");
    }
    return NULL;
}
