/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL never sees the socket: it reads and writes memory, and the fiber carries the bytes. Its
 * error queue belongs to the thread, so it is empty whenever the fiber waits.
 */
#include "base/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/tls_private.h"

#define TOTAL_MS (10 * CLOCK_SEC)

struct handshake {
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    struct net_stream *stream;
    char peer[ADDR_TEXT_MAX];
};

static void handshake_done(struct handshake *h)
{
    SSL_free(h->ssl);
    net_close(h->stream);
    ERR_clear_error();
}

/* ---- failures ---- */

static void no_free(void *detail)
{
    (void)detail;
}

static const struct err_detail_type failure_type = {.name = "tls_failure", .free = no_free};
static enum tls_failure failures[] = {TLS_FAILURE_OTHER, TLS_FAILURE_CLOSED,
        TLS_FAILURE_HOST_UNKNOWN, TLS_FAILURE_STREAM, TLS_FAILURE_NO_STARTTLS, TLS_FAILURE_REFUSED,
        TLS_FAILURE_ALERT};

struct err *tls_fail(struct err *e, enum tls_failure failure)
{
    return err_set_detail(e, &failure_type, &failures[failure]);
}

enum tls_failure tls_failure(const struct err *e)
{
    const enum tls_failure *failure = err_detail(e, &failure_type);

    return failure != NULL ? *failure : TLS_FAILURE_OTHER;
}

/* A reset once the connection stood means the same as a close. */
static struct err *note_reset(struct err *e)
{
    if (e != NULL && err_origin(e) == ERR_FROM_UV &&
            (err_number(e) == UV_ECONNRESET || err_number(e) == UV_EPIPE))
        return tls_fail(e, TLS_FAILURE_CLOSED);
    return e;
}

/* Drains the queue. */
static struct err *handshake_error(const struct handshake *h)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);

    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return ERR_OPENSSL(ERR_RETRY, "%s: TLS handshake", h->peer);
    if (reason >= SSL_AD_REASON_OFFSET)
        return tls_fail(ERR_OPENSSL(ERR_DENIED, "%s: refuses the TLS handshake", h->peer),
                TLS_FAILURE_ALERT);
    return ERR_OPENSSL(ERR_PROTOCOL, "%s: does not speak TLS as expected", h->peer);
}

/* ---- handshake ---- */

static struct err *flush(struct handshake *h) MAY_SUSPEND;
static struct err *fill(struct handshake *h) MAY_SUSPEND;
static struct err *shake_hands(struct handshake *h) MAY_SUSPEND;

static struct err *flush(struct handshake *h)
{
    char data[4096];
    int n;

    while ((n = BIO_read(h->out, data, sizeof(data))) > 0)
        TRY(note_reset(net_write(h->stream, data, (size_t)n)));
    return NULL;
}

static struct err *fill(struct handshake *h)
{
    char data[16 * 1024];
    size_t n = 0;

    TRY(note_reset(net_read(h->stream, data, sizeof(data), &n)));
    if (n == 0)
        return tls_fail(ERR_FROM(ERR_RETRY, ERR_FROM_UV, UV_EOF,
                                "%s: closed the connection during the TLS handshake", h->peer),
                TLS_FAILURE_CLOSED);
    if (BIO_write(h->in, data, (int)n) != (int)n)
        return ERR_OPENSSL(ERR_LOCAL, "TLS buffer");
    return NULL;
}

static struct err *shake_hands(struct handshake *h)
{
    for (;;) {
        AUTO_ERR struct err *failed = NULL;
        ERR_clear_error();
        int rc = SSL_do_handshake(h->ssl);
        if (rc != 1 && SSL_get_error(h->ssl, rc) != SSL_ERROR_WANT_READ)
            failed = handshake_error(h);
        ERR_clear_error();
        struct err *unsent = flush(h); /* also the alert that tells the peer why */
        if (failed != NULL) {
            err_ignore(unsent, "the handshake has failed already");
            return STEAL(failed);
        }
        TRY(unsent);
        if (rc == 1)
            return NULL;
        TRY(fill(h));
    }
}

