/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a certificate is worth, judged after the handshake and by the world's clock: first whether
 * the chain leads to a root, then the dates, then the name. The first thing wrong is the verdict.
 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/tls_private.h"

#define SHOWN_NAMES 8

static void store_ctx_freep(X509_STORE_CTX **ctx)
{
    X509_STORE_CTX_free(*ctx);
}

static void names_freep(GENERAL_NAMES **names)
{
    GENERAL_NAMES_free(*names);
}

/* ---- facts ---- */

static struct err *read_time(const ASN1_TIME *t, struct wall *ret)
{
    struct tm tm;

    if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1)
        return ERR_OPENSSL(ERR_PROTOCOL, "the certificate has a date that can't be read");
    ret->ms = (int64_t)timegm(&tm) * 1000;
    return NULL;
}

/* The common name; where there is none, the organisation. */
static char *name_of(const X509_NAME *name)
{
    static const int nids[] = {NID_commonName, NID_organizationName};

    for (size_t i = 0; name != NULL && i < ARRAY_SIZE(nids); i++) {
        int at = X509_NAME_get_index_by_NID(name, nids[i], -1);
        if (at < 0)
            continue;
        unsigned char *utf8 = NULL;
        int len =
                ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
        if (len < 0)
            continue;
        char *text = str_foreign((const char *)utf8, 100);
        OPENSSL_free(utf8);
        return text;
    }
    return str_dup("unnamed");
}

static struct err *read_facts(X509 *leaf, struct tls_probe_result *ret)
{
    if (X509_digest(leaf, EVP_sha256(), ret->leaf_sha256, NULL) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "the certificate's digest");
    TRY(read_time(X509_get0_notBefore(leaf), &ret->not_before));
    TRY(read_time(X509_get0_notAfter(leaf), &ret->not_after));
    ret->issuer = name_of(X509_get_issuer_name(leaf));
    return NULL;
}

/* ---- chain and dates ---- */

static char *time_detail(X509 *cert, int depth, int code)
{
    char text[WALL_TEXT_MAX];
    struct wall when = {0};
    bool expired = code == X509_V_ERR_CERT_HAS_EXPIRED;
    AUTO_FREE char *name = name_of(X509_get_subject_name(cert));

    err_ignore(read_time(expired ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert), &when),
            "shown only");
    wall_format(when, text);
    if (depth == 0)
        return str_printf(expired ? "the certificate expired at %s"
                                  : "the certificate is not valid before %s",
                text);
    return str_printf(expired ? "the intermediate certificate '%s' expired at %s"
                              : "the intermediate certificate '%s' is not valid before %s",
            name, text);
}

static void judge_chain(X509_STORE_CTX *ctx, const char *roots, struct tls_probe_result *ret)
{
    if (X509_verify_cert(ctx) == 1) {
        ret->verdict = TLS_VALID;
        return;
    }
    int code = X509_STORE_CTX_get_error(ctx);
    int depth = X509_STORE_CTX_get_error_depth(ctx);
    X509 *cert = X509_STORE_CTX_get_current_cert(ctx);
    if (cert != NULL &&
            (code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID)) {
        ret->verdict = TLS_EXPIRED;
        ret->detail = time_detail(cert, depth, code);
        return;
    }
    ret->verdict = TLS_UNTRUSTED;
    ret->detail = str_printf("the chain leads to no root in %s: %s (issuer '%s')", roots,
            X509_verify_cert_error_string(code), ret->issuer);
}

static struct err *verify_chain(const struct tls_probe_request *request, struct wall now,
        STACK_OF(X509) *chain, struct tls_probe_result *ret)
{
    const char *roots = request->roots != NULL ? request->roots : tls_system_roots();
    AUTO(store_ctx_freep) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE *store = NULL;

    TRY(tls_roots_store(roots, &store));
    if (ctx == NULL || X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain) != 1 ||
            X509_STORE_CTX_set_default(ctx, "ssl_server") != 1)
        return ERR_OPENSSL(ERR_LOCAL, "verification of the certificate");
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now.ms / 1000));
    X509_VERIFY_PARAM_set_flags(
            param, X509_V_FLAG_PARTIAL_CHAIN); /* the file says what is a root */
    judge_chain(ctx, roots, ret);
    ERR_clear_error();
    return NULL;
}

/* ---- name ---- */

static char *list_names(X509 *leaf)
{
    AUTO(names_freep)
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    AUTO_BUF struct buf b = BUF_INIT(4096);
    int shown = 0;

    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        if (shown++ == SHOWN_NAMES) {
            buf_puts(&b, ", …");
            break;
        }
        buf_puts(&b, shown > 1 ? ", " : "");
        buf_put_foreign(&b, (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                (size_t)ASN1_STRING_length(name->d.dNSName), 253);
    }
    return shown > 0 ? buf_steal(&b) : str_dup("no DNS name");
}

/* RFC 6125 6.4, and only the subject alternative names count. */
static void check_name(X509 *leaf, const struct name *expect, struct tls_probe_result *ret)
{
    unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;

    if (X509_check_host(leaf, expect->text, strlen(expect->text), flags, NULL) == 1)
        return;
    AUTO_FREE char *names = list_names(leaf);
    ret->verdict = TLS_WRONG_NAME;
    ret->detail = str_printf("the certificate is for %s, not for %s", names, expect->text);
    ERR_clear_error();
}

struct err *tls_verify(const struct tls_probe_request *request, struct wall now,
        STACK_OF(X509) *chain, struct tls_probe_result *ret)
{
    X509 *leaf = sk_X509_value(chain, 0);

    ret->chain_len = (size_t)sk_X509_num(chain);
    TRY(read_facts(leaf, ret));
    TRY(verify_chain(request, now, chain, ret));
    if (ret->verdict == TLS_VALID && request->expect != NULL)
        check_name(leaf, request->expect, ret);
    return NULL;
}
