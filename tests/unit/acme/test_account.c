/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>

#include "acme/account.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/lib/fake_ca.h"
#include "tests/lib/test_err.h"

struct scene {
    struct fake_world fw;
    struct fake_ca ca;
    char dir[64];
    char *account_dir;
    char *url; /* after the run */
    struct err *(*then)(struct scene *s, struct acme_account *account);
};

static void scene_init(struct scene *s)
{
    *s = (struct scene){0};
    fake_world_init(&s->fw);
    fake_ca_init(&s->ca, &s->fw);
    s->fw.http = fake_ca_http;
    s->fw.http_arg = &s->ca;
    snprintf(s->dir, sizeof(s->dir), "/tmp/certherd-account-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    s->account_dir = str_printf("%s/accounts/ca", s->dir);
}

static void scene_done(struct scene *s)
{
    assert_ok(file_remove_tree(s->account_dir));
    assert_ok(file_remove_tree(s->dir));
    free(s->account_dir);
    free(s->url);
    fake_ca_done(&s->ca);
    fake_world_done(&s->fw);
}

static struct err *flow(void *arg) MAY_SUSPEND;
static struct err *flow(void *arg)
{
    struct scene *s = arg;
    const struct acme_client_options client_options = {.directory_url = FAKE_CA_DIRECTORY};
    const struct acme_account_options options = {
            .dir = s->account_dir, .email = "admin@example.org"};
    AUTO(acme_client_freep) struct acme_client *client = NULL;
    AUTO(acme_account_freep) struct acme_account *account = NULL;

    TRY(acme_client_new(&s->fw.world, &client_options, &client));
    TRY(acme_account_open(client, &options, &account));
    assert_string_equal(acme_client_kid(client), acme_account_url(account));
    assert_non_null(acme_client_key(client));
    struct err *e = s->then != NULL ? s->then(s, account) : NULL;
    free(s->url);
    s->url = str_dup(acme_account_url(account));
    return e;
}

static struct err *run(struct scene *s)
{
    struct err *e = fake_world_run(&s->fw, flow, s);

    assert_int_equal(s->ca.violations, 0);
    return e;
}

static char *read_file(const struct scene *s, const char *name, mode_t *ret_mode)
{
    AUTO_FREE char *path = str_printf("%s/%s", s->account_dir, name);
    AUTO_BUF struct buf text = BUF_INIT(64 * 1024);
    struct stat st;
    bool exists = false;

    assert_ok(file_read(path, 64 * 1024, &text, &exists));
    if (!exists)
        return NULL;
    assert_int_equal(stat(path, &st), 0);
    if (ret_mode != NULL)
        *ret_mode = st.st_mode & 07777;
    return buf_steal(&text);
}

static void put_note(const struct scene *s, const char *text)
{
    AUTO_FREE char *path = str_printf("%s/account.json", s->account_dir);
    const struct file_write_options options = {.mode = 0600};

    assert_ok(file_write(path, text, strlen(text), &options));
}

static void a_first_run_makes_key_and_account(void **state)
{
    struct scene s;
    mode_t mode = 0;

    scene_init(&s);
    assert_ok(run(&s));
    assert_string_equal(s.url, "https://ca.test:14000/account/1");
    assert_int_equal(s.ca.accounts_made, 1);
    AUTO_FREE char *note = read_file(&s, "account.json", &mode);
    assert_int_equal(mode, 0600);
    AUTO_JSON json_t *root = NULL;
    assert_ok(json_parse(note, strlen(note), "note", &root));
    const char *text = NULL;
    assert_ok(json_get_str(root, "url", 100, &text));
    assert_string_equal(text, s.url);
    assert_ok(json_get_str(root, "directory", 100, &text));
    assert_string_equal(text, FAKE_CA_DIRECTORY);
    AUTO_FREE char *key = read_file(&s, "key.pem", &mode);
    assert_non_null(key);
    assert_int_equal(mode, 0600);
    scene_done(&s);
}

static void a_known_account_costs_no_request(void **state)
{
    struct scene s;

    scene_init(&s);
    assert_ok(run(&s));
    fake_ca_clear_counters(&s.ca);
    assert_ok(run(&s));
    assert_int_equal(s.ca.requests, 0);
    assert_string_equal(s.url, "https://ca.test:14000/account/1");
    scene_done(&s);
}

static void what_a_crash_left_of_a_key_is_removed(void **state)
{
    static const char left[] = ".key.pem.0123456789abcdef.tmp";
    const struct file_write_options options = {.mode = 0600};
    struct scene s;

    scene_init(&s);
    AUTO_FREE char *path = str_printf("%s/%s", s.account_dir, left);
    assert_ok(file_mkdir(s.account_dir, 0700));
    assert_ok(file_write(path, "half a key", 10, &options));
    assert_ok(run(&s));
    assert_null(read_file(&s, left, NULL));
    scene_done(&s);
}

static void an_account_is_found_by_its_key(void **state)
{
    static const char *const notes[] = {"", "{", "[]", "{\"url\":7}",
            "{\"url\":\"https://ca.test:14000/account/9\"}",
            "{\"url\":\"https://evil.test/1\",\"directory\":\"" FAKE_CA_DIRECTORY "\"}",
            "{\"url\":\"https://ca.test:14000/account/9\",\"directory\":\"https://b.test/\"}"};

    for (size_t i = 0; i < ARRAY_SIZE(notes); i++) {
        struct scene s;
        scene_init(&s);
        assert_ok(run(&s));
        put_note(&s, notes[i]);
        assert_ok(run(&s));
        assert_string_equal(s.url, "https://ca.test:14000/account/1");
        assert_int_equal(s.ca.of[FAKE_CA_NEW_ACCOUNT], 2);
        assert_int_equal(s.ca.accounts_made, 1);
        AUTO_FREE char *aside = read_file(&s, "account.json.bad", NULL);
        assert_string_equal(aside, notes[i]);
        scene_done(&s);
    }
}

static struct err *recreate_twice(struct scene *s, struct acme_account *account) MAY_SUSPEND;
static struct err *recreate_twice(struct scene *s, struct acme_account *account)
{
    fake_ca_forget(&s->ca);
    assert_int_equal(acme_account_generation(account), 0);
    TRY(acme_account_recreate(account));
    assert_int_equal(acme_account_generation(account), 1);
    assert_string_equal(acme_account_url(account), "https://ca.test:14000/account/2");
    assert_err(acme_account_recreate(account), ERR_DENIED, "forgot the account again");
    /* The agent that keeps it runs for years. */
    TRY(fiber_sleep(CLOCK_DAY));
    fake_ca_forget(&s->ca);
    TRY(acme_account_recreate(account));
    assert_int_equal(acme_account_generation(account), 2);
    assert_string_equal(acme_account_url(account), "https://ca.test:14000/account/3");
    return NULL;
}

static void a_forgotten_account_is_made_again_with_the_same_key(void **state)
{
    struct scene s;

    scene_init(&s);
    assert_ok(run(&s));
    AUTO_FREE char *key = read_file(&s, "key.pem", NULL);
    s.then = recreate_twice;
    assert_ok(run(&s));
    AUTO_FREE char *key_after = read_file(&s, "key.pem", NULL);
    assert_string_equal(key, key_after);
    AUTO_FREE char *old = read_file(&s, "account.json.1", NULL);
    assert_non_null(strstr(old, "account/1"));
    AUTO_FREE char *note = read_file(&s, "account.json", NULL);
    assert_non_null(strstr(note, "account/3"));
    /* The next process may do so again; the first copy stays. */
    assert_int_equal(s.ca.accounts_made, 3);
    s.then = NULL;
    assert_ok(run(&s));
    assert_string_equal(s.url, "https://ca.test:14000/account/3");
    scene_done(&s);
}

static struct err *recreate(void *arg) MAY_SUSPEND;
static struct err *recreate(void *arg)
{
    return acme_account_recreate(arg);
}

static struct err *recreate_from_many(struct scene *s, struct acme_account *account) MAY_SUSPEND;
static struct err *recreate_from_many(struct scene *s, struct acme_account *account)
{
    struct fiber_group group;

    fake_ca_forget(&s->ca);
    fiber_group_init(&group);
    for (int i = 0; i < 5; i++)
        fiber_group_spawn(&group, "one", recreate, account);
    return fiber_group_wait(&group);
}

static void several_flows_recreate_once(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.latency_ms = 100;
    s.then = recreate_from_many;
    assert_ok(run(&s));
    assert_int_equal(s.ca.accounts_made, 2);
    scene_done(&s);
}

static void replies_are_checked(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.no_location = true;
    assert_err(run(&s), ERR_PROTOCOL, "newAccount: the reply has no Location header");
    s.ca.no_location = false;
    s.ca.external_account = true;
    assert_err(run(&s), ERR_CONFIG, "external account binding");
    s.ca.external_account = false;
    s.ca.faults[0] = (struct fake_ca_fault){
            FAKE_CA_NEW_ACCOUNT, 1, 0, 400, "externalAccountRequired", "give me a MAC", NULL};
    assert_err(run(&s), ERR_CONFIG, "only to its customers");
    s.ca.faults[0].type = "invalidContact";
    assert_err(run(&s), ERR_CONFIG, "correct acme.email");
    scene_done(&s);
}

static void deactivate(void *arg, enum fake_resource resource, struct http_reply *reply)
{
    if (resource != FAKE_CA_NEW_ACCOUNT)
        return;
    buf_reset(&reply->body);
    fake_reply_body(reply, "{\"status\":\"deactivated\"}");
}

static void a_deactivated_account_stays_so(void **state)
{
    struct scene s;

    scene_init(&s);
    s.ca.tamper = deactivate;
    assert_err(run(&s), ERR_DENIED, "calls the account of this key 'deactivated'");
    scene_done(&s);
}

static void a_fault_at_every_wait_leaves_a_key_that_is_found_again(void **state)
{
    static const enum fake_fault faults[] = {
            FAKE_FAULT_ERROR, FAKE_FAULT_ERROR_AFTER, FAKE_FAULT_CANCEL};

    for (size_t f = 0; f < ARRAY_SIZE(faults); f++) {
        for (size_t at = 1; at <= 3; at++) {
            struct scene s;
            scene_init(&s);
            s.fw.fault = faults[f];
            s.fw.fault_at = at;
            s.fw.fault_kind = ERR_LOCAL;
            struct err *e = run(&s);
            assert_non_null(e);
            err_free(e);
            s.fw.fault = FAKE_FAULT_NONE;
            assert_ok(run(&s));
            assert_int_equal(s.ca.accounts_made, 1);
            scene_done(&s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_first_run_makes_key_and_account),
            cmocka_unit_test(a_known_account_costs_no_request),
            cmocka_unit_test(what_a_crash_left_of_a_key_is_removed),
            cmocka_unit_test(an_account_is_found_by_its_key),
            cmocka_unit_test(a_forgotten_account_is_made_again_with_the_same_key),
            cmocka_unit_test(several_flows_recreate_once),
            cmocka_unit_test(replies_are_checked),
            cmocka_unit_test(a_deactivated_account_stays_so),
            cmocka_unit_test(a_fault_at_every_wait_leaves_a_key_that_is_found_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
