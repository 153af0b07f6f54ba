/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "acme/client.h"
#include "acme/directory.h"
#include "acme/url.h"
#include "base/file.h"
#include "tests/lib/fake_ca.h"
#include "tests/lib/test_err.h"

struct scene {
    struct fake_world fw;
    struct fake_ca ca;
    char dir[64];
    char *cache;
    struct key *key;
    struct acme_client *client;
    /* What the flow does. */
    const char *url, *payload, *accept;
    long status;
    size_t body_len;
};

static void scene_init(struct scene *s)
{
    *s = (struct scene){0};
    fake_world_init(&s->fw);
    fake_ca_init(&s->ca, &s->fw);
    s->fw.http = fake_ca_http;
    s->fw.http_arg = &s->ca;
    snprintf(s->dir, sizeof(s->dir), "/tmp/certherd-client-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    AUTO_FREE char *path = str_printf("%s/key.pem", s->dir);
    assert_ok(key_create(path, KEY_P256, &s->key));
}

static void scene_done(struct scene *s)
{
    key_free(s->key);
    free(s->cache);
    assert_ok(file_remove_tree(s->dir));
    fake_ca_done(&s->ca);
    fake_world_done(&s->fw);
}

/* Runs fn with a new client that has the imitation's account. */
static struct err *run(struct scene *s, fiber_fn *fn)
{
    const struct acme_client_options options = {
            .directory_url = FAKE_CA_DIRECTORY, .cache_path = s->cache};

    assert_ok(acme_client_new(&s->fw.world, &options, &s->client));
    s->ca.account_known = true;
    s->ca.account_id = 1;
    acme_client_set_account(s->client, s->key, "https://ca.test:14000/account/1");
    struct err *e = fake_world_run(&s->fw, fn, s);
    acme_client_free(s->client);
    return e;
}

static struct err *get_directory(void *arg) MAY_SUSPEND;
static struct err *get_directory(void *arg)
{
    struct scene *s = arg;
    const struct acme_directory *d = NULL;

    TRY(acme_client_directory(s->client, &d));
    assert_true(str_starts(d->new_order, "https://ca.test:14000/new-order"));
    return NULL;
}

static struct err *new_order(void *arg) MAY_SUSPEND;
static struct err *new_order(void *arg)
{
    struct scene *s = arg;
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    const struct acme_request request = {.resource = ACME_NEW_ORDER,
            .payload = "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.example\"}]}",
            .retries = 1};

    TRY(acme_client_send(s->client, &request, &reply));
    s->status = reply.status;
    return NULL;
}

static struct err *post_url(void *arg) MAY_SUSPEND;
static struct err *post_url(void *arg)
{
    struct scene *s = arg;
    AUTO_HTTP_REPLY struct http_reply reply = {0};

    TRY(new_order(s));
    TRY(acme_client_post(s->client, s->url, s->payload, s->accept, &reply));
    s->status = reply.status;
    s->body_len = reply.body.len;
    return NULL;
}

/* ---- URLs ---- */

static void authorities(void **state)
{
    static const struct {
        const char *url, *authority;
    } good[] = {{"https://CA.Test/x?y=1", "ca.test:443"}, {"https://ca.test:443/", "ca.test:443"},
            {"https://ca.test:14000/dir", "ca.test:14000"}, {"https://[::1]:99/", "[::1]:99"}};
    static const char *const bad[] = {"", "ca.test/x", "http://ca.test/", "//ca.test/",
            "https://u@ca.test/", "https://u:p@ca.test/", "https://:p@ca.test/", "https:///x",
            "https://ca.test/#f", "https://ca.test\\@evil.test/", "https://ca.test /", "file:///x",
            "https://ca.test:0x50/", "https://ca.test:99999/", "https://ca.test/\x7f",
            "https://ca.test/\n", "javascript:x"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO_FREE char *authority = NULL;
        assert_ok(acme_url_authority("u", good[i].url, &authority));
        assert_string_equal(authority, good[i].authority);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char *authority = NULL;
        assert_err(acme_url_authority("the URL", bad[i], &authority), ERR_PROTOCOL, "the URL '");
    }
    AUTO_FREE char *long_url = mem_zalloc(3000);
    memset(long_url, 'a', 2999);
    char *authority = NULL;
    assert_err(acme_url_authority("u", long_url, &authority), ERR_PROTOCOL, "2048");
}

static void options_are_checked(void **state)
{
    struct scene s;
    struct acme_client *client = NULL;
    const char *hosts[] = {"other.test", "third.test:8443"};
    struct strv extra = {0};

    scene_init(&s);
    struct acme_client_options options = {.directory_url = "http://ca.test/dir"};
    assert_err(acme_client_new(&s.fw.world, &options, &client), ERR_CONFIG, "https://");
    options.directory_url = "https://me:secret@ca.test/dir";
    assert_err(
            acme_client_new(&s.fw.world, &options, &client), ERR_CONFIG, "correct acme.directory");
    for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
        strv_add(&extra, hosts[i]);
    options.directory_url = "https://ca.test/dir";
    options.extra_hosts = &extra;
    assert_ok(acme_client_new(&s.fw.world, &options, &client));
    assert_ok(acme_client_check_url(client, "u", "https://ca.test/a"));
    assert_ok(acme_client_check_url(client, "u", "https://OTHER.test/a"));
    assert_ok(acme_client_check_url(client, "u", "https://third.test:8443/a"));
    assert_err(acme_client_check_url(client, "u", "https://third.test/a"), ERR_PROTOCOL,
            "list third.test:443 in extra_hosts");
    assert_err(acme_client_check_url(client, "u", "https://ca.test.evil.test/"), ERR_PROTOCOL,
            "leads away from the CA's host ca.test:443");
    acme_client_free(client);
    strv_done(&extra);
    scene_done(&s);
}

/* ---- directory ---- */

static struct err *decode(const char *text, struct acme_directory *ret)
{
    struct scene s;
    struct acme_client *client = NULL;
    const struct acme_client_options options = {.directory_url = "https://ca.test/dir"};

    scene_init(&s);
    assert_ok(acme_client_new(&s.fw.world, &options, &client));
    struct err *e = acme_directory_decode(client, text, strlen(text), ret);
    acme_client_free(client);
    scene_done(&s);
    return e;
}

#define URLS                                                                                       \
    "\"newNonce\":\"https://ca.test/n\",\"newAccount\":\"https://ca.test/a\","                     \
    "\"newOrder\":\"https://ca.test/o\""

static void directories_are_read_strictly(void **state)
{
    AUTO(acme_directory_done) struct acme_directory d = {0};
    struct acme_directory none = {0};

    assert_ok(decode("{" URLS ",\"renewalInfo\":\"https://ca.test/r\",\"odd\":7,\"meta\":{"
                     "\"caaIdentities\":[\"ca.test\",7],\"profiles\":{\"short\":\"x\",\"long\":1},"
                     "\"termsOfService\":\"https://terms.test/\"}}",
            &d));
    assert_string_equal(d.renewal_info, "https://ca.test/r");
    assert_null(d.revoke_cert);
    assert_string_equal(d.terms_of_service, "https://terms.test/");
    assert_int_equal(d.caa_identities.n, 1);
    assert_int_equal(d.profiles.n, 2);
    assert_false(d.external_account_required);

    assert_err(decode("{}", &none), ERR_PROTOCOL, "'newNonce' is missing");
    assert_err(decode("{\"newNonce\":\"https://ca.test/n\",\"newAccount\":\"https://ca.test/a\"}",
                       &none),
            ERR_PROTOCOL, "'newOrder' is missing");
    assert_err(decode("{" URLS ",\"keyChange\":\"https://evil.test/\"}", &none), ERR_PROTOCOL,
            "keyChange 'https://evil.test/' leads away");
    assert_err(decode("{" URLS ",\"revokeCert\":\"http://ca.test/\"}", &none), ERR_PROTOCOL,
            "revokeCert");
    assert_err(decode("{" URLS ",\"newOrder\":\"https://ca.test/2\"}", &none), ERR_PROTOCOL, "");
    assert_err(decode("{" URLS ",\"renewalInfo\":7}", &none), ERR_PROTOCOL, "renewalInfo");
    assert_err(decode("<html>", &none), ERR_PROTOCOL, "directory");
    assert_err(decode("{" URLS ",\"meta\":{\"externalAccountRequired\":\"yes\"}}", &none),
            ERR_PROTOCOL, "externalAccountRequired");
    assert_null(none.new_nonce);
}

static struct err *many_directories(void *arg) MAY_SUSPEND;
static struct err *many_directories(void *arg)
{
    struct scene *s = arg;
    struct fiber_group group;

    fiber_group_init(&group);
    for (int i = 0; i < 10; i++)
        fiber_group_spawn(&group, "one", get_directory, s);
    TRY(fiber_group_wait(&group));
    assert_int_equal(s->ca.of[FAKE_CA_DIR], 1);
    TRY(fiber_sleep(CLOCK_DAY + CLOCK_MIN));
    TRY(get_directory(s));
    assert_int_equal(s->ca.of[FAKE_CA_DIR], 2);
    return NULL;
}

static void the_directory_is_fetched_once_a_day(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.latency_ms = 100;
    assert_ok(run(&s, many_directories));
    scene_done(&s);
}

/* One client serves the agent for as long as it runs. */
static struct err *directory_every_day(void *arg) MAY_SUSPEND;
static struct err *directory_every_day(void *arg)
{
    struct scene *s = arg;
    const struct acme_directory *first = NULL, *now = NULL;

    TRY(acme_client_directory(s->client, &first));
    for (int day = 0; day < 400; day++) {
        TRY(fiber_sleep(CLOCK_DAY + CLOCK_MIN));
        TRY(acme_client_directory(s->client, &now));
        assert_ptr_equal(now, first);
    }
    assert_int_equal(s->ca.of[FAKE_CA_DIR], 401);
    return NULL;
}

static void a_client_lives_for_years(void **state)
{
    struct scene s;

    scene_init(&s);
    assert_ok(run(&s, directory_every_day));
    scene_done(&s);
}

static void the_copy_on_disk_saves_the_fetch(void **state)
{
    struct scene s;

    scene_init(&s);
    s.cache = str_printf("%s/directory.json", s.dir);
    assert_ok(run(&s, get_directory));
    assert_ok(run(&s, get_directory));
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 1);
    /* Old, damaged or from the future: as good as none. */
    loop_shift_wall(s.fw.loop, CLOCK_DAY + CLOCK_MIN);
    assert_ok(run(&s, get_directory));
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 2);
    loop_shift_wall(s.fw.loop, -CLOCK_HOUR);
    assert_ok(run(&s, get_directory));
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 3);
    const struct file_write_options options = {.mode = 0600};
    assert_ok(file_write(s.cache, "{\"url\":", 7, &options));
    assert_ok(run(&s, get_directory));
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 4);
    /* A cache that cannot be written is no reason to fail. */
    free(s.cache);
    s.cache = str_dup("/proc/nowhere/directory.json");
    assert_ok(run(&s, get_directory));
    scene_done(&s);
}

