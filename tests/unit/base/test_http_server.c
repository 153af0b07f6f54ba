/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http_server.h"

#include "tests/unit/base/rim.h"

/*
 * The server runs on the loop of a fiber that only waits for its clients; each client is a thread
 * with a plain socket and says what it likes.
 */

struct served {
    struct http_server_options options;
    struct http_server *server;
    /* What the client thread does; it has connected already. */
    void (*client)(struct served *s, int fd);
    struct addr to; /* if not the server's own address */
    const char *send;
    char reply[65536];
    size_t reply_len;
    bool closed; /* the server closed */
    atomic_bool ended;
    unsigned handled;
    char method[16], path[600], query[600], host[64], body[2048], peer[ADDR_TEXT_MAX];
    size_t body_len;
};

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from != NULL ? from : "(none)");
}

static void handle(void *arg, const struct http_server_request *q, struct http_server_reply *r)
{
    struct served *s = arg;

    s->handled++;
    copy(s->method, sizeof(s->method), q->method);
    copy(s->path, sizeof(s->path), q->path);
    copy(s->query, sizeof(s->query), q->query);
    copy(s->host, sizeof(s->host), q->host);
    copy(s->body, sizeof(s->body), q->body);
    s->body_len = q->body_len;
    addr_format_ip(&q->peer, s->peer);
    if (strcmp(q->path, "/none") == 0)
        return; /* a handler that forgets to answer */
    r->status = strcmp(q->path, "/created") == 0 ? 201 : 200;
    r->content_type = "text/html";
    if (strcmp(q->path, "/page") == 0) {
        r->security_policy = "script-src 'self'";
        r->headers[0] = (struct http_header){"ETag", "\"7\""};
    }
    buf_printf(&r->body, "you said %s", q->path);
}

/* ---- clients ---- */

/* Sends, then reads until the server closes. */
static void client_simple(struct served *s, int fd)
{
    ssize_t n = 1;

    if (s->send != NULL)
        peer_send(fd, s->send);
    while (n > 0 && s->reply_len < sizeof(s->reply) - 1) {
        n = recv(fd, s->reply + s->reply_len, sizeof(s->reply) - 1 - s->reply_len, 0);
        if (n > 0)
            s->reply_len += (size_t)n;
    }
    s->closed = n <= 0;
}

/* A byte now and then, for ever. */
static void client_trickle(struct served *s, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    peer_send(fd, s->send);
    while (poll(&p, 1, 20) == 0)
        if (!peer_send(fd, "a"))
            break;
    s->closed = true;
}

static void *client_thread(void *arg)
{
    struct served *s = arg;
    int fd = socket(addr_family(&s->to), SOCK_STREAM, 0);

    if (connect(fd, &s->to.sa, addr_len(&s->to)) == 0)
        s->client(s, fd);
    close(fd);
    atomic_store(&s->ended, true);
    return NULL;
}

static struct err *serve_fiber(void *arg) MAY_SUSPEND;

static struct err *serve_fiber(void *arg)
{
    struct served *s = arg;
    pthread_t thread;

    TRY(http_server_start(rim_loop, &s->options, &s->server));
    struct addr own = http_server_address(s->server);
    if (addr_family(&s->to) == AF_UNSPEC)
        s->to = own;
    else
        addr_set_port(&s->to, addr_port(&own));
    assert_int_equal(pthread_create(&thread, NULL, client_thread, s), 0);
    struct err *e = NULL;
    while (e == NULL && !atomic_load(&s->ended))
        e = fiber_sleep(2);
    pthread_join(thread, NULL);
    http_server_stop(s->server);
    return e;
}

static struct addr loopback(void)
{
    return addr_from_ipv4((const uint8_t[]){127, 0, 0, 1}, 0);
}

static void serve_with(struct served *s, void (*client)(struct served *, int), const char *send)
{
    s->client = client;
    s->send = send;
    s->options.handle = handle;
    s->options.arg = s;
    if (addr_family(&s->options.listen) == AF_UNSPEC)
        s->options.listen = loopback();
    assert_ok(rim_run(serve_fiber, s));
}

