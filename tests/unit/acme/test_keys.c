/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include "acme/base64url.h"
#include "acme/crypto.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/lib/test_certs.h"
#include "tests/lib/test_err.h"

static char dir[64];

static int make_dir(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/certherd-keys-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
    assert_ok(file_remove_tree(dir));
    return 0;
}

static char *path_of(const char *name)
{
    return str_printf("%s/%s", dir, name);
}

static void put_file(const char *path, const char *text, mode_t mode)
{
    const struct file_write_options options = {.mode = mode};
    assert_ok(file_write(path, text, strlen(text), &options));
}

static struct key *make_key(const char *name, enum key_type type)
{
    AUTO_FREE char *path = path_of(name);
    struct key *key = NULL;
    assert_ok(key_create(path, type, &key));
    return key;
}

static char *read_text(const char *path)
{
    AUTO_BUF struct buf text = BUF_INIT(64 * 1024);
    assert_ok(file_read(path, 64 * 1024, &text, NULL));
    return buf_steal(&text);
}

/* ---- base64url ---- */

static void test_base64url_vectors(void **state)
{
    /* RFC 4648 10, without padding; RFC 7515 C. */
    static const struct {
        const char *plain, *coded;
    } cases[] = {{"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"},
            {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\x03\xec\xff\xe0\xc1", "A-z_4ME"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE char *coded = base64url_encode(cases[i].plain, strlen(cases[i].plain));
        assert_string_equal(coded, cases[i].coded);
        AUTO_BUF struct buf plain = BUF_INIT(100);
        assert_ok(base64url_decode(coded, strlen(coded), &plain));
        assert_string_equal(buf_str(&plain), cases[i].plain);
    }
}

static void test_base64url_refuses(void **state)
{
    static const char *const bad[] = {"A", "Zg=", "Zg==", "Zm+v", "Zm/v", "Zm 9", "Zh", "Zm9"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO_BUF struct buf plain = BUF_INIT(100);
        assert_err(base64url_decode(bad[i], strlen(bad[i]), &plain), ERR_PROTOCOL, "");
    }
    assert_true(base64url_is_token("abc-_09Z", 8, 8));
    assert_false(base64url_is_token("abc-_09Z", 9, 20));
    assert_false(base64url_is_token("abc-_09Z", 1, 7));
    assert_false(base64url_is_token("../../x", 1, 20));
    assert_false(base64url_is_token("a.b", 1, 20));
    assert_false(base64url_is_token("", 1, 20));
}

/* ---- vectors of the RFCs ---- */

/* RFC 7638 3.1. */
static void test_thumbprint_vector(void **state)
{
    static const char n[] =
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc"
            "_BJ"
            "ECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"
            "FDW"
            "2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"
            "bFTWhAI4vMQ"
            "Fh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    AUTO_BUF struct buf octets = BUF_INIT(600);
    assert_ok(base64url_decode(n, strlen(n), &octets));
    BIGNUM *modulus = BN_bin2bn((const unsigned char *)octets.data, (int)octets.len, NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, modulus);
    OSSL_PARAM_BLD_push_ulong(bld, OSSL_PKEY_PARAM_RSA_E, 65537);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    struct key key = {.type = KEY_RSA2048};
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key.pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    char thumbprint[KEY_THUMBPRINT_MAX];
    assert_ok(key_thumbprint(&key, thumbprint));
    assert_string_equal(thumbprint, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    EVP_PKEY_free(key.pkey);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    BN_free(modulus);
}

/* Verifies as RFC 7518 3.3 and 3.4 say: independent of the code that signs. */
static bool verify_raw(EVP_PKEY *pkey, const char *digest, int width, const char *input,
        const struct buf *signature)
{
    unsigned char *der = (unsigned char *)signature->data;
    int der_len = (int)signature->len;
    if (width > 0) {
        if (signature->len != (size_t)width * 2)
            return false;
        ECDSA_SIG *pair = ECDSA_SIG_new();
        ECDSA_SIG_set0(pair, BN_bin2bn(der, width, NULL), BN_bin2bn(der + width, width, NULL));
        der = NULL;
        der_len = i2d_ECDSA_SIG(pair, &der);
        ECDSA_SIG_free(pair);
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = EVP_DigestVerifyInit_ex(ctx, NULL, digest, NULL, NULL, pkey, NULL) == 1 &&
                EVP_DigestVerify(ctx, der, (size_t)der_len, (const unsigned char *)input,
                        strlen(input)) == 1;
    EVP_MD_CTX_free(ctx);
    if (width > 0)
        OPENSSL_free(der);
    return good;
}

/* RFC 7515 A.3: shows that the verifier of these tests is right. */
static void test_verifier_vector(void **state)
{
    static const char input[] =
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
            "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    static const char text[] = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmW"
                               "QxfKTUJqPP3-Kg6NU1Q";
    static const char x[] = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    static const char y[] = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    AUTO_BUF struct buf point = BUF_INIT(100);
    buf_putc(&point, 4);
    assert_ok(base64url_decode(x, strlen(x), &point));
    assert_ok(base64url_decode(y, strlen(y), &point));
    char group[] = "P-256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
            OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data, point.len),
            OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *pkey = NULL;
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params), 1);
    AUTO_BUF struct buf signature = BUF_INIT(100);
    assert_ok(base64url_decode(text, strlen(text), &signature));
    assert_true(verify_raw(pkey, "SHA256", 32, input, &signature));
    signature.data[40] ^= 1;
    assert_false(verify_raw(pkey, "SHA256", 32, input, &signature));
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(ctx);
}