static void a_stale_copy_is_fetched_again_once(void **state)
{
    struct scene s;

    scene_init(&s);
    s.cache = str_printf("%s/directory.json", s.dir);
    assert_ok(run(&s, get_directory));
    loop_shift_wall(s.fw.loop, CLOCK_HOUR);
    s.ca.path_version = 1; /* the CA moved its resources: 404 for newNonce */
    assert_ok(run(&s, new_order));
    assert_int_equal(s.status, 201);
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 2);
    /* A CA that calls everything malformed is not asked for its directory again and again. */
    loop_shift_wall(s.fw.loop, CLOCK_HOUR);
    s.ca.faults[0] = (struct fake_ca_fault){FAKE_CA_NEW_ORDER, 1, 0, 400, "malformed", "no", NULL};
    assert_err(run(&s, new_order), ERR_DENIED, "malformed: no");
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 3);
    scene_done(&s);
}

static void a_ca_that_is_down_is_asked_three_times(void **state)
{
    struct scene s;

    scene_init(&s);
    s.fw.http = NULL;
    assert_err(run(&s, get_directory), ERR_RETRY, "directory " FAKE_CA_DIRECTORY ": nothing there");
    assert_int_equal(s.fw.calls, 3);
    fake_world_rewind(&s.fw);
    assert_err(run(&s, new_order), ERR_RETRY, "nothing there");
    assert_true(s.fw.calls <= 9);
    scene_done(&s);
}

