/* SPDX-License-Identifier: Apache-2.0 */
/* The client against peers that misbehave, in time or in certificates, and under cancellation. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/un.h>

#include "tests/lib/test_certs.h"
#include "tests/unit/base/http_get.h"

/* ---- peers that misbehave ---- */

static void serve_text(struct peer *peer, int fd)
{
    if (peer_read_request(fd))
        peer_send(fd, peer->arg);
}

static void assert_reply_err(const char *reply, enum err_kind kind, const char *part)
{
    struct peer peer;

    peer_start(&peer, serve_text, reply);
    struct get g = get_at(&peer.address, "/");
    assert_err(rim_run(get_fiber, &g), kind, part);
    peer_stop(&peer);
}

static void broken_replies(void **state)
{
    assert_reply_err("", ERR_RETRY, "127.0.0.1");
    assert_reply_err("SSH-2.0-OpenSSH_9.2\r\n", ERR_PROTOCOL, "127.0.0.1");
    assert_reply_err("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", ERR_RETRY, "127.0.0.1");
    assert_reply_err("HTTP/1.1 200 OK\r\nContent-Le", ERR_RETRY, "127.0.0.1");
    assert_reply_err(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ERR_RETRY, "127.0.0.1");
    assert_reply_err("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n", ERR_RETRY, "127.0.0.1");
}

static void serve_endless_body(struct peer *peer, int fd)
{
    static const char chunk[] = "10\r\n0123456789abcdef\r\n";

    if (!peer_read_request(fd))
        return;
    peer_send(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (peer_send(fd, chunk))
        continue;
}

static void endless_body(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_endless_body, NULL);
    struct get g = get_at(&peer.address, "/");
    assert_err(rim_run(get_fiber, &g), ERR_PROTOCOL, "larger than 65536 bytes");
    peer_stop(&peer);
}

/* arg: the line that never ends to come */
static void serve_endless_header(struct peer *peer, int fd)
{
    if (!peer_read_request(fd))
        return;
    peer_send(fd, "HTTP/1.1 200 OK\r\n");
    while (peer_send(fd, peer->arg))
        continue;
}

static void endless_header(void **state)
{
    static char folded[1200];
    struct peer peer;

    peer_start(&peer, serve_endless_header, "X: y\r\n");
    struct get g = get_at(&peer.address, "/");
    assert_err(rim_run(get_fiber, &g), ERR_PROTOCOL, "header of its reply");
    peer_stop(&peer);
    peer_start(&peer, serve_endless_header, "HTTP/1.1 100 Continue\r\n\r\n");
    g = get_at(&peer.address, "/");
    g.request.total_ms = 300;
    struct err *e = rim_run(get_fiber, &g);
    assert_non_null(e);
    err_free(e);
    peer_stop(&peer);
    memset(folded, 'x', sizeof(folded) - 3);
    memcpy(folded, "X: ", 3);
    memcpy(folded + sizeof(folded) - 3, "\r\n", 3);
    peer_start(&peer, serve_endless_header, folded);
    g = get_at(&peer.address, "/");
    assert_err(rim_run(get_fiber, &g), ERR_PROTOCOL, "header of its reply");
    peer_stop(&peer);
}

static void odd_but_allowed_header(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_text,
            "HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
            "HTTP/1.1 200 OK\r\nX-Fold: a\r\n  b\r\nX-Empty:\r\nTransfer-Encoding: chunked\r\n\r\n"
            "2\r\nok\r\n0\r\nX-Trailer: 1\r\n\r\n");
    struct get g = get_at(&peer.address, "/");
    assert_ok(rim_run(get_fiber, &g));
    assert_string_equal(buf_str(&g.reply.body), "ok");
    assert_string_equal(http_reply_header(&g.reply, "x-fold"), "a b");
    assert_string_equal(http_reply_header(&g.reply, "x-empty"), "");
    assert_null(http_reply_header(&g.reply, "x-early"));
    assert_null(http_reply_header(&g.reply, "x-trailer"));
    http_reply_done(&g.reply);
    peer_stop(&peer);
}

