/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real flows on virtual clocks, from the first certificate over years of renewals, and again
 * with an error, a lost reply and a cancel at every single wait.
 */
#include "tests/scenario/stage.h"

#include <unistd.h>

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

/* ---- the pauses of the agent ---- */

static void issue_and_let_it_fall_due(struct stage *s)
{
    assert_ok(stage_run(s));
    stage_expect_served(s, 0);
    stage_sleep(s, 61 * CLOCK_DAY);
}

static int64_t wait_of(struct stage *s)
{
    assert_true(s->next.ms != 0);
    return wall_diff(s->next, loop_wall(s->fw.loop));
}

/* A CA that can't be reached costs nobody anything: it is tried again within the hour, day and
 * night, and never in a tight loop. */
static void a_ca_that_is_down_is_tried_again(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");
    struct wall end = wall_add(loop_wall(s.fw.loop), 2 * CLOCK_DAY);
    unsigned runs = 0;

    s.ca_down = true;
    for (; wall_before(loop_wall(s.fw.loop), end); runs++) {
        assert_ok(stage_run(&s));
        assert_int_equal(s.results[0].outcome, HOST_FAILED);
        assert_in_range(wait_of(&s), CLOCK_SEC * 30, 75 * CLOCK_MIN);
        stage_sleep(&s, wait_of(&s));
    }
    assert_in_range(runs, 30, 80);
    /* One failure of the CA's after that is the first of its kind. */
    s.ca_down = false;
    s.ca.faults[0] = (struct fake_ca_fault){.resource = FAKE_CA_NEW_ORDER,
            .nth = 1,
            .times = 1,
            .status = 500,
            .type = "serverInternal"};
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_FAILED);
    assert_in_range(wait_of(&s), CLOCK_SEC * 30, 2 * CLOCK_MIN);
    stage_sleep(&s, wait_of(&s));
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
}

/* Nor does each host wait for it. */
static void a_ca_that_is_down_is_found_down_once(void **state)
{
    (void)state;
    STAGE(one, "example.org:im");
    STAGE(three, "example.org:im,example.net:chat,example.com:xmpp");

    one.ca_down = three.ca_down = true;
    assert_ok(stage_run(&one));
    assert_ok(stage_run(&three));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(three.results[i].outcome, HOST_FAILED);
        assert_string_equal(err_text(three.results[i].error), err_text(three.results[0].error));
    }
    assert_int_equal(three.fw.calls, one.fw.calls);
}

/* Who calls `renew` need not wait for what cost the CA nothing; what it refused is held back. */
static void renew_skips_the_pauses_that_protect_nobody(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    s.options.plan.one_shot = true;
    s.ca_down = true;
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_FAILED);
    s.ca_down = false;
    s.ca.failing_name = "proxy.im.example.org";
    assert_ok(stage_run(&s));
    assert_int_equal(s.ca.n_orders, 1);
    assert_int_equal(s.results[0].outcome, HOST_FAILED);
    assert_ok(stage_run(&s));
    assert_int_equal(s.ca.n_orders, 1);
    assert_int_equal(s.results[0].outcome, HOST_WAITING);
}

/* The CA's word holds everybody, but only as long as it said. */
static void retry_after_holds_as_long_as_it_says(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    s.options.plan.named = true;
    s.ca.faults[0] = (struct fake_ca_fault){.resource = FAKE_CA_NEW_ORDER,
            .nth = 1,
            .times = 5,
            .status = 503,
            .type = "serverInternal",
            .retry_after = "30"};
    for (int i = 0; i < 5; i++) {
        assert_ok(stage_run(&s));
        assert_int_equal(s.results[0].outcome, HOST_FAILED);
        unsigned requests = s.ca.requests;
        assert_ok(stage_run(&s));
        assert_int_equal(s.results[0].outcome, HOST_WAITING);
        assert_int_equal(s.ca.requests, requests);
        stage_sleep(&s, 31 * CLOCK_SEC);
    }
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
}

/* ---- what there is stays served ---- */

static void a_lost_file_is_restored_while_the_ca_is_down(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    issue_and_let_it_fall_due(&s);
    AUTO_FREE char *live = str_printf("%s/live/im.example.org.pem", s.dir);
    assert_int_equal(unlink(live), 0);
    s.ca_down = true;
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_FAILED);
    assert_true(err_is(s.results[0].error, ERR_RETRY));
    assert_true(s.results[0].installed);
    assert_int_equal(access(live, R_OK), 0);
    /* And no longer than it must the next look is put off. */
    assert_true(wait_of(&s) > 0 && wait_of(&s) <= 2 * CLOCK_MIN);
}

static void a_deploy_is_tried_again_while_the_ca_is_waited_for(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    s.ejabberd_down = true;
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
    stage_sleep(&s, 61 * CLOCK_DAY);
    s.ca.failing_name = "proxy.im.example.org";
    s.ca.failing_type = "unauthorized";
    for (int i = 0; i < 3; i++) {
        assert_ok(stage_run(&s));
        stage_sleep(&s, wait_of(&s));
    }
    s.ejabberd_down = false;
    assert_ok(stage_run(&s));
    assert_true(s.served[0].good);
}

static void an_expired_certificate_is_not_reloaded_again_and_again(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    issue_and_let_it_fall_due(&s);
    stage_sleep(&s, 40 * CLOCK_DAY);
    s.ca_down = true;
    for (int i = 0; i < 3; i++) {
        assert_ok(stage_run(&s));
        assert_int_equal(s.results[0].outcome, HOST_FAILED);
        assert_int_equal(s.reloads, 0);
        stage_sleep(&s, CLOCK_SEC);
        assert_ok(stage_run(&s)); /* held back */
        assert_int_equal(s.results[0].outcome, HOST_WAITING);
        assert_int_equal(s.reloads, 0);
        stage_sleep(&s, wait_of(&s));
    }
}

