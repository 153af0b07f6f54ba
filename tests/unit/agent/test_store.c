/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/unit/agent/store_fixture.h"

/* ---- directories ---- */

FIBER_TEST(layout_and_modes)
{
    assert_ok(reopen(fx, false));
    static const char *const dirs[] = {"lineages", "accounts", "budget", "journal"};
    assert_int_equal(mode_of(fx->state_dir), 0711);
    assert_int_equal(mode_of(fx->cert_dir), 02750);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        AUTO_FREE char *path = in(fx, dirs[i]);
        assert_int_equal(mode_of(path), 0700);
    }
    AUTO_FREE char *path = store_path(fx->store, "accounts/ca");
    AUTO_FREE char *expected = in(fx, "accounts/ca");
    assert_string_equal(path, expected);
}

FIBER_TEST(umask_does_not_matter)
{
    mode_t old = umask(0077);
    struct err *e = reopen(fx, false);
    umask(old);
    assert_ok(e);
    assert_int_equal(mode_of(fx->state_dir), 0711);
    assert_int_equal(mode_of(fx->cert_dir), 02750);
}

FIBER_TEST(existing_cert_dir_keeps_its_mode)
{
    free(fx->cert_dir);
    fx->cert_dir = str_printf("%s/certs", fx->top);
    assert_int_equal(mkdir(fx->cert_dir, 0755), 0);
    assert_int_equal(chmod(fx->cert_dir, 0755), 0);
    assert_ok(reopen(fx, false));
    assert_int_equal(mode_of(fx->cert_dir), 0755);
}

FIBER_TEST(missing_parents_are_made)
{
    free(fx->cert_dir);
    fx->cert_dir = str_printf("%s/a/b/certs", fx->top);
    assert_ok(reopen(fx, false));
    AUTO_FREE char *parent = str_printf("%s/a/b", fx->top);
    assert_int_equal(mode_of(parent), 0755);
    assert_int_equal(mode_of(fx->cert_dir), 02750);
}

FIBER_TEST(loose_directories_are_refused)
{
    assert_ok(reopen(fx, false));
    AUTO_FREE char *lineages = in(fx, "lineages");
    AUTO_FREE char *advice = str_printf("chmod 0700 %s", lineages);
    assert_int_equal(chmod(lineages, 0750), 0);
    assert_err(reopen(fx, false), ERR_CONFIG, advice);
    assert_int_equal(chmod(lineages, 0700), 0);

    assert_int_equal(chmod(fx->state_dir, 0777), 0);
    assert_err(reopen(fx, false), ERR_CONFIG, "has mode 0777, which lets others in");
    assert_err(reopen(fx, true), ERR_CONFIG, "chmod 0711");
    assert_int_equal(chmod(fx->state_dir, 0711), 0);

    assert_int_equal(chmod(fx->cert_dir, 0777), 0);
    assert_err(reopen(fx, false), ERR_CONFIG, "chmod 2750");
    assert_int_equal(chmod(fx->cert_dir, 02750), 0);
    assert_ok(reopen(fx, false));
}

FIBER_TEST(links_and_files_in_place_of_directories)
{
    assert_ok(reopen(fx, false));
    AUTO_FREE char *journal = in(fx, "journal");
    assert_int_equal(rmdir(journal), 0);
    assert_int_equal(symlink("/tmp", journal), 0);
    assert_err(reopen(fx, false), ERR_CONFIG, "journal is a symbolic link");
    assert_int_equal(unlink(journal), 0);
    put(journal, "", 0600);
    assert_err(reopen(fx, false), ERR_CONFIG, "journal is not a directory");
    assert_int_equal(unlink(journal), 0);
    assert_ok(reopen(fx, false));
}

FIBER_TEST(foreign_owner_is_refused)
{
    if (geteuid() != 0)
        skip();
    assert_ok(reopen(fx, false));
    AUTO_FREE char *advice = str_printf("chown 0 %s", fx->state_dir);
    assert_int_equal(chown(fx->state_dir, 65534, (gid_t)-1), 0);
    assert_err(reopen(fx, false), ERR_CONFIG, advice);
    assert_int_equal(chown(fx->state_dir, 0, (gid_t)-1), 0);
}

