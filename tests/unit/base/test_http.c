/* SPDX-License-Identifier: Apache-2.0 */
/* The client against a server that behaves: ours, in the same loop. */
#include "base/http_server.h"
#include "tests/unit/base/http_get.h"

/* ---- against our own server, in the same loop ---- */

struct seen {
    unsigned requests;
    char method[16], path[256], query[256], host[64], type[64], agent[64], authorization[128];
    char extra[64], expect[64], body[256];
    size_t body_len;
    uint16_t ports[8];
};

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from != NULL ? from : "(none)");
}

static void look(struct seen *s, const struct http_server_request *q)
{
    s->ports[s->requests++ % 8] = addr_port(&q->peer);
    copy(s->method, sizeof(s->method), q->method);
    copy(s->path, sizeof(s->path), q->path);
    copy(s->query, sizeof(s->query), q->query);
    copy(s->host, sizeof(s->host), q->host);
    copy(s->type, sizeof(s->type), http_server_header(q, "content-type"));
    copy(s->agent, sizeof(s->agent), http_server_header(q, "user-agent"));
    copy(s->authorization, sizeof(s->authorization), http_server_header(q, "authorization"));
    copy(s->extra, sizeof(s->extra), http_server_header(q, "x-extra"));
    copy(s->expect, sizeof(s->expect), http_server_header(q, "expect"));
    s->body_len = q->body_len;
    if (q->body_len < sizeof(s->body))
        copy(s->body, sizeof(s->body), q->body);
}

static void handle(void *arg, const struct http_server_request *q, struct http_server_reply *r)
{
    unsigned long long n = 0;

    look(arg, q);
    r->status = 200;
    r->content_type = "text/plain";
    if (str_starts(q->path, "/bytes/") && str_to_u64(q->path + 7, 1000000, &n)) {
        for (size_t i = 0; i < n; i++)
            buf_putc(&r->body, 'x');
    } else if (str_starts(q->path, "/status/") && str_to_u64(q->path + 8, 599, &n)) {
        r->status = (unsigned)n;
    } else if (str_starts(q->path, "/hop/") && str_to_u64(q->path + 5, 100, &n)) {
        static char location[64];
        snprintf(location, sizeof(location), n <= 1 ? "/end" : "/hop/%llu", n - 1);
        r->status = 302;
        r->headers[0] = (struct http_header){"Location", location};
        buf_puts(&r->body, "you are being sent elsewhere, at some length, by this body");
    } else if (strcmp(q->path, "/to") == 0) {
        r->status = 307;
        r->headers[0] = (struct http_header){"Location", q->query};
    } else {
        r->headers[0] = (struct http_header){"X-Mixed-CASE", "Value  "};
        buf_puts(&r->body, "hello");
    }
}

struct served {
    struct http_server *server;
    struct seen seen;
};

static void serve(struct served *s)
{
    struct http_server_options options = {
            .listen = addr_from_ipv4((const uint8_t[]){127, 0, 0, 1}, 0),
            .max_body = 2 * 1024 * 1024,
            .handle = handle,
            .arg = &s->seen};

    *s = (struct served){0};
    if (rim_loop == NULL)
        assert_ok(loop_new(&rim_loop));
    assert_ok(http_server_start(rim_loop, &options, &s->server));
}

static struct get get_from(const struct served *s, const char *path)
{
    struct addr a = http_server_address(s->server);

    return get_at(&a, path);
}

static void get_returns_everything(void **state)
{
    struct served s;
    char text[ADDR_TEXT_MAX];

    serve(&s);
    struct get g = get_from(&s, "/a/b?c=d");
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(g.reply.status, 200);
    assert_int_equal(g.reply.http_version, 11);
    assert_string_equal(buf_str(&g.reply.body), "hello");
    assert_string_equal(http_reply_header(&g.reply, "x-mixed-case"), "Value");
    assert_string_equal(http_reply_header(&g.reply, "content-type"), "text/plain");
    assert_null(http_reply_header(&g.reply, "x-absent"));
    assert_non_null(strstr(g.reply.effective_url, "/a/b?c=d"));
    assert_string_equal(addr_format_ip(&g.reply.peer, text), "127.0.0.1");
    assert_string_equal(s.seen.method, "GET");
    assert_string_equal(s.seen.path, "/a/b");
    assert_string_equal(s.seen.query, "c=d");
    assert_string_equal(s.seen.agent, "certherd/test");
    assert_string_equal(s.seen.authorization, "(none)");
    assert_string_equal(s.seen.type, "(none)");
    http_reply_done(&g.reply);
    http_server_stop(s.server);
}

