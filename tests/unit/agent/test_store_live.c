/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "agent/store_private.h"
#include "tests/unit/agent/store_fixture.h"

/* ---- helpers ---- */

static struct store_install install_of(struct fixture *fx, const struct name_list *wanted)
{
    return (struct store_install){.wanted = wanted, .roots = fx->roots, .now = now_of(fx)};
}

/* Installs a generation; why may be NULL. */
static enum store_installed install(
        struct fixture *fx, uint64_t number, bool allow_earlier, const char *why) MAY_SUSPEND;
static enum store_installed install(
        struct fixture *fx, uint64_t number, bool allow_earlier, const char *why)
{
    AUTO(name_list_done) struct name_list wanted = {0};
    AUTO_FREE char *found = NULL;
    enum store_installed result = STORE_WORSE;
    add_names(&wanted, HOST "," COMPONENT);
    struct store_install options = install_of(fx, &wanted);
    options.allow_earlier_expiry = allow_earlier;
    assert_ok(store_live_install(fx->store, &fx->host, number, &options, &result, &found));
    if (result != STORE_WORSE)
        assert_null(found);
    else if (why != NULL && strstr(found, why) == NULL)
        assert_string_equal(found, why);
    return result;
}

static void assert_live(struct fixture *fx, enum store_live expected, const char *why) MAY_SUSPEND;
static void assert_live(struct fixture *fx, enum store_live expected, const char *why)
{
    AUTO_CERT_INFO struct cert_info cert = {0};
    AUTO_FREE char *found = NULL;
    enum store_live state = STORE_LIVE_NONE;
    assert_ok(store_live_load(fx->store, &fx->host, &state, &cert, &found));
    if (state != expected && found != NULL)
        print_error("%s\n", found);
    assert_int_equal(state, expected);
    if (why == NULL)
        assert_null(found);
    else
        assert_non_null(strstr(found, why));
}

/* The live file is exactly what the generation makes. */
static void assert_live_is(struct fixture *fx, uint64_t number) MAY_SUSPEND;
static void assert_live_is(struct fixture *fx, uint64_t number)
{
    AUTO(key_freep) struct key *key = NULL;
    AUTO_BUF struct buf joined = BUF_INIT(1024 * 1024);
    AUTO_FREE char *key_name = str_printf("%llu/key.pem", (unsigned long long)number);
    AUTO_FREE char *chain_name = str_printf("%llu/chain.pem", (unsigned long long)number);
    AUTO_FREE char *key_path = lineage(fx, key_name);
    AUTO_FREE char *chain_path = lineage(fx, chain_name);
    AUTO_FREE char *live_path = live(fx);
    AUTO_FREE char *chain = text_of(chain_path);
    AUTO_FREE char *text = text_of(live_path);
    assert_ok(key_open(key_path, &key));
    assert_ok(key_join_chain(key, chain, strlen(chain), &joined));
    assert_string_equal(text, buf_str(&joined));
}

static time_t mtime_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mtim.tv_nsec, 0);
    return st.st_mtim.tv_sec;
}

/* A joined file that we did not make: the start certificate, or another one's. */
static void put_live(struct fixture *fx, const struct test_cert_spec *spec)
{
    AUTO_TEST_CERT struct test_cert *cert = test_cert_new(spec);
    AUTO_FREE char *chain = test_cert_chain(cert, false);
    AUTO_FREE char *key = test_cert_key_pem(cert);
    AUTO_FREE char *text = str_printf("%s%s", chain, key);
    AUTO_FREE char *path = live(fx);
    put(path, text, 0640);
}

static struct test_cert_spec start_certificate(struct fixture *fx)
{
    return (struct test_cert_spec){.cn = "start",
            .names = HOST "," COMPONENT,
            .not_before = wall_add(now_of(fx), -CLOCK_DAY),
            .not_after = wall_add(now_of(fx), 3650 * CLOCK_DAY)};
}

/* ---- install ---- */

