/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow against the imitation CA on a virtual clock. With 100 ms of latency per request the
 * virtual time of a run counts its sequential round trips.
 */
#include "tests/unit/acme/issue_scene.h"

#define FIVE                                                                                       \
    "im.example.org,conference.im.example.org,proxy.im.example.org,pubsub.im.example.org,"         \
    "upload.im.example.org"

/* ---- how many round trips ---- */

static void a_new_account_takes_ten_round_trips(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    scene_expect_issued(&s);
    /* directory, nonce, account, order, authorizations, challenges, poll, finalize, poll, cert */
    assert_int_equal(s.elapsed_ms, 1000);
    assert_int_equal(s.ca.of[FAKE_CA_NONCE], 5);
    assert_int_equal(s.ca.of[FAKE_CA_ORDER], 2);
    assert_int_equal(s.ca.requests, 22);
    assert_int_equal(s.requests, 22);
    assert_int_equal(s.n_answers, 5);
    assert_int_equal(s.csrs, 1);
    assert_true(s.result.new_order);
    assert_int_equal(s.result.n_failed, 0);
    assert_non_null(s.order_url);
    scene_done(&s);
}

static void a_known_account_takes_nine_and_eight_with_the_cached_directory(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    scene_expect_issued(&s);
    free(STEAL(s.order_url));
    s.use_cache = true;
    scene_expect_issued(&s);
    assert_int_equal(s.elapsed_ms, 900);
    free(STEAL(s.order_url));
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.elapsed_ms, 800);
    assert_int_equal(s.ca.of[FAKE_CA_DIR], 0);
    assert_int_equal(s.ca.accounts_made, 0);
    scene_done(&s);
}

static void the_next_one_of_a_warm_client_takes_seven(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    s.twice = true;
    scene_expect_issued(&s);
    assert_int_equal(s.elapsed_ms, 700);
    assert_int_equal(s.ca.of[FAKE_CA_NONCE], 5); /* none for the second */
    scene_done(&s);
}

static void a_ca_that_signs_at_once_saves_a_poll(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    s.ca.issuance_ms = 0;
    scene_expect_issued(&s);
    assert_int_equal(s.elapsed_ms, 900);
    scene_done(&s);
}

static void reused_authorizations_need_no_challenge(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    s.ca.reuse_authz = true;
    scene_expect_issued(&s);
    /* directory, nonce, account, order, finalize, poll, cert */
    assert_int_equal(s.elapsed_ms, 700);
    assert_int_equal(s.n_answers, 0);
    assert_int_equal(s.ca.of[FAKE_CA_CHALLENGE], 0);
    scene_done(&s);
}

/* What bounds them is the supply of nonces: 300 requests, each takes one and brings one back. */
static void many_orders_share_the_client(void **state)
{
    static const struct {
        size_t per_second;
        unsigned at_once;
        int64_t most_ms;
    } cases[] = {{0, 10, 1900}, {200, 20, 1400}, {1000, 64, 1300}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct scene s;
        scene_init(&s, FIVE);
        s.ca.latency_ms = 100;
        s.flows = 20;
        s.nonces_per_second = cases[i].per_second;
        scene_expect_issued(&s);
        assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 20);
        assert_true(s.ca.new_orders_most <= 20);
        assert_true(s.ca.nonces_most <= cases[i].at_once);
        assert_int_equal(s.n_answers, 100);
        print_message("20 orders of 5 names: %d round trips, %u nonces fetched\n",
                (int)(s.elapsed_ms / 100), s.ca.of[FAKE_CA_NONCE]);
        assert_in_range(s.elapsed_ms, 1000, cases[i].most_ms);
        scene_done(&s);
    }
}

/* ---- an ordinary CA's whims ---- */

static void refused_nonces_are_replaced(void **state)
{
    struct scene s;

    for (unsigned every = 2; every <= 20; every++) {
        scene_init(&s, FIVE);
        s.ca.bad_nonce_every = every;
        scene_expect_issued(&s);
        scene_done(&s);
    }
}

static void a_ca_that_refuses_every_nonce_is_left(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.bad_nonce_every = 1;
    assert_err(scene_run(&s), ERR_RETRY, "badNonce");
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ACCOUNT], 17);
    scene_done(&s);
}

static void replies_without_nonces_cost_fetches(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.no_nonces = true;
    scene_expect_issued(&s);
    assert_true(s.ca.of[FAKE_CA_NONCE] >= 16);
    scene_done(&s);
}

