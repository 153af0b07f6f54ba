/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real flows on virtual clocks, from the first certificate over years of renewals, and again
 * with an error, a lost reply and a cancel at every single wait.
 */
#include "tests/scenario/stage.h"

#define STAGE(s, domains)                                                                          \
    AUTO(stage_done) struct stage s;                                                               \
    stage_init(&s, domains)

static void first_certificate(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_DONE);
    stage_expect_served(&s, 0);
    stage_check_invariants(&s);
    assert_int_equal(s.reloads, 1);
    assert_int_equal(s.results[0].cert.names.n, 5);
    assert_int_equal(s.ca.n_orders, 1);

    /* Nothing is due: nobody is asked anything. */
    fake_ca_clear_counters(&s.ca);
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_GOOD);
    assert_int_equal(s.fw.calls, 0);
}

static void one_reload_for_all(void **state)
{
    (void)state;
    STAGE(s, "example.org:im,example.net:chat,example.com:xmpp");

    assert_ok(stage_run(&s));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(s.results[i].outcome, HOST_DONE);
    assert_int_equal(s.reloads, 1);
    assert_int_equal(s.ca.n_orders, 3);
    stage_check_invariants(&s);
}

/* The agent wakes when it said it would; for four hundred days. */
static void a_long_life(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");
    struct wall end = wall_add(loop_wall(s.fw.loop), 400 * CLOCK_DAY);
    struct wall issued = loop_wall(s.fw.loop);
    unsigned runs = 0;

    while (wall_before(loop_wall(s.fw.loop), end)) {
        size_t orders = s.ca.n_orders;
        struct wall now = loop_wall(s.fw.loop);
        assert_ok(stage_run(&s));
        stage_expect_served(&s, 0);
        stage_check_invariants(&s);
        if (s.ca.n_orders > orders && orders > 0) {
            /* 90 days, of which one lies before the order: renewed with a third left. */
            int64_t age = wall_diff(now, issued);
            assert_true(age >= 59 * CLOCK_DAY && age <= 61 * CLOCK_DAY);
        }
        if (s.ca.n_orders > orders)
            issued = now;
        assert_true(s.next.ms != 0);
        runs++;
        stage_sleep(&s, wall_diff(s.next, loop_wall(s.fw.loop)));
    }
    assert_in_range(s.ca.n_orders, 7, 8);
    assert_int_equal(runs, s.ca.n_orders); /* no look was in vain */
}

static void a_failing_name_costs_little(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");
    struct wall end = wall_add(loop_wall(s.fw.loop), 30 * CLOCK_DAY);

    s.ca.failing_name = "proxy.im.example.org";
    s.ca.failing_type = "unauthorized";
    while (wall_before(loop_wall(s.fw.loop), end)) {
        assert_ok(stage_run(&s));
        assert_int_equal(s.results[0].outcome, HOST_FAILED);
        assert_int_equal(s.results[0].n_failed, 1);
        assert_string_equal(s.results[0].failed[0].name.text, "proxy.im.example.org");
        stage_check_invariants(&s);
        int64_t wait = wall_diff(s.next, loop_wall(s.fw.loop));
        if (wait <= 0)
            fail_msg("no wait after: %s", err_text(s.results[0].error));
        stage_sleep(&s, wait);
        if (s.ca.n_orders == FAKE_CA_ORDERS_MAX)
            break;
    }
    /* 1, 10, 100 minutes, then daily. */
    assert_in_range(s.ca.n_orders, 25, 45);
    s.ca.failing_name = NULL;
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
}

static void ejabberd_comes_back(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    s.ejabberd_down = true;
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
    assert_true(s.results[0].issued);
    stage_check_invariants(&s);
    fake_ca_clear_counters(&s.ca);
    stage_sleep(&s, wall_diff(s.next, loop_wall(s.fw.loop)));
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
    s.ejabberd_down = false;
    stage_sleep(&s, wall_diff(s.next, loop_wall(s.fw.loop)));
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
    assert_int_equal(s.ca.requests, 0);
}

static void a_certificate_that_breaks_handshakes_is_taken_back(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    assert_ok(stage_run(&s));
    memcpy(s.only, s.results[0].cert.leaf_sha256, sizeof(s.only));
    s.refuses_other = true;
    s.options.plan.force = true;
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
    assert_int_equal(s.results[0].n_nodes, 1);
    assert_true(s.results[0].nodes[0].rolled_back);
    assert_memory_equal(s.served[0].leaf_sha256, s.only, sizeof(s.only));
    stage_check_invariants(&s);
}

/* ---- again, with a fault at every wait ---- */

static void with_a_fault_at(enum fake_fault fault, size_t at, bool *ret_end)
{
    STAGE(s, "example.org:im");

    s.fw.fault = fault;
    s.fw.fault_at = at;
    struct err *e = stage_run(&s);
    *ret_end = s.fw.calls < at;
    if (fault == FAKE_FAULT_CANCEL && !*ret_end)
        assert_true(e == NULL || err_kind(e) == ERR_CANCELED);
    else
        assert_null(e); /* the fault concerns the host, not the process */
    err_free(e);
    stage_check_invariants(&s);
    bool issued = s.n_results > 0 && s.results[0].issued;

    s.fw.fault = FAKE_FAULT_NONE;
    s.options.plan.named = true;
    fake_ca_clear_counters(&s.ca);
    size_t orders = s.ca.n_orders;
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
    stage_check_invariants(&s);
    if (issued)
        assert_int_equal(s.ca.n_orders, orders);
    /* An order that is known is gone on with; only one whose making was never heard of is made
     * again. */
    assert_true(s.ca.n_orders <= 2);
}

static void sweep(enum fake_fault fault)
{
    bool end = false;
    size_t at = 1;

    for (; !end; at++)
        with_a_fault_at(fault, at, &end);
    assert_true(at > 40); /* the sweep met the whole flow */
}

static void an_error_at_every_wait(void **state)
{
    (void)state;
    sweep(FAKE_FAULT_ERROR);
}

static void a_lost_reply_at_every_wait(void **state)
{
    (void)state;
    sweep(FAKE_FAULT_ERROR_AFTER);
}

static void a_cancel_at_every_wait(void **state)
{
    (void)state;
    sweep(FAKE_FAULT_CANCEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(first_certificate),
            cmocka_unit_test(one_reload_for_all),
            cmocka_unit_test(a_long_life),
            cmocka_unit_test(a_failing_name_costs_little),
            cmocka_unit_test(ejabberd_comes_back),
            cmocka_unit_test(a_certificate_that_breaks_handshakes_is_taken_back),
            cmocka_unit_test(an_error_at_every_wait),
            cmocka_unit_test(a_lost_reply_at_every_wait),
            cmocka_unit_test(a_cancel_at_every_wait),
    };
    log_set_level(LOG_NOTHING);
    return cmocka_run_group_tests_name("reconcile", tests, NULL, NULL);
}