static void post_sends_body_and_headers(void **state)
{
    struct served s;
    AUTO(secret_freep) struct secret *token = secret_new("s3cret", 6);

    serve(&s);
    struct get g = get_from(&s, "/");
    g.request.body = "{\"a\":1}";
    g.request.body_len = 7;
    g.request.bearer = token;
    g.request.headers[0] = (struct http_header){"Content-Type", "application/jose+json"};
    g.request.headers[1] = (struct http_header){"X-Extra", ""};
    assert_ok(rim_run(get_fiber, &g));
    assert_string_equal(s.seen.method, "POST");
    assert_string_equal(s.seen.body, "{\"a\":1}");
    assert_string_equal(s.seen.type, "application/jose+json");
    assert_string_equal(s.seen.authorization, "Bearer s3cret");
    assert_string_equal(s.seen.extra, "");
    http_reply_done(&g.reply);

    /* Large: no "Expect: 100-continue", and no type that nobody gave. */
    AUTO_FREE char *big = mem_zalloc(1500000);
    g = get_from(&s, "/");
    g.request.method = "PUT";
    g.request.body = big;
    g.request.body_len = 1500000;
    assert_ok(rim_run(get_fiber, &g));
    assert_string_equal(s.seen.method, "PUT");
    assert_int_equal(s.seen.body_len, 1500000);
    assert_string_equal(s.seen.expect, "(none)");
    assert_string_equal(s.seen.type, "(none)");
    http_reply_done(&g.reply);
    http_server_stop(s.server);
}

static void methods(void **state)
{
    struct served s;
    static const char *const names[] = {"GET", "HEAD", "POST", "DELETE", "PUT"};

    serve(&s);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct get g = get_from(&s, "/");
        g.request.method = names[i];
        assert_ok(rim_run(get_fiber, &g));
        assert_string_equal(s.seen.method, names[i]);
        assert_int_equal(g.reply.body.len, strcmp(names[i], "HEAD") == 0 ? 0 : 5);
        http_reply_done(&g.reply);
    }
    http_server_stop(s.server);
}

