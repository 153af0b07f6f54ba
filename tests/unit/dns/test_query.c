/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "dns/resolv_conf.h"
#include "tests/lib/test_err.h"
#include "tests/unit/dns/fake_dns.h"

static const char zone[] =
        "example.org. 3600 IN SOA ns1.example.org. h.example.org. 1 7200 3600 86400 60\n"
        "example.org. 3600 IN NS ns1.example.org.\n"
        "ns1.example.org. 3600 IN A 198.51.100.1\n"
        "mail.example.org. 900 IN A 203.0.113.1\n"
        "mail.example.org. 900 IN A 203.0.113.2\n"
        "mail.example.org. 900 IN AAAA 2001:db8::1\n"
        "im.example.org. 120 IN CNAME mail.example.org.\n"
        "out.example.org. 120 IN CNAME www.example.net.\n"
        "loop1.example.org. 300 IN CNAME loop2.example.org.\n"
        "loop2.example.org. 300 IN CNAME loop1.example.org.\n"
        "self.example.org. 300 IN CNAME self.example.org.\n"
        "odd.example.org. 300 IN CNAME a\\032b.example.org.\n"
        "under.example.org. 300 IN CNAME _x.example.org.\n"
        "_x.example.org. 300 IN A 203.0.113.9\n"
        "dangling.example.org. 300 IN CNAME nothing.example.org.\n"
        "c1.example.org. 300 IN CNAME c2.example.org.\n"
        "c2.example.org. 300 IN CNAME c3.example.org.\n"
        "c3.example.org. 300 IN CNAME c4.example.org.\n"
        "c4.example.org. 300 IN CNAME c5.example.org.\n"
        "c5.example.org. 300 IN CNAME c6.example.org.\n"
        "c6.example.org. 300 IN CNAME c7.example.org.\n"
        "c7.example.org. 300 IN CNAME c8.example.org.\n"
        "c8.example.org. 300 IN CNAME c9.example.org.\n"
        "c9.example.org. 300 IN CNAME mail.example.org.\n"
        "*.im.example.org. 120 IN CNAME mail.example.org.";
static const char zone_net[] =
        "example.net. 3600 IN SOA ns.example.net. h.example.net. 1 7200 3600 86400 60\n"
        "example.net. 3600 IN NS ns.example.net.\n"
        "ns.example.net. 3600 IN A 198.51.100.9\n"
        "www.example.net. 600 IN A 203.0.113.80";

/* One question in a fiber of its own. */
struct run {
    struct fake_dns d;
    const char *owner;
    ldns_rr_type type;
    const char *at; /* authoritative server, or NULL */
    bool unchecked;
    struct dns_answer answer;
    struct mono started;
};

static struct err *ask(void *arg) MAY_SUSPEND;
static struct err *ask(void *arg)
{
    struct run *r = arg;
    struct addr server;
    if (r->unchecked)
        return dns_query_unchecked(r->d.resolver, r->owner, r->type, &r->answer);
    if (r->at == NULL)
        return dns_query(r->d.resolver, r->owner, r->type, &r->answer);
    TRY(addr_parse(r->at, 53, &server));
    return dns_query_at(r->d.resolver, &server, r->owner, r->type, &r->answer);
}

static void setup(struct run *r, size_t n_servers)
{
    *r = (struct run){.type = LDNS_RR_TYPE_A};
    fake_dns_init(&r->d);
    r->d.zones[0] = zone;
    r->d.zones[1] = zone_net;
    fake_dns_start(&r->d, n_servers);
    r->started = loop_mono(r->d.fw.loop);
}

static void teardown(struct run *r)
{
    dns_answer_done(&r->answer);
    fake_dns_done(&r->d);
}

static void expect(struct run *r, const char *owner, enum dns_outcome outcome)
{
    dns_answer_done(&r->answer);
    r->answer = (struct dns_answer){0};
    r->owner = owner;
    assert_ok(fake_world_run(&r->d.fw, ask, r));
    assert_string_equal(dns_outcome_name(r->answer.outcome), dns_outcome_name(outcome));
    assert_int_equal(r->answer.records != NULL, outcome == DNS_ANSWER);
}