FIBER_TEST(first_install)
{
    assert_ok(reopen(fx, false));
    assert_live(fx, STORE_LIVE_NONE, NULL);
    uint64_t number = issue(fx, (struct cert_wish){0});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    AUTO_FREE char *path = live(fx);
    assert_int_equal(mode_of(path), 0640);
    assert_live_is(fx, number);
    assert_live(fx, STORE_LIVE_GOOD, NULL);
    assert_entries(fx->cert_dir, HOST ".pem");
    time_t first = mtime_of(path);
    assert_int_equal(install(fx, number, false, NULL), STORE_ALREADY_THERE);
    assert_int_equal(mtime_of(path), first);
}

FIBER_TEST(files_get_the_directory_s_group)
{
    if (geteuid() != 0)
        skip();
    assert_ok(reopen(fx, false));
    assert_int_equal(chown(fx->cert_dir, 0, 12345), 0);
    assert_int_equal(chmod(fx->cert_dir, 02750), 0);
    uint64_t number = issue(fx, (struct cert_wish){0});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    AUTO_FREE char *path = live(fx);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_gid, 12345);
    /* The group was changed later: the file is written again with it. */
    assert_int_equal(chown(fx->cert_dir, 0, 54321), 0);
    assert_int_equal(chmod(fx->cert_dir, 02750), 0);
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_gid, 54321);
}

FIBER_TEST(a_wrong_mode_is_repaired)
{
    assert_ok(reopen(fx, false));
    uint64_t number = issue(fx, (struct cert_wish){0});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    AUTO_FREE char *path = live(fx);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_int_equal(mode_of(path), 0640);
}

FIBER_TEST(mtime_always_rises)
{
    assert_ok(reopen(fx, false));
    AUTO_FREE char *path = live(fx);
    time_t last = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t number = issue(fx, (struct cert_wish){.days = 90 + i});
        assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
        assert_true(mtime_of(path) > last);
        last = mtime_of(path);
    }
    /* also over a file from the future */
    struct timespec future[2] = {{.tv_sec = last + 100000}, {.tv_sec = last + 100000}};
    assert_int_equal(utimensat(AT_FDCWD, path, future, 0), 0);
    uint64_t number = issue(fx, (struct cert_wish){.days = 100});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_int_equal(mtime_of(path), last + 100001);
}

FIBER_TEST(own_renewal)
{
    assert_ok(reopen(fx, false));
    uint64_t first = issue(fx, (struct cert_wish){0});
    assert_int_equal(install(fx, first, false, NULL), STORE_INSTALLED);
    uint64_t second = issue(fx, (struct cert_wish){.days = 120});
    assert_int_equal(install(fx, second, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, second);
    AUTO_FREE char *previous = lineage(fx, "previous.pem");
    assert_int_equal(mode_of(previous), 0600);
}

FIBER_TEST(a_generation_that_is_not_there)
{
    AUTO(name_list_done) struct name_list wanted = {0};
    char *why = NULL;
    enum store_installed result;
    assert_ok(reopen(fx, false));
    add_names(&wanted, HOST);
    struct store_install options = install_of(fx, &wanted);
    assert_err(store_live_install(fx->store, &fx->host, 7, &options, &result, &why), ERR_CONFIG,
            "installing the certificate of im.example.org: generation 7");
}

FIBER_TEST(not_for_this_host)
{
    AUTO(name_list_done) struct name_list wanted = {0};
    char *why = NULL;
    enum store_installed result;
    assert_ok(reopen(fx, false));
    add_names(&wanted, HOST);
    struct store_install options = install_of(fx, &wanted);
    uint64_t number = issue(fx, (struct cert_wish){.names = COMPONENT});
    assert_err(store_live_install(fx->store, &fx->host, number, &options, &result, &why),
            ERR_PROTOCOL, "does not cover im.example.org itself");
    assert_entries(fx->cert_dir, "");
}

FIBER_TEST(unreadable_roots_are_an_error)
{
    AUTO(name_list_done) struct name_list wanted = {0};
    char *why = NULL;
    enum store_installed result;
    assert_ok(reopen(fx, false));
    add_names(&wanted, HOST);
    struct store_install options = install_of(fx, &wanted);
    options.roots = "/nowhere/roots.pem";
    uint64_t number = issue(fx, (struct cert_wish){0});
    assert_err(store_live_install(fx->store, &fx->host, number, &options, &result, &why),
            ERR_CONFIG, "/nowhere/roots.pem");
}

/* ---- what is live already ---- */

static void assert_damaged_is_replaced(
        struct fixture *fx, uint64_t number, const char *text, const char *why) MAY_SUSPEND;
static void assert_damaged_is_replaced(
        struct fixture *fx, uint64_t number, const char *text, const char *why)
{
    AUTO_FREE char *path = live(fx);
    AUTO_FREE char *previous = lineage(fx, "previous.pem");
    put(path, text, 0640);
    assert_live(fx, STORE_LIVE_DAMAGED, why);
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, number);
    assert_false(exists(previous));
}

