/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "acme/nonce.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_err.h"

struct scene {
    struct fake_world fw;
    struct acme_nonces pool;
    unsigned asked;      /* calls of wanted() */
    struct fiber *taker; /* one that waits */
    struct err *error;
    char *got[8];
    size_t n_got;
    unsigned to_follow; /* of who takes next */
};

static void wanted(void *arg)
{
    ((struct scene *)arg)->asked++;
}

static void run(struct err *(*fn)(void *arg))
{
    struct scene s = {0};

    fake_world_init(&s.fw);
    acme_nonces_init(&s.pool, &s.fw.world, 0, wanted, &s);
    assert_ok(fake_world_run(&s.fw, fn, &s));
    acme_nonces_done(&s.pool);
    err_free(s.error);
    for (size_t i = 0; i < s.n_got; i++)
        free(s.got[i]);
    fake_world_done(&s.fw);
}

static struct err *take_one(void *arg) MAY_SUSPEND;
static struct err *take_one(void *arg)
{
    struct scene *s = arg;
    char *nonce = NULL;

    s->taker = fiber_self();
    struct err *e = acme_nonces_take(&s->pool, s->to_follow, &nonce);
    if (e != NULL) {
        err_free(s->error);
        s->error = e;
        return NULL;
    }
    s->got[s->n_got++] = nonce;
    return NULL;
}

static void only_base64url_is_a_nonce(void **state)
{
    AUTO_FREE char *longest = mem_zalloc(514);

    memset(longest, 'a', 512);
    assert_true(acme_nonce_ok("oFvnlFP1wIhRlYS2jTaXbA"));
    assert_true(acme_nonce_ok("a-_9"));
    assert_true(acme_nonce_ok(longest));
    longest[512] = 'a';
    assert_false(acme_nonce_ok(longest));
    assert_false(acme_nonce_ok(NULL));
    assert_false(acme_nonce_ok(""));
    assert_false(acme_nonce_ok("a b"));
    assert_false(acme_nonce_ok("a=="));
    assert_false(acme_nonce_ok("a\r\nX: y"));
    assert_false(acme_nonce_ok("a+/"));
    assert_false(acme_nonce_ok("\xc3\xa4"));
}

static struct err *each_is_given_once(void *arg) MAY_SUSPEND;
static struct err *each_is_given_once(void *arg)
{
    struct scene *s = arg;

    acme_nonces_give(&s->pool, "one");
    acme_nonces_give(&s->pool, "bad one");
    acme_nonces_give(&s->pool, NULL);
    acme_nonces_give(&s->pool, "two");
    assert_int_equal(s->pool.n, 2);
    TRY(take_one(s));
    TRY(take_one(s));
    assert_string_equal(s->got[0], "two"); /* the newest first */
    assert_string_equal(s->got[1], "one");
    assert_int_equal(s->pool.n, 0);
    assert_int_equal(s->asked, 0);
    return NULL;
}

static void nonces_are_used_once_and_newest_first(void **state)
{
    run(each_is_given_once);
}

static struct err *old_and_too_many(void *arg) MAY_SUSPEND;
static struct err *old_and_too_many(void *arg)
{
    struct scene *s = arg;
    char text[32];

    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "n%d", i);
        acme_nonces_give(&s->pool, text);
    }
    assert_int_equal(s->pool.n, ACME_NONCES_MAX);
    assert_string_equal(s->pool.pool[0].text, "n36");
    TRY(fiber_sleep(50 * CLOCK_MIN));
    acme_nonces_give(&s->pool, "young");
    TRY(fiber_sleep(11 * CLOCK_MIN));
    acme_nonces_announce(&s->pool, 3);
    assert_int_equal(acme_nonces_missing(&s->pool), 2);
    assert_int_equal(s->pool.n, 1);
    TRY(take_one(s));
    assert_string_equal(s->got[0], "young");
    return NULL;
}

static void the_pool_is_bounded_in_size_and_age(void **state)
{
    run(old_and_too_many);
}

static struct err *who_waits(void *arg) MAY_SUSPEND;
static struct err *who_waits(void *arg)
{
    struct scene *s = arg;
    struct fiber_group group;

    fiber_group_init(&group);
    fiber_group_spawn(&group, "a", take_one, s);
    fiber_group_spawn(&group, "b", take_one, s);
    fiber_group_spawn(&group, "c", take_one, s);
    TRY(fiber_yield());
    assert_int_equal(s->pool.n_waiters, 3);
    assert_int_equal(s->asked, 3);
    assert_int_equal(acme_nonces_missing(&s->pool), 3);
    acme_nonces_give(&s->pool, "one");
    acme_nonces_give(&s->pool, "two");
    fiber_cancel(s->taker); /* the last of them */
    TRY(fiber_group_wait(&group));
    assert_int_equal(s->n_got, 2);
    assert_string_equal(s->got[0], "one");
    assert_true(err_is(s->error, ERR_CANCELED));
    assert_int_equal(s->pool.n_waiters, 0);
    return NULL;
}

static void those_who_wait_are_served_in_turn_or_leave(void **state)
{
    run(who_waits);
}

struct one {
    struct scene *scene;
    unsigned to_follow;
    char id;
};

