/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include "tests/lib/test_certs.h"
#include "tests/unit/base/rim.h"

/* ---- certificates that all tests share ---- */

static struct test_cert *root, *other_root, *middle, *good, *wrong, *old, *early, *stray, *wild;
static char roots_path[] = "/tmp/certherd-test-XXXXXX";

static void write_roots(const char *path, const struct test_cert *cert)
{
    AUTO_FREE char *pem = test_cert_pem(cert);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, pem, strlen(pem)), (ssize_t)strlen(pem));
    close(fd);
}

static struct test_cert *leaf(
        const char *names, const struct test_cert *issuer, struct wall from, struct wall to)
{
    return test_cert_new(&(struct test_cert_spec){
            .names = names, .issuer = issuer, .not_before = from, .not_after = to});
}

static int make_certs(void **state)
{
    const struct wall none = {0};
    struct wall day1 = {1}, day2 = {2 * CLOCK_DAY}, far1 = {4000000000000}, far2 = {4100000000000};

    root = test_cert_new(&(struct test_cert_spec){.cn = "Test root", .ca = true});
    other_root = test_cert_new(&(struct test_cert_spec){.cn = "Other root", .ca = true});
    middle = test_cert_new(&(struct test_cert_spec){.cn = "Middle", .ca = true, .issuer = root});
    good = leaf("im.example.test,conference.im.example.test", middle, none, none);
    wrong = leaf("example.test", middle, none, none);
    old = leaf("im.example.test", middle, day1, day2);
    early = leaf("im.example.test", middle, far1, far2);
    stray = leaf("im.example.test", other_root, none, none);
    wild = leaf("*.example.test", middle, none, none);
    int fd = mkstemp(roots_path);
    assert_true(fd >= 0);
    close(fd);
    write_roots(roots_path, root);
    return rim_paint(state);
}

static int free_certs(void **state)
{
    test_cert_free(good);
    test_cert_free(wrong);
    test_cert_free(old);
    test_cert_free(early);
    test_cert_free(stray);
    test_cert_free(wild);
    test_cert_free(middle);
    test_cert_free(root);
    test_cert_free(other_root);
    unlink(roots_path);
    return rim_check_stacks(state);
}

/* ---- a server ---- */

struct tls_peer {
    const struct test_cert *cert;
    bool leaf_only;
    int max_version;
    /* The XMPP dialogue: what is awaited and what is said, in turn; ends at NULL. Then TLS if there
     * is a certificate. */
    const char *script[8];
    bool hang; /* after the script */
    /* What the handshake told. */
    char sni[256], alpn[64], heard[8192];
    int handshakes;
};

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
        const unsigned char *in, unsigned in_len, void *arg)
{
    struct tls_peer *t = arg;

    snprintf(t->alpn, sizeof(t->alpn), "%.*s", in[0], in + 1);
    *out = in + 1;
    *out_len = in[0];
    return SSL_TLSEXT_ERR_OK;
}

static void serve_handshake(struct tls_peer *t, int fd)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    char c;

    SSL_CTX_use_certificate(ctx, t->cert->x509);
    SSL_CTX_use_PrivateKey(ctx, t->cert->key);
    if (!t->leaf_only && t->cert->issuer == middle) {
        X509_up_ref(middle->x509);
        SSL_CTX_add_extra_chain_cert(ctx, middle->x509);
    }
    if (t->max_version != 0)
        SSL_CTX_set_max_proto_version(ctx, t->max_version);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, t);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
        snprintf(t->sni, sizeof(t->sni), "%s", name != NULL ? name : "(none)");
        t->handshakes++;
        SSL_read(ssl, &c, 1);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
}

static bool hear(struct tls_peer *t, int fd, const char *until)
{
    size_t have = strlen(t->heard);

    while (have < sizeof(t->heard) - 1) {
        if (recv(fd, t->heard + have, 1, 0) <= 0)
            return false;
        t->heard[++have] = '\0';
        if (str_ends(t->heard, until))
            return true;
    }
    return false;
}