/* What the server says to these bytes; it must have closed. */
static struct served *say(const char *send)
{
    static struct served s;

    s = (struct served){.options = {.max_body = 1000, .header_ms = 2000}};
    serve_with(&s, client_simple, send);
    assert_true(s.closed);
    return &s;
}

static void assert_says(const struct served *s, const char *part)
{
    if (strstr(s->reply, part) != NULL)
        return;
    print_error("expected \"%s\" in: %s\n", part, s->reply);
    fail();
}

#define END "Host: a.test\r\nConnection: close\r\n\r\n"

/* ---- what it serves ---- */

static void get(void **state)
{
    struct served *s = say("GET /a/%2e%2e/b?x=1&y=%20 HTTP/1.1\r\n" END);

    assert_says(s, "HTTP/1.1 200 OK\r\n");
    assert_says(s, "Cache-Control: no-store\r\n");
    assert_says(s, "X-Content-Type-Options: nosniff\r\n");
    assert_says(s, "Content-Security-Policy: default-src 'none'\r\n");
    assert_says(s, "Content-Type: text/html\r\n");
    assert_says(s, "\r\n\r\nyou said /a/%2e%2e/b");
    assert_string_equal(s->method, "GET");
    assert_string_equal(s->path, "/a/%2e%2e/b");
    assert_string_equal(s->query, "x=1&y=%20");
    assert_string_equal(s->host, "a.test");
    assert_string_equal(s->peer, "127.0.0.1");
    assert_int_equal(s->body_len, 0);
}

static void own_headers(void **state)
{
    struct served *s = say("GET /page HTTP/1.1\r\n" END);

    assert_says(s, "ETag: \"7\"\r\n");
    assert_says(s, "Content-Security-Policy: script-src 'self'\r\n");
    assert_null(strstr(s->reply, "default-src"));
}

static void head(void **state)
{
    struct served *s = say("HEAD /x HTTP/1.1\r\n" END);

    assert_string_equal(s->method, "HEAD");
    assert_says(s, "200 OK");
    assert_says(s, "Content-Length: 11\r\n");
    assert_true(str_ends(s->reply, "\r\n\r\n"));
}

static void post(void **state)
{
    struct served *s = say("POST /created HTTP/1.1\r\nContent-Length: 5\r\n" END "hello");

    assert_says(s, "201 Created");
    assert_string_equal(s->body, "hello");
    assert_int_equal(s->body_len, 5);
    /* A body that is not text. */
    s = say("POST /x HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            "Content-Length: 7\r\n" END "a=1&b=2");
    assert_string_equal(s->body, "a=1&b=2");
}

static void forgotten_answer(void **state)
{
    assert_says(say("GET /none HTTP/1.1\r\n" END), "500 Internal Server Error");
}

static void pipelined_on_one_connection(void **state)
{
    struct served *s = say("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n"
                           "Content-Length: 1\r\n\r\nxGET /3 HTTP/1.1\r\n" END);

    assert_int_equal(s->handled, 3);
    assert_says(s, "you said /1");
    assert_says(s, "you said /2");
    assert_says(s, "you said /3");
}

/* ---- what it refuses, before the handler sees it ---- */

static void assert_refused(const char *send, const char *status)
{
    const struct served *s = say(send);

    assert_int_equal(s->handled, 0);
    assert_says(s, status);
}

static void smuggling(void **state)
{
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                   "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n" END,
            " 400 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "5\r\nhello\r\n0\r\n\r\n",
            " 400 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n"
                   "Content-Length: 0\r\n\r\n",
            " 400 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"
                   "abcde",
            " 400 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd", " 400 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd", " 400 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", " 400 ");
    assert_refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", " 400 ");
    assert_refused("GET / HTTP/1.1\r\n\r\n", " 400 ");
}

