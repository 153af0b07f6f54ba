/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "acme/http01.h"
#include "base/file.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_err.h"

#define TOKEN_A "AAAAAAAAAAAAAAAAAAAAAA-a"
#define TOKEN_B "BBBBBBBBBBBBBBBBBBBBBB_b"

static char top[64];  /* removed at the end */
static char dir[96];  /* token directory */
static char jour[96]; /* journal */

static int make_dirs(void **state)
{
    snprintf(top, sizeof(top), "/tmp/certherd-http01-XXXXXX");
    if (mkdtemp(top) == NULL || chmod(top, 0755) != 0)
        return -1;
    snprintf(dir, sizeof(dir), "%s/acme", top);
    snprintf(jour, sizeof(jour), "%s/journal/http01", top);
    return mkdir(dir, 0755);
}

static int remove_dirs(void **state)
{
    assert_ok(file_remove_tree(top));
    return 0;
}

static void put(const char *path, const char *text)
{
    const struct file_write_options options = {.mode = 0644};
    assert_ok(file_write(path, text, strlen(text), &options));
}

/* NULL: there is no such file. */
static char *text_of(const char *path)
{
    AUTO_BUF struct buf text = BUF_INIT(64 * 1024);
    bool exists = false;
    assert_ok(file_read(path, 64 * 1024, &text, &exists));
    return exists ? buf_steal(&text) : NULL;
}

static void assert_file(const char *folder, const char *name, const char *expected)
{
    AUTO_FREE char *path = str_printf("%s/%s", folder, name);
    AUTO_FREE char *found = text_of(path);
    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found != NULL ? found : "(no file)", expected);
}

static size_t count_files(const char *folder)
{
    AUTO_STRV struct strv names = {0};
    bool exists = false;
    assert_ok(file_list(folder, 1000, &names, &exists));
    return names.n;
}

static struct acme_challenge challenge(const char *token, char *answer)
{
    struct acme_challenge c = {.type = "http-01", .key_authorization = answer};
    snprintf(c.name.text, sizeof(c.name.text), "im.example.org");
    snprintf(c.token, sizeof(c.token), "%s", token);
    return c;
}

static char answer_a[] = TOKEN_A ".thumbprint";
static char answer_b[] = TOKEN_B ".thumbprint";

/* ---- running on a fiber ---- */

struct run {
    struct fake_world *fw;
    struct world *world;
    struct http01 *h;
    struct err *(*body)(struct run *run);
    const void *arg;
    struct http01_probe_result probe;
};

static struct err *open_and_run(void *arg) MAY_SUSPEND;
static struct err *open_and_run(void *arg)
{
    struct run *run = arg;
    const struct http01_options options = {.token_dir = dir, .journal_path = jour};
    AUTO(http01_closep) struct http01 *h = NULL;
    TRY(http01_open(run->world, &options, &h));
    run->h = h;
    return run->body(run);
}

static struct err *with_webroot(struct run *run, struct err *(*body)(struct run *run))
{
    struct fake_world fw;
    fake_world_init(&fw);
    if (run->fw != NULL) {
        fw.http = run->fw->http;
        fw.http_arg = run->fw->http_arg;
        fw.fault = run->fw->fault;
        fw.fault_at = run->fw->fault_at;
    }
    run->world = &fw.world;
    run->body = body;
    struct err *e = fake_world_run(&fw, open_and_run, run);
    fake_world_done(&fw);
    return e;
}

static void run_webroot(struct err *(*body)(struct run *run))
{
    struct run run = {0};
    assert_ok(with_webroot(&run, body));
}

/* ---- web root ---- */

