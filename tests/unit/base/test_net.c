/* SPDX-License-Identifier: Apache-2.0 */
#include "base/net.h"

#include "tests/unit/base/rim.h"

/* ---- UDP ---- */

static struct err *exchange(void *arg) MAY_SUSPEND;

struct exchange {
    struct net_udp_request request;
    struct buf reply;
};

static struct err *exchange(void *arg)
{
    struct exchange *x = arg;

    return net_udp_exchange(rim_loop, &x->request, &x->reply);
}

static struct net_udp_request udp_request(const struct addr *to)
{
    return (struct net_udp_request){
            .to = *to, .data = "ping", .len = 4, .max_reply = 16, .wait_ms = 5000};
}

static ssize_t await_ping(int fd, struct sockaddr_in *from)
{
    char data[64];
    socklen_t len = sizeof(*from);

    return recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)from, &len);
}

static void answer(int fd, const char *text, const struct sockaddr_in *to)
{
    sendto(fd, text, strlen(text), 0, (const struct sockaddr *)to, sizeof(*to));
}

/* Three that are not wanted (too long, not accepted, from a stranger), then the one that is. */
static void serve_udp(struct peer *peer, int fd)
{
    struct sockaddr_in from;
    int stranger = socket(AF_INET, SOCK_DGRAM, 0);

    if (await_ping(fd, &from) == 4) {
        answer(fd, "this one is longer than sixteen bytes", &from);
        answer(stranger, "pong stranger", &from);
        answer(fd, "nonsense", &from);
        answer(fd, "pong", &from);
    }
    close(stranger);
}

static bool is_pong(void *arg, const uint8_t *data, size_t len)
{
    int *asked = arg;

    (*asked)++;
    return len >= 4 && memcmp(data, "pong", 4) == 0;
}

static void udp_takes_the_accepted_reply(void **state)
{
    struct peer peer;
    int asked = 0;

    peer_start_udp(&peer, serve_udp, NULL);
    struct exchange x = {.request = udp_request(&peer.address)};
    x.request.accept = is_pong;
    x.request.arg = &asked;
    assert_ok(rim_run(exchange, &x));
    assert_string_equal(buf_str(&x.reply), "pong");
    assert_int_equal(asked, 2);
    buf_done(&x.reply);
    peer_stop(&peer);
}

static void serve_udp_silently(struct peer *peer, int fd)
{
    struct sockaddr_in from;

    await_ping(fd, &from);
    atomic_store(&peer->reached, true);
}

static void udp_times_out(void **state)
{
    struct peer peer;

    peer_start_udp(&peer, serve_udp_silently, NULL);
    struct exchange x = {.request = udp_request(&peer.address)};
    x.request.wait_ms = 100;
    assert_err(rim_run(exchange, &x), ERR_TIMEOUT, "127.0.0.1");
    assert_null(x.reply.data);
    peer_stop(&peer);
}

static void udp_is_canceled(void **state)
{
    struct peer peer;

    peer_start_udp(&peer, serve_udp_silently, NULL);
    struct exchange x = {.request = udp_request(&peer.address)};
    assert_err(rim_run_canceled(exchange, &x, &peer.reached), ERR_CANCELED, "127.0.0.1");
    peer_stop(&peer);
}

/* A port that was free a moment ago. */
static struct addr dead_port(int type)
{
    struct peer peer = {0};

    peer_bind(&peer, type, NULL, 0);
    close(peer.fd);
    return peer.address;
}

static void udp_refused(void **state)
{
    struct addr to = dead_port(SOCK_DGRAM);
    struct exchange x = {.request = udp_request(&to)};
    struct err *e = rim_run(exchange, &x);

    assert_non_null(e);
    assert_int_equal(err_number(e), UV_ECONNREFUSED);
    assert_int_equal(err_origin(e), ERR_FROM_UV);
    assert_err(e, ERR_RETRY, "refused");
}

static void udp_no_route(void **state)
{
    /* 240.0.0.0/4 is reserved: the kernel itself says no. */
    struct addr to = addr_from_ipv4((const uint8_t[]){255, 255, 255, 254}, 53);
    struct exchange x = {.request = udp_request(&to)};

    x.request.wait_ms = 200;
    struct err *e = rim_run(exchange, &x);
    assert_non_null(e);
    assert_true(err_is(e, ERR_RETRY) || err_is(e, ERR_TIMEOUT));
    err_free(e);
}