static void expect_addresses(const struct run *r, const char *const *texts, size_t n)
{
    struct addr addrs[8];
    char text[ADDR_TEXT_MAX];
    assert_int_equal(dns_answer_addresses(&r->answer, addrs, ARRAY_SIZE(addrs)), n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(addr_format_ip(&addrs[i], text), texts[i]);
}

/* ---- answers ---- */

static void test_plain(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    expect(&r, "Mail.Example.org.", DNS_ANSWER);
    expect_addresses(&r, (const char *[]){"203.0.113.1", "203.0.113.2"}, 2);
    assert_int_equal(r.answer.ttl, 900);
    assert_int_equal(r.answer.n_chain, 0);
    assert_int_equal(addr_port(&r.answer.server), 53);
    assert_int_equal(r.d.n_udp, 1);
    r.type = LDNS_RR_TYPE_AAAA;
    expect(&r, "mail.example.org", DNS_ANSWER);
    expect_addresses(&r, (const char *[]){"2001:db8::1"}, 1);
    r.type = LDNS_RR_TYPE_SOA;
    expect(&r, "example.org", DNS_ANSWER);
    assert_int_equal(dns_answer_addresses(&r.answer, &(struct addr){0}, 1), 0);
    assert_true(r.d.ids[0] != r.d.ids[1] && r.d.ids[1] != r.d.ids[2]);
    teardown(&r);
}

static void test_chain(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    expect(&r, "conference.im.example.org", DNS_ANSWER);
    assert_int_equal(r.answer.n_chain, 1);
    assert_string_equal(r.answer.chain[0].text, "mail.example.org");
    assert_int_equal(r.answer.ttl, 120);
    expect(&r, "under.example.org", DNS_ANSWER);
    assert_string_equal(r.answer.chain[0].text, "_x.example.org");
    expect(&r, "c2.example.org", DNS_ANSWER);
    assert_int_equal(r.answer.n_chain, 8);
    r.type = LDNS_RR_TYPE_CNAME;
    expect(&r, "c1.example.org", DNS_ANSWER);
    assert_int_equal(r.answer.n_chain, 0);
    teardown(&r);
}

static void test_bad_chains(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    expect(&r, "loop1.example.org", DNS_LOOP);
    assert_int_equal(r.answer.n_chain, 1);
    expect(&r, "self.example.org", DNS_LOOP);
    expect(&r, "c1.example.org", DNS_LOOP);
    assert_int_equal(r.answer.n_chain, DNS_CHAIN_MAX);
    expect(&r, "odd.example.org", DNS_BROKEN);
    teardown(&r);
}

/* A server that stops at the alias is asked on for the target. */
static void test_ask_on(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.d.rules[0] = (struct fake_dns_rule){.owner = "im.example.org",
            .action = FAKE_DNS_RECORDS,
            .records = "im.example.org. 120 IN CNAME mail.example.org."};
    expect(&r, "im.example.org", DNS_ANSWER);
    assert_int_equal(r.d.n_udp, 2);
    assert_int_equal(r.answer.n_chain, 1);
    assert_int_equal(r.answer.ttl, 120);
    /* Records of names that nobody asked for are not looked at. */
    r.d.rules[0].records = "im.example.org. 120 IN CNAME mail.example.org.\n"
                           "mail.example.com. 120 IN A 192.0.2.66";
    expect(&r, "im.example.org", DNS_ANSWER);
    expect_addresses(&r, (const char *[]){"203.0.113.1", "203.0.113.2"}, 2);
    /* A loop over several replies. */
    r.d.rules[0].records = "im.example.org. 120 IN CNAME back.example.org.";
    r.d.rules[1] = (struct fake_dns_rule){.owner = "back.example.org",
            .action = FAKE_DNS_RECORDS,
            .records = "back.example.org. 120 IN CNAME im.example.org."};
    expect(&r, "im.example.org", DNS_LOOP);
    /* The target fails. */
    r.d.rules[1].action = FAKE_DNS_RCODE;
    r.d.rules[1].rcode = LDNS_RCODE_SERVFAIL;
    r.d.rules[1].records = NULL;
    expect(&r, "im.example.org", DNS_SERVFAIL);
    assert_int_equal(r.answer.n_chain, 1);
    teardown(&r);
}

static void test_negative(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    expect(&r, "nothing.example.org", DNS_NXDOMAIN);
    assert_string_equal(r.answer.soa_owner.text, "example.org");
    assert_int_equal(r.answer.negative_ttl, 60);
    expect(&r, "example.org", DNS_NODATA);
    assert_string_equal(r.answer.soa_owner.text, "example.org");
    expect(&r, "dangling.example.org", DNS_NXDOMAIN);
    assert_int_equal(r.answer.n_chain, 1);
    /* An SOA from elsewhere is none. */
    r.d.rules[0] = (struct fake_dns_rule){.owner = "im.example.org",
            .action = FAKE_DNS_RCODE,
            .rcode = LDNS_RCODE_NXDOMAIN,
            .records = "example.net. 5 IN SOA a.example.net. h.example.net. 1 2 3 4 5"};
    expect(&r, "im.example.org", DNS_NXDOMAIN);
    assert_string_equal(r.answer.soa_owner.text, "");
    r.d.rules[0].action = FAKE_DNS_REFERRAL;
    expect(&r, "im.example.org", DNS_LAME);
    teardown(&r);
}

static void test_authoritative(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.at = "198.51.100.1:53";
    expect(&r, "im.example.org", DNS_ANSWER);
    assert_true(r.answer.aa);
    /* The alias leads out of what it serves: nobody else is asked. */
    expect(&r, "out.example.org", DNS_NODATA);
    assert_int_equal(r.answer.n_chain, 1);
    assert_string_equal(r.answer.soa_owner.text, "");
    expect(&r, "nothing.example.org", DNS_NXDOMAIN);
    expect(&r, "www.example.net", DNS_REFUSED);
    r.d.rules[0] =
            (struct fake_dns_rule){.server = "198.51.100.1", .action = FAKE_DNS_NOT_AA, .times = 1};
    expect(&r, "im.example.org", DNS_LAME);
    r.d.rules[0] = (struct fake_dns_rule){.server = "198.51.100.1", .action = FAKE_DNS_REFERRAL};
    expect(&r, "im.example.org", DNS_LAME);
    teardown(&r);
}

/* ---- replies that are not it ---- */

static void test_strangers_are_ignored(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.d.rules[0] = (struct fake_dns_rule){.times = 1, .action = FAKE_DNS_WRONG_FIRST};
    expect(&r, "mail.example.org", DNS_ANSWER);
    assert_int_equal(r.d.n_udp, 1);
    /* Only a stranger: silence, then the next try gets the real one. */
    r.d.rules[0] = (struct fake_dns_rule){.times = 1, .action = FAKE_DNS_OTHER};
    expect(&r, "mail.example.org", DNS_ANSWER);
    assert_int_equal(r.d.n_udp, 3);
    teardown(&r);
}

static void test_garbage(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 2);
    r.d.rules[0] = (struct fake_dns_rule){.server = "192.0.2.53", .action = FAKE_DNS_GARBAGE};
    expect(&r, "mail.example.org", DNS_ANSWER); /* from the other one */
    r.d.rules[1] = (struct fake_dns_rule){.server = "192.0.2.54", .action = FAKE_DNS_GARBAGE};
    expect(&r, "mail.example.org", DNS_BROKEN);
    teardown(&r);
}