static struct err *present_and_remove(struct run *run) MAY_SUSPEND;
static struct err *present_and_remove(struct run *run)
{
    const struct acme_solver *solver = http01_solver(run->h);
    const struct acme_challenge a = challenge(TOKEN_A, answer_a), b = challenge(TOKEN_B, answer_b);
    assert_string_equal(solver->type, "http-01");
    TRY(acme_solver_present(solver, &a));
    TRY(acme_solver_present(solver, &b));
    assert_file(dir, TOKEN_A, answer_a);
    assert_file(dir, TOKEN_B, answer_b);
    assert_file(top, "journal/http01", TOKEN_A "\n" TOKEN_B "\n");
    AUTO_FREE char *path = str_printf("%s/%s", dir, TOKEN_A);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    TRY(acme_solver_present(solver, &a)); /* again: idempotent */
    TRY(acme_solver_verify(solver, &a));
    TRY(acme_solver_remove(solver, &a));
    assert_file(dir, TOKEN_A, NULL);
    assert_file(top, "journal/http01", TOKEN_B "\n");
    TRY(acme_solver_remove(solver, &b));
    TRY(acme_solver_remove(solver, &b));
    assert_file(top, "journal/http01", NULL);
    return NULL;
}

static void test_present_and_remove(void **state)
{
    AUTO_FREE char *foreign = str_printf("%s/foreign-token-of-mailcow-acme", dir);
    put(foreign, "not ours");
    mode_t before = umask(077);
    run_webroot(present_and_remove);
    umask(before);
    assert_file(dir, "foreign-token-of-mailcow-acme", "not ours");
    assert_int_equal(count_files(dir), 1);
    assert_int_equal(unlink(foreign), 0);
}

struct one {
    const struct acme_solver *solver;
    struct acme_challenge challenge;
};

static struct err *present_one(void *arg) MAY_SUSPEND;
static struct err *present_one(void *arg)
{
    const struct one *one = arg;
    return acme_solver_present(one->solver, &one->challenge);
}

static struct err *remove_one(void *arg) MAY_SUSPEND;
static struct err *remove_one(void *arg)
{
    const struct one *one = arg;
    return acme_solver_remove(one->solver, &one->challenge);
}

static struct err *many_at_once(struct run *run) MAY_SUSPEND;
static struct err *many_at_once(struct run *run)
{
    enum { N = 20 };
    struct one ones[N];
    struct fiber_group group;
    for (int round = 0; round < 2; round++) {
        fiber_group_init(&group);
        for (int i = 0; i < N; i++) {
            AUTO_FREE char *token = str_printf("token-number-%02d-abcdefgh", i);
            if (round == 0)
                ones[i] = (struct one){http01_solver(run->h), challenge(token, answer_a)};
            fiber_group_spawn(&group, "one", round == 0 ? present_one : remove_one, &ones[i]);
        }
        TRY(fiber_group_wait(&group));
        assert_int_equal(count_files(dir), round == 0 ? N : 0);
        AUTO_FREE char *journal = text_of(jour);
        if (round == 0)
            assert_int_equal(strlen(journal), N * strlen("token-number-00-abcdefgh\n"));
        else
            assert_null(journal);
    }
    return NULL;
}

static void test_many_at_once(void **state)
{
    run_webroot(many_at_once);
}