/* ---- JWS ---- */

static const struct {
    enum key_type type;
    const char *alg, *digest;
    int width;
} kinds[] = {{KEY_P256, "ES256", "SHA256", 32}, {KEY_P384, "ES384", "SHA384", 48},
        {KEY_RSA2048, "RS256", "SHA256", 0}};

static json_t *decode_json(const char *base64url)
{
    AUTO_BUF struct buf text = BUF_INIT(8192);
    assert_ok(base64url_decode(base64url, strlen(base64url), &text));
    json_t *value = NULL;
    assert_ok(json_parse(text.data, text.len, "test", &value));
    return value;
}

/* The parts of a flattened JWS whose signature was checked. *ret_signature may be NULL. */
static json_t *check_jws(
        const struct key *key, size_t kind, const struct key_jws *jws, struct buf *ret_signature)
{
    AUTO_FREE char *text = NULL;
    assert_ok(key_sign_jws(key, jws, &text));
    AUTO_JSON json_t *outer = NULL;
    assert_ok(json_parse(text, strlen(text), "jws", &outer));
    assert_int_equal(json_object_size(outer), 3);
    const char *header, *payload, *signature_text;
    assert_ok(json_get_str(outer, "protected", 8192, &header));
    payload = json_string_value(json_object_get(outer, "payload"));
    assert_ok(json_get_str(outer, "signature", 8192, &signature_text));
    AUTO_BUF struct buf signature = BUF_INIT(600);
    assert_ok(base64url_decode(signature_text, strlen(signature_text), &signature));
    AUTO_FREE char *input = str_printf("%s.%s", header, payload);
    assert_true(verify_raw(key->pkey, kinds[kind].digest, kinds[kind].width, input, &signature));
    AUTO_BUF struct buf plain = BUF_INIT(8192);
    assert_ok(base64url_decode(payload, strlen(payload), &plain));
    assert_string_equal(buf_str(&plain), jws->payload != NULL ? jws->payload : "");
    if (ret_signature != NULL)
        buf_append(ret_signature, signature.data, signature.len);
    json_t *protected = decode_json(header);
    assert_string_equal(json_string_value(json_object_get(protected, "alg")), kinds[kind].alg);
    return protected;
}

static void test_jws_members(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        AUTO(key_freep) struct key *key = make_key(kinds[i].alg, kinds[i].type);
        struct key_jws jws = {.url = "https://ca.example/a\"b", .nonce = "n-1", .payload = "{}"};
        AUTO_JSON json_t *with_jwk = check_jws(key, i, &jws, NULL);
        assert_int_equal(json_object_size(with_jwk), 4);
        assert_string_equal(json_string_value(json_object_get(with_jwk, "url")), jws.url);
        assert_string_equal(json_string_value(json_object_get(with_jwk, "nonce")), "n-1");
        const json_t *jwk = json_object_get(with_jwk, "jwk");
        assert_int_equal(json_object_size(jwk), kinds[i].width > 0 ? 4 : 3);
        assert_null(json_object_get(jwk, "d"));

        AUTO_FREE char *text = json_dumps(jwk, JSON_COMPACT | JSON_SORT_KEYS);
        unsigned char hash[32];
        SHA256((unsigned char *)text, strlen(text), hash);
        AUTO_FREE char *expected = base64url_encode(hash, sizeof(hash));
        char thumbprint[KEY_THUMBPRINT_MAX];
        assert_ok(key_thumbprint(key, thumbprint));
        assert_string_equal(thumbprint, expected);

        jws = (struct key_jws){.url = "https://ca.example/x", .kid = "https://ca.example/acct/1"};
        AUTO_JSON json_t *with_kid = check_jws(key, i, &jws, NULL);
        assert_int_equal(json_object_size(with_kid), 3);
        assert_string_equal(json_string_value(json_object_get(with_kid, "kid")), jws.kid);
        assert_null(json_object_get(with_kid, "jwk"));
        assert_null(json_object_get(with_kid, "nonce"));
    }
}