FIBER_TEST(read_only_makes_nothing)
{
    bool locked = true, stored = true;
    pid_t holder = 0;
    struct host_state host = {0};
    assert_ok(reopen(fx, true));
    assert_false(exists(fx->state_dir));
    assert_ok(store_state_load(fx->store, &fx->host, &host));
    assert_int_equal(host.version, 0);
    assert_err(store_lock(fx->store, &locked, &holder), ERR_LOCAL, "for reading only");
    assert_err(store_state_save(fx->store, &fx->host, &host, &stored), ERR_LOCAL, "reading only");
    assert_err(store_check_writable(fx->store), ERR_LOCAL, "reading only");
    AUTO(name_list_done) struct name_list hosts = {0};
    assert_ok(store_hosts(fx->store, &hosts));
    assert_int_equal(hosts.n, 0);
    assert_false(exists(fx->state_dir));
}

/* ---- lock ---- */

/* Open file description locks belong to the open file, so a second store here is as good as a
 * second process. */
FIBER_TEST(one_holder)
{
    bool locked = false;
    pid_t holder = -1;
    assert_ok(reopen(fx, false));
    assert_ok(store_lock(fx->store, &locked, &holder));
    assert_true(locked);
    assert_int_equal(holder, 0);

    const struct store_options options = {.state_dir = fx->state_dir, .cert_dir = fx->cert_dir};
    AUTO(store_closep) struct store *other = NULL;
    assert_ok(store_open(&fx->fw.world, &options, &other));
    assert_ok(store_lock(other, &locked, &holder));
    assert_false(locked);
    assert_int_equal(holder, getpid());

    assert_ok(store_lock(fx->store, &locked, &holder)); /* we still have it */
    assert_true(locked);
    store_close(STEAL(fx->store));
    assert_ok(store_lock(other, &locked, &holder));
    assert_true(locked);
}

FIBER_TEST(only_the_holder_sweeps)
{
    bool locked = false;
    pid_t holder = 0;
    assert_ok(reopen(fx, false));
    issue(fx, (struct cert_wish){0});
    AUTO_FREE char *half = lineage(fx, ".2.tmp");
    AUTO_FREE char *half_file = lineage(fx, ".2.tmp/key.pem");
    AUTO_FREE char *state_tmp = lineage(fx, ".state.json.0123456789abcdef.tmp");
    AUTO_FREE char *live_tmp =
            str_printf("%s/.im.example.org.pem.0123456789abcdef.tmp", fx->cert_dir);
    AUTO_FREE char *dir = lineage(fx, "");
    assert_int_equal(mkdir(half, 0700), 0);
    put(half_file, "half", 0600);
    put(state_tmp, "half", 0600);
    put(live_tmp, "half", 0640);

    assert_ok(reopen(fx, false));
    assert_true(exists(half) && exists(live_tmp));
    assert_ok(store_lock(fx->store, &locked, &holder));
    assert_true(locked);
    assert_entries(dir, "1");
    assert_false(exists(live_tmp));
}

/* ---- can we write? ---- */

FIBER_TEST(writable)
{
    assert_ok(reopen(fx, false));
    assert_ok(store_check_writable(fx->store));
    assert_entries(fx->cert_dir, "");
    /* Root may write anywhere, so a missing directory stands for one that refuses. */
    assert_int_equal(rmdir(fx->cert_dir), 0);
    assert_err(store_check_writable(fx->store), ERR_CONFIG, "cert_dir cannot be written");
}