static struct err *lose_and_verify(struct run *run) MAY_SUSPEND;
static struct err *lose_and_verify(struct run *run)
{
    const struct acme_solver *solver = http01_solver(run->h);
    const struct acme_challenge a = challenge(TOKEN_A, answer_a), b = challenge(TOKEN_B, answer_b);
    AUTO_FREE char *path = str_printf("%s/%s", dir, TOKEN_A);
    TRY(acme_solver_present(solver, &a));
    assert_int_equal(unlink(path), 0);
    TRY(acme_solver_verify(solver, &a));
    assert_file(dir, TOKEN_A, answer_a);
    static const char *const changed[] = {"", "other", TOKEN_A ".thumbprint and more"};
    for (size_t i = 0; i < ARRAY_SIZE(changed); i++) {
        put(path, changed[i]);
        TRY(acme_solver_verify(solver, &a));
        assert_file(dir, TOKEN_A, answer_a);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    TRY(acme_solver_verify(solver, &a));
    assert_file(dir, TOKEN_A, answer_a);
    /* Not presented in this process: it is now. */
    TRY(acme_solver_verify(solver, &b));
    assert_file(dir, TOKEN_B, answer_b);
    TRY(acme_solver_remove(solver, &b));
    return acme_solver_remove(solver, &a);
}

static void test_verify_writes_again(void **state)
{
    run_webroot(lose_and_verify);
    assert_int_equal(count_files(dir), 0);
}

static struct err *bad_tokens(struct run *run) MAY_SUSPEND;
static struct err *bad_tokens(struct run *run)
{
    static const char *const tokens[] = {"", "short", "../../../../../../../../tmp/xxxxxx",
            "AAAAAAAAAAAAAAAAAAAAAA%2e", "AAAAAAAAAAAAAAAAAAAAAA.b", "AAAAAAAAAAAAAAAAAAAAAA\r\n"};
    for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
        const struct acme_challenge c = challenge(tokens[i], answer_a);
        assert_err(acme_solver_present(http01_solver(run->h), &c), ERR_PROTOCOL, "base64url");
        assert_ok(acme_solver_remove(http01_solver(run->h), &c));
    }
    return NULL;
}

static void test_refuses_bad_tokens(void **state)
{
    run_webroot(bad_tokens);
    assert_int_equal(count_files(dir), 0);
}

static struct err *nothing(struct run *run)
{
    return NULL;
}

static struct err *settle(struct run *run) MAY_SUSPEND;
static struct err *settle(struct run *run)
{
    return http01_settle(run->h);
}

static void test_sweep(void **state)
{
    AUTO_FREE char *ours = str_printf("%s/%s", dir, TOKEN_A);
    AUTO_FREE char *half = str_printf("%s/.%s.tmp", dir, TOKEN_B);
    AUTO_FREE char *foreign = str_printf("%s/%s", dir, "foreign-token");
    AUTO_FREE char *victim = str_printf("%s/victim", top);
    put(ours, answer_a);
    put(half, "half");
    put(foreign, "not ours");
    put(victim, "outside");
    put(jour, TOKEN_A "\n../victim\n\n" TOKEN_B "\n.\n..\n");
    run_webroot(settle);
    assert_file(dir, TOKEN_A, NULL);
    assert_file(dir, "foreign-token", "not ours");
    assert_file(top, "victim", "outside");
    assert_file(top, "journal/http01", NULL);
    assert_int_equal(unlink(foreign), 0);
    assert_int_equal(count_files(dir), 0);
}

static struct err *present_only(struct run *run) MAY_SUSPEND;
static struct err *present_only(struct run *run)
{
    const struct acme_challenge a = challenge(TOKEN_A, answer_a);
    return acme_solver_present(http01_solver(run->h), &a);
}

/* A process that ended without removing: the next run does. */
static void test_sweep_after_crash(void **state)
{
    AUTO_FREE char *half = str_printf("%s/.%s.tmp", dir, TOKEN_A);
    put(half, "left by a crash");
    run_webroot(present_only);
    assert_file(dir, TOKEN_A, answer_a);
    assert_int_equal(count_files(dir), 1);
    run_webroot(settle);
    assert_int_equal(count_files(dir), 0);
    assert_file(top, "journal/http01", NULL);
}

/* An order that is gone on with: the CA may be looking at the token while we start. */
static struct err *present_again(struct run *run) MAY_SUSPEND;
static struct err *present_again(struct run *run)
{
    const struct acme_challenge a = challenge(TOKEN_A, answer_a);
    const struct acme_solver *solver = http01_solver(run->h);
    assert_file(dir, TOKEN_A, answer_a);
    assert_file(dir, TOKEN_B, "left");
    assert_ok(acme_solver_present(solver, &a));
    assert_ok(http01_settle(run->h));
    assert_file(dir, TOKEN_A, answer_a);
    assert_file(dir, TOKEN_B, NULL);
    assert_file(top, "journal/http01", TOKEN_A "\n");
    return acme_solver_remove(solver, &a);
}