/* ---- deploys ---- */

/* Reloading does not teach ejabberd a name. */
static void a_component_that_is_not_served_is_no_reason_to_reload(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    s.unserved = "proxy.im.example.org";
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
    assert_int_equal(s.reloads, 1);
    stage_sleep(&s, wait_of(&s));
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
    assert_int_equal(s.reloads, 0);
    assert_false(s.results[0].nodes[0].reloaded);
    s.unserved = NULL;
    stage_sleep(&s, wait_of(&s));
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
    assert_int_equal(s.reloads, 0);
}

/* What worked with the newest certificate and fails after a reload for another host is not its
 * fault. */
static void only_a_new_certificate_is_taken_back(void **state)
{
    (void)state;
    STAGE(s, "example.net:chat,example.org:im");
    uint8_t newest[32];

    assert_ok(stage_run(&s));
    s.unserved = "proxy.im.example.org"; /* so that the host stays undeployed */
    s.options.plan.force = true;
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[1].outcome, HOST_UNDEPLOYED);
    memcpy(newest, s.results[1].cert.leaf_sha256, sizeof(newest));

    AUTO_FREE char *other = str_printf("%s/live/chat.example.net.pem", s.dir);
    assert_int_equal(unlink(other), 0);
    s.options.plan.force = false;
    s.options.plan.named = true;
    s.refuses_all = true;
    assert_ok(stage_run(&s));
    assert_true(s.reloads > 0);
    assert_false(s.results[1].nodes[0].rolled_back);
    s.unserved = NULL;
    s.refuses_all = false;
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 1);
    assert_memory_equal(s.served[1].leaf_sha256, newest, sizeof(newest));
}

/* A certificate that broke handshakes does so again at each try. */
static void what_was_taken_back_is_tried_seldom(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");
    unsigned tries = 0;

    assert_ok(stage_run(&s));
    memcpy(s.only, s.results[0].cert.leaf_sha256, sizeof(s.only));
    s.refuses_other = true;
    s.options.plan.force = true;
    assert_ok(stage_run(&s));
    s.options.plan.force = false;
    struct wall end = wall_add(loop_wall(s.fw.loop), 3 * CLOCK_DAY);
    while (wall_before(loop_wall(s.fw.loop), end)) {
        stage_sleep(&s, wait_of(&s));
        assert_ok(stage_run(&s));
        assert_int_equal(s.results[0].outcome, HOST_UNDEPLOYED);
        assert_memory_equal(s.served[0].leaf_sha256, s.only, sizeof(s.only));
        tries++;
    }
    assert_in_range(tries, 4, 7);
}

/* ---- orders ---- */

/* A certificate that can't be used is not fetched for ever. */
static void an_order_whose_key_is_lost_is_given_up(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    s.ca.faults[0] = (struct fake_ca_fault){.resource = FAKE_CA_CERT,
            .nth = 1,
            .times = 1,
            .status = 500,
            .type = "serverInternal"};
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_FAILED);
    AUTO_FREE char *key = str_printf("%s/state/lineages/im.example.org/pending/key.pem", s.dir);
    assert_int_equal(unlink(key), 0);
    s.options.plan.named = true;
    assert_ok(stage_run(&s));
    assert_ok(stage_run(&s));
    stage_expect_served(&s, 0);
    assert_int_equal(s.ca.n_orders, 2);
}

/* Also one that nothing but --force asked for. */
static void a_forced_order_is_gone_on_with(void **state)
{
    (void)state;
    STAGE(s, "example.org:im");

    assert_ok(stage_run(&s));
    stage_sleep(&s, CLOCK_DAY);
    s.options.plan.force = true;
    s.ca.faults[0] = (struct fake_ca_fault){.resource = FAKE_CA_FINALIZE,
            .nth = 1,
            .times = 0,
            .status = 500,
            .type = "serverInternal"};
    assert_ok(stage_run(&s));
    assert_int_equal(s.results[0].outcome, HOST_FAILED);
    s.ca.faults[0] = (struct fake_ca_fault){0};
    s.options.plan.force = false;
    s.options.plan.named = true;
    assert_ok(stage_run(&s));
    assert_true(s.results[0].issued);
    stage_expect_served(&s, 0);
    assert_int_equal(s.ca.n_orders, 2);
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
            cmocka_unit_test(a_ca_that_is_down_is_tried_again),
            cmocka_unit_test(a_ca_that_is_down_is_found_down_once),
            cmocka_unit_test(renew_skips_the_pauses_that_protect_nobody),
            cmocka_unit_test(retry_after_holds_as_long_as_it_says),
            cmocka_unit_test(a_lost_file_is_restored_while_the_ca_is_down),
            cmocka_unit_test(a_deploy_is_tried_again_while_the_ca_is_waited_for),
            cmocka_unit_test(an_expired_certificate_is_not_reloaded_again_and_again),
            cmocka_unit_test(a_component_that_is_not_served_is_no_reason_to_reload),
            cmocka_unit_test(only_a_new_certificate_is_taken_back),
            cmocka_unit_test(what_was_taken_back_is_tried_seldom),
            cmocka_unit_test(an_order_whose_key_is_lost_is_given_up),
            cmocka_unit_test(a_forced_order_is_gone_on_with),
            cmocka_unit_test(an_error_at_every_wait),
            cmocka_unit_test(a_lost_reply_at_every_wait),
            cmocka_unit_test(a_cancel_at_every_wait),
    };
    log_set_level(LOG_NOTHING);
    return cmocka_run_group_tests_name("reconcile", tests, NULL, NULL);
}
