/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow with a fault at each of its waits, and the next run after it: every answer presented is
 * removed, nothing hangs or leaks, and the next run ends with a certificate, of the same order
 * wherever the note of it was made.
 */
#include "tests/unit/acme/issue_scene.h"

#define THREE "im.example.org,conference.im.example.org,upload.im.example.org"

static void describe(const struct scene *s, size_t at, const char *what, const struct err *e)
{
    print_message("fault %d at wait %zu (%s): %s: %s\n", (int)s->fw.fault, at, s->fw.fault_call,
            what, e == NULL ? "-" : err_text(e));
}

/* After the fault: same account, same notes. */
static void check_next_run(struct scene *s, size_t at)
{
    bool noted = s->order_url != NULL;
    bool order_lost = !noted && s->ca.n_orders > 0;
    size_t orders = s->ca.n_orders;

    s->fw.fault = FAKE_FAULT_NONE;
    s->ca.failing_name = s->ca.silent_name = NULL;
    scene_clear(s);
    struct err *e = scene_run(s);
    if (e != NULL) {
        describe(s, at, "the next run failed", e);
        err_free(e);
        fail();
    }
    if (noted && s->dropped == 0)
        assert_int_equal(s->ca.n_orders, orders);
    /* The one window: the CA made an order and we never saw, or could not note, its URL. */
    assert_true(s->ca.n_orders <= (order_lost ? 3 : orders + 1));
}

/* false: the fault lay behind the end. */
static bool run_with_fault(
        enum fake_fault fault, enum err_kind kind, size_t at, void (*prepare)(struct scene *s))
{
    struct scene s;

    scene_init(&s, THREE);
    s.use_cache = true;
    s.ca.latency_ms = 100;
    s.validation_ms = 30 * CLOCK_SEC;
    s.finalize_ms = 30 * CLOCK_SEC;
    if (prepare != NULL)
        prepare(&s);
    fake_world_rewind(&s.fw);
    s.fw.fault = fault;
    s.fw.fault_kind = kind;
    s.fw.fault_at = at;
    AUTO_ERR struct err *e = scene_run(&s);
    bool hit = s.fw.calls >= at;
    if (fault == FAKE_FAULT_CANCEL && hit && s.ca.failing_name == NULL && e != NULL &&
            !err_is(e, ERR_CANCELED)) {
        describe(&s, at, "canceled, but", e);
        fail();
    }
    assert_in_range(s.elapsed_ms, 0, 5 * CLOCK_MIN);
    check_next_run(&s, at);
    scene_done(&s);
    return hit;
}

static void sweep(enum fake_fault fault, enum err_kind kind, void (*prepare)(struct scene *s))
{
    size_t at = 1;

    while (run_with_fault(fault, kind, at, prepare))
        at++;
    print_message("%zu waits\n", at - 1);
    assert_true(at > 10);
}

/* One name fails and one is never decided: the way out by the explanation. */
static void failing_names(struct scene *s)
{
    s->ca.failing_name = "im.example.org";
    s->ca.silent_name = "upload.im.example.org";
}

/* A first order that is half done: its answers were given, nothing is decided. */
static void half_done(struct scene *s)
{
    s->ca.validation_ms = 10 * CLOCK_SEC; /* longer than a canceled flow waits */
    s->fw.fault = FAKE_FAULT_CANCEL;
    s->fw.fault_at = 22; /* the first poll */
    err_free(scene_run(s));
    assert_non_null(s->order_url);
    s->fw.fault = FAKE_FAULT_NONE;
    scene_clear(s);
}

static void an_error_at_every_wait(void **state)
{
    sweep(FAKE_FAULT_ERROR, ERR_RETRY, NULL);
}

static void a_protocol_error_at_every_wait(void **state)
{
    sweep(FAKE_FAULT_ERROR, ERR_PROTOCOL, NULL);
}

static void a_lost_reply_at_every_wait(void **state)
{
    sweep(FAKE_FAULT_ERROR_AFTER, ERR_RETRY, NULL);
}

static void a_lost_reply_for_good_at_every_wait(void **state)
{
    sweep(FAKE_FAULT_ERROR_AFTER, ERR_LOCAL, NULL);
}

static void a_cancel_at_every_wait(void **state)
{
    sweep(FAKE_FAULT_CANCEL, ERR_RETRY, NULL);
}

static void a_cancel_at_every_wait_of_a_resumed_order(void **state)
{
    sweep(FAKE_FAULT_CANCEL, ERR_RETRY, half_done);
}

static void a_lost_reply_at_every_wait_of_a_resumed_order(void **state)
{
    sweep(FAKE_FAULT_ERROR_AFTER, ERR_RETRY, half_done);
}

static void an_error_at_every_wait_of_a_failure(void **state)
{
    sweep(FAKE_FAULT_ERROR, ERR_LOCAL, failing_names);
}

static void a_cancel_at_every_wait_of_a_failure(void **state)
{
    sweep(FAKE_FAULT_CANCEL, ERR_RETRY, failing_names);
}

/* Each resource answers 500, once: the next run goes on with the same order. */
static void an_internal_error_at_every_step_keeps_the_order(void **state)
{
    for (int r = FAKE_CA_DIR; r < FAKE_CA_RESOURCE_MAX; r++) {
        struct scene s;
        scene_init(&s, THREE);
        s.ca.faults[0] = (struct fake_ca_fault){
                (enum fake_resource)r, 1, 1, 500, "serverInternal", NULL, NULL};
        AUTO_ERR struct err *e = scene_run(&s);
        if (e != NULL)
            assert_true(err_is(e, ERR_RETRY));
        s.ca.faults[0].nth = 0;
        scene_expect_issued(&s);
        assert_int_equal(s.ca.n_orders, 1);
        scene_done(&s);
    }
}

static void an_outage_at_every_step_names_its_end(void **state)
{
    for (int r = FAKE_CA_DIR; r < FAKE_CA_RESOURCE_MAX; r++) {
        struct scene s;
        scene_init(&s, THREE);
        s.ca.faults[0] =
                (struct fake_ca_fault){(enum fake_resource)r, 1, 0, 503, NULL, NULL, "3600"};
        s.validation_ms = s.finalize_ms = 20 * CLOCK_SEC;
        struct err *e = scene_run(&s);
        assert_non_null(e);
        if (r != FAKE_CA_ORDER)
            assert_true(err_is(e, ERR_RETRY_AT));
        err_free(e);
        scene_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(an_error_at_every_wait),
            cmocka_unit_test(a_protocol_error_at_every_wait),
            cmocka_unit_test(a_lost_reply_at_every_wait),
            cmocka_unit_test(a_lost_reply_for_good_at_every_wait),
            cmocka_unit_test(a_cancel_at_every_wait),
            cmocka_unit_test(a_cancel_at_every_wait_of_a_resumed_order),
            cmocka_unit_test(a_lost_reply_at_every_wait_of_a_resumed_order),
            cmocka_unit_test(an_error_at_every_wait_of_a_failure),
            cmocka_unit_test(a_cancel_at_every_wait_of_a_failure),
            cmocka_unit_test(an_internal_error_at_every_step_keeps_the_order),
            cmocka_unit_test(an_outage_at_every_step_names_its_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
