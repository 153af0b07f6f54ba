/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dns/zone.h"
#include "tests/lib/test_err.h"
#include "tests/unit/dns/fake_dns.h"

static const char zone_org[] = "org. 900 IN SOA a.nic.org. h.nic.org. 1 7200 3600 86400 60\n"
                               "org. 900 IN NS a.nic.org.\n"
                               "a.nic.org. 900 IN A 198.51.100.100";
static const char zone[] =
        "example.org. 3600 IN SOA ns1.example.net. h.example.org. 1 7200 3600 86400 60\n"
        "example.org. 3600 IN NS ns2.example.net.\n"
        "example.org. 3600 IN NS NS1.example.net.\n"
        "example.org. 3600 IN NS ns3.example.net.\n"
        "mail.example.org. 900 IN A 203.0.113.1\n"
        "im.example.org. 120 IN CNAME www.example.net.\n"
        "*.im.example.org. 120 IN CNAME www.example.net.\n"
        "bare.example.org. 300 IN TXT \"x\"";
static const char zone_sub[] =
        "sub.example.org. 3600 IN SOA ns.sub.example.org. h.example.org. 1 7200 3600 86400 60\n"
        "sub.example.org. 3600 IN NS ns.sub.example.org.\n"
        "ns.sub.example.org. 3600 IN AAAA 2001:db8::53\n"
        "gone.sub.example.org. 3600 IN CNAME nothing.example.net.";
static const char zone_net[] =
        "example.net. 3600 IN SOA ns1.example.net. h.example.net. 1 7200 3600 86400 60\n"
        "example.net. 3600 IN NS ns1.example.net.\n"
        "ns1.example.net. 3600 IN A 198.51.100.1\n"
        "ns1.example.net. 3600 IN AAAA 2001:db8::1\n"
        "ns2.example.net. 3600 IN A 198.51.100.2\n"
        "ns3.example.net. 3600 IN A 198.51.100.2\n"
        "www.example.net. 600 IN A 203.0.113.80";
static const char zone_odd[] =
        "example.com. 3600 IN SOA ns.example.com. h.example.com. 1 7200 3600 86400 60\n"
        "example.com. 3600 IN NS ns.example.com.\n"
        "mail.example.com. 3600 IN A 203.0.113.1";

struct run {
    struct fake_dns d;
    struct name name;
    struct dns_zone zone;
    bool found;
    char *why;
};

static struct err *find(void *arg) MAY_SUSPEND;
static struct err *find(void *arg)
{
    struct run *r = arg;
    return dns_zone_find(r->d.resolver, &r->name, &r->zone, &r->found, &r->why);
}

static void setup(struct run *r)
{
    memset(r, 0, sizeof(*r));
    fake_dns_init(&r->d);
    r->d.zones[0] = zone;
    r->d.zones[1] = zone_sub;
    r->d.zones[2] = zone_net;
    r->d.zones[3] = zone_org;
    r->d.zones[4] = zone_odd;
    fake_dns_start(&r->d, 1);
}

static void teardown(struct run *r)
{
    free(r->why);
    fake_dns_done(&r->d);
}

static struct err *run(struct run *r, const char *name)
{
    TRY(name_parse(name, &r->name));
    return fake_world_run(&r->d.fw, find, r);
}

static void expect_zone(const char *name, const char *apex, size_t n_servers, size_t n_queries)
{
    struct run r;
    setup(&r);
    assert_ok(run(&r, name));
    assert_true(r.found);
    assert_string_equal(r.zone.apex.text, apex);
    assert_int_equal(r.zone.n_servers, n_servers);
    assert_int_equal(r.d.n_udp, n_queries);
    teardown(&r);
}

/* One SOA, one NS, A and AAAA of each name server. */
static void test_apex(void **state)
{
    (void)state;
    expect_zone("example.org", "example.org", 3, 1 + 1 + 6);
    expect_zone("sub.example.org", "sub.example.org", 1, 1 + 1 + 2);
}

/* A negative answer names the zone at once, however deep the name. */
static void test_negative_names_the_zone(void **state)
{
    (void)state;
    expect_zone("a.b.c.d.example.org", "example.org", 3, 1 + 1 + 6);
    expect_zone("bare.example.org", "example.org", 3, 1 + 1 + 6);
    expect_zone("x.sub.example.org", "sub.example.org", 1, 1 + 1 + 2);
}