static void test_presented_again(void **state)
{
    AUTO_FREE char *first = str_printf("%s/%s", dir, TOKEN_A);
    AUTO_FREE char *second = str_printf("%s/%s", dir, TOKEN_B);
    put(first, answer_a);
    put(second, "left");
    put(jour, TOKEN_A "\n" TOKEN_B "\n");
    run_webroot(present_again);
    assert_int_equal(count_files(dir), 0);
    assert_file(top, "journal/http01", NULL);
}

static struct err *present_canceled(struct run *run) MAY_SUSPEND;
static struct err *present_canceled(struct run *run)
{
    const struct acme_challenge a = challenge(TOKEN_A, answer_a);
    fiber_cancel(fiber_self());
    struct err *e = acme_solver_present(http01_solver(run->h), &a);
    {
        FIBER_SHIELD(10 * CLOCK_SEC);
        assert_ok(acme_solver_remove(http01_solver(run->h), &a));
    }
    return e;
}

static void test_present_canceled(void **state)
{
    struct run run = {0};
    assert_err(with_webroot(&run, present_canceled), ERR_CANCELED, "");
    assert_int_equal(count_files(dir), 0);
    assert_file(top, "journal/http01", NULL);
}

static void test_open_refuses_missing_dir(void **state)
{
    struct run run = {0};
    char kept[sizeof(dir)];
    memcpy(kept, dir, sizeof(dir));
    snprintf(dir, sizeof(dir), "%s/nowhere", top);
    assert_err(with_webroot(&run, nothing), ERR_CONFIG, "mkdir -p");
    AUTO_FREE char *file = str_printf("%s/plain", top);
    put(file, "");
    snprintf(dir, sizeof(dir), "%s", file);
    assert_err(with_webroot(&run, nothing), ERR_CONFIG, "/plain");
    memcpy(dir, kept, sizeof(dir));
}

static void test_open_refuses_foreign_dir(void **state)
{
    if (geteuid() != 0)
        skip();
    struct run run = {0};
    assert_int_equal(setegid(65534), 0);
    assert_int_equal(seteuid(65534), 0);
    struct err *e = with_webroot(&run, nothing);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
    assert_non_null(e);
    assert_int_equal(err_kind(e), ERR_CONFIG);
    assert_non_null(strstr(err_text(e), "cannot be written as uid 65534 gid 65534 (it has uid 0"));
    AUTO_FREE char *advice = str_printf("chgrp 65534 %s; chmod 2775 %s", dir, dir);
    assert_non_null(strstr(err_advice(e), advice));
    err_free(e);
}

/* ---- probe on a fake network ---- */

enum site {
    SITE_OURS,
    SITE_OURS_NEWLINE,
    SITE_404,
    SITE_403,
    SITE_HTML,
    SITE_REDIRECT,
    SITE_OURS_REDIRECT,
    SITE_STATELESS,
    SITE_502,
    SITE_EMPTY,
    SITE_REFUSED,
    SITE_TIMEOUT,
    SITE_BAD_REDIRECT,
    SITE_NO_MEMORY
};

static void serve_file(const char *token, struct http_reply *reply)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, token);
    AUTO_FREE char *text = text_of(path);
    reply->status = text != NULL ? 200 : 404;
    fake_reply_body(reply, text != NULL ? text : "gone");
}