static void names_may_come_back_in_another_order(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.reverse_order = true;
    scene_expect_issued(&s);
    scene_done(&s);
}

static void a_name_and_its_wildcard_are_two_authorizations(void **state)
{
    struct scene s;

    scene_init(&s, "im.example.org,*.im.example.org");
    s.challenge = "dns-01";
    s.ca.offered = "dns-01";
    scene_expect_issued(&s);
    assert_int_equal(s.n_answers, 2);
    assert_string_equal(s.answers[0].name, s.answers[1].name);
    scene_done(&s);
}

static void slow_verdicts_are_polled_with_growing_pauses(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    s.ca.validation_ms = 20 * CLOCK_SEC;
    s.ca.issuance_ms = 20 * CLOCK_SEC;
    scene_expect_issued(&s);
    assert_in_range(s.ca.of[FAKE_CA_ORDER], 10, 30);
    assert_in_range(s.elapsed_ms, 40 * CLOCK_SEC, 51 * CLOCK_SEC);
    assert_int_equal(s.ca.of[FAKE_CA_CHALLENGE], 5);
    assert_int_equal(s.ca.of[FAKE_CA_FINALIZE], 1);
    scene_done(&s);
}

static void retry_after_wins_over_an_early_poll(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.latency_ms = 100;
    s.ca.order_retry_after = "3";
    scene_expect_issued(&s);
    assert_int_equal(s.ca.of[FAKE_CA_ORDER], 2);
    assert_in_range(s.elapsed_ms, 3900, 4000);
    scene_done(&s);
}

static void an_outage_of_seconds_while_polling_is_sat_out(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.validation_ms = 10 * CLOCK_SEC;
    s.ca.faults[0] = (struct fake_ca_fault){FAKE_CA_ORDER, 2, 3, 503, NULL, NULL, NULL};
    s.ca.faults[1] = (struct fake_ca_fault){FAKE_CA_ORDER, 6, 1, 503, NULL, NULL, "7"};
    scene_expect_issued(&s);
    scene_done(&s);
}

/* ---- refusals ---- */

static void a_name_that_fails_is_named(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.failing_name = "proxy.im.example.org";
    s.ca.failing_type = "unauthorized";
    assert_err(scene_run(&s), ERR_CONFIG,
            "the CA could not validate 1 of 5 names: proxy.im.example.org: unauthorized: ");
    assert_int_equal(s.result.n_failed, 1);
    assert_string_equal(s.result.failed[0].name.text, "proxy.im.example.org");
    assert_int_equal(acme_problem_of(s.result.failed[0].error)->type, ACME_UNAUTHORIZED);
    assert_int_equal(s.failed_steps, 1);
    assert_int_equal(s.dropped, 1);
    assert_null(s.order_url);
    assert_int_equal(s.ca.of[FAKE_CA_FINALIZE], 0);
    scene_done(&s);
}

static void pending_names_are_given_up_when_one_fails(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.failing_name = "proxy.im.example.org";
    s.ca.silent_name = "im.example.org";
    assert_err(scene_run(&s), ERR_RETRY, "proxy.im.example.org: connection: ");
    assert_int_equal(s.result.n_failed, 1);
    assert_int_equal(s.ca.deactivated, 1);
    scene_done(&s);
}

static void a_ca_without_verdict_is_given_up_and_cleaned(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.validation_ms = CLOCK_DAY;
    s.validation_ms = 60 * CLOCK_SEC;
    assert_err(scene_run(&s), ERR_TIMEOUT, "did not come to a verdict");
    assert_int_equal(s.result.n_failed, 5);
    assert_int_equal(s.ca.deactivated, 5);
    assert_int_equal(s.dropped, 1);
    assert_in_range(s.elapsed_ms, 60 * CLOCK_SEC, 61 * CLOCK_SEC);
    scene_done(&s);
}

static void an_order_that_is_processing_for_ever_is_kept(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.issuance_ms = CLOCK_HOUR;
    s.finalize_ms = 60 * CLOCK_SEC;
    assert_err(scene_run(&s), ERR_TIMEOUT, "still processing");
    assert_int_equal(s.dropped, 0);
    assert_non_null(s.order_url);
    /* Later the same order gives the certificate, without a new CSR. */
    s.ca.issuance_ms = 0;
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 0);
    assert_int_equal(s.ca.of[FAKE_CA_FINALIZE], 0);
    assert_int_equal(s.csrs, 0);
    assert_false(s.result.new_order);
    scene_done(&s);
}