FIBER_TEST(disk_full)
{
    struct rlimit old, small = {0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_ok(reopen(fx, false));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct err *e = store_check_writable(fx->store);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_err(e, ERR_LOCAL, "state_dir cannot be written");
    assert_entries(fx->cert_dir, "");
}

/* ---- state ---- */

static void fill_state(struct host_state *state, struct wall now)
{
    state->attempts = 3;
    state->next_try = wall_add(now, 1234567);
    state->renew_from = wall_add(now, 234567);
    state->not_before = wall_add(now, 34567);
    state->first_seen = wall_add(now, -CLOCK_DAY);
    state->incomplete_since = wall_add(now, -CLOCK_HOUR);
    state->last_growth = wall_add(now, -2);
    state->last_issued = wall_add(now, -3);
    state->error_kind = str_dup("retry");
    state->error_text = str_dup("line one\nline two \x1b[31m");
    state->error_advice = str_dup("wait");
    state->error_since = wall_add(now, -4);
    state->deploy_attempts = 2;
    state->next_deploy = wall_add(now, 5);
    state->deploy_error = str_dup("connection refused");
    state->n_deployed = 1;
    state->deployed[0] = (struct store_deployed){
            .node = str_dup("ejabberd"), .generation = 7, .since = wall_add(now, -6)};
}

FIBER_TEST(state_round_trip)
{
    AUTO(host_state_done) struct host_state a = {0};
    AUTO(host_state_done) struct host_state b = {0};
    bool stored = false;
    assert_ok(reopen(fx, false));
    fill_state(&a, now_of(fx));
    assert_ok(store_state_save(fx->store, &fx->host, &a, &stored));
    assert_true(stored);
    assert_int_equal(a.version, 1);
    AUTO_FREE char *path = lineage(fx, "state.json");
    assert_int_equal(mode_of(path), 0600);

    assert_ok(store_state_load(fx->store, &fx->host, &b));
    assert_int_equal(b.version, 1);
    assert_int_equal(b.attempts, 3);
    assert_int_equal(b.next_try.ms, a.next_try.ms);
    assert_int_equal(b.renew_from.ms, a.renew_from.ms);
    assert_int_equal(b.not_before.ms, a.not_before.ms);
    assert_int_equal(b.first_seen.ms, a.first_seen.ms);
    assert_int_equal(b.incomplete_since.ms, a.incomplete_since.ms);
    assert_int_equal(b.last_growth.ms, a.last_growth.ms);
    assert_int_equal(b.last_issued.ms, a.last_issued.ms);
    assert_int_equal(b.error_since.ms, a.error_since.ms);
    assert_int_equal(b.next_deploy.ms, a.next_deploy.ms);
    assert_string_equal(b.error_kind, "retry");
    assert_null(strchr(b.error_text, '\x1b'));
    assert_string_equal(b.error_advice, "wait");
    assert_int_equal(b.deploy_attempts, 2);
    assert_string_equal(b.deploy_error, "connection refused");
    assert_int_equal(b.n_deployed, 1);
    assert_string_equal(b.deployed[0].node, "ejabberd");
    assert_int_equal(b.deployed[0].generation, 7);
    assert_int_equal(b.deployed[0].since.ms, a.deployed[0].since.ms);
}

FIBER_TEST(compare_and_set)
{
    AUTO(host_state_done) struct host_state a = {0};
    AUTO(host_state_done) struct host_state b = {0};
    bool stored = false;
    assert_ok(reopen(fx, false));
    a.attempts = 1;
    assert_ok(store_state_save(fx->store, &fx->host, &a, &stored));
    assert_true(stored);
    b.attempts = 2; /* made without knowing of a */
    assert_ok(store_state_save(fx->store, &fx->host, &b, &stored));
    assert_false(stored);
    assert_int_equal(b.version, 0);
    assert_ok(store_state_load(fx->store, &fx->host, &b));
    assert_int_equal(b.attempts, 1);
    b.attempts = 5;
    assert_ok(store_state_save(fx->store, &fx->host, &b, &stored));
    assert_true(stored);
    assert_int_equal(b.version, 2);
    assert_ok(store_state_save(fx->store, &fx->host, &a, &stored));
    assert_false(stored);
}

/* What a fiber wrote counts, even when it was cancelled in the meantime. */
static struct err *save_canceled(void *arg) MAY_SUSPEND;
static struct host_state canceled_state;
static struct err *save_canceled(void *arg)
{
    struct fixture *fx = arg;
    bool stored = false;
    fiber_cancel(fiber_self());
    return store_state_save(fx->store, &fx->host, &canceled_state, &stored);
}

FIBER_TEST(cancel_while_saving)
{
    bool stored = false;
    struct fiber_group group;
    assert_ok(reopen(fx, false));
    canceled_state = (struct host_state){.attempts = 1};
    fiber_group_init(&group);
    fiber_group_spawn(&group, "save", save_canceled, fx);
    err_free(fiber_group_wait(&group));
    AUTO(host_state_done) struct host_state now = {0};
    assert_ok(store_state_load(fx->store, &fx->host, &now));
    assert_int_equal(canceled_state.version, now.version);
    assert_ok(store_state_save(fx->store, &fx->host, &canceled_state, &stored));
    assert_true(stored);
}

static void assert_state_damaged(struct fixture *fx, const char *text) MAY_SUSPEND;
static void assert_state_damaged(struct fixture *fx, const char *text)
{
    AUTO_FREE char *path = lineage(fx, "state.json");
    AUTO_FREE char *dir = lineage(fx, "");
    AUTO(host_state_done) struct host_state state = {0};
    strv_done(&fx->warnings);
    put(path, text, 0600);
    assert_ok(store_state_load(fx->store, &fx->host, &state));
    assert_int_equal(state.version, 0);
    assert_int_equal(state.n_deployed, 0);
    assert_null(state.error_text);
    assert_int_equal(fx->warnings.n, 1);
    assert_non_null(strstr(fx->warnings.v[0], "state.json was damaged"));
    AUTO_STRV struct strv entries = {0};
    bool found = false;
    assert_ok(file_list(dir, 100, &entries, &found));
    assert_int_equal(entries.n, 1);
    assert_non_null(strstr(entries.v[0], "state.json.bad-"));
    AUTO_FREE char *kept_path = lineage(fx, entries.v[0]);
    AUTO_FREE char *kept = text_of(kept_path);
    assert_string_equal(kept, text);
    assert_int_equal(unlink(kept_path), 0);
}

FIBER_TEST(damaged_state)
{
    bool stored = false;
    AUTO(host_state_done) struct host_state state = {0};
    assert_ok(reopen(fx, false));
    assert_ok(store_state_save(fx->store, &fx->host, &state, &stored));
    AUTO_FREE char *path = lineage(fx, "state.json");
    AUTO_FREE char *good = text_of(path);

    assert_state_damaged(fx, "");
    assert_state_damaged(fx, "garbage");
    assert_state_damaged(fx, "[]");
    assert_state_damaged(fx, "{\"schema\": \"something/1\"}");
    assert_state_damaged(fx, "{\"schema\": \"certherd/state/1\"}");
    assert_state_damaged(fx, "{\"schema\": \"certherd/state/1\", \"version\": \"1\"}");
    for (size_t len = 1; len < strlen(good) - 3; len += 7) { /* torn */
        AUTO_FREE char *torn = mem_dup(good, len);
        assert_state_damaged(fx, torn);
    }
    /* Types and ranges. */
    static const char *const parts[] = {"\"attempts\": -1", "\"next_try\": \"soon\"",
            "\"deployed\": {}", "\"deployed\": [{\"node\": 1}]",
            "\"deployed\": [{\"node\": \"n\"}]"};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        AUTO_FREE char *text = str_printf("{\"schema\": \"certherd/state/1\", \"version\": 1, "
                                          "\"deploy_attempts\": 0, %s%s%s}",
                i > 0 ? "\"attempts\": 0, " : "", i != 2 && i < 3 ? "\"deployed\": [], " : "",
                parts[i]);
        assert_state_damaged(fx, text);
    }
}

