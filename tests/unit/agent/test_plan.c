/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/plan.h"

#define NOW ((struct wall){1900000000000})

/* A host with the usual five names and facts that say "nothing known". */
struct fixture {
    struct config config;
    struct config_node node;
    struct host host;
    struct host_facts facts;
    struct host_check check;
    struct plan_options options;
};

static void add_name(struct fixture *f, const char *text)
{
    struct name name;

    assert_null(name_parse(text, &name));
    name_list_add(&f->host.names, &name);
}

static void setup(struct fixture *f)
{
    static char directory[] = "https://ca.test/dir";

    *f = (struct fixture){0};
    f->config.acme.directory = directory;
    f->config.partial_allow = true;
    f->config.partial_after_ms = 15 * CLOCK_MIN;
    assert_null(name_parse("im.example.org", &f->host.host));
    add_name(f, "im.example.org");
    add_name(f, "conference.im.example.org");
    add_name(f, "proxy.im.example.org");
    add_name(f, "pubsub.im.example.org");
    add_name(f, "upload.im.example.org");
    f->facts = (struct host_facts){.config = &f->config, .host = &f->host, .now = NOW};
    f->check.n = f->check.n_ready = 5;
    f->check.v = mem_array(5, sizeof(*f->check.v));
    f->check.host_ready = true;
    for (size_t i = 0; i < 5; i++)
        f->check.v[i].dns.name = f->host.names.v[i];
}

static void teardown(struct fixture *f)
{
    host_check_done(&f->check);
    name_list_done(&f->host.names);
    host_facts_done(&f->facts);
}

/* A certificate of 90 days with this much of it left, for the first n names; live and deployed. */
static void give_certificate(struct fixture *f, size_t n, int64_t left)
{
    struct store_generation *g = &f->facts.generation;

    g->number = 7;
    g->directory = str_dup(f->config.acme.directory);
    for (size_t i = 0; i < n; i++)
        strv_add(&g->cert.names, f->host.names.v[i].text);
    g->cert.not_after = wall_add(NOW, left);
    g->cert.not_before = wall_add(g->cert.not_after, -90 * CLOCK_DAY);
    memset(g->cert.leaf_sha256, 0x42, 32);
    f->facts.live = STORE_LIVE_GOOD;
    cert_info_copy(&f->facts.live_cert, &g->cert);
}

static void block(struct fixture *f, size_t i)
{
    f->check.v[i].verdict = NAME_BLOCKED;
    f->check.n_ready--;
    f->check.host_ready = f->check.v[0].verdict != NAME_BLOCKED;
}

static void expect(struct fixture *f, enum plan_action action, enum plan_want want, size_t names)
{
    AUTO_PLAN struct plan plan = {0};

    plan_first(&f->facts, &f->options, &plan);
    plan_check(&f->facts, &f->options, &f->check, &plan);
    assert_int_equal(plan.action, action);
    assert_int_equal(plan.want, want);
    assert_int_equal(plan.names.n, names);
    assert_non_null(plan.reason);
    assert_int_equal(plan.partial, action == PLAN_ORDER && names < f->host.names.n);
}

static void first_certificate(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    expect(&f, PLAN_ORDER, WANT_FIRST, 5);
    teardown(&f);
}

static void renewal_at_a_third(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    give_certificate(&f, 5, 30 * CLOCK_DAY + 1);
    expect(&f, PLAN_NOTHING, WANT_NONE, 0);
    f.facts.now = wall_add(NOW, 1);
    expect(&f, PLAN_ORDER, WANT_DUE, 5);
    f.facts.now = wall_add(NOW, 40 * CLOCK_DAY);
    expect(&f, PLAN_ORDER, WANT_DUE, 5);
    teardown(&f);
}

static void short_lives_are_renewed_at_half(void **state)
{
    struct cert_info cert = {.not_before = NOW, .not_after = wall_add(NOW, 160 * CLOCK_HOUR)};

    (void)state;
    assert_int_equal(wall_diff(plan_due(&cert), NOW), 80 * CLOCK_HOUR);
    cert.not_after = wall_add(NOW, CLOCK_HOUR);
    assert_int_equal(wall_diff(plan_due(&cert), NOW), CLOCK_HOUR / 2);
    cert.not_after = wall_add(NOW, 90 * CLOCK_DAY);
    assert_int_equal(wall_diff(plan_due(&cert), NOW), 60 * CLOCK_DAY);
}

static void force_and_other_ca(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    give_certificate(&f, 5, 80 * CLOCK_DAY);
    f.options.force = true;
    expect(&f, PLAN_ORDER, WANT_FORCED, 5);
    f.options.force = false;
    f.facts.generation.directory[10] = 'X';
    expect(&f, PLAN_ORDER, WANT_CA, 5);
    teardown(&f);
}

static void partial_order_only_with_the_host(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    f.options.one_shot = true;
    block(&f, 1);
    expect(&f, PLAN_ORDER, WANT_FIRST, 4);
    block(&f, 0);
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    teardown(&f);
}