/* One signature in about 128 has an r or s that begins with a zero octet. */
static void test_es256_leading_zero(void **state)
{
    AUTO(key_freep) struct key *key = make_key("zero.pem", KEY_P256);
    const struct key_jws jws = {.url = "https://ca.example/", .kid = "k"};
    bool seen = false;
    for (int i = 0; i < 20000 && !seen; i++) {
        AUTO_BUF struct buf signature = BUF_INIT(100);
        json_decref(check_jws(key, 0, &jws, &signature));
        assert_int_equal(signature.len, 64);
        seen = signature.data[0] == 0 || signature.data[32] == 0;
    }
    assert_true(seen);
}

/* The same for the coordinates of a public key. */
static void test_jwk_leading_zero(void **state)
{
    const struct key_jws jws = {.url = "https://ca.example/"};
    bool seen = false;
    for (int i = 0; i < 20000 && !seen; i++) {
        struct key key = {.pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), .type = KEY_P256};
        AUTO_JSON json_t *header = check_jws(&key, 0, &jws, NULL);
        const json_t *jwk = json_object_get(header, "jwk");
        const char *x = json_string_value(json_object_get(jwk, "x"));
        const char *y = json_string_value(json_object_get(jwk, "y"));
        assert_int_equal(strlen(x), 43);
        assert_int_equal(strlen(y), 43);
        seen = x[0] == 'A' && strchr("ABCD", x[1]) != NULL;
        EVP_PKEY_free(key.pkey);
    }
    assert_true(seen);
}

/* ---- files ---- */

static void test_create_and_open(void **state)
{
    static const enum key_type all[] = {KEY_P256, KEY_P384, KEY_RSA2048};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        AUTO_FREE char *name = str_printf("create-%s.pem", key_type_name(all[i]));
        AUTO_FREE char *path = path_of(name);
        AUTO(key_freep) struct key *made = make_key(name, all[i]);
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        AUTO_FREE char *text = read_text(path);
        assert_true(str_starts(text, "-----BEGIN PRIVATE KEY-----\n"));
        AUTO(key_freep) struct key *opened = NULL;
        assert_ok(key_open(path, &opened));
        assert_int_equal(key_type(opened), all[i]);
        char a[KEY_THUMBPRINT_MAX], b[KEY_THUMBPRINT_MAX];
        assert_ok(key_thumbprint(made, a));
        assert_ok(key_thumbprint(opened, b));
        assert_string_equal(a, b);
    }
}

static void test_create_keeps_existing(void **state)
{
    AUTO_FREE char *path = path_of("existing.pem");
    put_file(path, "do not touch", 0600);
    struct key *key = NULL;
    assert_err(key_create(path, KEY_P256, &key), ERR_LOCAL, path);
    assert_null(key);
    AUTO_FREE char *text = read_text(path);
    assert_string_equal(text, "do not touch");
    assert_err(key_create("/nonexistent/dir/key.pem", KEY_P256, &key), ERR_CONFIG, "/nonexistent");
}

static char *pem_of(EVP_PKEY *pkey, const EVP_CIPHER *cipher, bool traditional)
{
    char password[] = "secret";
    BIO *bio = BIO_new(BIO_s_mem());
    if (traditional)
        assert_int_equal(PEM_write_bio_PrivateKey_traditional(
                                 bio, pkey, cipher, (unsigned char *)password, 6, NULL, NULL),
                1);
    else
        assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, pkey, cipher,
                                 cipher != NULL ? password : NULL, 6, NULL, NULL),
                1);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    char *text = mem_dup(data, (size_t)len);
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return text;
}

