/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/scenario/stage.h"

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/tls_private.h"

#define API "http://127.0.0.1:5280/api"

/* ---- files ---- */

static char *in(const struct stage *s, const char *relative)
{
    return str_printf("%s/%s", s->dir, relative);
}

static void write_text(const struct stage *s, const char *relative, const char *text)
{
    AUTO_FREE char *path = in(s, relative);
    struct file_write_options options = {.mode = 0644};

    assert_ok(file_write(path, text, strlen(text), &options));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

/* ---- the imitation ejabberd ---- */

static struct stage_served *find_served(struct stage *s, const struct name *name)
{
    for (size_t i = 0; i < s->n_served; i++)
        if (name_is_below(name, &s->served[i].host))
            return &s->served[i];
    return NULL;
}

static void load_live(struct stage *s, struct stage_served *served)
{
    AUTO_FREE char *relative = str_printf("live/%s.pem", served->host.text);
    AUTO_FREE char *path = in(s, relative);
    AUTO_BUF struct buf text = BUF_INIT_SECRET(CERT_CHAIN_MAX);
    AUTO_CERT_INFO struct cert_info info = {0};
    bool exists = false;

    assert_ok(file_read(path, CERT_CHAIN_MAX, &text, &exists));
    if (!exists)
        return;
    assert_ok(cert_parse(text.data, text.len, true, &info));
    assert_ok(key_check_joined(text.data, text.len));
    memcpy(served->leaf_sha256, info.leaf_sha256, sizeof(served->leaf_sha256));
    served->not_after = info.not_after;
    served->good = true;
}

static struct err *api(struct stage *s, const struct http_request *request, struct http_reply *ret)
{
    assert_string_equal(request->url, API "/reload_config");
    if (s->ejabberd_down)
        return ERR_UV(UV_ECONNREFUSED, "127.0.0.1:5280");
    s->reloads++;
    s->refusing = s->refuses_all;
    for (size_t i = 0; i < s->n_served; i++)
        load_live(s, &s->served[i]);
    ret->status = 200;
    fake_reply_body(ret, "0");
    return NULL;
}

static struct err *http(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret) MAY_SUSPEND;
static struct err *http(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret)
{
    struct stage *s = arg;

    if (s->ca_down && str_starts(request->url, "https://ca.test"))
        return ERR_UV(UV_ECONNREFUSED, "ca.test:14000");
    if (str_starts(request->url, "https://ca.test"))
        return fake_ca_http(&s->ca, ca_bundle, request, ret);
    TRY(fiber_sleep(30));
    if (str_starts(request->url, "http://127.0.0.1"))
        return api(s, request, ret);
    assert_true(str_ends(request->url, "/upload"));
    if (s->ejabberd_down)
        return ERR_UV(UV_ECONNREFUSED, "127.0.0.1:5443");
    ret->status = 404;
    return NULL;
}

static struct err *tls(void *arg, const struct tls_probe_request *request,
        struct tls_probe_result *ret) MAY_SUSPEND;
static struct err *tls(
        void *arg, const struct tls_probe_request *request, struct tls_probe_result *ret)
{
    struct stage *s = arg;
    const struct stage_served *served = find_served(s, request->expect);

    TRY(fiber_sleep(20));
    if (s->ejabberd_down)
        return ERR_UV(UV_ECONNREFUSED, "127.0.0.1:5222");
    assert_non_null(served);
    if (s->refusing)
        return ERR(ERR_RETRY, "closed the connection");
    if (s->unserved != NULL && strcmp(request->expect->text, s->unserved) == 0)
        return tls_fail(ERR(ERR_CONFIG, "host-unknown"), TLS_FAILURE_HOST_UNKNOWN);
    if (s->refuses_other && memcmp(served->leaf_sha256, s->only, sizeof(s->only)) != 0)
        return ERR(ERR_RETRY, "closed the connection");
    ret->verdict = served->good ? TLS_VALID : TLS_UNTRUSTED;
    ret->detail = served->good ? NULL : str_dup("self-signed certificate");
    memcpy(ret->leaf_sha256, served->leaf_sha256, sizeof(ret->leaf_sha256));
    ret->not_after = served->not_after;
    return NULL;
}

static struct err *resolve(
        void *arg, const char *host, uint16_t port, struct addr ret[NET_RESOLVE_MAX], size_t *ret_n)
{
    (void)arg;
    *ret_n = 1;
    return addr_parse(host, port, &ret[0]);
}

/* A validator looks into the web root. */
static bool token_is_there(void *arg, const char *name, const char *token)
{
    struct stage *s = arg;
    AUTO_FREE char *relative = str_printf("tokens/%s", token);
    AUTO_FREE char *path = in(s, relative);

    (void)name;
    return access(path, R_OK) == 0;
}

/* ---- set-up ---- */

static void load_config(struct stage *s, const char *domains)
{
    AUTO_FREE char *path = in(s, "certherd.yml");
    AUTO_FREE char *list = str_printf("CERTHERD_DOMAINS=%s", domains);
    AUTO_FREE char *text =
            str_printf("mail_host: mail.example.org\n"
                       "state_dir: %s/state\n"
                       "cert_dir: %s/live\n"
                       "acme: {directory: \"" FAKE_CA_DIRECTORY "\", roots: %s/roots.pem}\n"
                       "http01: {token_dir: %s/tokens}\n"
                       "preflight: {skip: [dns, http]}\n"
                       "ejabberd: {api: \"" API "\"}\n"
                       "log: {level: error}\n",
                    s->dir, s->dir, s->dir, s->dir);
    struct config_load load = {.path = path, .environment = (char *[]){list, NULL}};
    struct config_problems problems = {0};

    write_text(s, "certherd.yml", text);
    assert_ok(config_load(&load, &s->config, &problems));
    if (problems.lines.n > 0)
        fail_msg("%s", problems.lines.v[0]);
    config_problems_done(&problems);
}

void stage_init(struct stage *s, const char *domains)
{
    *s = (struct stage){0};
    fake_world_init(&s->fw);
    fake_ca_init(&s->ca, &s->fw);
    s->ca.latency_ms = 50;
    s->ca.validation_ms = 300;
    s->ca.visible = token_is_there;
    s->ca.visible_arg = s;
    s->fw.http = http;
    s->fw.tls_probe = tls;
    s->fw.resolve = resolve;
    s->fw.http_arg = s->fw.tls_arg = s->fw.resolve_arg = s;
    /* In memory where there is such a place: what a power cut does is looked at elsewhere. */
    const char *top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(s->dir, sizeof(s->dir), "%s/certherd-scenario-XXXXXX", top);
    assert_non_null(mkdtemp(s->dir));
    AUTO_FREE char *tokens = in(s, "tokens");
    assert_ok(file_mkdir(tokens, 0755));
    AUTO_FREE char *roots = test_cert_pem(s->ca.root);
    write_text(s, "roots.pem", roots);
    load_config(s, domains);
    for (size_t i = 0; i < s->config->n_domains; i++) {
        s->served[i] = (struct stage_served){.host = s->config->domains[i].host};
        s->n_served++;
    }
}

static void free_results(struct stage *s)
{
    for (size_t i = 0; i < s->n_results; i++)
        host_result_done(&s->results[i]);
    s->n_results = 0;
}

void stage_done(struct stage *s)
{
    free_results(s);
    config_unref(s->config);
    fake_ca_done(&s->ca);
    fake_world_done(&s->fw);
    nftw(s->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- running ---- */

struct run {
    struct stage *stage;
    struct agent *agent;
};

static struct err *reconcile_all(struct run *run) MAY_SUSPEND;
static struct err *reconcile_all(struct run *run)
{
    struct stage *s = run->stage;
    const struct host *hosts[STAGE_HOSTS_MAX];
    bool locked = false;
    pid_t holder = 0;

    TRY(store_lock(run->agent->store, &locked, &holder));
    assert_true(locked);
    for (size_t i = 0; i < run->agent->hosts.n; i++)
        hosts[i] = &run->agent->hosts.v[i];
    s->n_results = run->agent->hosts.n;
    struct err *e = reconcile(run->agent, hosts, s->n_results, &s->options, s->results);
    s->next = (struct wall){0};
    for (size_t i = 0; i < s->n_results; i++) {
        s->results[i].host = NULL; /* it belongs to the agent, which is closed now */
        if (s->results[i].next.ms != 0 &&
                (s->next.ms == 0 || wall_before(s->results[i].next, s->next)))
            s->next = s->results[i].next;
    }
    return e;
}

static struct err *run_process(void *arg) MAY_SUSPEND;
static struct err *run_process(void *arg)
{
    struct stage *s = arg;
    struct report_options options = {.style = REPORT_SILENT, .fd = -1};
    struct agent_options agent = {.read_only = false};
    AUTO(report_freep) struct report *report = report_new(&s->fw.world, &options);
    struct run run = {.stage = s};

    TRY(agent_open(&s->fw.world, s->config, &agent, report, &run.agent));
    struct err *e = reconcile_all(&run);
    agent_close(run.agent);
    return e;
}

struct err *stage_run(struct stage *s)
{
    free_results(s);
    s->reloads = 0;
    fake_world_rewind(&s->fw);
    return fake_world_run(&s->fw, run_process, s);
}

static struct err *sleep_now(void *arg) MAY_SUSPEND;
static struct err *sleep_now(void *arg)
{
    return fiber_sleep(*(int64_t *)arg);
}

void stage_sleep(struct stage *s, int64_t ms)
{
    assert_ok(fake_world_run(&s->fw, sleep_now, &ms));
}

/* ---- what must hold ---- */

static void check_live(struct stage *s, const struct name *host)
{
    AUTO_FREE char *relative = str_printf("live/%s.pem", host->text);
    AUTO_FREE char *path = in(s, relative);
    AUTO_BUF struct buf text = BUF_INIT_SECRET(CERT_CHAIN_MAX);
    AUTO_CERT_INFO struct cert_info info = {0};
    bool exists = false;

    assert_ok(file_read(path, CERT_CHAIN_MAX, &text, &exists));
    if (!exists)
        return;
    assert_ok(cert_parse(text.data, text.len, true, &info));
    assert_ok(key_check_joined(text.data, text.len));
    assert_true(cert_covers(&info, host));
}

void stage_check_invariants(struct stage *s)
{
    AUTO_FREE char *tokens = in(s, "tokens");
    AUTO_FREE char *live = in(s, "live");
    AUTO_STRV struct strv left = {0}, files = {0};
    bool exists = false;

    for (size_t i = 0; i < s->n_served; i++)
        check_live(s, &s->served[i].host);
    assert_ok(file_list(tokens, 100, &left, &exists));
    if (left.n > 0)
        fail_msg("a token is left: %s", left.v[0]);
    assert_ok(file_list(live, 100, &files, &exists));
    for (size_t i = 0; i < files.n; i++)
        assert_true(str_ends(files.v[i], ".pem"));
    if (s->ca.violations > 0)
        fail_msg("the CA objected: %s", s->ca.violation);
}

void stage_expect_served(struct stage *s, size_t i)
{
    const struct host_result *r = &s->results[i];

    if (r->outcome != HOST_DONE && r->outcome != HOST_GOOD)
        fail_msg("%s: %s", host_outcome_name(r->outcome),
                r->error != NULL ? err_text(r->error) : r->plan.reason);
    assert_true(s->served[i].good);
    assert_memory_equal(s->served[i].leaf_sha256, r->cert.leaf_sha256, 32);
}