static void partial_is_waited_for_in_the_agent(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    block(&f, 1);
    expect(&f, PLAN_WAIT, WANT_FIRST, 0); /* not ready since now */
    f.facts.state.incomplete_since = wall_add(NOW, -15 * CLOCK_MIN + 1);
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    f.facts.state.incomplete_since = wall_add(NOW, -15 * CLOCK_MIN);
    expect(&f, PLAN_ORDER, WANT_FIRST, 4);
    f.config.partial_allow = false;
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    teardown(&f);
}

static void growth_is_limited(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    f.options.one_shot = true;
    give_certificate(&f, 3, 80 * CLOCK_DAY);
    expect(&f, PLAN_ORDER, WANT_GROW, 5); /* all ready: at once */
    block(&f, 4);
    expect(&f, PLAN_ORDER, WANT_GROW, 4);
    f.facts.state.last_growth = wall_add(NOW, -CLOCK_DAY + 1);
    expect(&f, PLAN_WAIT, WANT_GROW, 0);
    f.facts.state.last_growth = wall_add(NOW, -CLOCK_DAY);
    expect(&f, PLAN_ORDER, WANT_GROW, 4);
    block(&f, 3); /* nothing to gain */
    expect(&f, PLAN_WAIT, WANT_GROW, 0);
    teardown(&f);
}

static void a_live_certificate_is_never_shrunk(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    f.options.one_shot = true;
    give_certificate(&f, 5, 10 * CLOCK_DAY);
    block(&f, 2);
    expect(&f, PLAN_WAIT, WANT_DUE, 0);
    f.facts.live = STORE_LIVE_NONE; /* lost: it is going to be put back */
    expect(&f, PLAN_WAIT, WANT_DUE, 0);
    f.facts.live = STORE_LIVE_GOOD;
    /* Once it has expired there is nothing to lose. */
    f.facts.now = wall_add(NOW, 11 * CLOCK_DAY);
    expect(&f, PLAN_ORDER, WANT_DUE, 4);
    teardown(&f);
}

static void back_off_holds_but_not_against_the_operator(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    f.facts.state.next_try = wall_add(NOW, CLOCK_MIN);
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    f.options.one_shot = true; /* it has cost the CA nothing */
    expect(&f, PLAN_ORDER, WANT_FIRST, 5);
    f.facts.state.renew_from = wall_add(NOW, CLOCK_MIN);
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    f.options.named = true;
    expect(&f, PLAN_ORDER, WANT_FIRST, 5);
    /* The CA's own word always holds. */
    f.facts.state.not_before = wall_add(NOW, CLOCK_MIN);
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    f.options.force = true;
    expect(&f, PLAN_WAIT, WANT_FIRST, 0);
    f.facts.now = wall_add(NOW, CLOCK_MIN);
    expect(&f, PLAN_ORDER, WANT_FIRST, 5);
    teardown(&f);
}

/* What was written while the clock was wrong holds nobody for years. */
static void a_clock_that_was_wrong(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    f.facts.state.next_try = f.facts.state.not_before = wall_add(NOW, 900 * CLOCK_DAY);
    expect(&f, PLAN_ORDER, WANT_FIRST, 5);
    block(&f, 1);
    f.facts.state.incomplete_since = wall_add(NOW, 900 * CLOCK_DAY);
    f.options.one_shot = true;
    expect(&f, PLAN_ORDER, WANT_FIRST, 4);
    teardown(&f);
}

/* An order whose only reason was --force, when that was killed. */
static void an_order_that_was_begun(void **state)
{
    struct fixture f;
    struct store_pending *p;

    (void)state;
    setup(&f);
    give_certificate(&f, 5, 80 * CLOCK_DAY);
    p = &f.facts.pending;
    p->exists = true;
    p->directory = str_dup(f.config.acme.directory);
    for (size_t i = 0; i < 5; i++)
        name_list_add(&p->names, &f.host.names.v[i]);
    expect(&f, PLAN_NOTHING, WANT_NONE, 0);
    p->order_url = str_dup("https://ca.test/order/1");
    expect(&f, PLAN_ORDER, WANT_FORCED, 5);
    p->directory[10] = 'X';
    expect(&f, PLAN_NOTHING, WANT_NONE, 0);
    teardown(&f);
}

static struct wall next_look(struct fixture *f)
{
    AUTO_PLAN struct plan plan = {0};

    plan_first(&f->facts, &f->options, &plan);
    plan_check(&f->facts, &f->options, &f->check, &plan);
    assert_int_equal(plan.action, PLAN_WAIT);
    return plan.at;
}

/* Names may appear while a partial order is waited for; those that have been missing for long are
 * asked for seldom. */