static void serve_reset(struct peer *peer, int fd)
{
    peer_read_request(fd);
    peer_send(fd, peer->arg);
    peer_reset(fd);
}

static void resets(void **state)
{
    static const char *const before[] = {
            "", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"};
    struct peer peer;

    for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
        peer_start(&peer, serve_reset, before[i]);
        struct get g = get_at(&peer.address, "/");
        assert_err(rim_run(get_fiber, &g), ERR_RETRY, "127.0.0.1");
        peer_stop(&peer);
    }
}

static void refused(void **state)
{
    struct peer peer = {0};

    peer_bind(&peer, SOCK_STREAM, NULL, 0);
    close(peer.fd);
    struct get g = get_at(&peer.address, "/");
    assert_err(rim_run(get_fiber, &g), ERR_RETRY, "refused");
}

/* arg: what is sent before the silence */
static void serve_and_hang(struct peer *peer, int fd)
{
    peer_read_request(fd);
    peer_send(fd, peer->arg);
    peer_hang(peer, fd);
}

static const char half[] = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";

static void silence_ends(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_and_hang, "");
    struct get g = get_at(&peer.address, "/");
    g.request.total_ms = 100;
    assert_err(rim_run(get_fiber, &g), ERR_TIMEOUT, "127.0.0.1");
    g = get_at(&peer.address, "/");
    g.deadline_ms = 100;
    assert_err(rim_run(get_fiber, &g), ERR_TIMEOUT, "the flow took longer");
    peer_stop(&peer);
    peer_start(&peer, serve_and_hang, half);
    g = get_at(&peer.address, "/");
    g.request.stall_ms = 1000;
    assert_err(rim_run(get_fiber, &g), ERR_TIMEOUT, "127.0.0.1");
    peer_stop(&peer);
}

static void canceled_at_each_stage(void **state)
{
    static const char *const before[] = {"", "HTTP/1.1 200 OK\r\nX-Half: ", half};
    struct peer peer;

    for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
        peer_start(&peer, serve_and_hang, before[i]);
        struct get g = get_at(&peer.address, "/");
        assert_err(rim_run_canceled(get_fiber, &g, &peer.reached), ERR_CANCELED, "127.0.0.1");
        assert_null(g.reply.body.data);
        peer_stop(&peer);
    }
}

/* Canceled before it ran, and in the very turn in which it began. */
static void canceled_at_once(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_and_hang, "");
    struct get g = get_at(&peer.address, "/");
    assert_ok(loop_new(&rim_loop));
    rim_fiber = fiber_spawn(rim_loop, "test", get_fiber, &g, rim_done);
    fiber_cancel(rim_fiber);
    loop_run(rim_loop);
    assert_err(STEAL(rim_result), ERR_CANCELED, "");
    atomic_bool now = true;
    assert_err(rim_run_canceled(get_fiber, &g, &now), ERR_CANCELED, "");
    peer_stop(&peer);
}

struct turns {
    int n;
};

static struct err *cancel_after_turns(void *arg) MAY_SUSPEND;

static struct err *cancel_after_turns(void *arg)
{
    const struct turns *turns = arg;

    for (int i = 0; i < turns->n; i++)
        TRY(fiber_yield());
    if (rim_fiber != NULL)
        fiber_cancel(rim_fiber);
    return NULL;
}

/* A name is looked up by a thread, which can't be called back. */
static void canceled_while_resolving(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_and_hang, "");
    assert_ok(loop_new(&rim_loop));
    for (int i = 0; i < 30; i++) {
        struct turns turns = {i};
        struct get g = get_at(&peer.address, "/");
        snprintf(g.base, sizeof(g.base), "http://localhost:%u", addr_port(&peer.address));
        g.request.family = AF_INET;
        rim_result = NULL;
        rim_fiber = fiber_spawn(rim_loop, "test", get_fiber, &g, rim_done);
        fiber_spawn(rim_loop, "canceler", cancel_after_turns, &turns, NULL);
        loop_run(rim_loop);
        assert_err(STEAL(rim_result), ERR_CANCELED, "");
    }
    usleep(100000); /* those threads end on their own */
    peer_stop(&peer);
}