FIBER_TEST(damaged_live_files)
{
    assert_ok(reopen(fx, false));
    AUTO_FREE char *path = live(fx);
    AUTO_FREE char *key_path = lineage(fx, "1/key.pem");
    AUTO_FREE char *chain_path = lineage(fx, "2/chain.pem");
    uint64_t other = issue(fx, (struct cert_wish){0});
    uint64_t number = issue(fx, (struct cert_wish){0});
    AUTO_FREE char *other_key = text_of(key_path);
    AUTO_FREE char *chain = text_of(chain_path);
    AUTO_FREE char *mixed = str_printf("%s%s", chain, other_key);
    AUTO_FREE char *half = mem_dup(mixed, strlen(mixed) / 3);
    assert_int_equal(other, 1);
    assert_damaged_is_replaced(fx, number, "", "");
    assert_damaged_is_replaced(fx, number, "garbage\n", "");
    assert_damaged_is_replaced(fx, number, half, "");
    assert_damaged_is_replaced(fx, number, chain, "");     /* no key */
    assert_damaged_is_replaced(fx, number, other_key, ""); /* no certificate */
    assert_damaged_is_replaced(fx, number, mixed, "");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/nowhere/at/all", path), 0);
    assert_live(fx, STORE_LIVE_DAMAGED, "dangling link");
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, number);

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0640), 0);
    assert_live(fx, STORE_LIVE_DAMAGED, "not a regular file");
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, number);
}

FIBER_TEST(start_certificate_gives_way)
{
    assert_ok(reopen(fx, false));
    struct test_cert_spec spec = start_certificate(fx);
    put_live(fx, &spec);
    assert_live(fx, STORE_LIVE_GOOD, NULL);
    /* fewer names and an earlier end, but trusted */
    uint64_t number = issue(fx, (struct cert_wish){.names = HOST});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, number);
}

FIBER_TEST(start_certificate_gives_way_to_an_unknown_ca)
{
    assert_ok(reopen(fx, false));
    struct test_cert_spec spec = start_certificate(fx);
    put_live(fx, &spec);
    uint64_t number = issue(fx, (struct cert_wish){.issuer = fx->other_root});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
}

FIBER_TEST(expired_gives_way)
{
    assert_ok(reopen(fx, false));
    put_live(fx, &(struct test_cert_spec){.names = HOST "," COMPONENT,
                         .issuer = fx->root,
                         .not_before = wall_add(now_of(fx), -90 * CLOCK_DAY),
                         .not_after = wall_add(now_of(fx), -CLOCK_MIN)});
    assert_live(fx, STORE_LIVE_GOOD, NULL);
    uint64_t number = issue(fx, (struct cert_wish){.names = HOST});
    assert_int_equal(install(fx, number, false, NULL), STORE_INSTALLED);
}

FIBER_TEST(worse_ones_stay_out)
{
    assert_ok(reopen(fx, false));
    uint64_t good = issue(fx, (struct cert_wish){.days = 60});
    assert_int_equal(install(fx, good, false, NULL), STORE_INSTALLED);

    uint64_t number = issue(fx, (struct cert_wish){.names = HOST});
    assert_int_equal(install(fx, number, true, "it lacks " COMPONENT ", which the live one has"),
            STORE_WORSE);
    number = issue(fx, (struct cert_wish){.issuer = fx->other_root});
    assert_int_equal(install(fx, number, true, "it is untrusted"), STORE_WORSE);
    number = issue(fx, (struct cert_wish){.staging = true});
    assert_int_equal(install(fx, number, true, "of a staging directory"), STORE_WORSE);
    assert_live(fx, STORE_LIVE_GOOD, NULL);

    /* 5 commits: the generation of the live one is pruned by now, the file stays what it is */
    number = issue(fx, (struct cert_wish){.before_days = 1});
    assert_int_equal(install(fx, number, true, "it is not valid before"), STORE_WORSE);
    number = issue(fx, (struct cert_wish){.days = 30});
    assert_int_equal(install(fx, number, false, "before the live one"), STORE_WORSE);
    assert_int_equal(install(fx, number, true, NULL), STORE_INSTALLED);
    assert_live_is(fx, number);
}