/* ---- TCP ---- */

struct stream_test {
    struct addr to;
    size_t len;
    char data[64];
};

static void serve_echo(struct peer *peer, int fd)
{
    char data[4096];
    ssize_t n;

    while ((n = recv(fd, data, sizeof(data), 0)) > 0)
        if (!peer_send_bytes(fd, data, (size_t)n))
            return;
}

static struct err *talk(void *arg) MAY_SUSPEND;

static struct err *talk(void *arg)
{
    struct stream_test *t = arg;
    AUTO(net_closep) struct net_stream *s = NULL;

    TRY(net_connect(rim_loop, &t->to, &s));
    TRY(net_write(s, "hello, world", 12));
    TRY(net_read_full(s, t->data, 5));
    return net_read(s, t->data + 5, sizeof(t->data) - 5, &t->len);
}

static void tcp_echo(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_echo, NULL);
    struct stream_test t = {.to = peer.address};
    assert_ok(rim_run(talk, &t));
    assert_memory_equal(t.data, "hello", 5);
    assert_true(t.len > 0);
    peer_stop(&peer);
}

#define BIG ((size_t)8 * 1024 * 1024)

static void serve_slow_sink(struct peer *peer, int fd)
{
    static char data[65536];
    size_t have = 0;

    usleep(50 * 1000); /* until the buffers are full */
    while (have < BIG) {
        ssize_t n = recv(fd, data, sizeof(data), 0);
        if (n <= 0)
            return;
        have += (size_t)n;
    }
    peer_send(fd, "got it");
}

static struct err *push(void *arg) MAY_SUSPEND;

static struct err *push(void *arg)
{
    struct stream_test *t = arg;
    AUTO(net_closep) struct net_stream *s = NULL;
    AUTO_FREE char *big = mem_zalloc(BIG);

    TRY(net_connect(rim_loop, &t->to, &s));
    TRY(net_write(s, big, BIG));
    return net_read_full(s, t->data, 6);
}

static void tcp_writes_all(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_slow_sink, NULL);
    struct stream_test t = {.to = peer.address};
    assert_ok(rim_run(push, &t));
    assert_memory_equal(t.data, "got it", 6);
    peer_stop(&peer);
}

static void serve_hang(struct peer *peer, int fd)
{
    peer_read_until(fd, "hello");
    peer_hang(peer, fd);
}

static void tcp_read_canceled(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_hang, NULL);
    struct stream_test t = {.to = peer.address};
    assert_err(rim_run_canceled(talk, &t, &peer.reached), ERR_CANCELED, "");
    peer_stop(&peer);
}

static void serve_without_reading(struct peer *peer, int fd)
{
    char c;

    atomic_store(&peer->reached, true);
    while (!atomic_load(&peer->stopping) && recv(fd, &c, 1, MSG_PEEK) > 0)
        usleep(1000);
}

static void tcp_write_canceled(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_without_reading, NULL);
    struct stream_test t = {.to = peer.address};
    assert_err(rim_run_canceled(push, &t, &peer.reached), ERR_CANCELED, "");
    peer_stop(&peer);
}

static struct err *talk_briefly(void *arg) MAY_SUSPEND;

static struct err *talk_briefly(void *arg)
{
    FIBER_DEADLINE(100, "the talk");
    return talk(arg);
}

static void tcp_obeys_the_deadline(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_hang, NULL);
    struct stream_test t = {.to = peer.address};
    assert_err(rim_run(talk_briefly, &t), ERR_TIMEOUT, "the talk");
    peer_stop(&peer);
}

static void serve_three_bytes(struct peer *peer, int fd)
{
    peer_read_until(fd, "world");
    peer_send(fd, "hel");
}

static void tcp_short_read_says_how_much(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_three_bytes, NULL);
    struct stream_test t = {.to = peer.address};
    assert_err(rim_run(talk, &t), ERR_RETRY, "closed the connection after 3 of 5 bytes");
    peer_stop(&peer);
}

static void serve_reset(struct peer *peer, int fd)
{
    peer_read_until(fd, "hello");
    peer_reset(fd);
}

static void tcp_reset(void **state)
{
    struct peer peer;

    peer_start(&peer, serve_reset, NULL);
    struct stream_test t = {.to = peer.address};
    struct err *e = rim_run(talk, &t);
    assert_non_null(e);
    assert_int_equal(err_number(e), UV_ECONNRESET);
    assert_err(e, ERR_RETRY, "127.0.0.1");
    peer_stop(&peer);
}