/* The first answer closes without saying so; the second request finds the connection dead. */
static void serve_once_per_connection(struct peer *peer, int fd)
{
    if (peer_read_request(fd))
        peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void dead_connection_is_replaced(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_once_per_connection, NULL);
    struct get g = get_at(&peer.address, "/");
    g.times = 3;
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(atomic_load(&peer.served), 3);
    http_reply_done(&g.reply);
    peer_stop(&peer);
}

/* Some wait for a reply, some for a connection, some for their turn. */
static void many_canceled(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_and_hang, "");
    struct many m = {.get = get_at(&peer.address, "/")};
    assert_err(rim_run_canceled(many_fiber, &m, &peer.reached), ERR_CANCELED, "");
    assert_int_equal(m.good, 0);
    peer_stop(&peer);
}

/* ---- UNIX socket ---- */

static void unix_socket(void **state)
{
    char dir[] = "/tmp/certherd-test-XXXXXX";
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct peer peer = {.serve = serve_once_per_connection};

    assert_non_null(mkdtemp(dir));
    snprintf(at.sun_path, sizeof(at.sun_path), "%s/api.sock", dir);
    peer_bind(&peer, SOCK_STREAM, (const struct sockaddr *)&at, sizeof(at));
    assert_int_equal(pthread_create(&peer.thread, NULL, peer_thread, &peer), 0);
    struct get g = {.request = {.url = "http://localhost/api/reload_config",
                            .allow_http = true,
                            .unix_socket = at.sun_path}};
    assert_ok(rim_run(get_fiber, &g));
    assert_string_equal(buf_str(&g.reply.body), "ok");
    assert_int_equal(g.reply.peer.sa.sa_family, AF_UNSPEC);
    http_reply_done(&g.reply);
    peer_stop(&peer);
    unlink(at.sun_path);
    assert_err(rim_run(get_fiber, &g), ERR_RETRY, at.sun_path);
    rmdir(dir);
}

/* ---- TLS ---- */

struct tls_peer {
    SSL_CTX *ctx;
};

static void serve_tls(struct peer *peer, int fd)
{
    const struct tls_peer *t = peer->arg;
    static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
    SSL *ssl = SSL_new(t->ctx);
    char data[4096];

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1 && SSL_read(ssl, data, sizeof(data)) > 0) {
        SSL_write(ssl, reply, sizeof(reply) - 1);
        SSL_shutdown(ssl);
    }
    SSL_free(ssl);
    ERR_clear_error();
}

static void tls_peer_start(struct peer *peer, struct tls_peer *t, const struct test_cert *leaf)
{
    t->ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(t->ctx, leaf->x509), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(t->ctx, leaf->key), 1);
    peer_start(peer, serve_tls, t);
}

static void tls_peer_stop(struct peer *peer, struct tls_peer *t)
{
    peer_stop(peer);
    SSL_CTX_free(t->ctx);
}