static void serve_tls(struct peer *peer, int fd)
{
    struct tls_peer *t = (struct tls_peer *)(uintptr_t)peer->arg;

    for (size_t i = 0; i + 1 < ARRAY_SIZE(t->script) && t->script[i] != NULL; i += 2) {
        if (!hear(t, fd, t->script[i]))
            return;
        /* In two pieces, so that the reader sees a cut anywhere. */
        size_t half = strlen(t->script[i + 1]) / 2;
        peer_send_bytes(fd, t->script[i + 1], half);
        usleep(2000);
        peer_send(fd, t->script[i + 1] + half);
    }
    if (t->hang)
        peer_hang(peer, fd);
    else if (t->cert != NULL)
        serve_handshake(t, fd);
}

/* ---- a probe ---- */

struct probe {
    struct tls_probe_request request;
    struct tls_probe_result result;
};

static struct err *probe_fiber(void *arg) MAY_SUSPEND;

static struct err *probe_fiber(void *arg)
{
    struct probe *p = arg;
    struct err *e = tls_probe(rim_loop, &p->request, &p->result);

    assert_int_equal(ERR_peek_error(), 0);
    return e;
}

static struct name im = {.text = "im.example.test"};

static struct probe direct(void)
{
    return (struct probe){.request = {.sni = &im, .expect = &im, .roots = roots_path}};
}

static struct err *probe(struct tls_peer *t, struct probe *p)
{
    struct peer peer;

    peer_start(&peer, serve_tls, t);
    p->request.to = peer.address;
    struct err *e = rim_run(probe_fiber, p);
    peer_stop(&peer);
    return e;
}

static void assert_verdict(
        const struct test_cert *cert, enum tls_verdict verdict, const char *detail)
{
    struct tls_peer t = {.cert = cert};
    struct probe p = direct();
    uint8_t sha256[32];

    assert_ok(probe(&t, &p));
    assert_int_equal(p.result.verdict, verdict);
    if (detail != NULL)
        assert_non_null(strstr(p.result.detail, detail));
    else
        assert_null(p.result.detail);
    test_cert_sha256(cert, sha256);
    assert_memory_equal(p.result.leaf_sha256, sha256, 32);
    tls_probe_result_done(&p.result);
}

static void valid_certificate(void **state)
{
    struct tls_peer t = {.cert = good};
    struct probe p = direct();

    assert_ok(probe(&t, &p));
    assert_int_equal(p.result.verdict, TLS_VALID);
    assert_null(p.result.detail);
    assert_string_equal(p.result.version, "TLSv1.3");
    assert_string_equal(p.result.issuer, "Middle");
    assert_int_equal(p.result.chain_len, 2);
    assert_true(wall_before(p.result.not_before, p.result.not_after));
    assert_int_equal(t.handshakes, 1);
    assert_string_equal(t.sni, "im.example.test");
    assert_string_equal(t.alpn, "");
    tls_probe_result_done(&p.result);
}

static void sni_alpn_and_version(void **state)
{
    struct tls_peer t = {.cert = good, .max_version = TLS1_2_VERSION};
    struct probe p = direct();

    p.request.sni = NULL;
    p.request.expect = NULL;
    p.request.alpn = "xmpp-client";
    assert_ok(probe(&t, &p));
    assert_string_equal(t.sni, "(none)");
    assert_string_equal(t.alpn, "xmpp-client");
    assert_string_equal(p.result.version, "TLSv1.2");
    assert_int_equal(p.result.verdict, TLS_VALID);
    tls_probe_result_done(&p.result);
}

static void verdicts(void **state)
{
    assert_verdict(good, TLS_VALID, NULL);
    assert_verdict(wild, TLS_VALID, NULL);
    assert_verdict(wrong, TLS_WRONG_NAME, "for example.test, not for im.example.test");
    assert_verdict(old, TLS_EXPIRED, "expired at 1970-01-03");
    assert_verdict(early, TLS_EXPIRED, "not valid before 2096");
    assert_verdict(stray, TLS_UNTRUSTED, "issuer 'Other root'");
    assert_verdict(stray, TLS_UNTRUSTED, roots_path);
}

static void missing_intermediate(void **state)
{
    struct tls_peer t = {.cert = good, .leaf_only = true};
    struct probe p = direct();

    assert_ok(probe(&t, &p));
    assert_int_equal(p.result.verdict, TLS_UNTRUSTED);
    assert_int_equal(p.result.chain_len, 1);
    tls_probe_result_done(&p.result);
}