FIBER_TEST(newer_schema_is_left_alone)
{
    bool stored = false;
    AUTO(host_state_done) struct host_state state = {0};
    assert_ok(reopen(fx, false));
    assert_ok(store_state_save(fx->store, &fx->host, &state, &stored));
    AUTO_FREE char *path = lineage(fx, "state.json");
    put(path, "{\"schema\": \"certherd/state/2\", \"version\": 9}", 0600);
    assert_err(store_state_load(fx->store, &fx->host, &state), ERR_CONFIG, "newer certherd");
    assert_err(store_state_save(fx->store, &fx->host, &state, &stored), ERR_CONFIG,
            "certherd/state/2");
    AUTO_FREE char *text = text_of(path);
    assert_non_null(strstr(text, "certherd/state/2"));
}

FIBER_TEST(damaged_state_read_only)
{
    bool stored = false;
    AUTO(host_state_done) struct host_state state = {0};
    assert_ok(reopen(fx, false));
    assert_ok(store_state_save(fx->store, &fx->host, &state, &stored));
    AUTO_FREE char *path = lineage(fx, "state.json");
    put(path, "garbage", 0600);
    assert_ok(reopen(fx, true));
    assert_ok(store_state_load(fx->store, &fx->host, &state));
    assert_int_equal(fx->warnings.n, 1);
    assert_true(exists(path));
}

