/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "hooks/ejabberd.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_err.h"

#define SOCKET "/nonexistent/ejabberd.sock"

/* What the server answers and what it was asked. */
struct server {
    long status;
    const char *body;
    size_t body_len; /* 0: strlen */
    enum err_kind fail;
    char url[200], method[10], sent[20], type[60], socket[200], user[100];
    bool bearer, allow_http;
    int64_t total_ms;
};

static void keep(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text != NULL ? text : "");
}

static struct err *serve(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret)
{
    struct server *s = arg;
    assert_null(ca_bundle);
    keep(s->url, sizeof(s->url), request->url);
    keep(s->method, sizeof(s->method), request->method);
    keep(s->sent, sizeof(s->sent), request->body);
    keep(s->type, sizeof(s->type), fake_request_header(request, "content-type"));
    keep(s->socket, sizeof(s->socket), request->unix_socket);
    keep(s->user, sizeof(s->user), request->basic_user);
    s->bearer = request->bearer != NULL;
    s->allow_http = request->allow_http;
    s->total_ms = request->total_ms;
    if (s->status == 0)
        return ERR(s->fail, "connection refused");
    ret->status = s->status;
    buf_append(&ret->body, s->body, s->body_len > 0 ? s->body_len : strlen(s->body));
    return NULL;
}

struct flow {
    struct world *world;
    const struct ejabberd_api *api;
    struct name_list *vhosts; /* NULL: reload */
};

static struct err *flow(void *arg) MAY_SUSPEND;
static struct err *flow(void *arg)
{
    struct flow *f = arg;
    if (f->vhosts != NULL)
        return ejabberd_registered_vhosts(f->world, f->api, f->vhosts);
    return ejabberd_reload(f->world, f->api);
}

static struct err *run(struct server *server, const struct ejabberd_api *api,
        struct name_list *vhosts, enum fake_fault fault)
{
    struct fake_world fw;
    fake_world_init(&fw);
    fw.http = serve;
    fw.http_arg = server;
    fw.fault = fault;
    fw.fault_at = 1;
    struct flow f = {.world = &fw.world, .api = api, .vhosts = vhosts};
    struct err *e = fake_world_run(&fw, flow, &f);
    fake_world_done(&fw);
    return e;
}

static const struct ejabberd_api unix_api = {.url = "unix:" SOCKET};

static struct err *reload(long status, const char *body)
{
    struct server server = {.status = status, .body = body};
    return run(&server, &unix_api, NULL, FAKE_FAULT_NONE);
}

/* ---- request ---- */

static void test_request_by_socket(void **state)
{
    struct server s = {.status = 200, .body = "0"};
    assert_ok(run(&s, &unix_api, NULL, FAKE_FAULT_NONE));
    assert_string_equal(s.url, "http://localhost/api/reload_config");
    assert_string_equal(s.socket, SOCKET);
    assert_string_equal(s.method, "POST");
    assert_string_equal(s.sent, "{}");
    assert_string_equal(s.type, "application/json");
    assert_string_equal(s.user, "");
    assert_false(s.bearer);
    assert_true(s.allow_http);
    assert_true(s.total_ms >= 60 * CLOCK_SEC);
}

static void test_request_by_tcp(void **state)
{
    static const char *const urls[] = {"http://ejabberd:5280/api", "http://ejabberd:5280/api/"};
    AUTO(secret_freep) struct secret *password = secret_new("secret", 6);
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        struct server s = {.status = 200, .body = "0\n"};
        const struct ejabberd_api api = {
                .url = urls[i], .user = "admin@im.example.org", .password = password};
        assert_ok(run(&s, &api, NULL, FAKE_FAULT_NONE));
        assert_string_equal(s.url, "http://ejabberd:5280/api/reload_config");
        assert_string_equal(s.socket, "");
        assert_string_equal(s.user, "admin@im.example.org");
        assert_false(s.bearer);
    }
    struct server s = {.status = 200, .body = "0"};
    const struct ejabberd_api api = {.url = urls[0], .token = password};
    assert_ok(run(&s, &api, NULL, FAKE_FAULT_NONE));
    assert_true(s.bearer);
}

/* ---- answers to reload_config ---- */