static struct err *site(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret)
{
    const char *token = strrchr(request->url, '/') + 1;
    assert_true(str_starts(request->url, "http://im.example.org/.well-known/acme-challenge/"));
    assert_int_equal(request->redirects, HTTP_REDIRECT_LIKE_CA);
    assert_true(request->allow_http);
    assert_int_equal(addr_port(request->connect_to), 80);
    ret->status = 200;
    ret->peer = *request->connect_to;
    switch (*(const enum site *)arg) {
    case SITE_OURS:
        serve_file(token, ret);
        return NULL;
    case SITE_OURS_NEWLINE:
        serve_file(token, ret);
        fake_reply_body(ret, " \r\n");
        return NULL;
    case SITE_404:
        ret->status = 404;
        fake_reply_body(ret, "<html>nginx \033[1mnot found</html>");
        return NULL;
    case SITE_403:
        ret->status = 403;
        return NULL;
    case SITE_HTML:
        fake_reply_header(ret, "content-type", "text/html; charset=utf-8");
        fake_reply_body(ret, "Welcome");
        return NULL;
    case SITE_REDIRECT:
    case SITE_OURS_REDIRECT:
        ret->effective_url = str_dup("https://www.example.com/login");
        if (*(const enum site *)arg == SITE_OURS_REDIRECT)
            serve_file(token, ret);
        else
            ret->status = 404;
        return NULL;
    case SITE_STATELESS: {
        AUTO_FREE char *text = str_printf("%s.otherthumbprint", token);
        fake_reply_body(ret, text);
        return NULL;
    }
    case SITE_502:
        ret->status = 502;
        return NULL;
    case SITE_EMPTY:
        return NULL;
    default:
        break;
    }
    switch (*(const enum site *)arg) {
    case SITE_TIMEOUT:
        return ERR(ERR_TIMEOUT, "no answer within 10 s");
    case SITE_BAD_REDIRECT:
        return ERR(ERR_CONFIG, "redirect to port 8443");
    case SITE_NO_MEMORY:
        return err_nomem();
    default:
        return ERR(ERR_RETRY, "connection refused");
    }
}

static struct err *probe(struct run *run) MAY_SUSPEND;
static struct err *probe(struct run *run)
{
    struct name name;
    struct addr at;
    TRY(name_parse("im.example.org", &name));
    TRY(addr_parse("192.0.2.7", 0, &at));
    return http01_probe(run->h, &name, &at, &run->probe);
}

static struct err *run_probe(enum site which, struct http01_probe_result *ret)
{
    struct fake_world fw = {.http = site, .http_arg = &which};
    struct run run = {.fw = &fw};
    struct err *e = with_webroot(&run, probe);
    assert_int_equal(count_files(dir), 0);
    assert_file(top, "journal/http01", NULL);
    *ret = run.probe;
    return e;
}