static void test_open_refuses(void **state)
{
    struct {
        char *pem;
        const char *part;
    } cases[] = {
            {pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), NULL, false), "ED25519"},
            {pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), EVP_aes_128_cbc(), false),
                    "encrypted with a password"},
            {pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"), EVP_aes_128_cbc(), true),
                    "encrypted with a password"},
            {pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024), NULL, false), "1024 bits"},
            {pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2560), NULL, false), "2560 bits"},
            {pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521"), NULL, false), "secp521r1"},
            {str_dup("garbage"), "no private key"},
            {str_dup(""), "no private key"},
            {str_dup("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
                    "no private key"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE char *path = path_of("refused.pem");
        put_file(path, cases[i].pem, 0600);
        struct key *key = NULL;
        assert_err(key_open(path, &key), ERR_CONFIG, cases[i].part);
        assert_err(key_open(path, &key), ERR_CONFIG, "refused.pem");
        assert_null(key);
        free(cases[i].pem);
    }
}

static void test_open_accepts_other_forms(void **state)
{
    AUTO_FREE char *path = path_of("sec1.pem");
    AUTO_FREE char *sec1 = pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), NULL, true);
    put_file(path, sec1, 0400);
    AUTO(key_freep) struct key *key = NULL;
    assert_ok(key_open(path, &key));
    assert_int_equal(key_type(key), KEY_P384);
}

static void test_open_checks_file(void **state)
{
    AUTO_FREE char *path = path_of("loose.pem");
    key_free(make_key("loose.pem", KEY_P256));
    assert_int_equal(chmod(path, 0644), 0);
    struct key *key = NULL;
    assert_err(key_open(path, &key), ERR_CONFIG, "chmod 0600");
    AUTO_FREE char *missing = path_of("missing.pem");
    assert_err(key_open(missing, &key), ERR_CONFIG, "missing.pem");
    assert_null(key);
}

static void test_type_names(void **state)
{
    for (int i = 0; i < KEY_TYPE_MAX; i++) {
        enum key_type type = KEY_TYPE_MAX;
        assert_true(key_type_parse(key_type_name((enum key_type)i), &type));
        assert_int_equal(type, i);
    }
    enum key_type type = KEY_P384;
    assert_false(key_type_parse("ed25519", &type));
    assert_false(key_type_parse("", &type));
    assert_int_equal(type, KEY_P384);
}

/* ---- CSR ---- */

static struct name_list names_of(const char *a, const char *b)
{
    struct name_list list = {0};
    struct name name = {0};
    snprintf(name.text, sizeof(name.text), "%s", a);
    name_list_add(&list, &name);
    snprintf(name.text, sizeof(name.text), "%s", b);
    name_list_add(&list, &name);
    return list;
}

static void test_csr(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        AUTO_FREE char *file = str_printf("csr-%zu.pem", i);
        AUTO(key_freep) struct key *key = make_key(file, kinds[i].type);
        AUTO(name_list_done)
        struct name_list names = names_of("im.example.org", "*.im.example.org");
        AUTO_FREE char *text = NULL;
        assert_ok(key_make_csr(key, &names, &text));
        AUTO_BUF struct buf der = BUF_INIT(8192);
        assert_ok(base64url_decode(text, strlen(text), &der));
        const unsigned char *at = (const unsigned char *)der.data;
        X509_REQ *csr = d2i_X509_REQ(NULL, &at, (long)der.len);
        assert_non_null(csr);
        assert_int_equal(X509_REQ_verify(csr, key->pkey), 1);
        assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(csr)), 0);
        STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(csr);
        assert_int_equal(sk_X509_EXTENSION_num(extensions), 1);
        GENERAL_NAMES *found = X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL);
        assert_int_equal(sk_GENERAL_NAME_num(found), 2);
        for (int k = 0; k < 2; k++) {
            const ASN1_IA5STRING *value =
                    GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(found, k), NULL);
            assert_string_equal((const char *)ASN1_STRING_get0_data(value), names.v[k].text);
        }
        GENERAL_NAMES_free(found);
        sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
        X509_REQ_free(csr);
    }
}

static void test_csr_needs_names(void **state)
{
    AUTO(key_freep) struct key *key = make_key("csr-none.pem", KEY_P256);
    const struct name_list none = {0};
    char *text = NULL;
    assert_err(key_make_csr(key, &none, &text), ERR_CONFIG, "not 0");
    assert_null(text);
}

/* ---- key and chain ---- */