/* The reason why a later one was ordered may be forgotten (a crash), or lie in the names; but an
 * earlier one doesn't come back. */
FIBER_TEST(later_generation_may_end_earlier)
{
    assert_ok(reopen(fx, false));
    uint64_t first = issue(fx, (struct cert_wish){.days = 60});
    assert_int_equal(install(fx, first, false, NULL), STORE_INSTALLED);
    uint64_t second = issue(fx, (struct cert_wish){.days = 30});
    assert_int_equal(install(fx, second, false, NULL), STORE_INSTALLED);
    uint64_t third = issue(fx, (struct cert_wish){.days = 90});
    assert_int_equal(install(fx, third, false, NULL), STORE_INSTALLED);
    assert_int_equal(install(fx, first, false, "before the live one"), STORE_WORSE);
    assert_live_is(fx, third);
}

FIBER_TEST(expired_never_goes_in)
{
    assert_ok(reopen(fx, false));
    uint64_t number = issue(fx, (struct cert_wish){.before_days = -90, .days = -1});
    assert_int_equal(install(fx, number, true, "it has expired at"), STORE_WORSE);
    assert_entries(fx->cert_dir, "");
}

FIBER_TEST(staging_follows_staging)
{
    assert_ok(reopen(fx, false));
    uint64_t first = issue(fx, (struct cert_wish){.staging = true});
    assert_int_equal(install(fx, first, false, NULL), STORE_INSTALLED);
    uint64_t second = issue(fx, (struct cert_wish){.staging = true, .days = 100});
    assert_int_equal(install(fx, second, false, NULL), STORE_INSTALLED);
    /* and the real one comes in with an earlier end */
    uint64_t third = issue(fx, (struct cert_wish){.days = 20});
    assert_int_equal(install(fx, third, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, third);
}

FIBER_TEST(growth)
{
    assert_ok(reopen(fx, false));
    uint64_t small = issue(fx, (struct cert_wish){.names = HOST});
    assert_int_equal(install(fx, small, false, NULL), STORE_INSTALLED);
    uint64_t all = issue(fx, (struct cert_wish){0});
    assert_int_equal(install(fx, all, false, NULL), STORE_INSTALLED);
    assert_live_is(fx, all);
}

/* ---- roll back ---- */

FIBER_TEST(roll_back)
{
    assert_ok(reopen(fx, false));
    AUTO_FREE char *path = live(fx);
    assert_err(store_live_roll_back(fx->store, &fx->host), ERR_LOCAL, "no earlier certificate");
    uint64_t first = issue(fx, (struct cert_wish){0});
    assert_int_equal(install(fx, first, false, NULL), STORE_INSTALLED);
    assert_err(store_live_roll_back(fx->store, &fx->host), ERR_LOCAL, "no earlier certificate");
    uint64_t second = issue(fx, (struct cert_wish){.days = 120});
    assert_int_equal(install(fx, second, false, NULL), STORE_INSTALLED);
    time_t before = mtime_of(path);
    assert_ok(store_live_roll_back(fx->store, &fx->host));
    assert_live_is(fx, first);
    assert_true(mtime_of(path) > before);
    assert_int_equal(mode_of(path), 0640);

    AUTO_FREE char *previous = lineage(fx, "previous.pem");
    put(previous, "garbage", 0600);
    assert_err(store_live_roll_back(fx->store, &fx->host), ERR_LOCAL, "is damaged");
    assert_live_is(fx, first);
}

/* A file that could not be used is not what anybody wants back. */
FIBER_TEST(no_roll_back_to_a_damaged_one)
{
    assert_ok(reopen(fx, false));
    AUTO_FREE char *path = live(fx);
    uint64_t first = issue(fx, (struct cert_wish){0});
    uint64_t second = issue(fx, (struct cert_wish){.days = 120});
    assert_int_equal(install(fx, first, false, NULL), STORE_INSTALLED);
    assert_int_equal(install(fx, second, false, NULL), STORE_INSTALLED);
    put(path, "garbage", 0640);
    assert_int_equal(install(fx, second, false, NULL), STORE_INSTALLED);
    assert_err(store_live_roll_back(fx->store, &fx->host), ERR_LOCAL, "no earlier certificate");
}

/* ---- the rules, every pair of ranks ---- */

static void rules(void **state)
{
    /* Useless, self-signed, untrusted, staging, trusted: as live and as candidate. */
    static const struct {
        bool trusted, staging, self_signed, expired;
        int rank;
    } kinds[] = {
            {.trusted = true, .expired = true, .rank = 0},
            {.self_signed = true, .rank = 1},
            {.rank = 2},
            {.staging = true, .rank = 2},
            {.trusted = true, .staging = true, .rank = 2},
            {.trusted = true, .rank = 3},
    };
    AUTO(name_list_done) struct name_list wanted = {0};
    add_names(&wanted, HOST "," COMPONENT);
    const struct store_install options = {.wanted = &wanted, .now = {1000}};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        for (size_t j = 1; j < ARRAY_SIZE(kinds); j++) {
            AUTO_CERT_INFO struct cert_info a = {.not_after = {kinds[i].expired ? 999 : 5000},
                    .self_signed = kinds[i].self_signed};
            AUTO_CERT_INFO struct cert_info b = {
                    .not_after = {4000}, .self_signed = kinds[j].self_signed};
            strv_add(&a.names, HOST);
            strv_add(&a.names, COMPONENT);
            strv_add(&b.names, HOST);
            struct store_candidate live_one = {&a, kinds[i].trusted, kinds[i].staging};
            struct store_candidate candidate = {&b, kinds[j].trusted, kinds[j].staging};
            AUTO_FREE char *why = NULL;
            /* fewer names and an earlier end: only a better rank gets in */
            bool may = store_may_replace(&live_one, &candidate, &options, &why);
            assert_int_equal(may, kinds[j].rank > kinds[i].rank);
            assert_int_equal(why == NULL, may);
        }
    }
}