static void test_probe_verdicts(void **state)
{
    static const struct {
        enum site site;
        enum http01_probe_verdict verdict;
        long status;
        const char *part;
    } cases[] = {
            {SITE_OURS, HTTP01_PROBE_OK, 200, "our token came back"},
            {SITE_OURS_NEWLINE, HTTP01_PROBE_OK, 200, "our token came back"},
            {SITE_OURS_REDIRECT, HTTP01_PROBE_OK, 200, "after a redirect"},
            {SITE_404, HTTP01_PROBE_OTHER, 404,
                    "found HTTP status 404 with \"<html>nginx ?[1mnot found</html>\"; another web "
                    "server, virtual host or directory answers there"},
            {SITE_403, HTTP01_PROBE_OTHER, 403, "may not read the token's file"},
            {SITE_HTML, HTTP01_PROBE_OTHER, 200, "that is a web page"},
            {SITE_REDIRECT, HTTP01_PROBE_OTHER, 404,
                    "after a redirect to https://www.example.com/login"},
            {SITE_STATELESS, HTTP01_PROBE_OTHER, 200, "another ACME client"},
            {SITE_502, HTTP01_PROBE_OTHER, 502, "in trouble"},
            {SITE_EMPTY, HTTP01_PROBE_OTHER, 200, "found HTTP status 200"},
            {SITE_REFUSED, HTTP01_PROBE_UNREACHABLE, 0, "no answer: connection refused"},
            {SITE_TIMEOUT, HTTP01_PROBE_UNREACHABLE, 0, "no answer: no answer within 10 s"},
            {SITE_BAD_REDIRECT, HTTP01_PROBE_OTHER, 0, "redirect to port 8443"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http01_probe_result result = {0};
        assert_ok(run_probe(cases[i].site, &result));
        assert_int_equal(result.verdict, cases[i].verdict);
        assert_int_equal(result.status, cases[i].status);
        assert_true(str_starts(result.detail, "im.example.org at 192.0.2.7 port 80: "));
        if (strstr(result.detail, cases[i].part) == NULL)
            fail_msg("expected \"%s\" in \"%s\"", cases[i].part, result.detail);
        assert_int_equal(addr_family(&result.peer), cases[i].status != 0 ? AF_INET : AF_UNSPEC);
        http01_probe_result_done(&result);
    }
}

static void test_probe_own_faults(void **state)
{
    struct http01_probe_result result = {0};
    assert_err(run_probe(SITE_NO_MEMORY, &result), ERR_NOMEM, "");
    assert_null(result.detail);
}

static void test_probe_canceled(void **state)
{
    enum site which = SITE_REFUSED;
    struct fake_world fw = {
            .http = site, .http_arg = &which, .fault = FAKE_FAULT_CANCEL, .fault_at = 1};
    struct run run = {.fw = &fw};
    assert_err(with_webroot(&run, probe), ERR_CANCELED, "im.example.org");
    assert_null(run.probe.detail);
    assert_int_equal(count_files(dir), 0);
    assert_file(top, "journal/http01", NULL);
}

/* ---- responder on real sockets ---- */

struct real {
    struct world *world;
    struct err *(*body)(struct world *world, struct http01 *h, const struct addr *at);
    struct err *result;
};

static struct err *serve_and_run(void *arg) MAY_SUSPEND;
static struct err *serve_and_run(void *arg)
{
    struct real *real = arg;
    struct http01_options options = {.journal_path = jour};
    AUTO(http01_closep) struct http01 *h = NULL;
    TRY(addr_parse("127.0.0.1", 0, &options.listen));
    TRY(http01_open(real->world, &options, &h));
    struct addr at = http01_address(h);
    assert_int_not_equal(addr_port(&at), 0);
    return real->body(real->world, h, &at);
}

static void keep_result(void *arg, struct err *result)
{
    ((struct real *)arg)->result = result;
}

static void run_responder(
        struct err *(*body)(struct world *world, struct http01 *h, const struct addr *at))
{
    struct loop *loop = NULL;
    struct real real = {.body = body};
    assert_ok(loop_new(&loop));
    assert_ok(world_new(loop, "certherd-test", &real.world));
    fiber_spawn(loop, "test", serve_and_run, &real, keep_result);
    loop_run(loop);
    world_free(real.world);
    loop_free(loop);
    assert_ok(real.result);
}

static struct err *ask(struct world *world, const struct addr *at, const char *method,
        const char *path, struct http_reply *ret) MAY_SUSPEND;
static struct err *ask(struct world *world, const struct addr *at, const char *method,
        const char *path, struct http_reply *ret)
{
    AUTO_FREE char *url = str_printf("http://im.example.org%s", path);
    const struct http_request request = {
            .method = method, .url = url, .allow_http = true, .connect_to = at};
    return world_http(world, NULL, &request, ret);
}

static struct err *serve(struct world *world, struct http01 *h, const struct addr *at) MAY_SUSPEND;
static struct err *serve(struct world *world, struct http01 *h, const struct addr *at)
{
    static const struct {
        const char *method, *path;
        long status;
        const char *body;
    } cases[] = {
            {"GET", "/.well-known/acme-challenge/" TOKEN_A, 200, answer_a},
            {"GET", "/.well-known/acme-challenge/" TOKEN_B, 200, answer_b},
            {"HEAD", "/.well-known/acme-challenge/" TOKEN_A, 200, ""},
            {"GET", "/.well-known/acme-challenge/" TOKEN_A "x", 404, NULL},
            {"GET", "/.well-known/acme-challenge/", 404, NULL},
            {"GET", "/.well-known/acme-challenge/../acme-challenge", 404, NULL},
            {"GET", "/.well-known/acme-challenge/..%2f..%2fetc%2fpasswd", 404, NULL},
            {"GET", "/", 404, NULL},
            {"POST", "/.well-known/acme-challenge/" TOKEN_A, 405, NULL},
            {"DELETE", "/.well-known/acme-challenge/" TOKEN_A, 405, NULL},
    };
    const struct acme_challenge a = challenge(TOKEN_A, answer_a), b = challenge(TOKEN_B, answer_b);
    TRY(acme_solver_present(http01_solver(h), &a));
    TRY(acme_solver_verify(http01_solver(h), &b));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_HTTP_REPLY struct http_reply reply = {0};
        TRY(ask(world, at, cases[i].method, cases[i].path, &reply));
        assert_int_equal(reply.status, cases[i].status);
        if (cases[i].body != NULL)
            assert_string_equal(buf_str(&reply.body), cases[i].body);
        if (cases[i].status == 200)
            assert_string_equal(
                    http_reply_header(&reply, "content-type"), "application/octet-stream");
    }
    TRY(acme_solver_remove(http01_solver(h), &a));
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    TRY(ask(world, at, "GET", cases[0].path, &reply));
    assert_int_equal(reply.status, 404);
    return acme_solver_remove(http01_solver(h), &b);
}

