/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a chain says is read once into plain data, which the checks then use; only the path to a
 * root goes back to OpenSSL.
 */
#include "acme/cert.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <time.h>

#include "acme/crypto.h"

/* notBefore may lie this far ahead of our clock: CAs backdate by an hour, so more than a few
 * minutes means that a clock is wrong. */
#define NOT_BEFORE_SLACK (5 * CLOCK_MIN)
#define SERIAL_OCTETS    ((CERT_SERIAL_MAX - 1) / 2)

DEFINE_FREEP(GENERAL_NAMES, GENERAL_NAMES_free)
DEFINE_FREEP(X509_STORE, X509_STORE_free)
DEFINE_FREEP(X509_STORE_CTX, X509_STORE_CTX_free)

void cert_info_done(struct cert_info *info)
{
    strv_done(&info->names);
    free(info->issuer);
    *info = (struct cert_info){0};
}

void cert_info_copy(struct cert_info *ret, const struct cert_info *from)
{
    struct cert_info copy = *from;
    copy.names = (struct strv){0};
    strv_copy(&copy.names, &from->names);
    copy.issuer = str_dup_null(from->issuer);
    *ret = copy;
}

/* ---- reading ---- */

static struct err *read_time(const ASN1_TIME *from, const char *what, struct wall *ret)
{
    struct tm tm;
    if (from == NULL || ASN1_TIME_to_tm(from, &tm) != 1) {
        ERR_clear_error();
        return ERR(ERR_PROTOCOL, "the certificate's %s is not a time", what);
    }
    ret->ms = (int64_t)timegm(&tm) * CLOCK_SEC;
    return NULL;
}

static struct err *read_serial(const X509 *cert, char ret[CERT_SERIAL_MAX])
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    int len = ASN1_STRING_length(serial);
    const unsigned char *data = ASN1_STRING_get0_data(serial);
    if (len < 1 || len > SERIAL_OCTETS)
        return ERR(ERR_PROTOCOL, "the certificate's serial number has %d octets", len);
    for (int i = 0; i < len; i++)
        snprintf(ret + 2 * (size_t)i, 3, "%02x", data[i]);
    return NULL;
}

static char *read_issuer(const X509 *cert)
{
    static const int wanted[] = {NID_commonName, NID_organizationName};
    const X509_NAME *issuer = X509_get_issuer_name(cert);
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        int at = X509_NAME_get_index_by_NID(issuer, wanted[i], -1);
        if (at < 0)
            continue;
        unsigned char *text = NULL;
        int len = ASN1_STRING_to_UTF8(
                &text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(issuer, at)));
        if (len <= 0)
            continue;
        AUTO_BUF struct buf shown = BUF_INIT(512);
        buf_put_foreign(&shown, (const char *)text, (size_t)len, 200);
        OPENSSL_free(text);
        return buf_steal(&shown);
    }
    ERR_clear_error();
    return str_dup("an issuer without name");
}

static bool is_name_octet(unsigned char c)
{
    return c < 0x80 && (isalnum(c) || c == '-' || c == '.' || c == '_' || c == '*');
}

/* Characters of host names and wildcards only: what is read here becomes part of messages and is
 * compared as text, so a NUL byte or a blank in it is an attack or a fault. */
static struct err *add_dns_name(const ASN1_IA5STRING *from, struct cert_info *info)
{
    size_t len = (size_t)ASN1_STRING_length(from);
    const unsigned char *data = ASN1_STRING_get0_data(from);
    if (len == 0 || len >= NAME_MAX_TEXT)
        return ERR(ERR_PROTOCOL, "a name of the certificate has %zu characters", len);
    char text[NAME_MAX_TEXT];
    for (size_t i = 0; i < len; i++) {
        if (!is_name_octet(data[i]))
            return ERR(ERR_PROTOCOL, "a name of the certificate holds the octet 0x%02x", data[i]);
        info->upper_case |= isupper(data[i]) != 0;
        text[i] = (char)tolower(data[i]);
    }
    text[len] = '\0';
    if (!strv_has(&info->names, text))
        strv_add(&info->names, text);
    return NULL;
}

static struct err *read_names(const X509 *cert, struct cert_info *info)
{
    int critical = 0;
    AUTO(GENERAL_NAMES_freep)
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    if (names == NULL && critical != -1) {
        ERR_clear_error();
        return ERR(ERR_PROTOCOL, "the certificate's names (subjectAltName) cannot be read");
    }
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type;
        void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        if (type == GEN_DNS)
            TRY(add_dns_name(value, info));
        else
            info->n_other_names++;
    }
    return NULL;
}

static struct err *read_leaf(X509 *leaf, struct cert_info *info)
{
    TRY(read_names(leaf, info));
    TRY(read_serial(leaf, info->serial));
    TRY(read_time(X509_get0_notBefore(leaf), "notBefore", &info->not_before));
    TRY(read_time(X509_get0_notAfter(leaf), "notAfter", &info->not_after));
    info->issuer = read_issuer(leaf);
    unsigned len = sizeof(info->leaf_sha256);
    if (X509_digest(leaf, EVP_sha256(), info->leaf_sha256, &len) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "the certificate could not be hashed");
    info->self_signed = X509_self_signed(leaf, 1) == 1;
    ERR_clear_error();
    return NULL;
}