static void test_reload_answers(void **state)
{
    static const char denied[] = "{\"status\":\"error\",\"code\":32,\"message\":\"AccessRules: "
                                 "Account does not have the "
                                 "right to perform the operation.\"}";
    assert_ok(reload(200, "0"));
    assert_ok(reload(200, " 0\r\n"));
    static const char *const wrong[] = {"", "1", "00", "0 0", "\"0\"", "<html>0</html>", "-0"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_err(reload(200, wrong[i]), ERR_PROTOCOL, "expected the answer 0");
    assert_err(reload(400, "\"Unknown option: foo. Did you mean acl? \""), ERR_CONFIG,
            "ejabberd.yml is broken: Unknown option: foo. Did you mean acl?");
    assert_err(reload(400, "\"Unknown\""), ERR_CONFIG, "correct ejabberd.yml");
    assert_err(reload(401, "{\"status\":\"error\",\"code\":10,\"message\":\"Bad token\"}"),
            ERR_CONFIG, "Bad token");
    assert_err(reload(403, denied), ERR_CONFIG, "AccessRules: Account");
    assert_err(reload(403, denied), ERR_CONFIG, "what: [reload_config, registered_vhosts]");
    assert_err(reload(403, denied), ERR_CONFIG, "from: [{tag: certherd}]");
    assert_err(reload(404, "{\"status\":\"error\",\"code\":40,\"message\":\"not found\"}"),
            ERR_CONFIG, "mod_http_api");
    assert_err(reload(404, "<?xml version='1.0'?>\n<!DOCTYPE html"), ERR_CONFIG,
            "is not there (404): an HTML page");
    assert_err(reload(403, ""), ERR_CONFIG, "an empty answer");
    assert_err(reload(500, "internal_error"), ERR_RETRY, "internal_error");
    assert_err(reload(302, ""), ERR_CONFIG, "found 302");
    /* Each names the API. */
    assert_err(reload(200, "1"), ERR_PROTOCOL, "unix:" SOCKET);
    assert_err(reload(400, ""), ERR_CONFIG, "unix:" SOCKET);
    assert_err(reload(500, ""), ERR_RETRY, "unix:" SOCKET);
}

static void test_reload_nul_in_answer(void **state)
{
    struct server s = {.status = 200, .body = "0\0001", .body_len = 3};
    assert_err(run(&s, &unix_api, NULL, FAKE_FAULT_NONE), ERR_PROTOCOL, "expected the answer 0");
}

static void test_answers_are_made_safe(void **state)
{
    struct err *e = reload(400, "\"\\u001b[31mred\\nline\"");
    assert_non_null(e);
    assert_null(strpbrk(err_text(e), "\033\n"));
    err_free(e);
    AUTO_FREE char *deep = mem_alloc(100001);
    memset(deep, '{', 100000);
    deep[100000] = '\0';
    assert_err(reload(400, deep), ERR_CONFIG, "broken: {{{");
}

static void test_permission_by_user(void **state)
{
    AUTO(secret_freep) struct secret *password = secret_new("hunter2", 7);
    struct server s = {.status = 403, .body = ""};
    struct ejabberd_api api = {
            .url = "http://e:5280/api", .user = "admin@im.example.org", .password = password};
    assert_err(run(&s, &api, NULL, FAKE_FAULT_NONE), ERR_CONFIG,
            "who: {user: \"admin@im.example.org\"}");
    s.status = 401;
    assert_err(run(&s, &api, NULL, FAKE_FAULT_NONE), ERR_CONFIG,
            "check the password of admin@im.example.org");
    api = (struct ejabberd_api){.url = "http://e:5280/api", .token = password};
    assert_err(run(&s, &api, NULL, FAKE_FAULT_NONE), ERR_CONFIG, "oauth_issue_token");
}

/* ---- transport ---- */

static void test_unreachable(void **state)
{
    struct server s = {.fail = ERR_RETRY};
    assert_err(run(&s, &unix_api, NULL, FAKE_FAULT_NONE), ERR_RETRY,
            "check that ejabberd runs and has a listener 'port: \"unix:" SOCKET "\"'");
    s.fail = ERR_TIMEOUT;
    assert_err(run(&s, &unix_api, NULL, FAKE_FAULT_NONE), ERR_RETRY, "check that ejabberd runs");
    const struct ejabberd_api tcp = {.url = "http://ejabberd:5280/api"};
    assert_err(run(&s, &tcp, NULL, FAKE_FAULT_NONE), ERR_RETRY, "http://ejabberd:5280/api");
    s.fail = ERR_CONFIG;
    assert_err(run(&s, &tcp, NULL, FAKE_FAULT_NONE), ERR_CONFIG, "connection refused");
}

static void test_socket_without_permission(void **state)
{
    char path[64] = "/tmp/certherd-sock-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    if (geteuid() != 0) {
        unlink(path);
        skip();
    }
    AUTO_FREE char *url = str_printf("unix:%s", path);
    const struct ejabberd_api api = {.url = url};
    struct server s = {.fail = ERR_RETRY};
    /* access() asks for the real user. */
    assert_int_equal(setresuid(65534, 65534, 0), 0);
    struct err *e = run(&s, &api, NULL, FAKE_FAULT_NONE);
    assert_int_equal(setresuid(0, 0, 0), 0);
    unlink(path);
    assert_err(e, ERR_RETRY, "let uid 65534");
}

static void test_canceled(void **state)
{
    struct server s = {.fail = ERR_CANCELED};
    assert_err(run(&s, &unix_api, NULL, FAKE_FAULT_CANCEL), ERR_CANCELED, "");
}