static void test_responder(void **state)
{
    run_responder(serve);
    assert_file(top, "journal/http01", NULL);
}

static struct err *probe_self(struct world *world, struct http01 *h, const struct addr *at)
        MAY_SUSPEND;
static struct err *probe_self(struct world *world, struct http01 *h, const struct addr *at)
{
    struct name name;
    struct http01_probe_result result = {0};
    TRY(name_parse("im.example.org", &name));
    TRY(http01_probe(h, &name, at, &result));
    assert_int_equal(result.verdict, HTTP01_PROBE_OK);
    assert_true(addr_equal_ip(&result.peer, at));
    http01_probe_result_done(&result);

    /* Port 9 of an address that is ours: nobody listens there. */
    struct addr closed = *at;
    addr_set_port(&closed, 9);
    TRY(http01_probe(h, &name, &closed, &result));
    assert_int_equal(result.verdict, HTTP01_PROBE_UNREACHABLE);
    assert_non_null(strstr(result.detail, "127.0.0.1 port 9"));
    http01_probe_result_done(&result);
    return NULL;
}

static void test_probe_own_responder(void **state)
{
    run_responder(probe_self);
}

static struct err *second_on_port(struct world *world, struct http01 *h, const struct addr *at)
        MAY_SUSPEND;
static struct err *second_on_port(struct world *world, struct http01 *h, const struct addr *at)
{
    const struct http01_options options = {.listen = *at, .journal_path = jour};
    struct http01 *second = NULL;
    assert_err(http01_open(world, &options, &second), ERR_CONFIG, "127.0.0.1");
    assert_null(second);
    return NULL;
}

static void test_port_taken(void **state)
{
    run_responder(second_on_port);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_present_and_remove),
            cmocka_unit_test(test_many_at_once),
            cmocka_unit_test(test_verify_writes_again),
            cmocka_unit_test(test_refuses_bad_tokens),
            cmocka_unit_test(test_sweep),
            cmocka_unit_test(test_sweep_after_crash),
            cmocka_unit_test(test_presented_again),
            cmocka_unit_test(test_present_canceled),
            cmocka_unit_test(test_open_refuses_missing_dir),
            cmocka_unit_test(test_open_refuses_foreign_dir),
            cmocka_unit_test(test_probe_verdicts),
            cmocka_unit_test(test_probe_own_faults),
            cmocka_unit_test(test_probe_canceled),
            cmocka_unit_test(test_responder),
            cmocka_unit_test(test_probe_own_responder),
            cmocka_unit_test(test_port_taken),
    };
    return cmocka_run_group_tests(tests, make_dirs, remove_dirs);
}