static void test_truncated(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.d.rules[0] = (struct fake_dns_rule){.owner = "mail.example.org", .action = FAKE_DNS_TRUNCATE};
    expect(&r, "mail.example.org", DNS_ANSWER);
    assert_int_equal(r.d.n_udp, 1);
    assert_int_equal(r.d.n_tcp, 1);
    /* By TCP there are no strangers: the wrong reply is a broken server. */
    r.d.rules[0].times = 1;
    r.d.rules[1] = (struct fake_dns_rule){.times = 1, .action = FAKE_DNS_OTHER};
    expect(&r, "mail.example.org", DNS_BROKEN);
    /* TCP closed: as good as no answer. */
    r.d.rules[0] = (struct fake_dns_rule){.owner = "mail.example.org", .action = FAKE_DNS_TRUNCATE};
    r.d.rules[1] = (struct fake_dns_rule){.owner = "mail.example.org", .action = FAKE_DNS_REFUSE};
    expect(&r, "mail.example.org", DNS_TIMEOUT);
    teardown(&r);
}

static void test_no_edns(void **state)
{
    (void)state;
    static const struct {
        enum fake_dns_action action;
        int rcode;
    } servers[] = {
            {FAKE_DNS_NO_EDNS, LDNS_RCODE_FORMERR},
            {FAKE_DNS_NO_EDNS, LDNS_RCODE_NOTIMPL},
            {FAKE_DNS_NO_EDNS, 16},
            {FAKE_DNS_NO_EDNS_BARE, LDNS_RCODE_FORMERR},
    };
    for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
        struct run r;
        setup(&r, 1);
        r.d.rules[0] = (struct fake_dns_rule){
                .server = "192.0.2.53", .action = servers[i].action, .rcode = servers[i].rcode};
        expect(&r, "mail.example.org", DNS_ANSWER);
        assert_int_equal(r.d.n_udp, 2);
        assert_int_equal(r.d.n_edns, 1);
        /* Once only: who dislikes the plain question too is broken. */
        r.d.rules[0].action = FAKE_DNS_RCODE;
        expect(&r, "mail.example.org", DNS_BROKEN);
        assert_int_equal(r.answer.rcode, servers[i].rcode);
        assert_int_equal(r.d.n_udp, 4);
        teardown(&r);
    }
}