static void a_distant_retry_after_is_handed_on(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.issuance_ms = CLOCK_HOUR;
    s.ca.order_retry_after = "1800";
    struct err *e = scene_run(&s);
    assert_true(err_is(e, ERR_RETRY_AT));
    assert_true(wall_before(loop_wall(s.fw.loop), err_retry_at(e)));
    err_free(e);
    assert_non_null(s.order_url);
    scene_done(&s);
}

static void a_refusal_after_finalize_drops_the_order(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.refuse = "caa";
    assert_err(scene_run(&s), ERR_CONFIG, "the CA refuses the certificate: caa: ");
    assert_int_equal(s.dropped, 1);
    scene_done(&s);
}

static void rate_limits_name_the_instant(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.faults[0] = (struct fake_ca_fault){
            FAKE_CA_NEW_ORDER, 1, 1, 429, "rateLimited", "too many certificates", "7200"};
    struct err *e = scene_run(&s);
    assert_true(err_is(e, ERR_RETRY_AT));
    assert_int_equal(wall_diff(err_retry_at(e), loop_wall(s.fw.loop)), 2 * CLOCK_HOUR);
    assert_int_equal(acme_problem_of(e)->type, ACME_RATE_LIMITED);
    err_free(e);
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 1);
    assert_null(s.order_url);
    scene_done(&s);
}

static void other_challenges_only_is_a_matter_of_configuration(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.offered = "dns-01";
    assert_err(
            scene_run(&s), ERR_CONFIG, "the CA does not offer http-01 but smoke-signal-01, dns-01");
    assert_int_equal(s.n_answers, 0);
    scene_done(&s);
}

static void a_ca_for_customers_only_is_said_so(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.external_account = true;
    assert_err(scene_run(&s), ERR_CONFIG, "requires an external account binding");
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ACCOUNT], 0);
    scene_done(&s);
}

/* ---- our own side fails ---- */

static void a_solver_that_fails_stops_before_the_ca_is_told(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.fail_present = "pubsub.im.example.org";
    assert_err(scene_run(&s), ERR_CONFIG, "pubsub.im.example.org: the web root");
    assert_int_equal(s.ca.of[FAKE_CA_CHALLENGE], 0);
    assert_non_null(s.order_url); /* it is gone on with once the web root works */
    s.fail_present = NULL;
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 0);
    scene_done(&s);
}

static void a_lost_answer_is_not_told_to_the_ca(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.fail_verify = "im.example.org";
    assert_err(scene_run(&s), ERR_RETRY, "im.example.org: the token was lost");
    scene_done(&s);
}

/* ---- orders from before ---- */

static void a_dead_order_is_replaced_once(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.fail_present = "im.example.org";
    err_free(scene_run(&s));
    s.fail_present = NULL;
    s.ca.orders[0].dead = true;
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.dropped, 1);
    assert_int_equal(s.made, 1);
    assert_int_equal(s.ca.n_orders, 2);
    assert_true(s.result.new_order);
    scene_done(&s);
}

static void an_order_with_a_deactivated_name_is_replaced(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.fail_present = "im.example.org";
    err_free(scene_run(&s));
    s.fail_present = NULL;
    s.ca.orders[0].authz[2].deactivated = true;
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.dropped, 1);
    assert_int_equal(s.ca.n_orders, 2);
    scene_done(&s);
}

static void an_expired_or_unknown_order_is_replaced(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.order_url = str_dup("https://ca.test:14000/order/17");
    scene_expect_issued(&s);
    assert_int_equal(s.dropped, 1);
    free(s.order_url);
    s.order_url = str_dup("https://elsewhere.test/order/0");
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.dropped, 1);
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 1);

    s.fail_present = "im.example.org";
    free(STEAL(s.order_url));
    err_free(scene_run(&s));
    s.fail_present = NULL;
    loop_shift_wall(s.fw.loop, 30 * CLOCK_DAY);
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.dropped, 1);
    scene_done(&s);
}

static void an_order_for_other_names_is_replaced(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.fail_present = "im.example.org";
    err_free(scene_run(&s));
    s.fail_present = NULL;
    s.names.n = 4;
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.dropped, 1);
    scene_done(&s);
}