static void missing_names_are_polled(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    block(&f, 1);
    f.facts.state.incomplete_since = NOW;
    assert_int_equal(wall_diff(next_look(&f), NOW), CLOCK_MIN);
    f.check.retry_s = 300;
    assert_int_equal(wall_diff(next_look(&f), NOW), 5 * CLOCK_MIN);
    f.config.partial_allow = false;
    f.facts.state.incomplete_since = wall_add(NOW, -2 * CLOCK_HOUR);
    assert_int_equal(wall_diff(next_look(&f), NOW), 12 * CLOCK_MIN);
    f.facts.state.incomplete_since = wall_add(NOW, -90 * CLOCK_DAY);
    assert_int_equal(wall_diff(next_look(&f), NOW), CLOCK_HOUR);
    /* Also while growth is held up: once the last one is there it is free. */
    f.config.partial_allow = true;
    give_certificate(&f, 3, 80 * CLOCK_DAY);
    f.facts.state.last_growth = wall_add(NOW, -CLOCK_HOUR);
    block(&f, 4);
    f.check.v[1].verdict = NAME_READY;
    assert_int_equal(wall_diff(next_look(&f), NOW), CLOCK_HOUR);
    teardown(&f);
}

static void pauses_that_cost_nobody(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 1000000; random += 9973) {
        assert_in_range(plan_pause(0, random), 48 * CLOCK_SEC, 72 * CLOCK_SEC);
        assert_in_range(plan_pause(10 * CLOCK_MIN, random), 8 * CLOCK_MIN, 12 * CLOCK_MIN);
        assert_in_range(plan_pause(CLOCK_DAY, random), 48 * CLOCK_MIN, 72 * CLOCK_MIN);
    }
    assert_in_range(plan_pause(-CLOCK_DAY, 0), 48 * CLOCK_SEC, 72 * CLOCK_SEC);
}

static void deploys_go_on_meanwhile(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    assert_false(plan_deploys_meanwhile(&f.facts, &f.options)); /* nothing to deploy */
    give_certificate(&f, 5, 10 * CLOCK_DAY);
    assert_false(plan_deploys_meanwhile(&f.facts, &f.options)); /* live, no nodes */
    f.facts.live = STORE_LIVE_DAMAGED;
    assert_true(plan_deploys_meanwhile(&f.facts, &f.options));
    f.facts.state.next_deploy = wall_add(NOW, CLOCK_MIN);
    assert_false(plan_deploys_meanwhile(&f.facts, &f.options));
    f.options.named = true;
    assert_true(plan_deploys_meanwhile(&f.facts, &f.options));
    f.facts.now = wall_add(NOW, 10 * CLOCK_DAY); /* expired */
    assert_false(plan_deploys_meanwhile(&f.facts, &f.options));
    teardown(&f);
}

static void deploy_is_its_own_state(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    give_certificate(&f, 5, 80 * CLOCK_DAY);
    f.config.nodes = &f.node;
    f.config.n_nodes = 1;
    f.node.name = (char[]){"a"};
    expect(&f, PLAN_DEPLOY, WANT_NONE, 0);
    f.facts.state.next_deploy = wall_add(NOW, CLOCK_MIN);
    expect(&f, PLAN_WAIT, WANT_NONE, 0);
    f.options.named = true;
    expect(&f, PLAN_DEPLOY, WANT_NONE, 0);
    f.facts.state.deployed[0] = (struct store_deployed){.node = str_dup("a"), .generation = 7};
    f.facts.state.n_deployed = 1;
    expect(&f, PLAN_NOTHING, WANT_NONE, 0);
    f.facts.live_cert.leaf_sha256[0] ^= 1; /* somebody else's certificate is live */
    expect(&f, PLAN_DEPLOY, WANT_NONE, 0);
    f.facts.live = STORE_LIVE_NONE;
    expect(&f, PLAN_DEPLOY, WANT_NONE, 0);
    teardown(&f);
}

static void back_off_steps(void **state)
{
    static const int64_t steps[] = {
            CLOCK_MIN, 10 * CLOCK_MIN, 100 * CLOCK_MIN, CLOCK_DAY, CLOCK_DAY};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
        for (uint64_t random = 0; random < 1000000; random += 9973) {
            int64_t wait = plan_back_off(i + 1, random * 7919);
            assert_true(wait >= steps[i] * 4 / 5 && wait <= steps[i] * 6 / 5);
        }
    }
    assert_true(plan_back_off(3, 0) != plan_back_off(3, 1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(first_certificate),
            cmocka_unit_test(renewal_at_a_third),
            cmocka_unit_test(short_lives_are_renewed_at_half),
            cmocka_unit_test(force_and_other_ca),
            cmocka_unit_test(partial_order_only_with_the_host),
            cmocka_unit_test(partial_is_waited_for_in_the_agent),
            cmocka_unit_test(growth_is_limited),
            cmocka_unit_test(a_live_certificate_is_never_shrunk),
            cmocka_unit_test(back_off_holds_but_not_against_the_operator),
            cmocka_unit_test(deploy_is_its_own_state),
            cmocka_unit_test(a_clock_that_was_wrong),
            cmocka_unit_test(an_order_that_was_begun),
            cmocka_unit_test(missing_names_are_polled),
            cmocka_unit_test(pauses_that_cost_nobody),
            cmocka_unit_test(deploys_go_on_meanwhile),
            cmocka_unit_test(back_off_steps),
    };
    return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