FIBER_TEST(hosts_on_disk)
{
    bool stored = false;
    assert_ok(reopen(fx, false));
    struct name names[] = {name_of("im.b.example"), name_of("im.a.example")};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        AUTO(host_state_done) struct host_state state = {0};
        assert_ok(store_state_save(fx->store, &names[i], &state, &stored));
    }
    AUTO_FREE char *foreign = in(fx, "lineages/Not A Host");
    assert_int_equal(mkdir(foreign, 0700), 0);
    AUTO(name_list_done) struct name_list hosts = {0};
    assert_ok(store_hosts(fx->store, &hosts));
    assert_int_equal(hosts.n, 2);
    assert_string_equal(hosts.v[0].text, "im.a.example");
    assert_string_equal(hosts.v[1].text, "im.b.example");
}

/* ---- pending ---- */

FIBER_TEST(pending_order)
{
    AUTO(store_pending_done) struct store_pending pending = {0};
    AUTO(key_freep) struct key *key = NULL;
    AUTO(key_freep) struct key *again = NULL;
    char a[KEY_THUMBPRINT_MAX], b[KEY_THUMBPRINT_MAX];
    assert_ok(reopen(fx, false));
    assert_ok(store_pending_load(fx->store, &fx->host, &pending));
    assert_false(pending.exists);

    make_pending(fx, &key);
    assert_ok(store_pending_load(fx->store, &fx->host, &pending));
    assert_true(pending.exists);
    assert_string_equal(pending.order_url, DIRECTORY "/order/1");
    assert_string_equal(pending.directory, DIRECTORY);
    assert_int_equal(pending.names.n, 2);
    assert_string_equal(pending.names.v[1].text, COMPONENT);
    assert_int_equal(pending.made.ms, now_of(fx).ms);
    AUTO_FREE char *key_path = lineage(fx, "pending/key.pem");
    AUTO_FREE char *order_path = lineage(fx, "pending/order.json");
    AUTO_FREE char *dir = lineage(fx, "pending");
    assert_int_equal(mode_of(key_path), 0600);
    assert_int_equal(mode_of(order_path), 0600);
    assert_int_equal(mode_of(dir), 0700);

    /* The same key, whatever type is wanted now: the order may be finalized with it. */
    assert_ok(store_pending_key(fx->store, &fx->host, KEY_P384, &again));
    assert_ok(key_thumbprint(key, a));
    assert_ok(key_thumbprint(again, b));
    assert_string_equal(a, b);

    assert_ok(store_pending_drop(fx->store, &fx->host));
    assert_ok(store_pending_drop(fx->store, &fx->host));
    AUTO_FREE char *lineage_dir = lineage(fx, "");
    assert_entries(lineage_dir, "");
}

FIBER_TEST(pending_without_answer)
{
    AUTO(store_pending_done) struct store_pending pending = {.made = now_of(fx)};
    AUTO(store_pending_done) struct store_pending found = {0};
    add_names(&pending.names, HOST ",*." HOST);
    assert_ok(reopen(fx, false));
    assert_ok(store_pending_save(fx->store, &fx->host, &pending));
    assert_ok(store_pending_load(fx->store, &fx->host, &found));
    assert_true(found.exists);
    assert_null(found.order_url);
    assert_string_equal(found.names.v[1].text, "*." HOST);
}

FIBER_TEST(damaged_order_is_set_aside)
{
    AUTO(key_freep) struct key *key = NULL;
    AUTO(store_pending_done) struct store_pending pending = {0};
    assert_ok(reopen(fx, false));
    make_pending(fx, &key);
    AUTO_FREE char *path = lineage(fx, "pending/order.json");
    put(path, "{\"schema\": \"certherd/order/1\", \"names\": [\"../../etc\"]}", 0600);
    assert_ok(store_pending_load(fx->store, &fx->host, &pending));
    assert_false(pending.exists);
    assert_int_equal(fx->warnings.n, 1);
    assert_false(exists(path));
}