struct chain {
    struct test_cert *root, *intermediate, *leaf;
};

static struct chain make_chain(const char *key_pem)
{
    struct chain c = {0};
    c.root = test_cert_new(&(struct test_cert_spec){.cn = "Root", .ca = true});
    c.intermediate = test_cert_new(
            &(struct test_cert_spec){.cn = "Intermediate", .ca = true, .issuer = c.root});
    c.leaf = test_cert_new(&(struct test_cert_spec){
            .names = "im.example.org", .issuer = c.intermediate, .key_pem = key_pem});
    return c;
}

static void chain_done(struct chain *c)
{
    test_cert_free(c->leaf);
    test_cert_free(c->intermediate);
    test_cert_free(c->root);
}

static void test_join(void **state)
{
    AUTO(key_freep) struct key *key = make_key("join.pem", KEY_P256);
    AUTO_FREE char *path = path_of("join.pem");
    AUTO_FREE char *key_pem = read_text(path);
    AUTO(chain_done) struct chain c = make_chain(key_pem);
    AUTO_FREE char *chain = test_cert_chain(c.leaf, false);
    AUTO_FREE char *expected = str_printf("%s%s", chain, key_pem);

    assert_ok(key_check_matches(key, chain, strlen(chain)));
    AUTO_BUF struct buf joined = BUF_INIT(0);
    assert_ok(key_join_chain(key, chain, strlen(chain), &joined));
    assert_string_equal(joined.data, expected);
    assert_true(joined.wipe);
    assert_ok(key_check_joined(joined.data, joined.len));

    /* CRLF and a missing newline at the end come out the same. */
    AUTO_BUF struct buf crlf = BUF_INIT(64 * 1024);
    for (const char *at = chain; *at != '\0'; at++) {
        if (*at == '\n')
            buf_putc(&crlf, '\r');
        buf_putc(&crlf, *at);
    }
    AUTO_BUF struct buf again = BUF_INIT(0);
    assert_ok(key_join_chain(key, crlf.data, crlf.len - 2, &again));
    assert_string_equal(again.data, expected);
}

static void test_join_refuses(void **state)
{
    AUTO(key_freep) struct key *key = make_key("other.pem", KEY_P256);
    AUTO(chain_done) struct chain c = make_chain(NULL);
    AUTO_FREE char *chain = test_cert_chain(c.leaf, false);
    AUTO_BUF struct buf joined = BUF_INIT(0);
    assert_err(key_check_matches(key, chain, strlen(chain)), ERR_PROTOCOL, "another key");
    assert_err(key_join_chain(key, chain, strlen(chain), &joined), ERR_PROTOCOL, "another key");
    AUTO_FREE char *leaf_key = test_cert_key_pem(c.leaf);
    AUTO_FREE char *with_key = str_printf("%s%s", chain, leaf_key);
    assert_err(
            key_join_chain(key, with_key, strlen(with_key), &joined), ERR_PROTOCOL, "PRIVATE KEY");
    assert_null(joined.data);

    assert_ok(key_check_joined(with_key, strlen(with_key)));
    assert_err(key_check_joined(chain, strlen(chain)), ERR_CONFIG, "no private key");
    AUTO_FREE char *root_key = test_cert_key_pem(c.root);
    AUTO_FREE char *mismatch = str_printf("%s%s", chain, root_key);
    assert_err(key_check_joined(mismatch, strlen(mismatch)), ERR_PROTOCOL, "another key");
    assert_err(key_check_joined(leaf_key, strlen(leaf_key)), ERR_PROTOCOL, "no certificate");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_base64url_vectors),
            cmocka_unit_test(test_base64url_refuses),
            cmocka_unit_test(test_thumbprint_vector),
            cmocka_unit_test(test_verifier_vector),
            cmocka_unit_test(test_jws_members),
            cmocka_unit_test(test_es256_leading_zero),
            cmocka_unit_test(test_jwk_leading_zero),
            cmocka_unit_test(test_create_and_open),
            cmocka_unit_test(test_create_keeps_existing),
            cmocka_unit_test(test_open_refuses),
            cmocka_unit_test(test_open_accepts_other_forms),
            cmocka_unit_test(test_open_checks_file),
            cmocka_unit_test(test_type_names),
            cmocka_unit_test(test_csr),
            cmocka_unit_test(test_csr_needs_names),
            cmocka_unit_test(test_join),
            cmocka_unit_test(test_join_refuses),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
