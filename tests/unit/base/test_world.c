/* SPDX-License-Identifier: Apache-2.0 */
#include "base/world.h"

#include "tests/unit/base/rim.h"

struct flow {
    struct world *world;
    struct dns_wire_request dns;
    struct buf reply;
    fiber_fn *fn;
};

static struct err *with_world(void *arg) MAY_SUSPEND;

static struct err *with_world(void *arg)
{
    struct flow *f = arg;

    TRY(world_new(rim_loop, "certherd/test", &f->world));
    struct err *e = f->fn(f);
    world_free(f->world);
    return e;
}

static struct err *run(struct flow *f, fiber_fn *fn)
{
    f->fn = fn;
    return rim_run(with_world, f);
}

/* ---- time and chance ---- */

static struct err *time_and_chance(void *arg)
{
    struct flow *f = arg;
    uint8_t a[64] = {0}, b[64] = {0};
    unsigned seen[6] = {0};
    struct mono before = world_mono(f->world);

    assert_true(world_now(f->world).ms > 1700000000 * CLOCK_SEC);
    assert_true(mono_diff(world_mono(f->world), before) >= 0);
    world_random(f->world, a, sizeof(a));
    world_random(f->world, b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    for (int i = 0; i < 6000; i++) {
        uint64_t n = world_random_below(f->world, 6);
        assert_true(n < 6);
        seen[n]++;
    }
    for (size_t i = 0; i < 6; i++)
        assert_true(seen[i] > 600); /* 1000 expected; the odds against this are astronomic */
    assert_int_equal(world_random_below(f->world, 1), 0);
    for (int i = 0; i < 100; i++)
        assert_true(world_random_below(f->world, UINT64_MAX) < UINT64_MAX);
    return NULL;
}

static void real_time_and_chance(void **state)
{
    struct flow f = {0};

    assert_ok(run(&f, time_and_chance));
}

/* A world whose chance is a list. */
static const uint64_t *next_random;

static void listed_random(struct world *world, void *buf, size_t len)
{
    assert_int_equal(len, sizeof(uint64_t));
    memcpy(buf, next_random++, len);
}

static void random_below_is_uniform(void **state)
{
    /* 2^64 mod 6 is 4: the values 0 to 3 are passed over, else 0 to 3 would come more often. */
    static const uint64_t list[] = {0, 3, 4, UINT64_MAX};
    struct world_ops ops = {.random = listed_random};
    struct world w = {.ops = &ops};

    next_random = list;
    assert_int_equal(world_random_below(&w, 6), 4);
    assert_true(next_random == list + 3);
    assert_int_equal(world_random_below(&w, 6), UINT64_MAX % 6);
}

/* ---- DNS messages ---- */

static struct err *dns(void *arg) MAY_SUSPEND;

static struct err *dns(void *arg)
{
    struct flow *f = arg;

    return world_dns_wire(f->world, &f->dns, &f->reply);
}

static void serve_udp(struct peer *peer, int fd)
{
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    char data[64];
    ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len);

    if (n > 0)
        sendto(fd, "answer", 6, 0, (const struct sockaddr *)&from, len);
}

static void dns_by_udp(void **state)
{
    struct peer peer;

    peer_start_udp(&peer, serve_udp, NULL);
    struct flow f = {.dns = {.to = peer.address, .data = "ask", .len = 3, .wait_ms = 5000}};
    assert_ok(run(&f, dns));
    assert_string_equal(buf_str(&f.reply), "answer");
    buf_done(&f.reply);
    peer_stop(&peer);
}

/* Replies what it was asked, in two pieces; arg: how many bytes it says there are, or NULL. */
static void serve_tcp(struct peer *peer, int fd)
{
    const size_t *claim = peer->arg;
    uint8_t data[64];
    ssize_t n = recv(fd, data, sizeof(data), 0);

    if (n < 2 || (size_t)n != 2 + ((size_t)data[0] << 8 | data[1]))
        return;
    if (claim != NULL) {
        data[0] = (uint8_t)(*claim >> 8);
        data[1] = (uint8_t)*claim;
    }
    peer_send_bytes(fd, data, 1);
    usleep(2000);
    peer_send_bytes(fd, data + 1, (size_t)n - 1);
    if (claim != NULL && *claim > 1000)
        peer_hang(peer, fd);
}