FIBER_TEST(damaged_or_loose_key_is_not_used)
{
    AUTO(key_freep) struct key *key = NULL;
    AUTO(key_freep) struct key *none = NULL;
    assert_ok(reopen(fx, false));
    make_pending(fx, &key);
    AUTO_FREE char *path = lineage(fx, "pending/key.pem");
    assert_int_equal(chmod(path, 0644), 0);
    assert_err(store_pending_key(fx->store, &fx->host, KEY_P256, &none), ERR_CONFIG, "chmod");
    put(path, "garbage", 0600);
    struct err *e = store_pending_key(fx->store, &fx->host, KEY_P256, &none);
    assert_non_null(e);
    assert_non_null(err_advice(e));
    assert_non_null(strstr(err_text(e), "im.example.org"));
    err_free(e);
    assert_null(none);
}

/* ---- generations ---- */

FIBER_TEST(commit)
{
    AUTO(store_generation_done) struct store_generation g = {0};
    assert_ok(reopen(fx, false));
    assert_ok(store_generation_newest(fx->store, &fx->host, &g));
    assert_int_equal(g.number, 0);
    assert_int_equal(issue(fx, (struct cert_wish){.staging = true}), 1);
    AUTO_FREE char *dir = lineage(fx, "");
    AUTO_FREE char *one = lineage(fx, "1");
    AUTO_FREE char *key = lineage(fx, "1/key.pem");
    AUTO_FREE char *manifest = lineage(fx, "1/manifest.json");
    assert_entries(dir, "1");
    assert_entries(one, "chain.pem,key.pem,manifest.json");
    assert_int_equal(mode_of(one), 0700);
    assert_int_equal(mode_of(key), 0600);
    AUTO_FREE char *text = text_of(manifest);
    static const char *const members[] = {"\"sha256\"", "\"size\"", "\"names\"", "\"serial\"",
            "\"not_before\"", "\"not_after\"", "\"issuer\": \"Test Root\"", "\"directory\"",
            "\"staging\": true", "\"made\"", "certherd/generation/1"};
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        assert_non_null(strstr(text, members[i]));

    assert_ok(store_generation_newest(fx->store, &fx->host, &g));
    assert_int_equal(g.number, 1);
    assert_true(g.staging);
    assert_string_equal(g.directory, DIRECTORY);
    assert_int_equal(g.made.ms, now_of(fx).ms);
    assert_int_equal(g.cert.names.n, 2);
}

FIBER_TEST(three_are_kept)
{
    assert_ok(reopen(fx, false));
    for (uint64_t i = 1; i <= 12; i++)
        assert_int_equal(issue(fx, (struct cert_wish){0}), i);
    AUTO_FREE char *dir = lineage(fx, "");
    assert_entries(dir, "10,11,12");
}

FIBER_TEST(commit_refuses_what_does_not_fit)
{
    AUTO(key_freep) struct key *key = NULL;
    AUTO(key_freep) struct key *other = NULL;
    struct store_generation g = {0};
    assert_ok(reopen(fx, false));
    make_pending(fx, &key);
    AUTO_FREE char *other_path = str_printf("%s/other.pem", fx->top);
    assert_ok(key_create(other_path, KEY_P256, &other));
    AUTO_FREE char *foreign = chain_for(fx, other, (struct cert_wish){0});
    assert_err(store_generation_commit(
                       fx->store, &fx->host, foreign, strlen(foreign), DIRECTORY, false, &g),
            ERR_PROTOCOL, "storing the certificate of im.example.org");
    assert_err(store_generation_commit(fx->store, &fx->host, "junk", 4, DIRECTORY, false, &g),
            ERR_PROTOCOL, "im.example.org");
    AUTO_FREE char *dir = lineage(fx, "");
    AUTO_FREE char *pending = lineage(fx, "pending");
    assert_entries(dir, "pending");
    assert_entries(pending, "key.pem,order.json");
    /* and the right one still goes through */
    AUTO_FREE char *chain = chain_for(fx, key, (struct cert_wish){0});
    assert_ok(store_generation_commit(
            fx->store, &fx->host, chain, strlen(chain), DIRECTORY, false, &g));
    store_generation_done(&g);
}

FIBER_TEST(commit_without_key)
{
    struct store_generation g = {0};
    AUTO(key_freep) struct key *other = NULL;
    assert_ok(reopen(fx, false));
    AUTO_FREE char *other_path = str_printf("%s/other.pem", fx->top);
    assert_ok(key_create(other_path, KEY_P256, &other));
    AUTO_FREE char *chain = chain_for(fx, other, (struct cert_wish){0});
    assert_err(store_generation_commit(
                       fx->store, &fx->host, chain, strlen(chain), DIRECTORY, false, &g),
            ERR_CONFIG, "pending/key.pem");
}