static void tcp_refused(void **state)
{
    struct stream_test t = {.to = dead_port(SOCK_STREAM)};
    struct err *e = rim_run(talk, &t);

    assert_non_null(e);
    assert_int_equal(err_number(e), UV_ECONNREFUSED);
    assert_err(e, ERR_RETRY, "refused");
}

/* Fills the queue of a listener that never accepts, so that the next connect hangs. */
static struct err *connect_queued(void *arg) MAY_SUSPEND;

static struct err *connect_queued(void *arg)
{
    struct stream_test *t = arg;
    AUTO(net_closep) struct net_stream *a = NULL;
    AUTO(net_closep) struct net_stream *b = NULL;
    AUTO(net_closep) struct net_stream *c = NULL;

    FIBER_DEADLINE(300, "connecting");
    TRY(net_connect(rim_loop, &t->to, &a));
    TRY(net_connect(rim_loop, &t->to, &b));
    return net_connect(rim_loop, &t->to, &c);
}

static void tcp_connect_times_out(void **state)
{
    struct peer peer = {0};

    peer_bind(&peer, SOCK_STREAM, NULL, 0);
    assert_int_equal(listen(peer.fd, 0), 0);
    struct stream_test t = {.to = peer.address};
    assert_err(rim_run(connect_queued, &t), ERR_TIMEOUT, "connecting");
    close(peer.fd);
}

/* ---- names ---- */

struct resolve_test {
    const char *host;
    struct addr addresses[NET_RESOLVE_MAX];
    size_t n;
};

static struct err *resolve(void *arg) MAY_SUSPEND;

static struct err *resolve(void *arg)
{
    struct resolve_test *t = arg;

    return net_resolve(rim_loop, t->host, 5222, t->addresses, &t->n);
}

static void resolves_literals_and_localhost(void **state)
{
    char text[ADDR_TEXT_MAX];
    struct resolve_test t = {.host = "192.0.2.7"};

    assert_ok(rim_run(resolve, &t));
    assert_int_equal(t.n, 1);
    assert_string_equal(addr_format(&t.addresses[0], text), "192.0.2.7:5222");
    t = (struct resolve_test){.host = "2001:db8::7"};
    assert_ok(rim_run(resolve, &t));
    assert_string_equal(addr_format(&t.addresses[0], text), "[2001:db8::7]:5222");
    t = (struct resolve_test){.host = "localhost"};
    assert_ok(rim_run(resolve, &t));
    assert_true(t.n >= 1);
    assert_int_equal(addr_port(&t.addresses[0]), 5222);
}

static void resolve_names_the_host(void **state)
{
    struct resolve_test t = {.host = "not..a.name"};
    struct err *e = rim_run(resolve, &t);

    assert_non_null(e);
    assert_non_null(strstr(err_text(e), "not..a.name"));
    assert_true(err_is(e, ERR_CONFIG) || err_is(e, ERR_RETRY));
    err_free(e);
    assert_int_equal(t.n, 0);
}

static void resolve_canceled(void **state)
{
    struct resolve_test t = {.host = "localhost"};

    assert_ok(loop_new(&rim_loop));
    rim_result = NULL;
    rim_fiber = fiber_spawn(rim_loop, "test", resolve, &t, rim_done);
    fiber_cancel(rim_fiber);
    loop_run(rim_loop);
    assert_err(rim_result, ERR_CANCELED, "localhost");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(udp_takes_the_accepted_reply),
            RIM_TEST(udp_times_out),
            RIM_TEST(udp_is_canceled),
            RIM_TEST(udp_refused),
            RIM_TEST(udp_no_route),
            RIM_TEST(tcp_echo),
            RIM_TEST(tcp_writes_all),
            RIM_TEST(tcp_read_canceled),
            RIM_TEST(tcp_write_canceled),
            RIM_TEST(tcp_obeys_the_deadline),
            RIM_TEST(tcp_short_read_says_how_much),
            RIM_TEST(tcp_reset),
            RIM_TEST(tcp_refused),
            RIM_TEST(tcp_connect_times_out),
            RIM_TEST(resolves_literals_and_localhost),
            RIM_TEST(resolve_names_the_host),
            RIM_TEST(resolve_canceled),
    };
    return cmocka_run_group_tests(tests, rim_paint, rim_check_stacks);
}