static struct err *take_and_tell(void *arg) MAY_SUSPEND;
static struct err *take_and_tell(void *arg)
{
    struct one *one = arg;
    AUTO_FREE char *nonce = NULL;

    TRY(acme_nonces_take(&one->scene->pool, one->to_follow, &nonce));
    one->scene->got[one->scene->n_got++] = str_printf("%c", one->id);
    return NULL;
}

static struct err *long_and_short_ways(void *arg) MAY_SUSPEND;
static struct err *long_and_short_ways(void *arg)
{
    struct scene *s = arg;
    struct one ones[] = {{s, 2, 'a'}, {s, 5, 'b'}, {s, 2, 'c'}, {s, 6, 'd'}, {s, 0, 'e'},
            {s, 5, 'f'}, {s, 6, 'g'}};
    AUTO_BUF struct buf order = BUF_INIT(64);
    struct fiber_group group;

    fiber_group_init(&group);
    for (size_t i = 0; i < ARRAY_SIZE(ones); i++)
        fiber_group_spawn(&group, "one", take_and_tell, &ones[i]);
    TRY(fiber_yield());
    assert_int_equal(s->pool.n_waiters, ARRAY_SIZE(ones));
    for (size_t i = 0; i < ARRAY_SIZE(ones); i++)
        acme_nonces_give(&s->pool, "nonce");
    TRY(fiber_group_wait(&group));
    for (size_t i = 0; i < s->n_got; i++)
        buf_puts(&order, s->got[i]);
    assert_string_equal(buf_str(&order), "dgbface");
    assert_int_equal(s->pool.n_waiters, 0);
    return NULL;
}

static void the_longest_way_to_go_comes_first(void **state)
{
    run(long_and_short_ways);
}

static struct err *failing(void *arg) MAY_SUSPEND;
static struct err *failing(void *arg)
{
    struct scene *s = arg;
    struct fiber_group group;
    AUTO_ERR struct err *why = ERR_AT(((struct wall){1795348900000}), "busy");

    fiber_group_init(&group);
    fiber_group_spawn(&group, "a", take_one, s);
    fiber_group_spawn(&group, "b", take_one, s);
    TRY(fiber_yield());
    s->pool.fetching = 1; /* another fetch is still under way: one may hope */
    acme_nonces_failed(&s->pool, why);
    assert_int_equal(s->pool.n_waiters, 1);
    s->pool.fetching = 0;
    acme_nonces_give(&s->pool, "late");
    TRY(fiber_group_wait(&group));
    assert_int_equal(s->n_got, 1);
    assert_true(err_is(s->error, ERR_RETRY_AT));
    assert_string_equal(err_text(s->error), "busy");
    return NULL;
}

static void a_failed_fetch_is_told_to_one_who_waits(void **state)
{
    run(failing);
}

static struct err *counting(void *arg) MAY_SUSPEND;
static struct err *counting(void *arg)
{
    struct scene *s = arg;

    acme_nonces_announce(&s->pool, 5);
    assert_int_equal(s->asked, 1);
    assert_int_equal(acme_nonces_missing(&s->pool), 5);
    acme_nonces_give(&s->pool, "one");
    assert_int_equal(acme_nonces_missing(&s->pool), 4);
    s->pool.posts = 1; /* brings one back */
    assert_int_equal(acme_nonces_missing(&s->pool), 3);
    s->pool.fetching = 2;
    assert_int_equal(acme_nonces_missing(&s->pool), 1);
    acme_nonces_announce(&s->pool, 1000);
    assert_int_equal(s->pool.announced, ACME_NONCES_MAX);
    s->pool.fetching = 0;
    assert_int_equal(acme_nonces_missing(&s->pool), ACME_NONCE_BURST);
    s->pool.fetching = ACME_NONCE_BURST;
    assert_int_equal(acme_nonces_missing(&s->pool), 0);
    s->pool.fetching = s->pool.posts = 0;
    return NULL;
}

static void what_is_on_its_way_is_not_fetched(void **state)
{
    run(counting);
}

static struct err *pacing(void *arg) MAY_SUSPEND;
static struct err *pacing(void *arg)
{
    struct scene *s = arg;

    for (int i = 0; i < 10; i++)
        assert_int_equal(acme_nonces_pace(&s->pool), 0);
    assert_int_equal(acme_nonces_pace(&s->pool), 50);
    assert_int_equal(acme_nonces_pace(&s->pool), 100);
    TRY(fiber_sleep(10 * CLOCK_SEC));
    for (int i = 0; i < 10; i++)
        assert_int_equal(acme_nonces_pace(&s->pool), 0);
    assert_int_equal(acme_nonces_pace(&s->pool), 50);
    return NULL;
}

static void fetches_keep_to_the_limit_of_lets_encrypt(void **state)
{
    run(pacing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(only_base64url_is_a_nonce),
            cmocka_unit_test(nonces_are_used_once_and_newest_first),
            cmocka_unit_test(the_pool_is_bounded_in_size_and_age),
            cmocka_unit_test(those_who_wait_are_served_in_turn_or_leave),
            cmocka_unit_test(the_longest_way_to_go_comes_first),
            cmocka_unit_test(a_failed_fetch_is_told_to_one_who_waits),
            cmocka_unit_test(what_is_on_its_way_is_not_fetched),
            cmocka_unit_test(fetches_keep_to_the_limit_of_lets_encrypt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
