/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making, opening and joining keys. PEM text of a private key exists only in buffers that erase
 * themselves: OpenSSL's secure memory BIO, and struct buf with wipe. Signing is in keys_sign.c.
 */
#include "acme/keys.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "acme/crypto.h"
#include "base/file.h"

#define KEY_FILE_MODE 0600

static const struct {
    const char *name;
    const char *algorithm;
    const char *curve; /* of EC */
    size_t bits;       /* of RSA */
} types[KEY_TYPE_MAX] = {
        [KEY_P256] = {"p256", "EC", "P-256", 0},
        [KEY_P384] = {"p384", "EC", "P-384", 0},
        [KEY_RSA2048] = {"rsa2048", "RSA", NULL, 2048},
        [KEY_RSA3072] = {"rsa3072", "RSA", NULL, 3072},
        [KEY_RSA4096] = {"rsa4096", "RSA", NULL, 4096},
};

const char *key_type_name(enum key_type type)
{
    return types[type].name;
}

bool key_type_parse(const char *name, enum key_type *ret)
{
    for (size_t i = 0; i < KEY_TYPE_MAX; i++) {
        if (strcmp(name, types[i].name) == 0) {
            *ret = (enum key_type)i;
            return true;
        }
    }
    return false;
}

enum key_type key_type(const struct key *key)
{
    return key->type;
}

void key_free(struct key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

/* ---- files ---- */

/* NULL: OpenSSL's queue says why. */
static struct key *generate(enum key_type type)
{
    EVP_PKEY *pkey = types[type].curve != NULL
                             ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", types[type].curve)
                             : EVP_PKEY_Q_keygen(NULL, NULL, "RSA", types[type].bits);
    if (pkey == NULL)
        return NULL;
    struct key *key = MEM_NEW(struct key);
    key->pkey = pkey;
    key->type = type;
    return key;
}

static struct err *put_key(const struct key *key, struct buf *ret)
{
    AUTO_BIO BIO *bio = BIO_new(BIO_s_secmem());
    if (bio == NULL)
        mem_fail(0);
    if (PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "the private key could not be encoded");
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    buf_append(ret, text, (size_t)len);
    return buf_check(ret, "the private key");
}

struct err *key_create(const char *path, enum key_type type, struct key **ret)
{
    AUTO(key_freep) struct key *key = generate(type);
    if (key == NULL)
        return ERR_OPENSSL(
                ERR_LOCAL, "%s: a key of type %s could not be made", path, types[type].name);
    AUTO_BUF struct buf pem = BUF_INIT_SECRET(CRYPTO_KEY_MAX);
    TRY_CTX(put_key(key, &pem), "%s", path);
    const struct file_write_options options = {.mode = KEY_FILE_MODE, .exclusive = true};
    TRY(file_write(path, pem.data, pem.len, &options));
    *ret = STEAL(key);
    return NULL;
}

struct err *key_open(const char *path, struct key **ret)
{
    TRY(file_check_private(path, KEY_FILE_MODE));
    AUTO_BUF struct buf pem = BUF_INIT_SECRET(CRYPTO_KEY_MAX);
    TRY(file_read(path, CRYPTO_KEY_MAX, &pem, NULL));
    return crypto_read_key(buf_str(&pem), pem.len, path, ret);
}

struct err *key_file_sha256(const char *path, uint8_t ret[32])
{
    TRY(file_check_private(path, KEY_FILE_MODE));
    AUTO_BUF struct buf pem = BUF_INIT_SECRET(CRYPTO_KEY_MAX);
    TRY(file_read(path, CRYPTO_KEY_MAX, &pem, NULL));
    if (EVP_Digest(buf_str(&pem), pem.len, ret, NULL, EVP_sha256(), NULL) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "%s: no digest could be made", path);
    return NULL;
}

/* ---- key and chain ---- */

struct err *key_check_matches(const struct key *key, const char *chain_pem, size_t len)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    TRY(crypto_read_certs(chain_pem, len, false, &certs));
    return crypto_check_pair(key->pkey, sk_X509_value(certs, 0));
}

/* Encoded anew, so that line ends and the newline after each block are ours: ejabberd refuses a
 * certificate and key that are glued together. */
static struct err *put_certs(STACK_OF(X509) *certs, struct buf *ret)
{
    AUTO_BIO BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL)
        mem_fail(0);
    for (int i = 0; i < sk_X509_num(certs); i++) {
        if (PEM_write_bio_X509(bio, sk_X509_value(certs, i)) != 1)
            return ERR_OPENSSL(ERR_LOCAL, "certificate %d could not be encoded", i + 1);
    }
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    buf_append(ret, text, (size_t)len);
    return NULL;
}

struct err *key_join_chain(
        const struct key *key, const char *chain_pem, size_t len, struct buf *ret)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    TRY(crypto_read_certs(chain_pem, len, false, &certs));
    TRY(crypto_check_pair(key->pkey, sk_X509_value(certs, 0)));
    AUTO_BUF struct buf joined = BUF_INIT_SECRET(CRYPTO_JOINED_MAX);
    TRY(put_certs(certs, &joined));
    TRY(put_key(key, &joined));
    TRY(buf_check(&joined, "the joined certificate file"));
    TRY_CTX(key_check_joined(joined.data, joined.len), "reading back the joined certificate");
    buf_done(ret);
    *ret = joined;
    joined = BUF_INIT_SECRET(CRYPTO_JOINED_MAX);
    return NULL;
}

struct err *key_check_joined(const char *pem, size_t len)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    TRY(crypto_read_certs(pem, len, true, &certs));
    AUTO(key_freep) struct key *key = NULL;
    TRY(crypto_read_key(pem, len, "the joined certificate file", &key));
    return crypto_check_pair(key->pkey, sk_X509_value(certs, 0));
}