static void damage(struct fixture *fx, const char *file, const char *text) MAY_SUSPEND;
static void damage(struct fixture *fx, const char *file, const char *text)
{
    AUTO_FREE char *path = lineage(fx, file);
    AUTO_FREE char *before = text_of(path);
    AUTO(store_generation_done) struct store_generation g = {0};
    strv_done(&fx->warnings);
    if (text != NULL)
        put(path, text, 0600);
    else
        assert_int_equal(unlink(path), 0);
    assert_ok(store_generation_newest(fx->store, &fx->host, &g));
    assert_int_equal(g.number, 1);
    assert_int_equal(fx->warnings.n, 1);
    assert_non_null(strstr(fx->warnings.v[0], "generation 2 of im.example.org is damaged"));
    put(path, before, 0600);
}

FIBER_TEST(damaged_generation_is_skipped)
{
    static const char *const files[] = {"2/key.pem", "2/chain.pem", "2/manifest.json"};
    AUTO(store_generation_done) struct store_generation g = {0};
    assert_ok(reopen(fx, false));
    issue(fx, (struct cert_wish){0});
    issue(fx, (struct cert_wish){.days = 120});
    AUTO_FREE char *first_key = lineage(fx, "1/key.pem");
    AUTO_FREE char *first_chain = lineage(fx, "1/chain.pem");
    AUTO_FREE char *other_key = text_of(first_key);
    AUTO_FREE char *other_chain = text_of(first_chain);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        AUTO_FREE char *path = lineage(fx, files[i]);
        AUTO_FREE char *text = text_of(path);
        damage(fx, files[i], NULL);
        damage(fx, files[i], "");
        AUTO_FREE char *half = mem_dup(text, strlen(text) / 2);
        damage(fx, files[i], half);
    }
    damage(fx, "2/key.pem", other_key);
    damage(fx, "2/chain.pem", other_chain);
    assert_ok(store_generation_newest(fx->store, &fx->host, &g));
    assert_int_equal(g.number, 2);
}

/* A commit that was killed after the rename: order.json is still there and harms nobody. */
FIBER_TEST(rest_of_a_killed_commit)
{
    AUTO(store_generation_done) struct store_generation g = {0};
    assert_ok(reopen(fx, false));
    issue(fx, (struct cert_wish){0});
    AUTO_FREE char *order = lineage(fx, "1/order.json");
    put(order, "{}", 0600);
    assert_ok(store_generation_newest(fx->store, &fx->host, &g));
    assert_int_equal(g.number, 1);
    assert_int_equal(issue(fx, (struct cert_wish){0}), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            STORE_TEST(layout_and_modes),
            STORE_TEST(umask_does_not_matter),
            STORE_TEST(existing_cert_dir_keeps_its_mode),
            STORE_TEST(missing_parents_are_made),
            STORE_TEST(loose_directories_are_refused),
            STORE_TEST(links_and_files_in_place_of_directories),
            STORE_TEST(foreign_owner_is_refused),
            STORE_TEST(read_only_makes_nothing),
            STORE_TEST(one_holder),
            STORE_TEST(only_the_holder_sweeps),
            STORE_TEST(writable),
            STORE_TEST(disk_full),
            STORE_TEST(state_round_trip),
            STORE_TEST(compare_and_set),
            STORE_TEST(cancel_while_saving),
            STORE_TEST(damaged_state),
            STORE_TEST(newer_schema_is_left_alone),
            STORE_TEST(damaged_state_read_only),
            STORE_TEST(hosts_on_disk),
            STORE_TEST(pending_order),
            STORE_TEST(pending_without_answer),
            STORE_TEST(damaged_order_is_set_aside),
            STORE_TEST(damaged_or_loose_key_is_not_used),
            STORE_TEST(commit),
            STORE_TEST(three_are_kept),
            STORE_TEST(commit_refuses_what_does_not_fit),
            STORE_TEST(commit_without_key),
            STORE_TEST(damaged_generation_is_skipped),
            STORE_TEST(rest_of_a_killed_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