static void basic_authentication(void **state)
{
    struct served s;
    AUTO(secret_freep) struct secret *password = secret_new("open sesame", 11);

    serve(&s);
    struct get g = get_from(&s, "/");
    g.request.basic_user = "Aladdin";
    g.request.basic_password = password;
    assert_ok(rim_run(get_fiber, &g));
    assert_string_equal(
            s.seen.authorization, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="); /* RFC 7617 2 */
    http_reply_done(&g.reply);
    g.request.basic_user = "a:b";
    assert_err(rim_run(get_fiber, &g), ERR_CONFIG, "':'");
    http_server_stop(s.server);
}

static void connection_is_kept(void **state)
{
    struct served s;

    serve(&s);
    struct get g = get_from(&s, "/");
    g.times = 3;
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(s.seen.requests, 3);
    assert_int_equal(s.seen.ports[0], s.seen.ports[1]);
    assert_int_equal(s.seen.ports[0], s.seen.ports[2]);
    http_reply_done(&g.reply);
    http_server_stop(s.server);
}

static void any_status_is_success(void **state)
{
    struct served s;

    serve(&s);
    struct get g = get_from(&s, "/status/503");
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(g.reply.status, 503);
    http_reply_done(&g.reply);
    g = get_from(&s, "/status/204");
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(g.reply.status, 204);
    assert_string_equal(buf_str(&g.reply.body), "");
    http_reply_done(&g.reply);
    http_server_stop(s.server);
}

static void body_has_a_limit(void **state)
{
    struct served s;

    serve(&s);
    struct get g = get_from(&s, "/bytes/1000");
    g.request.max_body = 1000;
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(g.reply.body.len, 1000);
    http_reply_done(&g.reply);
    g = get_from(&s, "/bytes/1001");
    g.request.max_body = 1000;
    assert_err(rim_run(get_fiber, &g), ERR_PROTOCOL, "larger than 1000 bytes");
    g = get_from(&s, "/bytes/65537");
    assert_err(rim_run(get_fiber, &g), ERR_PROTOCOL, "larger than 65536 bytes");
    http_server_stop(s.server);
}

static void environment_is_ignored(void **state)
{
    struct served s;

    serve(&s);
    setenv("http_proxy", "http://127.0.0.1:1/", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1/", 1);
    struct get g = get_from(&s, "/");
    assert_ok(rim_run(get_fiber, &g));
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    http_reply_done(&g.reply);
    http_server_stop(s.server);
}

/* ---- redirects ---- */

static void redirects_are_returned(void **state)
{
    struct served s;

    serve(&s);
    struct get g = get_from(&s, "/hop/1");
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(g.reply.status, 302);
    assert_string_equal(http_reply_header(&g.reply, "location"), "/end");
    assert_int_equal(s.seen.requests, 1);
    http_reply_done(&g.reply);
    http_server_stop(s.server);
}

/* As the CA sees it: port 80 of a name, which is here another port of the loopback. */
static struct get probe(const struct served *s, struct addr *at, const char *url)
{
    *at = http_server_address(s->server);
    return (struct get){.request = {.url = url,
                                .connect_to = at,
                                .max_body = 10,
                                .redirects = HTTP_REDIRECT_LIKE_CA}};
}

static void redirects_are_followed_like_a_ca(void **state)
{
    struct served s;
    struct addr at;

    serve(&s);
    struct get g = probe(&s, &at, "http://im.example.test/hop/10");
    assert_ok(rim_run(get_fiber, &g));
    assert_int_equal(g.reply.status, 200);
    assert_string_equal(buf_str(&g.reply.body), "hello");
    assert_string_equal(g.reply.effective_url, "http://im.example.test/end");
    assert_string_equal(s.seen.host, "im.example.test");
    assert_int_equal(s.seen.requests, 11);
    http_reply_done(&g.reply);
    g = probe(&s, &at, "http://im.example.test/hop/11");
    assert_err(rim_run(get_fiber, &g), ERR_PROTOCOL, "more than 10 redirects");
    http_server_stop(s.server);
}

static void redirects_elsewhere_are_refused(void **state)
{
    struct served s;
    struct addr at;
    struct {
        const char *url, *part;
    } cases[] = {
            {"http://a.test/to?http://a.test:8080/", "port 8080"},
            {"http://a.test/to?ftp://a.test/x", "ftp://"},
            {"http://a.test/to?file:///etc/passwd", "a.test"},
            {"http://a.test/to?http://127.0.0.1/x", "address 127.0.0.1"},
            {"http://a.test/to?http://[::1]/x", "address [::1]"},
            {"http://a.test/to?http://u:p@a.test/x", "user name"},
    };

    serve(&s);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct get g = probe(&s, &at, cases[i].url);
        assert_err(rim_run(get_fiber, &g), ERR_CONFIG, cases[i].part);
    }
    assert_int_equal(s.seen.requests, ARRAY_SIZE(cases));
    http_server_stop(s.server);
}

/* ---- what is refused before anything is sent ---- */

static void bad_requests_are_refused(void **state)
{
    struct {
        const char *url, *part;
        bool allow_http;
    } cases[] = {
            {"http://127.0.0.1/", "https:// alone", false},
            {"ftp://127.0.0.1/", "ftp://", true},
            {"file:///etc/passwd", "URL", true},
            {"https://user:pw@127.0.0.1/", "user name", true},
            {"127.0.0.1/", "URL", true},
            {"https://", "URL", true},
            {"", "URL", true},
            {"https://a b/", "URL", true},
            {"https://127.0.0.1:99999/", "URL", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct get g = {.request = {.url = cases[i].url, .allow_http = cases[i].allow_http}};
        struct err *e = rim_run(get_fiber, &g);
        assert_non_null(e);
        assert_null(strstr(err_text(e), "pw"));
        assert_err(e, ERR_CONFIG, cases[i].part);
    }
    struct get g = {.request = {.url = "http://127.0.0.1:1/", .allow_http = true}};
    g.request.headers[0] = (struct http_header){"X-Token", "a\r\nEvil: b"};
    assert_err(rim_run(get_fiber, &g), ERR_CONFIG, "X-Token has a line break");
    g.request.headers[0] = (struct http_header){"X Token", "a"};
    assert_err(rim_run(get_fiber, &g), ERR_CONFIG, "'X Token' is not the name");
    AUTO(secret_freep) struct secret *token = secret_new("abc\n", 4);
    g.request.headers[0] = (struct http_header){0};
    g.request.bearer = token;
    assert_err(rim_run(get_fiber, &g), ERR_CONFIG, "Authorization has a line break");
}

static void missing_bundle(void **state)
{
    struct get g = {.request = {.url = "https://127.0.0.1/"}, .ca_bundle = "/nowhere/ca.pem"};

    assert_err(rim_run(get_fiber, &g), ERR_CONFIG, "/nowhere/ca.pem");
}

/* ---- many at once ---- */

static void many_at_once(void **state)
{
    struct served s;

    serve(&s);
    struct many m = {.get = get_from(&s, "/")};
    assert_ok(rim_run(many_fiber, &m));
    assert_int_equal(m.good, 50);
    for (size_t i = 0; i < 8; i++) {
        unsigned different = 0;
        for (size_t j = 0; j < 8; j++)
            different += s.seen.ports[i] != s.seen.ports[j];
        assert_true(different < 8);
    }
    http_server_stop(s.server);
}

/* ---- reading headers ---- */

static bool retry_after(const char *value, struct wall *ret)
{
    struct http_header h = {"retry-after", value};
    struct http_reply reply = {.n_headers = value != NULL ? 1 : 0, .headers = &h};
    struct wall now = {784111770 * CLOCK_SEC}; /* Sun, 06 Nov 1994 08:49:30 GMT */

    return http_retry_after(&reply, now, CLOCK_HOUR, ret);
}

static void retry_after_is_read_and_clamped(void **state)
{
    int64_t now = 784111770 * CLOCK_SEC;
    struct {
        const char *value;
        int64_t ms;
    } cases[] = {
            {"120", 120000},
            {"0", 1000},
            {"99999", CLOCK_HOUR},
            {"99999999999999999999999999", CLOCK_HOUR},
            {"Sun, 06 Nov 1994 08:49:37 GMT", 7000},
            {"Sun, 06 Nov 1994 08:00:00 GMT", 1000},
            {"Fri, 31 Dec 9999 23:59:59 GMT", CLOCK_HOUR},
    };
    static const char *const bad[] = {NULL, "", "soon", "-1", "1.5", "12 s"};
    struct wall when;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_true(retry_after(cases[i].value, &when));
        assert_int_equal(when.ms - now, cases[i].ms);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        when.ms = 42;
        assert_false(retry_after(bad[i], &when));
        assert_int_equal(when.ms, 42);
    }
}

static void links_are_found(void **state)
{
    struct http_header h[] = {
            {"link", "<https://ca.test/dir>;rel=\"index\", "
                     "<https://ca.test/a,b;c>; title=\"x, y\"; rel=\"up alternate\""},
            {"content-type", "text/plain"},
            {"link", "<https://ca.test/2>;rel=alternate"},
            {"link", "<https://ca.test/3; rel=\"alternate\""},
            {"link", "nonsense"},
            {"link", ""},
            {"link", "<>;;;rel=,"},
            {"link", "<x>; rel=\"alternate\\"},
    };
    struct http_reply reply = {.n_headers = ARRAY_SIZE(h), .headers = h};
    AUTO_FREE char *index = http_reply_link(&reply, "index");
    AUTO_FREE char *up = http_reply_link(&reply, "up");
    AUTO_STRV struct strv all = {0};

    assert_string_equal(index, "https://ca.test/dir");
    assert_string_equal(up, "https://ca.test/a,b;c");
    assert_null(http_reply_link(&reply, "terms-of-service"));
    http_reply_links(&reply, "alternate", &all);
    assert_int_equal(all.n, 2);
    assert_string_equal(all.v[0], "https://ca.test/a,b;c");
    assert_string_equal(all.v[1], "https://ca.test/2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(get_returns_everything),
            RIM_TEST(post_sends_body_and_headers),
            RIM_TEST(methods),
            RIM_TEST(basic_authentication),
            RIM_TEST(connection_is_kept),
            RIM_TEST(any_status_is_success),
            RIM_TEST(body_has_a_limit),
            RIM_TEST(environment_is_ignored),
            RIM_TEST(redirects_are_returned),
            RIM_TEST(redirects_are_followed_like_a_ca),
            RIM_TEST(redirects_elsewhere_are_refused),
            RIM_TEST(bad_requests_are_refused),
            RIM_TEST(missing_bundle),
            RIM_TEST(many_at_once),
            RIM_TEST(retry_after_is_read_and_clamped),
            RIM_TEST(links_are_found),
    };
    return cmocka_run_group_tests(tests, rim_paint, rim_check_stacks);
}