/* ---- set-up ---- */

/* The context has nothing of a request in it, so there is one for all: making it takes longer than
 * a handshake. Which certificate is served must not decide whether the handshake succeeds. */
static struct err *context(SSL_CTX **ret)
{
    static SSL_CTX *ctx;

    if (ctx == NULL) {
        ctx = SSL_CTX_new(TLS_client_method());
        if (ctx == NULL)
            return ERR_OPENSSL(ERR_LOCAL, "TLS can't be initialised");
        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    }
    *ret = ctx;
    return NULL;
}

static struct err *set_alpn(SSL *ssl, const char *alpn)
{
    unsigned char wire[64];
    size_t len = strlen(alpn);

    if (len == 0 || len >= sizeof(wire))
        return ERR(ERR_CONFIG, "'%s' is not an ALPN name", alpn);
    wire[0] = (unsigned char)len;
    memcpy(wire + 1, alpn, len);
    if (SSL_set_alpn_protos(ssl, wire, (unsigned)len + 1) != 0) /* 0 is success here */
        return ERR_OPENSSL(ERR_LOCAL, "ALPN");
    return NULL;
}

static struct err *prepare(struct handshake *h, const struct tls_probe_request *request)
{
    SSL_CTX *ctx = NULL;

    TRY(context(&ctx));
    h->ssl = SSL_new(ctx);
    h->in = BIO_new(BIO_s_mem());
    h->out = BIO_new(BIO_s_mem());
    if (h->ssl == NULL || h->in == NULL || h->out == NULL)
        mem_fail(0);
    SSL_set_bio(h->ssl, h->in, h->out);
    SSL_set_connect_state(h->ssl);
    AUTO_FREE char *sni = request->sni != NULL ? str_dup(request->sni->text) : NULL;
    if (sni != NULL && SSL_set_tlsext_host_name(h->ssl, sni) != 1)
        return ERR_OPENSSL(ERR_LOCAL, "SNI %s", sni);
    if (request->alpn != NULL)
        TRY(set_alpn(h->ssl, request->alpn));
    return NULL;
}

/* ---- probe ---- */

void tls_probe_result_done(struct tls_probe_result *result)
{
    free(result->detail);
    free(result->issuer);
    free(result->version);
    *result = (struct tls_probe_result){0};
}

/* Politeness: the server need not log a broken connection. */
static void say_goodbye(struct handshake *h) MAY_SUSPEND;

static void say_goodbye(struct handshake *h)
{
    SSL_shutdown(h->ssl);
    ERR_clear_error();
    err_ignore(flush(h), "the handshake is complete");
}

struct err *tls_probe(
        struct loop *loop, const struct tls_probe_request *request, struct tls_probe_result *ret)
{
    AUTO(handshake_done) struct handshake h = {0};
    AUTO_TLS_RESULT struct tls_probe_result result = {0};
    FIBER_DEADLINE(request->total_ms > 0 ? request->total_ms : TOTAL_MS, "the TLS probe");

    addr_format(&request->to, h.peer);
    TRY(prepare(&h, request));
    ERR_clear_error();
    TRY(net_connect(loop, &request->to, &h.stream));
    if (request->start != TLS_DIRECT)
        TRY(note_reset(tls_xmpp_start(h.stream, request)));
    TRY(shake_hands(&h));
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(h.ssl);
    if (chain == NULL || sk_X509_num(chain) == 0)
        return ERR(ERR_PROTOCOL, "%s: serves no certificate", h.peer);
    TRY_CTX(tls_verify(request, loop_wall(loop), chain, &result), "%s", h.peer);
    result.version = str_dup(SSL_get_version(h.ssl));
    say_goodbye(&h);
    *ret = result;
    result = (struct tls_probe_result){0};
    return NULL;
}