/* ---- servers that don't answer ---- */

static void test_timeout(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 2);
    r.d.rules[0] = (struct fake_dns_rule){.owner = "mail.example.org", .action = FAKE_DNS_DROP};
    expect(&r, "mail.example.org", DNS_TIMEOUT);
    assert_int_equal(r.d.n_udp, 6);
    assert_int_equal(r.d.last_wait_ms, 8000);
    assert_int_equal(fake_world_elapsed(&r.d.fw, r.started), 2 * (2000 + 4000 + 8000) + 6 * 10);
    assert_null(r.answer.packet);
    teardown(&r);
}

static void test_next_server(void **state)
{
    (void)state;
    static const enum fake_dns_action actions[] = {
            FAKE_DNS_DROP, FAKE_DNS_REFUSE, FAKE_DNS_UNREACHABLE, FAKE_DNS_RCODE};
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        struct run r;
        char text[ADDR_TEXT_MAX];
        setup(&r, 2);
        r.d.rules[0] = (struct fake_dns_rule){
                .server = "192.0.2.53", .action = actions[i], .rcode = LDNS_RCODE_SERVFAIL};
        expect(&r, "mail.example.org", DNS_ANSWER);
        assert_int_equal(r.d.n_udp, 2);
        assert_string_equal(addr_format_ip(&r.answer.server, text), "192.0.2.54");
        /* Who answered is asked first from then on. */
        expect(&r, "im.example.org", DNS_ANSWER);
        assert_int_equal(r.d.n_udp, 3);
        teardown(&r);
    }
}

/* A reply that is of no use tells more than somebody else's silence. */
static void test_what_is_reported(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 2);
    r.d.rules[0] = (struct fake_dns_rule){
            .server = "192.0.2.53", .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_SERVFAIL};
    r.d.rules[1] = (struct fake_dns_rule){.server = "192.0.2.54", .action = FAKE_DNS_DROP};
    expect(&r, "mail.example.org", DNS_SERVFAIL);
    assert_int_equal(r.d.n_udp, 4); /* the one that replied is asked once */
    r.d.rules[0].action = FAKE_DNS_UNREACHABLE;
    expect(&r, "mail.example.org", DNS_TIMEOUT);
    r.d.rules[1].action = FAKE_DNS_UNREACHABLE;
    expect(&r, "mail.example.org", DNS_UNREACHABLE);
    r.d.rules[0].action = r.d.rules[1].action = FAKE_DNS_RCODE;
    r.d.rules[1].rcode = LDNS_RCODE_REFUSED;
    expect(&r, "mail.example.org", DNS_REFUSED);
    r.d.rules[1].rcode = 9;
    expect(&r, "mail.example.org", DNS_BROKEN);
    assert_int_equal(r.answer.rcode, 9);
    teardown(&r);
}