/* ---- signed requests ---- */

static void replies_must_be_of_the_type_wanted(void **state)
{
    struct scene s;

    scene_init(&s);
    s.url = "https://ca.test:14000/order/0";
    assert_ok(run(&s, post_url));
    assert_int_equal(s.status, 200);
    s.accept = "application/json"; /* comes with "; charset=utf-8" */
    assert_ok(run(&s, post_url));
    s.accept = "application/pem-certificate-chain";
    assert_err(run(&s, post_url), ERR_PROTOCOL,
            "of type 'application/json; charset=utf-8' instead of 'application/pem");
    scene_done(&s);
}

static void foreign_urls_are_never_asked(void **state)
{
    struct scene s;

    scene_init(&s);
    s.url = "https://169.254.169.254/latest/meta-data";
    assert_err(run(&s, post_url), ERR_PROTOCOL, "leads away");
    assert_int_equal(s.ca.of[FAKE_CA_ORDER], 0);
    scene_done(&s);
}

static void huge_reply(void *arg, enum fake_resource resource, struct http_reply *reply)
{
    if (resource != FAKE_CA_ORDER)
        return;
    for (int i = 0; i < 30000; i++)
        fake_reply_body(reply, "                    ");
}

static void huge_replies_are_refused(void **state)
{
    struct scene s;

    scene_init(&s);
    s.url = "https://ca.test:14000/order/0";
    s.ca.tamper = huge_reply;
    assert_err(run(&s, post_url), ERR_PROTOCOL, "larger than");
    scene_done(&s);
}