static void system_store(void **state)
{
    struct tls_peer t = {.cert = good};
    struct probe p = direct();

    p.request.roots = NULL;
    if (tls_system_roots() == NULL) {
        assert_err(probe(&t, &p), ERR_CONFIG, "ca-certificates");
        return;
    }
    assert_ok(probe(&t, &p));
    assert_int_equal(p.result.verdict, TLS_UNTRUSTED);
    assert_non_null(strstr(p.result.detail, tls_system_roots()));
    tls_probe_result_done(&p.result);
}

static void changed_roots_are_seen(void **state)
{
    write_roots(roots_path, other_root);
    assert_verdict(good, TLS_UNTRUSTED, "Middle");
    assert_verdict(stray, TLS_VALID, NULL);
    write_roots(roots_path, root);
    assert_verdict(good, TLS_VALID, NULL);
    struct tls_peer t = {.cert = good};
    struct probe p = direct();
    p.request.roots = "/nowhere/roots.pem";
    assert_err(probe(&t, &p), ERR_CONFIG, "/nowhere/roots.pem");
    p.request.roots = "/etc/passwd";
    assert_err(probe(&t, &p), ERR_CONFIG, "/etc/passwd");
}

/* ---- failures of direct TLS ---- */

static void assert_failure(
        struct err *e, enum err_kind kind, enum tls_failure failure, const char *part)
{
    assert_non_null(e);
    assert_int_equal(tls_failure(e), failure);
    e = err_context(e, "somewhere");
    assert_int_equal(tls_failure(e), failure);
    assert_err(e, kind, part);
}

static void serve_bytes(struct peer *peer, int fd)
{
    char data[2048];

    if (recv(fd, data, sizeof(data), 0) > 0 && peer->arg != NULL)
        peer_send(fd, peer->arg);
}

static struct err *probe_bytes(const char *bytes)
{
    struct peer peer;
    struct probe p = direct();

    peer_start(&peer, serve_bytes, bytes);
    p.request.to = peer.address;
    struct err *e = rim_run(probe_fiber, &p);
    peer_stop(&peer);
    return e;
}

static void not_tls(void **state)
{
    assert_failure(probe_bytes("HTTP/1.1 400 Bad Request\r\n\r\n"), ERR_PROTOCOL, TLS_FAILURE_OTHER,
            "does not speak TLS");
    assert_failure(probe_bytes(NULL), ERR_RETRY, TLS_FAILURE_CLOSED, "closed");
}

static void serve_alert(struct peer *peer, int fd)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 40};
    char data[2048];

    if (recv(fd, data, sizeof(data), 0) > 0)
        peer_send_bytes(fd, alert, sizeof(alert));
}

static void alert(void **state)
{
    struct peer peer;
    struct probe p = direct();

    peer_start(&peer, serve_alert, NULL);
    p.request.to = peer.address;
    assert_failure(rim_run(probe_fiber, &p), ERR_DENIED, TLS_FAILURE_ALERT, "refuses");
    peer_stop(&peer);
}

static void serve_reset(struct peer *peer, int fd)
{
    char c;

    recv(fd, &c, 1, 0);
    peer_reset(fd);
}

static void reset(void **state)
{
    struct peer peer;
    struct probe p = direct();

    peer_start(&peer, serve_reset, NULL);
    p.request.to = peer.address;
    assert_failure(rim_run(probe_fiber, &p), ERR_RETRY, TLS_FAILURE_CLOSED, "127.0.0.1");
    peer_stop(&peer);
}

static void refused(void **state)
{
    struct peer peer = {0};
    struct probe p = direct();

    peer_bind(&peer, SOCK_STREAM, NULL, 0);
    close(peer.fd);
    p.request.to = peer.address;
    assert_failure(rim_run(probe_fiber, &p), ERR_RETRY, TLS_FAILURE_OTHER, "refused");
}

static void silence(void **state)
{
    struct tls_peer t = {.hang = true};
    struct probe p = direct();

    p.request.total_ms = 100;
    assert_failure(probe(&t, &p), ERR_TIMEOUT, TLS_FAILURE_OTHER, "the TLS probe");
}