/* A resolver that is being restarted is given time. */
static void test_refused_for_a_moment(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.d.rules[0] = (struct fake_dns_rule){.times = 2, .action = FAKE_DNS_REFUSE};
    expect(&r, "mail.example.org", DNS_ANSWER);
    assert_int_equal(r.d.n_udp, 3);
    assert_int_equal(fake_world_elapsed(&r.d.fw, r.started), 500 + 1000 + 3 * 10);
    teardown(&r);
}

static void test_unchecked(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.d.rules[0] = (struct fake_dns_rule){.owner = "mail.example.org",
            .action = FAKE_DNS_RCODE,
            .rcode = LDNS_RCODE_SERVFAIL,
            .unless_checked = true};
    expect(&r, "mail.example.org", DNS_SERVFAIL);
    r.unchecked = true;
    expect(&r, "mail.example.org", DNS_ANSWER);
    teardown(&r);
}

/* ---- our own faults and requests to stop ---- */

static void test_own_faults(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 2);
    r.d.rules[0] = (struct fake_dns_rule){.server = "192.0.2.53", .action = FAKE_DNS_LOCAL};
    r.owner = "mail.example.org";
    assert_err(fake_world_run(&r.d.fw, ask, &r), ERR_LOCAL, "too many files");
    r.owner = "a..b";
    assert_err(fake_world_run(&r.d.fw, ask, &r), ERR_CONFIG, "not a domain name");
    assert_null(r.answer.packet);
    teardown(&r);
}

static struct err *ask_in_a_hurry(void *arg) MAY_SUSPEND;
static struct err *ask_in_a_hurry(void *arg)
{
    FIBER_DEADLINE(3000, "the order");
    return ask(arg);
}

/* The flow's deadline is an error, unlike a server's silence. */
static void test_deadline(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    r.d.rules[0] = (struct fake_dns_rule){.server = "192.0.2.53", .action = FAKE_DNS_DROP};
    r.owner = "mail.example.org";
    assert_err(fake_world_run(&r.d.fw, ask_in_a_hurry, &r), ERR_TIMEOUT, "the order");
    assert_int_equal(fake_world_elapsed(&r.d.fw, r.started), 3000);
    teardown(&r);
}

static void test_faults_everywhere(void **state)
{
    (void)state;
    static const enum fake_fault faults[] = {
            FAKE_FAULT_CANCEL, FAKE_FAULT_ERROR, FAKE_FAULT_ERROR_AFTER};
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        for (size_t at = 1; at <= 4; at++) {
            struct run r;
            setup(&r, 2);
            r.owner = "im.example.org";
            r.d.rules[0] = (struct fake_dns_rule){.times = 1, .action = FAKE_DNS_TRUNCATE};
            r.d.rules[1] = (struct fake_dns_rule){
                    .times = 1, .action = FAKE_DNS_NO_EDNS, .rcode = LDNS_RCODE_FORMERR};
            r.d.fw.fault = faults[i];
            r.d.fw.fault_at = at;
            struct err *e = fake_world_run(&r.d.fw, ask, &r);
            if (faults[i] == FAKE_FAULT_CANCEL && r.d.fw.calls >= at) {
                assert_err(e, ERR_CANCELED, "");
            } else {
                assert_ok(e);
                assert_int_equal(r.answer.outcome, DNS_ANSWER);
            }
            teardown(&r);
        }
    }
}

/* ---- how many at once ---- */

struct many {
    struct dns_resolver *resolver;
    size_t n;
};

static struct err *ask_one(void *arg) MAY_SUSPEND;
static struct err *ask_one(void *arg)
{
    AUTO_DNS_ANSWER struct dns_answer answer = {0};
    return dns_query(arg, "mail.example.org", LDNS_RR_TYPE_A, &answer);
}

static struct err *ask_many(void *arg) MAY_SUSPEND;
static struct err *ask_many(void *arg)
{
    struct many *m = arg;
    struct fiber_group group;
    fiber_group_init(&group);
    for (size_t i = 0; i < m->n; i++)
        fiber_group_spawn(&group, "query", ask_one, m->resolver);
    return fiber_group_wait(&group);
}