/* Behind an alias the SOA belongs to the target's zone, of an NXDOMAIN too. */
static void test_alias_is_skipped(void **state)
{
    (void)state;
    expect_zone("im.example.org", "example.org", 3, 2 + 1 + 6);
    expect_zone("conference.im.example.org", "example.org", 3, 3 + 1 + 6);
    expect_zone("gone.sub.example.org", "sub.example.org", 1, 2 + 1 + 2);
}

/* Sorted by name, and an address only once. */
static void test_servers(void **state)
{
    (void)state;
    struct run r;
    char text[ADDR_TEXT_MAX];
    setup(&r);
    assert_ok(run(&r, "mail.example.org"));
    assert_true(r.found);
    assert_int_equal(r.zone.n_servers, 3);
    assert_string_equal(r.zone.servers[0].name.text, "ns1.example.net");
    assert_string_equal(addr_format(&r.zone.servers[0].addr, text), "198.51.100.1:53");
    assert_string_equal(r.zone.servers[1].name.text, "ns1.example.net");
    assert_string_equal(addr_format(&r.zone.servers[1].addr, text), "[2001:db8::1]:53");
    assert_string_equal(r.zone.servers[2].name.text, "ns2.example.net");
    assert_string_equal(addr_format(&r.zone.servers[2].addr, text), "198.51.100.2:53");
    teardown(&r);
}

static void test_authority_port(void **state)
{
    (void)state;
    struct run r;
    setup(&r);
    struct dns_resolver_options o = *dns_resolver_options(r.d.resolver);
    o.authority_port = 5353;
    dns_resolver_free(r.d.resolver);
    assert_ok(dns_resolver_new(&r.d.fw.world, &o, &r.d.resolver));
    assert_ok(run(&r, "sub.example.org"));
    assert_int_equal(addr_port(&r.zone.servers[0].addr), 5353);
    teardown(&r);
}

/* A domain that does not exist is said to be so by the zone above. */
static void test_no_such_domain(void **state)
{
    (void)state;
    expect_zone("im.nosuch.org", "org", 1, 1 + 1 + 2);
}

static void expect_not_found(struct run *r, const char *name, const char *why)
{
    assert_ok(run(r, name));
    assert_false(r->found);
    assert_string_equal(r->why, why);
    teardown(r);
}

static void test_not_found(void **state)
{
    (void)state;
    struct run r;
    setup(&r);
    expect_not_found(&r, "mail.example.com", "no name server of example.com has an address");
    setup(&r);
    r.d.rules[0] = (struct fake_dns_rule){
            .owner = "mail.example.org", .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_SERVFAIL};
    expect_not_found(&r, "mail.example.org",
            "the zone of mail.example.org can't be found: SERVFAIL for the SOA of "
            "mail.example.org from 192.0.2.53:53");
    setup(&r);
    r.d.rules[0] = (struct fake_dns_rule){.type = LDNS_RR_TYPE_NS, .action = FAKE_DNS_DROP};
    expect_not_found(&r, "mail.example.org",
            "the name servers of example.org are unknown (no answer for its NS)");
    setup(&r);
    r.d.rules[0] = (struct fake_dns_rule){
            .type = LDNS_RR_TYPE_SOA, .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_NXDOMAIN};
    expect_not_found(&r, "mail.example.org",
            "the zone of mail.example.org can't be found: no SOA record above it");
}

static void test_cancel_everywhere(void **state)
{
    (void)state;
    for (size_t at = 1; at <= 9; at++) {
        struct run r;
        setup(&r);
        r.d.fw.fault = FAKE_FAULT_CANCEL;
        r.d.fw.fault_at = at;
        assert_err(run(&r, "im.example.org"), ERR_CANCELED, "");
        teardown(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_apex),
            cmocka_unit_test(test_negative_names_the_zone),
            cmocka_unit_test(test_alias_is_skipped),
            cmocka_unit_test(test_servers),
            cmocka_unit_test(test_authority_port),
            cmocka_unit_test(test_no_such_domain),
            cmocka_unit_test(test_not_found),
            cmocka_unit_test(test_cancel_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