static void rules_of_names(void **state)
{
    AUTO(name_list_done) struct name_list wanted = {0};
    AUTO_CERT_INFO struct cert_info a = {.not_after = {5000}};
    AUTO_CERT_INFO struct cert_info b = {.not_after = {5000}};
    AUTO_FREE char *why = NULL;
    add_names(&wanted, HOST "," COMPONENT);
    const struct store_install options = {.wanted = &wanted, .now = {1000}};
    const struct store_candidate live_one = {&a, true, false}, candidate = {&b, true, false};
    strv_add(&a.names, HOST);
    strv_add(&a.names, "proxy.im.example.org"); /* no longer wanted */
    strv_add(&a.names, COMPONENT);
    strv_add(&b.names, "*." HOST);
    strv_add(&b.names, HOST);
    assert_true(store_may_replace(&live_one, &candidate, &options, &why));
    /* not even the live one has it: nothing is lost */
    add_names(&wanted, "upload.other.example");
    assert_true(store_may_replace(&live_one, &candidate, &options, &why));
    assert_true(store_may_replace(NULL, &candidate, &options, &why));
    assert_null(why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            STORE_TEST(first_install),
            STORE_TEST(files_get_the_directory_s_group),
            STORE_TEST(a_wrong_mode_is_repaired),
            STORE_TEST(mtime_always_rises),
            STORE_TEST(own_renewal),
            STORE_TEST(a_generation_that_is_not_there),
            STORE_TEST(not_for_this_host),
            STORE_TEST(unreadable_roots_are_an_error),
            STORE_TEST(damaged_live_files),
            STORE_TEST(start_certificate_gives_way),
            STORE_TEST(start_certificate_gives_way_to_an_unknown_ca),
            STORE_TEST(expired_gives_way),
            STORE_TEST(worse_ones_stay_out),
            STORE_TEST(later_generation_may_end_earlier),
            STORE_TEST(expired_never_goes_in),
            STORE_TEST(staging_follows_staging),
            STORE_TEST(growth),
            STORE_TEST(roll_back),
            STORE_TEST(no_roll_back_to_a_damaged_one),
            cmocka_unit_test(rules),
            cmocka_unit_test(rules_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