/* ---- STARTTLS ---- */

#define STREAM                                                                                     \
    "<?xml version='1.0'?><stream:stream id='1' version='1.0' xml:lang='en' "                      \
    "xmlns:stream='http://etherx.jabber.org/streams' from='im.example.test' "                      \
    "xmlns='jabber:client'>"
#define FEATURES                                                                                   \
    "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"    \
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>"            \
    "</mechanisms></stream:features>"
#define PROCEED "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
#define FAILURE "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"

static struct probe starttls(enum tls_start start)
{
    struct probe p = direct();

    p.request.start = start;
    p.request.stream_to = "im.example.test";
    return p;
}

static void starttls_c2s_and_s2s(void **state)
{
    for (enum tls_start start = TLS_STARTTLS_C2S; start <= TLS_STARTTLS_S2S; start++) {
        struct tls_peer t = {.cert = good, .script = {"'>", STREAM FEATURES, "/>", PROCEED}};
        struct probe p = starttls(start);
        assert_ok(probe(&t, &p));
        assert_int_equal(p.result.verdict, TLS_VALID);
        assert_int_equal(t.handshakes, 1);
        assert_non_null(strstr(t.heard, " to='im.example.test'>"));
        assert_non_null(strstr(t.heard, " version='1.0'"));
        assert_non_null(strstr(t.heard,
                start == TLS_STARTTLS_C2S ? "xmlns='jabber:client'" : "xmlns='jabber:server'"));
        assert_true(str_ends(t.heard, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
        tls_probe_result_done(&p.result);
    }
}

static void stream_to_is_escaped(void **state)
{
    struct tls_peer t = {.script = {"'>", STREAM FEATURES}};
    struct probe p = starttls(TLS_STARTTLS_S2S);

    p.request.stream_to = "b\xc3\xbc"
                          "cher'&<>\".test";
    assert_failure(probe(&t, &p), ERR_RETRY, TLS_FAILURE_CLOSED, "127.0.0.1");
    assert_non_null(strstr(t.heard, "to='b\xc3\xbc"
                                    "cher&apos;&amp;&lt;&gt;&quot;.test'>"));
}

struct dialogue_case {
    const char *first, *second;
    enum err_kind kind;
    enum tls_failure failure;
    const char *part;
};

static void dialogues_that_fail(void **state)
{
    static const struct dialogue_case cases[] = {
            {STREAM "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                    "</stream:error></stream:stream>",
                    NULL, ERR_CONFIG, TLS_FAILURE_HOST_UNKNOWN, "does not serve im.example.test"},
            {STREAM "<stream:error><system-shutdown xmlns='x'/><text>bye</text></stream:error>",
                    NULL, ERR_PROTOCOL, TLS_FAILURE_STREAM, "system-shutdown"},
            {STREAM "<stream:error/>", NULL, ERR_PROTOCOL, TLS_FAILURE_STREAM, "without a name"},
            {STREAM "<stream:features><mechanisms><starttls/></mechanisms></stream:features>", NULL,
                    ERR_CONFIG, TLS_FAILURE_NO_STARTTLS, "no STARTTLS"},
            {STREAM "<stream:features/>", NULL, ERR_CONFIG, TLS_FAILURE_NO_STARTTLS, "no STARTTLS"},
            {STREAM FEATURES, FAILURE, ERR_DENIED, TLS_FAILURE_REFUSED, "certificate"},
            {STREAM FEATURES, "</stream:stream>", ERR_RETRY, TLS_FAILURE_CLOSED, "closed"},
            {STREAM FEATURES, "<message/>", ERR_PROTOCOL, TLS_FAILURE_OTHER, "<message>"},
            {STREAM FEATURES, PROCEED "<injected/>", ERR_PROTOCOL, TLS_FAILURE_OTHER, "in clear"},
            {STREAM "</stream:stream>", NULL, ERR_RETRY, TLS_FAILURE_CLOSED, "closed"},
            {STREAM "<message/>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER, "<stream:features>"},
            {STREAM "<a><b></a></b>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER, "well-formed"},
            {STREAM "<!-- no --><stream:features/>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER, "XMPP"},
            {"<!DOCTYPE lolz [<!ENTITY lol 'lol'>]>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER,
                    "XMPP"},
            {"<html><body>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER, "<html>"},
            {"<stream:stream/>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER, "expected <stream:stream>"},
            {STREAM "<a 'unended>", NULL, ERR_RETRY, TLS_FAILURE_CLOSED, "closed"},
            {STREAM "<=>", NULL, ERR_PROTOCOL, TLS_FAILURE_OTHER, "XMPP"},
            {"", NULL, ERR_RETRY, TLS_FAILURE_CLOSED, "closed"},
            {"220 mail.example.test ESMTP\r\n", NULL, ERR_RETRY, TLS_FAILURE_CLOSED, "closed"},
            {STREAM "<a><b><c><d><e><f><g><h><i><j><k><l><m><n><o><p><q>", NULL, ERR_PROTOCOL,
                    TLS_FAILURE_OTHER, "deeper"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct dialogue_case *c = &cases[i];
        struct tls_peer t = {
                .script = {"'>", c->first, c->second != NULL ? "/>" : NULL, c->second}};
        struct probe p = starttls(TLS_STARTTLS_C2S);
        assert_failure(probe(&t, &p), c->kind, c->failure, c->part);
        assert_null(p.result.version);
    }
}

static void serve_endless_text(struct peer *peer, int fd)
{
    while (peer_send(fd, peer->arg))
        continue;
}

static void endless_dialogue(void **state)
{
    static const char *const texts[] = {"xxxxxxxxxxxxxxxx", "<a ", "<?x?>", STREAM};
    struct peer peer;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct probe p = starttls(TLS_STARTTLS_C2S);
        peer_start(&peer, serve_endless_text, texts[i]);
        p.request.to = peer.address;
        assert_failure(rim_run(probe_fiber, &p), ERR_PROTOCOL, TLS_FAILURE_OTHER, "127.0.0.1");
        peer_stop(&peer);
    }
}

static void attributes_may_hold_brackets(void **state)
{
    struct tls_peer t = {.cert = good,
            .script = {"'>",
                    "<?xml version=\"1.0\"?>\n<stream:stream from=\"a>b\" x='</stream:stream>'>\n "
                    "<stream:features x='/'>text &lt; text<ver xmlns='urn:x'/>"
                    "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls' />\n</stream:features>\n",
                    "/>", "\n<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'></proceed>"}};
    struct probe p = starttls(TLS_STARTTLS_C2S);

    assert_ok(probe(&t, &p));
    assert_int_equal(p.result.verdict, TLS_VALID);
    tls_probe_result_done(&p.result);
}

/* ---- being canceled ---- */

static void canceled_at_each_stage(void **state)
{
    struct tls_peer stages[] = {
            {.hang = true},
            {.script = {"'>", STREAM}, .hang = true},
            {.script = {"'>", STREAM FEATURES}, .hang = true},
            {.script = {"'>", STREAM FEATURES, "/>", PROCEED}, .hang = true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
        struct peer peer;
        struct probe p = i == 0 ? direct() : starttls(TLS_STARTTLS_C2S);
        peer_start(&peer, serve_tls, &stages[i]);
        p.request.to = peer.address;
        assert_err(rim_run_canceled(probe_fiber, &p, &peer.reached), ERR_CANCELED, "127.0.0.1");
        assert_null(p.result.version);
        peer_stop(&peer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(valid_certificate),
            RIM_TEST(sni_alpn_and_version),
            RIM_TEST(verdicts),
            RIM_TEST(missing_intermediate),
            RIM_TEST(system_store),
            RIM_TEST(changed_roots_are_seen),
            RIM_TEST(not_tls),
            RIM_TEST(alert),
            RIM_TEST(reset),
            RIM_TEST(refused),
            RIM_TEST(silence),
            RIM_TEST(starttls_c2s_and_s2s),
            RIM_TEST(stream_to_is_escaped),
            RIM_TEST(dialogues_that_fail),
            RIM_TEST(endless_dialogue),
            RIM_TEST(attributes_may_hold_brackets),
            RIM_TEST(canceled_at_each_stage),
    };
    return cmocka_run_group_tests(tests, make_certs, free_certs);
}