static void odd_request_lines(void **state)
{
    assert_refused("GET http://a/x HTTP/1.1\r\n" END, " 400 ");
    assert_refused("OPTIONS * HTTP/1.1\r\n" END, " 400 ");
    assert_refused("CONNECT a:443 HTTP/1.1\r\n" END, " 400 ");
    const struct served *s = say("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    assert_int_equal(s->handled, 0);
    s = say("GET / HTTP/9.9\r\n" END);
    assert_int_equal(s->handled, 0);
}

static void too_much(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(100000);

    buf_puts(&b, "GET /");
    for (int i = 0; i < 511; i++)
        buf_putc(&b, 'u');
    buf_puts(&b, " HTTP/1.1\r\n" END);
    assert_int_equal(say(buf_str(&b))->handled, 1);
    buf_reset(&b);
    buf_puts(&b, "GET /");
    for (int i = 0; i < 512; i++)
        buf_putc(&b, 'u');
    buf_puts(&b, " HTTP/1.1\r\n" END);
    assert_refused(buf_str(&b), " 414 ");

    buf_reset(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 65; i++)
        buf_puts(&b, "X: y\r\n");
    buf_puts(&b, END);
    assert_refused(buf_str(&b), " 400 ");

    buf_reset(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nX: ");
    for (int i = 0; i < 9000; i++)
        buf_putc(&b, 'x');
    assert_refused(buf_str(&b), " 431 ");

    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nabc", " 413 ");
    assert_refused("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                   "Content-Length: 99999999999\r\n\r\n",
            " 413 ");
}

static void no_body_by_default(void **state)
{
    static struct served s;

    s = (struct served){0};
    serve_with(&s, client_simple, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_says(&s, " 413 ");
    s = (struct served){0};
    serve_with(&s, client_simple, "POST / HTTP/1.1\r\nContent-Length: 0\r\n" END);
    assert_says(&s, " 200 ");
}

/* ---- time: a byte now and then does not help ---- */

static void slow_header_is_cut(void **state)
{
    static struct served s;

    s = (struct served){.options.header_ms = 200};
    serve_with(&s, client_trickle, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    assert_true(s.closed);
    assert_int_equal(s.handled, 0);
    s = (struct served){.options.header_ms = 200}; /* not even a line */
    serve_with(&s, client_trickle, "");
    assert_true(s.closed);
}

static void slow_body_is_cut(void **state)
{
    static struct served s;

    s = (struct served){.options = {.request_ms = 200, .max_body = 10000}};
    serve_with(&s, client_trickle, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n");
    assert_true(s.closed);
    assert_int_equal(s.handled, 0);
}

static void idle_is_cut(void **state)
{
    static struct served s;

    s = (struct served){.options.idle_ms = 200};
    serve_with(&s, client_simple, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(s.closed);
    assert_int_equal(s.handled, 1);
    assert_says(&s, "you said /");
}

/* The next request on a kept connection has the header's time, however it begins. */
static void slow_second_header_is_cut(void **state)
{
    static struct served s;

    s = (struct served){.options = {.header_ms = 200, .idle_ms = 200}};
    serve_with(&s, client_trickle,
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nX: ");
    assert_true(s.closed);
    assert_int_equal(s.handled, 1);
}

/* ---- many, and the end ---- */

/* More than may be there at once from one address: the connection given is one of the two. */
static void client_crowd(struct served *s, int fd)
{
    int fds[8];

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        connect(fds[i], &s->to.sa, addr_len(&s->to));
    }
    usleep(50000); /* the server has seen them all */
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        char data[1024];
        peer_send(fds[i], "GET / HTTP/1.1\r\n" END);
        if (recv(fds[i], data, sizeof(data), 0) > 0)
            s->reply_len++;
    }
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        close(fds[i]);
}

static void connections_per_address(void **state)
{
    static struct served s;

    s = (struct served){.options.max_connections_per_ip = 2};
    serve_with(&s, client_crowd, NULL);
    assert_int_equal(s.reply_len, 1);
}

/* Stopped while requests are at every stage; AddressSanitizer looks on. */
static struct err *stop_fiber(void *arg) MAY_SUSPEND;

static struct err *stop_fiber(void *arg)
{
    static const char *const stages[] = {"", "GET", "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n"};
    struct served *s = arg;
    int fds[ARRAY_SIZE(stages)];

    TRY(http_server_start(rim_loop, &s->options, &s->server));
    struct addr to = http_server_address(s->server);
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        connect(fds[i], &to.sa, addr_len(&to));
        peer_send(fds[i], stages[i]);
    }
    TRY(fiber_sleep(50));
    http_server_stop(s->server);
    for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
        close(fds[i]);
    return NULL;
}

static void stop_with_open_connections(void **state)
{
    struct served s = {.options = {.listen = loopback(), .handle = handle, .max_body = 100}};

    s.options.arg = &s;
    assert_ok(rim_run(stop_fiber, &s));
    assert_int_equal(s.handled, 1);
}

/* ---- addresses ---- */

static bool has_ipv6(void)
{
    struct addr a = {.in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = fd >= 0 && bind(fd, &a.sa, sizeof(a.in6)) == 0;

    if (fd >= 0)
        close(fd);
    return has;
}

static const uint8_t zeros[16];

static void any_address_serves_both_families(void **state)
{
    static struct served s;

    s = (struct served){.options.listen = addr_from_ipv6(zeros, 0), .to = loopback()};
    serve_with(&s, client_simple, "GET / HTTP/1.1\r\n" END);
    assert_says(&s, "200 OK");
    assert_string_equal(s.peer, "127.0.0.1"); /* not ::ffff:127.0.0.1 */
    if (!has_ipv6())
        return;
    s = (struct served){.options.listen = addr_from_ipv6(zeros, 0),
            .to = {.in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}}};
    serve_with(&s, client_simple, "GET / HTTP/1.1\r\n" END);
    assert_says(&s, "200 OK");
    assert_string_equal(s.peer, "::1");
}

static struct err *start_only(void *arg) MAY_SUSPEND;

static struct err *start_only(void *arg)
{
    struct http_server *server = NULL;

    TRY(http_server_start(rim_loop, arg, &server));
    http_server_stop(server);
    return NULL;
}

static void addresses_that_fail(void **state)
{
    struct peer peer = {0};

    peer_bind(&peer, SOCK_STREAM, NULL, 0);
    struct http_server_options o = {.listen = peer.address, .handle = handle};
    AUTO_FREE char *port = str_printf("127.0.0.1:%u", addr_port(&peer.address));
    struct err *e = rim_run(start_only, &o);
    assert_non_null(e);
    assert_non_null(strstr(err_text(e), port));
    assert_err(e, ERR_CONFIG, "choose another address");
    close(peer.fd);
    o.listen = addr_from_ipv4((const uint8_t[]){192, 0, 2, 1}, 0);
    assert_err(rim_run(start_only, &o), ERR_CONFIG, "an address that this machine has");
}

static void socket_from_outside(void **state)
{
    static struct served s;
    struct peer peer = {0};

    peer_bind(&peer, SOCK_STREAM, NULL, 0);
    s = (struct served){.options.listen_fd = peer.fd};
    serve_with(&s, client_simple, "GET / HTTP/1.1\r\n" END);
    assert_says(&s, "200 OK");
    assert_int_equal(addr_port(&s.to), addr_port(&peer.address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(get),
            RIM_TEST(own_headers),
            RIM_TEST(head),
            RIM_TEST(post),
            RIM_TEST(forgotten_answer),
            RIM_TEST(pipelined_on_one_connection),
            RIM_TEST(smuggling),
            RIM_TEST(odd_request_lines),
            RIM_TEST(too_much),
            RIM_TEST(no_body_by_default),
            RIM_TEST(slow_header_is_cut),
            RIM_TEST(slow_body_is_cut),
            RIM_TEST(idle_is_cut),
            RIM_TEST(slow_second_header_is_cut),
            RIM_TEST(connections_per_address),
            RIM_TEST(stop_with_open_connections),
            RIM_TEST(any_address_serves_both_families),
            RIM_TEST(addresses_that_fail),
            RIM_TEST(socket_from_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