static void test_max_in_flight(void **state)
{
    (void)state;
    struct run r;
    setup(&r, 1);
    struct dns_resolver_options o = *dns_resolver_options(r.d.resolver);
    o.max_in_flight = 4;
    dns_resolver_free(r.d.resolver);
    assert_ok(dns_resolver_new(&r.d.fw.world, &o, &r.d.resolver));
    struct many m = {r.d.resolver, 12};
    assert_ok(fake_world_run(&r.d.fw, ask_many, &m));
    assert_int_equal(fake_world_elapsed(&r.d.fw, r.started), 30); /* three waves of 10 ms */
    teardown(&r);
}

/* ---- resolv.conf ---- */

static void test_resolv_conf(void **state)
{
    (void)state;
    struct addr a[3];
    char text[ADDR_TEXT_MAX];
    size_t n = dns_resolv_conf_parse("# nameserver 192.0.2.9\n"
                                     "search example.org\n"
                                     "nameserver 192.0.2.1\n"
                                     "nameserver\t2001:db8::53   # ours\n"
                                     "nameserver fe80::1%eth0\n"
                                     "nameserver dns.example.org\n"
                                     "nameserver \n"
                                     "nameserver\n"
                                     "nameservers 192.0.2.8\n"
                                     " nameserver 192.0.2.7\n"
                                     "nameserver 192.0.2.2\r\n"
                                     "nameserver 192.0.2.3",
            a, 3);
    assert_int_equal(n, 3);
    assert_string_equal(addr_format(&a[0], text), "192.0.2.1:53");
    assert_string_equal(addr_format(&a[1], text), "[2001:db8::53]:53");
    assert_string_equal(addr_format(&a[2], text), "192.0.2.2:53");
    assert_int_equal(dns_resolv_conf_parse("", a, 3), 0);
}

static void test_resolver_new(void **state)
{
    (void)state;
    struct run r;
    char path[] = "/tmp/certherd-test-resolv-XXXXXX";
    setup(&r, 1);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    struct dns_resolver_options o = {.resolv_conf = path};
    struct dns_resolver *resolver = NULL;
    assert_err(dns_resolver_new(&r.d.fw.world, &o, &resolver), ERR_CONFIG, "set dns.resolver");
    assert_int_equal(write(fd, "nameserver 192.0.2.1\n", 21), 21);
    assert_ok(dns_resolver_new(&r.d.fw.world, &o, &resolver));
    const struct dns_resolver_options *used = dns_resolver_options(resolver);
    assert_int_equal(used->n_servers, 1);
    assert_int_equal(used->tries, 3);
    assert_int_equal(used->authority_port, 53);
    assert_ptr_equal(dns_resolver_world(resolver), &r.d.fw.world);
    dns_resolver_free(resolver);
    close(fd);
    unlink(path);
    resolver = NULL;
    assert_err(dns_resolver_new(&r.d.fw.world, &o, &resolver), ERR_CONFIG, path);
    o.n_servers = DNS_SERVERS_MAX + 1;
    assert_err(dns_resolver_new(&r.d.fw.world, &o, &resolver), ERR_CONFIG, "more than 8");
    teardown(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_plain),
            cmocka_unit_test(test_chain),
            cmocka_unit_test(test_bad_chains),
            cmocka_unit_test(test_ask_on),
            cmocka_unit_test(test_negative),
            cmocka_unit_test(test_authoritative),
            cmocka_unit_test(test_strangers_are_ignored),
            cmocka_unit_test(test_garbage),
            cmocka_unit_test(test_truncated),
            cmocka_unit_test(test_no_edns),
            cmocka_unit_test(test_timeout),
            cmocka_unit_test(test_next_server),
            cmocka_unit_test(test_what_is_reported),
            cmocka_unit_test(test_refused_for_a_moment),
            cmocka_unit_test(test_unchecked),
            cmocka_unit_test(test_own_faults),
            cmocka_unit_test(test_deadline),
            cmocka_unit_test(test_faults_everywhere),
            cmocka_unit_test(test_max_in_flight),
            cmocka_unit_test(test_resolv_conf),
            cmocka_unit_test(test_resolver_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