/* ---- registered_vhosts ---- */

static struct err *vhosts(const char *body, struct name_list *ret)
{
    struct server s = {.status = 200, .body = body};
    struct err *e = run(&s, &unix_api, ret, FAKE_FAULT_NONE);
    assert_string_equal(s.url, "http://localhost/api/registered_vhosts");
    return e;
}

static void test_vhosts(void **state)
{
    AUTO(name_list_done) struct name_list list = {0};
    assert_ok(vhosts("[\"im.example.org\",\"b\xc3\xbc"
                     "cher.example.net\",\"localhost\",\"IM.example.org\"]",
            &list));
    assert_int_equal(list.n, 2);
    assert_string_equal(list.v[0].text, "im.example.org");
    assert_string_equal(list.v[1].text, "xn--bcher-kva.example.net");
    AUTO(name_list_done) struct name_list none = {0};
    assert_ok(vhosts("[]", &none));
    assert_int_equal(none.n, 0);
}

static void test_vhosts_refuses(void **state)
{
    static const char *const bad[] = {"", "0", "{}", "[1]", "[\"a.example\",null]", "[[\"a\"]]",
            "[\"a.example\"", "<html></html>"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct name_list list = {0};
        assert_err(vhosts(bad[i], &list), ERR_PROTOCOL, "unix:" SOCKET);
        assert_null(list.v);
    }
    AUTO_BUF struct buf many = BUF_INIT(1024 * 1024);
    buf_putc(&many, '[');
    for (int i = 0; i < 5001; i++)
        buf_printf(&many, "%s\"h%d.example.org\"", i > 0 ? "," : "", i);
    buf_putc(&many, ']');
    struct name_list list = {0};
    assert_err(vhosts(buf_str(&many), &list), ERR_PROTOCOL, "5001 names");
    struct server s = {.status = 400, .body = "x"};
    assert_err(run(&s, &unix_api, &list, FAKE_FAULT_NONE), ERR_CONFIG, "found 400");
}

/* ---- configuration ---- */

static void test_api_check(void **state)
{
    AUTO(secret_freep) struct secret *s = secret_new("x", 1);
    AUTO_FREE char *long_path = mem_alloc(300);
    memset(long_path, 'a', 299);
    memcpy(long_path, "unix:/", 6);
    long_path[299] = '\0';
    const struct {
        struct ejabberd_api api;
        const char *part; /* NULL: fine */
    } cases[] = {
            {{.url = "unix:/run/ejabberd/api.sock"}, NULL},
            {{.url = "http://127.0.0.1:5280/api"}, NULL},
            {{.url = "https://[::1]:5443/api/"}, NULL},
            {{.url = "http://e:5280/api", .user = "a@b", .password = s}, NULL},
            {{.url = "http://e:5280/api", .token = s}, NULL},
            {{.url = ""}, "expected unix:/path or http://host:port/api"},
            {{.url = "ejabberd:5280"}, "expected unix:/path"},
            {{.url = "ftp://e/api"}, "expected unix:/path"},
            {{.url = "unix:api.sock"}, "begins with /"},
            {{.url = long_path}, "at most 107"},
            {{.url = "http:///api"}, "no host"},
            {{.url = "http://e:5280"}, "usually http://e:5280/api"},
            {{.url = "http://e:5280/"}, "usually http://e:5280/api"},
            {{.url = "http://e:5280/api?key=1"}, "no meaning"},
            {{.url = "http://admin:secret@e:5280/api"}, "keys of their own"},
            {{.url = "http://e:5280/api\r\nX: y"}, "blank or control"},
            {{.url = "http://e:5280/api", .user = "a@b"}, "the password is not set"},
            {{.url = "http://e:5280/api", .password = s}, "the user is not set"},
            {{.url = "http://e:5280/api", .user = "admin", .password = s}, "name@virtual-host"},
            {{.url = "http://e:5280/api", .user = "a@b", .password = s, .token = s}, "one of them"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (cases[i].part == NULL)
            assert_ok(ejabberd_api_check(&cases[i].api));
        else
            assert_err(ejabberd_api_check(&cases[i].api), ERR_CONFIG, cases[i].part);
    }
    struct err *e = ejabberd_api_check(&cases[14].api);
    assert_null(strstr(err_text(e), "secret"));
    err_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_request_by_socket),
            cmocka_unit_test(test_request_by_tcp),
            cmocka_unit_test(test_reload_answers),
            cmocka_unit_test(test_reload_nul_in_answer),
            cmocka_unit_test(test_answers_are_made_safe),
            cmocka_unit_test(test_permission_by_user),
            cmocka_unit_test(test_unreachable),
            cmocka_unit_test(test_socket_without_permission),
            cmocka_unit_test(test_canceled),
            cmocka_unit_test(test_vhosts),
            cmocka_unit_test(test_vhosts_refuses),
            cmocka_unit_test(test_api_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