/* RFC 8555 9.1: each following certificate certifies the one before it. */
static struct err *check_link(X509 *cert, X509 *next, int index)
{
    int verdict = X509_check_issued(next, cert);
    EVP_PKEY *key = X509_get0_pubkey(next);
    bool signed_by = verdict == X509_V_OK && key != NULL && X509_verify(cert, key) == 1;
    ERR_clear_error();
    if (signed_by)
        return NULL;
    return ERR_FROM(ERR_PROTOCOL, ERR_FROM_X509, verdict,
            "certificate %d of the chain was not issued by certificate %d: %s", index + 1,
            index + 2,
            verdict == X509_V_OK ? "the signature is not of its key"
                                 : X509_verify_cert_error_string(verdict));
}

struct err *cert_parse(const char *pem, size_t len, bool allow_key, struct cert_info *ret)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    TRY(crypto_read_certs(pem, len, allow_key, &certs));
    int n = sk_X509_num(certs);
    for (int i = 0; i + 1 < n; i++)
        TRY(check_link(sk_X509_value(certs, i), sk_X509_value(certs, i + 1), i));
    AUTO_CERT_INFO struct cert_info info = {.chain_len = (size_t)n};
    TRY(read_leaf(sk_X509_value(certs, 0), &info));
    *ret = info;
    info = (struct cert_info){0};
    return NULL;
}

/* ---- checks ---- */

bool cert_covers(const struct cert_info *info, const struct name *name)
{
    for (size_t i = 0; i < info->names.n; i++) {
        if (name_covers(info->names.v[i], name))
            return true;
    }
    return false;
}

static struct err *check_dates(const struct cert_info *info, struct wall now)
{
    char then_text[WALL_TEXT_MAX], now_text[WALL_TEXT_MAX];
    if (wall_diff(info->not_before, now) > NOT_BEFORE_SLACK)
        return err_advise(
                ERR(ERR_PROTOCOL, "the certificate is valid from %s, but it is %s",
                        wall_format(info->not_before, then_text), wall_format(now, now_text)),
                "check this machine's clock");
    if (!wall_before(now, info->not_after))
        return err_advise(
                ERR(ERR_PROTOCOL, "the certificate has expired at %s, and it is %s",
                        wall_format(info->not_after, then_text), wall_format(now, now_text)),
                "check this machine's clock");
    return NULL;
}

struct err *cert_check_issued(
        const struct cert_info *info, const struct name_list *names, struct wall now)
{
    for (size_t i = 0; i < names->n; i++) {
        if (!strv_has(&info->names, names->v[i].text))
            return ERR(ERR_PROTOCOL, "the certificate lacks the name %s, which was ordered",
                    names->v[i].text);
    }
    for (size_t i = 0; i < info->names.n; i++) {
        struct name name = {0};
        snprintf(name.text, sizeof(name.text), "%s", info->names.v[i]);
        if (!name_list_has(names, &name))
            return ERR(ERR_PROTOCOL, "the certificate has the name %s, which was not ordered",
                    name.text);
    }
    if (info->n_other_names > 0)
        return ERR(ERR_PROTOCOL,
                "the certificate has %zu names that are no host names, none was ordered",
                info->n_other_names);
    if (info->upper_case)
        return ERR(ERR_PROTOCOL,
                "the certificate has names in upper case, which ejabberd never finds");
    return check_dates(info, now);
}

/* ---- trust ---- */

static struct err *open_store(const char *roots, X509_STORE **ret)
{
    AUTO(X509_STORE_freep) X509_STORE *store = X509_STORE_new();
    if (store == NULL)
        mem_fail(0);
    if (roots == NULL && X509_STORE_set_default_paths(store) != 1)
        return ERR_OPENSSL(ERR_CONFIG, "the system's certificate store could not be opened");
    if (roots != NULL && X509_STORE_load_file(store, roots) != 1)
        return err_advise(ERR_OPENSSL(ERR_CONFIG, "%s: no root certificates could be read", roots),
                "it must be a readable PEM file with the CA's root certificates");
    *ret = STEAL(store);
    return NULL;
}

static struct err *untrusted(X509_STORE_CTX *ctx, const char *roots)
{
    int verdict = X509_STORE_CTX_get_error(ctx);
    int depth = X509_STORE_CTX_get_error_depth(ctx);
    struct err *e = ERR_FROM(ERR_PROTOCOL, ERR_FROM_X509, verdict,
            "certificate %d of the chain is not trusted by %s: %s", depth + 1,
            roots != NULL ? roots : "the system's certificate store",
            X509_verify_cert_error_string(verdict));
    return err_advise(e, "for a private or test CA set 'roots' to the PEM file of its root");
}

struct err *cert_check_trust(const char *pem, size_t len, const char *roots, struct wall now)
{
    AUTO_X509_STACK STACK_OF(X509) *certs = NULL;
    TRY(crypto_read_certs(pem, len, true, &certs));
    AUTO(X509_STORE_freep) X509_STORE *store = NULL;
    TRY(open_store(roots, &store));
    AUTO(X509_STORE_CTX_freep) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (ctx == NULL || X509_STORE_CTX_init(ctx, store, sk_X509_value(certs, 0), certs) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "the chain's check could not be set up");
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now.ms / CLOCK_SEC));
    X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_SSL_SERVER);
    int ok = X509_verify_cert(ctx);
    struct err *e = ok == 1 ? NULL : untrusted(ctx, roots);
    ERR_clear_error();
    return e;
}