/* Only what is safe to repeat is repeated. */
static void transport_errors_are_retried_where_safe(void **state)
{
    struct scene s;

    for (int with_payload = 0; with_payload <= 1; with_payload++) {
        scene_init(&s);
        s.url = "https://ca.test:14000/order/0";
        s.payload = with_payload ? "{\"x\":1}" : NULL;
        s.fw.fault = FAKE_FAULT_ERROR_AFTER;
        s.fw.fault_at = 4; /* directory, nonce, newOrder, this */
        struct err *e = run(&s, post_url);
        assert_int_equal(e != NULL, with_payload);
        err_free(e);
        assert_int_equal(s.ca.of[FAKE_CA_ORDER], with_payload ? 1 : 2);
        assert_int_equal(s.ca.violations, 0);
        scene_done(&s);
    }
}

static void spoil_nonces(void *arg, enum fake_resource resource, struct http_reply *reply)
{
    for (size_t i = 0; i < reply->n_headers; i++) {
        struct http_header *h = &reply->headers[i];
        if (strcmp(h->name, "replay-nonce") == 0 && resource != FAKE_CA_NONCE)
            ((char *)(uintptr_t)h->value)[0] = ' ';
    }
}

static void unusable_nonces_are_not_sent_back(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.tamper = spoil_nonces;
    s.url = "https://ca.test:14000/order/0";
    assert_ok(run(&s, post_url));
    assert_int_equal(s.ca.violations, 0);
    assert_int_equal(s.ca.of[FAKE_CA_NONCE], 2);
    scene_done(&s);
}

static void no_nonce(void *arg, enum fake_resource resource, struct http_reply *reply)
{
    spoil_nonces(arg, FAKE_CA_DIR, reply);
}

static void a_ca_without_nonces_is_an_error_not_a_loop(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.tamper = no_nonce;
    assert_err(run(&s, new_order), ERR_PROTOCOL, "an unusable Replay-Nonce header");
    assert_int_equal(s.ca.of[FAKE_CA_NONCE], 1);
    scene_done(&s);
}

static struct err *want_and_leave(void *arg) MAY_SUSPEND;
static struct err *want_and_leave(void *arg)
{
    struct scene *s = arg;

    acme_client_want_nonces(s->client, 30);
    TRY(fiber_sleep(50));
    return NULL;
}

static struct err *leave_early(void *arg) MAY_SUSPEND;
static struct err *leave_early(void *arg)
{
    struct scene *s = arg;
    const struct acme_client_options options = {.directory_url = FAKE_CA_DIRECTORY};
    AUTO(acme_client_freep) struct acme_client *client = NULL;

    TRY(acme_client_new(&s->fw.world, &options, &client));
    acme_client_want_nonces(client, 30);
    return fiber_sleep(150);
}

static void topping_up_keeps_to_the_limits_and_ends_with_the_client(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.latency_ms = 100;
    assert_ok(run(&s, want_and_leave)); /* the loop goes on until all have come */
    assert_true(s.ca.nonces_most <= 10);
    assert_int_equal(s.ca.of[FAKE_CA_NONCE], 30);
    fake_ca_clear_counters(&s.ca);
    assert_ok(fake_world_run(&s.fw, leave_early, &s));
    assert_true(s.ca.of[FAKE_CA_NONCE] <= 10);
    scene_done(&s);
}

static void a_failing_top_up_does_not_go_on(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.faults[0] = (struct fake_ca_fault){FAKE_CA_NONCE, 1, 0, 503, NULL, NULL, "60"};
    assert_ok(run(&s, want_and_leave));
    assert_true(s.ca.of[FAKE_CA_NONCE] <= 10);
    fake_ca_clear_counters(&s.ca);
    struct err *e = run(&s, new_order);
    assert_true(err_is(e, ERR_RETRY_AT));
    err_free(e);
    scene_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(authorities),
            cmocka_unit_test(options_are_checked),
            cmocka_unit_test(directories_are_read_strictly),
            cmocka_unit_test(the_directory_is_fetched_once_a_day),
            cmocka_unit_test(a_client_lives_for_years),
            cmocka_unit_test(the_copy_on_disk_saves_the_fetch),
            cmocka_unit_test(a_stale_copy_is_fetched_again_once),
            cmocka_unit_test(a_ca_that_is_down_is_asked_three_times),
            cmocka_unit_test(replies_must_be_of_the_type_wanted),
            cmocka_unit_test(foreign_urls_are_never_asked),
            cmocka_unit_test(huge_replies_are_refused),
            cmocka_unit_test(transport_errors_are_retried_where_safe),
            cmocka_unit_test(unusable_nonces_are_not_sent_back),
            cmocka_unit_test(a_ca_without_nonces_is_an_error_not_a_loop),
            cmocka_unit_test(topping_up_keeps_to_the_limits_and_ends_with_the_client),
            cmocka_unit_test(a_failing_top_up_does_not_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