static void a_valid_order_is_downloaded_again(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    scene_expect_issued(&s);
    scene_clear(&s);
    s.ca.latency_ms = 100;
    scene_expect_issued(&s);
    assert_int_equal(s.elapsed_ms, 400); /* directory, nonce, order, cert */
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 0);
    assert_int_equal(s.csrs, 0);
    scene_done(&s);
}

/* ---- the account is gone ---- */

static struct err *forget(struct scene *s)
{
    fake_ca_forget(&s->ca);
    return NULL;
}

static void a_forgotten_account_is_made_again_once(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.before_issue = forget;
    scene_expect_issued(&s);
    assert_int_equal(s.ca.accounts_made, 2);
    scene_done(&s);
}

static void a_forgotten_account_takes_the_old_order_with_it(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.fail_present = "im.example.org";
    err_free(scene_run(&s));
    s.fail_present = NULL;
    fake_ca_forget(&s.ca);
    scene_clear(&s);
    scene_expect_issued(&s);
    assert_int_equal(s.ca.accounts_made, 1);
    assert_int_equal(s.dropped, 1);
    scene_done(&s);
}

static void several_flows_make_one_new_account(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.flows = 6;
    s.ca.latency_ms = 100;
    s.before_issue = forget;
    scene_expect_issued(&s);
    assert_int_equal(s.ca.accounts_made, 2);
    scene_done(&s);
}

static void an_account_forgotten_twice_is_an_error(void **state)
{
    struct scene s;

    scene_init(&s, FIVE);
    s.ca.faults[0] =
            (struct fake_ca_fault){FAKE_CA_NEW_ORDER, 1, 0, 400, "accountDoesNotExist", NULL, NULL};
    assert_err(scene_run(&s), ERR_DENIED, "accountDoesNotExist");
    assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 2);
    scene_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_new_account_takes_ten_round_trips),
            cmocka_unit_test(a_known_account_takes_nine_and_eight_with_the_cached_directory),
            cmocka_unit_test(the_next_one_of_a_warm_client_takes_seven),
            cmocka_unit_test(a_ca_that_signs_at_once_saves_a_poll),
            cmocka_unit_test(reused_authorizations_need_no_challenge),
            cmocka_unit_test(many_orders_share_the_client),
            cmocka_unit_test(refused_nonces_are_replaced),
            cmocka_unit_test(a_ca_that_refuses_every_nonce_is_left),
            cmocka_unit_test(replies_without_nonces_cost_fetches),
            cmocka_unit_test(names_may_come_back_in_another_order),
            cmocka_unit_test(a_name_and_its_wildcard_are_two_authorizations),
            cmocka_unit_test(slow_verdicts_are_polled_with_growing_pauses),
            cmocka_unit_test(retry_after_wins_over_an_early_poll),
            cmocka_unit_test(an_outage_of_seconds_while_polling_is_sat_out),
            cmocka_unit_test(a_name_that_fails_is_named),
            cmocka_unit_test(pending_names_are_given_up_when_one_fails),
            cmocka_unit_test(a_ca_without_verdict_is_given_up_and_cleaned),
            cmocka_unit_test(an_order_that_is_processing_for_ever_is_kept),
            cmocka_unit_test(a_distant_retry_after_is_handed_on),
            cmocka_unit_test(a_refusal_after_finalize_drops_the_order),
            cmocka_unit_test(rate_limits_name_the_instant),
            cmocka_unit_test(other_challenges_only_is_a_matter_of_configuration),
            cmocka_unit_test(a_ca_for_customers_only_is_said_so),
            cmocka_unit_test(a_solver_that_fails_stops_before_the_ca_is_told),
            cmocka_unit_test(a_lost_answer_is_not_told_to_the_ca),
            cmocka_unit_test(a_dead_order_is_replaced_once),
            cmocka_unit_test(an_order_with_a_deactivated_name_is_replaced),
            cmocka_unit_test(an_expired_or_unknown_order_is_replaced),
            cmocka_unit_test(an_order_for_other_names_is_replaced),
            cmocka_unit_test(a_valid_order_is_downloaded_again),
            cmocka_unit_test(a_forgotten_account_is_made_again_once),
            cmocka_unit_test(a_forgotten_account_takes_the_old_order_with_it),
            cmocka_unit_test(several_flows_make_one_new_account),
            cmocka_unit_test(an_account_forgotten_twice_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