static void write_bundle(const struct test_cert *root, char path[static 32])
{
    AUTO_FREE char *pem = test_cert_pem(root);

    snprintf(path, 32, "/tmp/certherd-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, pem, strlen(pem)), (ssize_t)strlen(pem));
    close(fd);
}

struct tls_case {
    const struct test_cert *leaf;
    const char *bundle;
    bool insecure;
    enum http_redirects redirects;
};

/* For https://im.example.test/ at the peer. */
static struct err *tls_get(const struct tls_case *c, char *ret_body, size_t size)
{
    struct peer peer;
    struct tls_peer t;

    tls_peer_start(&peer, &t, c->leaf);
    struct get g = {.request = {.url = "https://im.example.test/",
                            .connect_to = &peer.address,
                            .insecure = c->insecure,
                            .redirects = c->redirects},
            .ca_bundle = c->bundle};
    struct err *e = rim_run(get_fiber, &g);
    snprintf(ret_body, size, "%s", buf_str(&g.reply.body));
    http_reply_done(&g.reply);
    tls_peer_stop(&peer, &t);
    return e;
}

static void certificates_are_checked(void **state)
{
    AUTO_TEST_CERT struct test_cert *root =
            test_cert_new(&(struct test_cert_spec){.cn = "Root", .ca = true});
    AUTO_TEST_CERT struct test_cert *other =
            test_cert_new(&(struct test_cert_spec){.cn = "Other root", .ca = true});
    AUTO_TEST_CERT struct test_cert *good =
            test_cert_new(&(struct test_cert_spec){.names = "im.example.test", .issuer = root});
    AUTO_TEST_CERT struct test_cert *wrong =
            test_cert_new(&(struct test_cert_spec){.names = "example.test", .issuer = root});
    AUTO_TEST_CERT struct test_cert *old =
            test_cert_new(&(struct test_cert_spec){.names = "im.example.test",
                    .issuer = root,
                    .not_before = {1},
                    .not_after = {86400000}});
    char bundle[32], other_bundle[32], body[64];

    write_bundle(root, bundle);
    write_bundle(other, other_bundle);
    assert_ok(tls_get(&(struct tls_case){good, bundle}, body, sizeof(body)));
    assert_string_equal(body, "secret");
    struct err *e = tls_get(&(struct tls_case){good, other_bundle}, body, sizeof(body));
    assert_non_null(e);
    assert_non_null(err_advice(e));
    assert_non_null(strstr(err_advice(e), "check the CA bundle"));
    assert_err(e, ERR_CONFIG, other_bundle);
    assert_err(tls_get(&(struct tls_case){good, NULL}, body, sizeof(body)), ERR_CONFIG,
            "im.example.test");
    assert_err(tls_get(&(struct tls_case){wrong, bundle}, body, sizeof(body)), ERR_CONFIG,
            "check the host name");
    assert_err(tls_get(&(struct tls_case){old, bundle}, body, sizeof(body)), ERR_CONFIG,
            "check the clock");
    assert_ok(tls_get(&(struct tls_case){old, bundle, .insecure = true}, body, sizeof(body)));
    assert_ok(tls_get(&(struct tls_case){wrong, other_bundle, .redirects = HTTP_REDIRECT_LIKE_CA},
            body, sizeof(body)));
    assert_string_equal(body, "secret");
    unlink(bundle);
    unlink(other_bundle);
}

static void plain_http_at_an_https_port(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_text, "HTTP/1.1 400 Bad Request\r\n\r\n");
    struct get g = {.request = {.url = "https://im.example.test/", .connect_to = &peer.address}};
    g.request.total_ms = 500;
    struct err *e = rim_run(get_fiber, &g);
    assert_non_null(e);
    assert_non_null(strstr(err_text(e), "im.example.test"));
    err_free(e);
    peer_stop(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(broken_replies),
            RIM_TEST(endless_body),
            RIM_TEST(endless_header),
            RIM_TEST(odd_but_allowed_header),
            RIM_TEST(resets),
            RIM_TEST(refused),
            RIM_TEST(silence_ends),
            RIM_TEST(canceled_at_each_stage),
            RIM_TEST(canceled_at_once),
            RIM_TEST(canceled_while_resolving),
            RIM_TEST(dead_connection_is_replaced),
            RIM_TEST(many_canceled),
            RIM_TEST(unix_socket),
            RIM_TEST(certificates_are_checked),
            RIM_TEST(plain_http_at_an_https_port),
    };
    return cmocka_run_group_tests(tests, rim_paint, rim_check_stacks);
}