static void dns_by_tcp(void **state)
{
    static const size_t too_many = 10, never = 65535, none = 0;
    struct peer peer;
    struct flow f;

    peer_start(&peer, serve_tcp, NULL);
    f = (struct flow){
            .dns = {.to = peer.address, .tcp = true, .data = "ask", .len = 3, .wait_ms = 5000}};
    assert_ok(run(&f, dns));
    assert_string_equal(buf_str(&f.reply), "ask");
    buf_done(&f.reply);
    peer_stop(&peer);

    peer_start(&peer, serve_tcp, &too_many);
    f.dns.to = peer.address;
    assert_err(run(&f, dns), ERR_RETRY, "after 3 of 10 bytes");
    peer_stop(&peer);

    peer_start(&peer, serve_tcp, &none);
    f.dns.to = peer.address;
    assert_ok(run(&f, dns));
    assert_int_equal(f.reply.len, 0);
    buf_done(&f.reply);
    peer_stop(&peer);

    peer_start(&peer, serve_tcp, &never);
    f.dns.to = peer.address;
    f.dns.wait_ms = 100;
    assert_err(run(&f, dns), ERR_TIMEOUT, "the DNS reply by TCP");
    f.dns.wait_ms = 5000;
    f.fn = dns;
    atomic_store(&peer.reached, false);
    assert_err(rim_run_canceled(with_world, &f, &peer.reached), ERR_CANCELED, "127.0.0.1");
    peer_stop(&peer);
}

/* ---- HTTP: one pool per bundle ---- */

/* Two requests on each connection. */
static void serve_keep_alive(struct peer *peer, int fd)
{
    peer_read_request(fd);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    peer_read_request(fd);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static struct err *pools(void *arg) MAY_SUSPEND;

static struct err *pools(void *arg)
{
    struct flow *f = arg;
    static const char *const bundles[] = {NULL, NULL, "/etc/passwd", "/etc/passwd"};
    AUTO_FREE char *url = str_printf("http://127.0.0.1:%u/", (unsigned)addr_port(&f->dns.to));
    struct http_request request = {.url = url, .allow_http = true};

    for (size_t i = 0; i < ARRAY_SIZE(bundles); i++) {
        AUTO_HTTP_REPLY struct http_reply reply = {0};
        TRY(world_http(f->world, bundles[i], &request, &reply));
        assert_int_equal(reply.status, 200);
    }
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    assert_err(world_http(f->world, "/nowhere.pem", &request, &reply), ERR_CONFIG, "/nowhere.pem");
    return NULL;
}

static void pool_per_bundle(void **state)
{
    struct peer peer;
    struct flow f = {0};

    peer_start(&peer, serve_keep_alive, NULL);
    f.dns.to = peer.address;
    assert_ok(run(&f, pools));
    assert_int_equal(atomic_load(&peer.served), 2);
    peer_stop(&peer);
}

/* ---- the rest goes where it should ---- */

static struct err *everything_else(void *arg) MAY_SUSPEND;

static struct err *everything_else(void *arg)
{
    struct flow *f = arg;
    struct addr addresses[NET_RESOLVE_MAX];
    size_t n = 0;
    AUTO_CHILD_RESULT struct child_result child = {0};
    AUTO_TLS_RESULT struct tls_probe_result tls = {0};
    struct tls_probe_request probe = {.to = f->dns.to};
    const char *const argv[] = {"/bin/sh", "-c", "exit 5", NULL};
    struct child_request request = {.argv = argv};

    TRY(world_resolve(f->world, "127.0.0.1", 80, addresses, &n));
    assert_int_equal(n, 1);
    TRY(world_child(f->world, &request, &child));
    assert_int_equal(child.exit_status, 5);
    assert_err(world_tls_probe(f->world, &probe, &tls), ERR_RETRY, "refused");
    return NULL;
}

static void rest_of_the_world(void **state)
{
    struct peer peer = {0};
    struct flow f = {0};

    peer_bind(&peer, SOCK_STREAM, NULL, 0);
    close(peer.fd);
    f.dns.to = peer.address;
    assert_ok(run(&f, everything_else));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(real_time_and_chance),
            RIM_TEST(random_below_is_uniform),
            RIM_TEST(dns_by_udp),
            RIM_TEST(dns_by_tcp),
            RIM_TEST(pool_per_bundle),
            RIM_TEST(rest_of_the_world),
    };
    return cmocka_run_group_tests(tests, rim_paint, rim_check_stacks);
}
