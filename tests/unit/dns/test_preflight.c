/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dns/preflight.h"
#include "tests/lib/test_err.h"
#include "tests/unit/dns/fake_dns.h"

#define ZONE_HEAD                                                                                  \
    "example.org. 3600 IN SOA ns1.example.net. h.example.org. 1 7200 3600 86400 60\n"              \
    "example.org. 3600 IN NS ns1.example.net.\n"                                                   \
    "example.org. 3600 IN NS ns2.example.net.\n"                                                   \
    "mail.example.org. 900 IN A 203.0.113.1\n"                                                     \
    "mail.example.org. 900 IN AAAA 2001:db8::1\n"
#define ZONE_SRV                                                                                   \
    "_xmpp-client._tcp.im.example.org. 300 IN SRV 10 1 5222 mail.example.org.\n"                   \
    "_xmpp-server._tcp.im.example.org. 300 IN SRV 10 1 5269 mail.example.org."

static const char zone_net[] =
        "example.net. 3600 IN SOA ns1.example.net. h.example.net. 1 7200 3600 86400 60\n"
        "example.net. 3600 IN NS ns1.example.net.\n"
        "ns1.example.net. 3600 IN A 198.51.100.1\n"
        "ns1.example.net. 3600 IN AAAA 2001:db8:53::1\n"
        "ns2.example.net. 3600 IN A 198.51.100.2\n"
        "www.example.net. 600 IN A 203.0.113.80";
static const char zone_wildcard[] =
        ZONE_HEAD "im.example.org. 300 IN CNAME mail.example.org.\n"
                  "*.im.example.org. 120 IN CNAME mail.example.org.\n" ZONE_SRV;
static const char zone_no_wildcard[] =
        ZONE_HEAD "im.example.org. 300 IN CNAME mail.example.org.\n" ZONE_SRV;

#define NAMES 5
struct run {
    struct fake_dns d;
    struct name host, mail_host;
    bool no_mail_host;
    size_t n;
    struct name names[NAMES];
    struct dns_verdict verdicts[NAMES];
    bool done;
    struct mono started;
};

static struct err *preflight(void *arg) MAY_SUSPEND;
static struct err *preflight(void *arg)
{
    struct run *r = arg;
    struct dns_preflight p = {.resolver = r->d.resolver,
            .host = &r->host,
            .mail_host = r->no_mail_host ? NULL : &r->mail_host};
    return dns_preflight(&p, r->names, r->n, r->verdicts);
}

static void add(struct run *r, const char *name)
{
    assert_ok(name_parse(name, &r->names[r->n++]));
}

static void setup_host(struct run *r, const char *zone, const char *host)
{
    memset(r, 0, sizeof(*r));
    fake_dns_init(&r->d);
    r->d.zones[0] = zone;
    r->d.zones[1] = zone_net;
    fake_dns_start(&r->d, 1);
    assert_ok(name_parse(host, &r->host));
    assert_ok(name_parse("mail.example.org", &r->mail_host));
    r->started = loop_mono(r->d.fw.loop);
}

static void setup(struct run *r, const char *zone)
{
    setup_host(r, zone, "im.example.org");
}

static void teardown(struct run *r)
{
    for (size_t i = 0; r->done && i < r->n; i++)
        dns_verdict_done(&r->verdicts[i]);
    fake_dns_done(&r->d);
}

static void go(struct run *r)
{
    assert_ok(fake_world_run(&r->d.fw, preflight, r));
    r->done = true;
}

static void expect_text(const char *found, const char *expected)
{
    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found != NULL ? found : "(none)", expected);
}

static void expect(const struct run *r, size_t i, enum dns_check check, const char *sentence,
        const char *record)
{
    const struct dns_verdict *v = &r->verdicts[i];
    assert_string_equal(dns_check_name(v->check), dns_check_name(check));
    expect_text(v->sentence, sentence);
    expect_text(v->record, record);
    assert_true(name_equal(&v->name, &r->names[i]));
}

/* One name, one verdict. */
static void single(struct run *r, const char *name, enum dns_check check, const char *sentence,
        const char *record)
{
    add(r, name);
    go(r);
    expect(r, 0, check, sentence, record);
    teardown(r);
}

/* ---- fine ---- */

/* 2 for the mail host, 2 per name, 1 per name for the wildcard; one round trip. */
static void test_five_names(void **state)
{
    (void)state;
    static const char *const names[] = {"im.example.org", "conference.im.example.org",
            "proxy.im.example.org", "pubsub.im.example.org", "upload.im.example.org"};
    struct run r;
    setup(&r, zone_wildcard);
    for (size_t i = 0; i < NAMES; i++)
        add(&r, names[i]);
    go(&r);
    for (size_t i = 0; i < NAMES; i++) {
        expect(&r, i, DNS_CHECK_OK, NULL, NULL);
        assert_int_equal(r.verdicts[i].n_chain, 1);
        assert_string_equal(r.verdicts[i].chain[0].text, "mail.example.org");
        assert_int_equal(r.verdicts[i].n_addrs, 2);
        assert_int_equal(r.verdicts[i].n_expected, 2);
        assert_int_equal(r.verdicts[i].wildcard, i > 0);
        assert_int_equal(r.verdicts[i].retry_s, i > 0 ? 120 : 300);
    }
    assert_int_equal(r.d.n_udp, 2 + 2 * NAMES + NAMES);
    assert_int_equal(fake_world_elapsed(&r.d.fw, r.started), 10);
    teardown(&r);
}

/* An explicit CNAME beside a wildcard to the same target is not supplied by the wildcard. */
static void test_explicit_beside_wildcard(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME mail.example.org.\n"
                        "conference.im.example.org. 300 IN CNAME mail.example.org.\n"
                        "*.im.example.org. 120 IN CNAME mail.example.org.");
    add(&r, "conference.im.example.org");
    add(&r, "proxy.im.example.org");
    go(&r);
    expect(&r, 0, DNS_CHECK_OK, NULL, NULL);
    expect(&r, 1, DNS_CHECK_OK, NULL, NULL);
    assert_false(r.verdicts[0].wildcard);
    assert_true(r.verdicts[1].wildcard);
    teardown(&r);
}

static void test_wildcard_of_addresses(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "*.im.example.org. 120 IN A 203.0.113.1\n"
                        "*.im.example.org. 120 IN AAAA 2001:db8::1");
    add(&r, "proxy.im.example.org");
    go(&r);
    expect(&r, 0, DNS_CHECK_OK, NULL, NULL);
    assert_true(r.verdicts[0].wildcard);
    teardown(&r);
}

static void test_same_addresses_without_alias(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 203.0.113.1\n"
                        "im.example.org. 200 IN AAAA 2001:db8::1");
    add(&r, "im.example.org");
    add(&r, "mail.example.org");
    go(&r);
    expect(&r, 0, DNS_CHECK_OK, NULL, NULL);
    expect(&r, 1, DNS_CHECK_OK, NULL, NULL);
    assert_int_equal(r.verdicts[0].retry_s, 200);
    assert_false(r.verdicts[0].wildcard);
    teardown(&r);
}

static void test_any_address_without_mail_host(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 192.0.2.7");
    r.no_mail_host = true;
    single(&r, "im.example.org", DNS_CHECK_OK, NULL, NULL);
    setup(&r, ZONE_HEAD);
    r.no_mail_host = true;
    single(&r, "im.example.org", DNS_CHECK_NXDOMAIN,
            "im.example.org has no address (NXDOMAIN at ns1.example.net, ns2.example.net)", NULL);
}

/* ---- other addresses ---- */

static void test_differs(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 192.0.2.7");
    single(&r, "im.example.org", DNS_CHECK_DIFFERS,
            "im.example.org has 192.0.2.7, but mail.example.org has 203.0.113.1 and 2001:db8::1",
            "im.example.org. 300 IN CNAME mail.example.org.");
    /* Half of the addresses are not the same addresses. */
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 203.0.113.1");
    single(&r, "im.example.org", DNS_CHECK_DIFFERS,
            "im.example.org has 203.0.113.1, but mail.example.org has 203.0.113.1 and 2001:db8::1",
            "im.example.org. 300 IN CNAME mail.example.org.");
    setup(&r, ZONE_HEAD "*.im.example.org. 300 IN CNAME www.example.net.");
    single(&r, "proxy.im.example.org", DNS_CHECK_DIFFERS,
            "proxy.im.example.org has 203.0.113.80, but mail.example.org has 203.0.113.1 "
            "and 2001:db8::1",
            "*.im.example.org. 300 IN CNAME mail.example.org.");
    /* What else the name owns forbids a CNAME. */
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 192.0.2.7\n"
                        "im.example.org. 300 IN TXT \"v=spf1 -all\"");
    single(&r, "im.example.org", DNS_CHECK_DIFFERS,
            "im.example.org has 192.0.2.7, but mail.example.org has 203.0.113.1 and 2001:db8::1",
            "im.example.org. 300 IN A 203.0.113.1\nim.example.org. 300 IN AAAA 2001:db8::1");
}

/* A family that could not be asked for does not count. */
static void test_half_known(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 203.0.113.1");
    r.d.rules[0] = (struct fake_dns_rule){.owner = "im.example.org",
            .type = LDNS_RR_TYPE_AAAA,
            .action = FAKE_DNS_RCODE,
            .rcode = LDNS_RCODE_SERVFAIL};
    single(&r, "im.example.org", DNS_CHECK_OK, NULL, NULL);
    /* But a "no" for one family alone is not a "no". */
    setup(&r, ZONE_HEAD "im.example.org. 300 IN AAAA 2001:db8::7");
    r.d.rules[0] = (struct fake_dns_rule){
            .owner = "im.example.org", .type = LDNS_RR_TYPE_AAAA, .action = FAKE_DNS_DROP};
    single(&r, "im.example.org", DNS_CHECK_TIMEOUT,
            "im.example.org: no answer from the resolver 192.0.2.53, which answers for "
            "mail.example.org; check whether the name servers of this zone answer",
            NULL);
}

static void test_mail_host_without_address(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN A 192.0.2.7");
    assert_ok(name_parse("nothing.example.org", &r.mail_host));
    single(&r, "im.example.org", DNS_CHECK_DIFFERS,
            "im.example.org has 192.0.2.7, and nothing.example.org has no known address to compare "
            "with (NXDOMAIN)",
            NULL);
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME nothing.example.org.");
    assert_ok(name_parse("nothing.example.org", &r.mail_host));
    single(&r, "im.example.org", DNS_CHECK_NXDOMAIN,
            "im.example.org leads to nothing.example.org, which has no address (NXDOMAIN at "
            "ns1.example.net, ns2.example.net); that is mail_host: give it an address, or correct "
            "mail_host",
            NULL);
}

/* ---- missing ---- */

static void test_nxdomain(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_no_wildcard);
    add(&r, "im.example.org");
    add(&r, "conference.im.example.org");
    add(&r, "a.b.im.example.org");
    go(&r);
    expect(&r, 0, DNS_CHECK_OK, NULL, NULL);
    expect(&r, 1, DNS_CHECK_NXDOMAIN,
            "conference.im.example.org has no address (NXDOMAIN at ns1.example.net, "
            "ns2.example.net)",
            "*.im.example.org. 300 IN CNAME mail.example.org.");
    expect(&r, 2, DNS_CHECK_NXDOMAIN,
            "a.b.im.example.org has no address (NXDOMAIN at ns1.example.net, ns2.example.net)",
            "a.b.im.example.org. 300 IN CNAME mail.example.org.");
    assert_int_equal(r.verdicts[1].retry_s, 60);
    /* The zone once for both: NS, 2 x 2 addresses; then 3 addresses for each of the two. */
    assert_int_equal(r.d.n_udp, 2 + 3 * 3 + 1 + 4 + 2 * 3);
    teardown(&r);
}

static void test_host_missing(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD);
    single(&r, "im.example.org", DNS_CHECK_NXDOMAIN,
            "im.example.org has no address (NXDOMAIN at ns1.example.net, ns2.example.net)",
            "im.example.org. 300 IN CNAME mail.example.org.");
    /* The SRV records make it exist. */
    setup(&r, ZONE_HEAD ZONE_SRV);
    single(&r, "im.example.org", DNS_CHECK_NODATA,
            "im.example.org has no address (no A or AAAA record at ns1.example.net, "
            "ns2.example.net)",
            "im.example.org. 300 IN CNAME mail.example.org.");
    setup(&r, ZONE_HEAD "im.example.org. 300 IN MX 10 mail.example.org.");
    single(&r, "im.example.org", DNS_CHECK_NODATA,
            "im.example.org has no address (no A or AAAA record at ns1.example.net, "
            "ns2.example.net)",
            "im.example.org. 300 IN A 203.0.113.1\nim.example.org. 300 IN AAAA 2001:db8::1");
}

/* Without prefix the host is the apex: no CNAME there, and no wildcard over the whole domain. */
static void test_no_prefix(void **state)
{
    (void)state;
    struct run r;
    setup_host(&r, ZONE_HEAD, "example.org");
    add(&r, "example.org");
    add(&r, "conference.example.org");
    go(&r);
    expect(&r, 0, DNS_CHECK_NODATA,
            "example.org has no address (no A or AAAA record at ns1.example.net, ns2.example.net)",
            "example.org. 300 IN A 203.0.113.1\nexample.org. 300 IN AAAA 2001:db8::1");
    expect(&r, 1, DNS_CHECK_NXDOMAIN,
            "conference.example.org has no address (NXDOMAIN at ns1.example.net, ns2.example.net)",
            "conference.example.org. 300 IN CNAME mail.example.org.");
    teardown(&r);
}

/* RFC 4592: a record below a name takes it out of the wildcard. */
static void test_shadowed(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME mail.example.org.\n"
                        "*.im.example.org. 300 IN CNAME mail.example.org.\n"
                        "_acme-challenge.conference.im.example.org. 20 IN TXT \"x\"");
    single(&r, "conference.im.example.org", DNS_CHECK_NODATA,
            "conference.im.example.org exists without an address because of records below it, so "
            "the wildcard beside it does not cover it (no A or AAAA record at ns1.example.net, "
            "ns2.example.net)",
            "conference.im.example.org. 300 IN CNAME mail.example.org.");
    setup(&r, ZONE_HEAD "_xmpp-server._tcp.conference.im.example.org. 20 IN SRV 1 1 1 "
                        "mail.example.org.");
    single(&r, "conference.im.example.org", DNS_CHECK_NODATA,
            "conference.im.example.org has no address (no A or AAAA record at ns1.example.net, "
            "ns2.example.net)",
            "conference.im.example.org. 300 IN CNAME mail.example.org.");
}

static void test_dangling(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME typo.example.net.");
    single(&r, "im.example.org", DNS_CHECK_NXDOMAIN,
            "im.example.org leads to typo.example.net, which has no address (NXDOMAIN at "
            "ns1.example.net)",
            "im.example.org. 300 IN CNAME mail.example.org.");
    setup(&r, ZONE_HEAD "*.im.example.org. 300 IN CNAME typo.example.net.");
    single(&r, "proxy.im.example.org", DNS_CHECK_NXDOMAIN,
            "proxy.im.example.org leads to typo.example.net, which has no address (NXDOMAIN at "
            "ns1.example.net)",
            "*.im.example.org. 300 IN CNAME mail.example.org.");
}

static void test_no_such_domain(void **state)
{
    (void)state;
    struct run r;
    setup_host(&r, zone_wildcard, "im.nosuch.org");
    r.d.rules[0] = (struct fake_dns_rule){.owner = "im.nosuch.org",
            .action = FAKE_DNS_RCODE,
            .rcode = LDNS_RCODE_NXDOMAIN,
            .records = "org. 900 IN SOA a.nic.org. h.nic.org. 1 2 3 4 900"};
    single(&r, "im.nosuch.org", DNS_CHECK_NXDOMAIN,
            "im.nosuch.org has no address (NXDOMAIN from the resolver 192.0.2.53; the domain does "
            "not exist in the zone org)",
            "im.nosuch.org. 300 IN CNAME mail.example.org.");
}

/* ---- resolver and authoritative servers disagree ---- */

static const struct fake_dns_rule cached_no = {.server = "192.0.2.53",
        .owner = "conference.im.example.org",
        .action = FAKE_DNS_RCODE,
        .rcode = LDNS_RCODE_NXDOMAIN,
        .records = "example.org. 40 IN SOA ns1.example.net. h.example.org. 1 2 3 4 60"};

static void test_stale(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_wildcard);
    r.d.rules[0] = cached_no;
    add(&r, "conference.im.example.org");
    go(&r);
    expect(&r, 0, DNS_CHECK_STALE,
            "conference.im.example.org has an address at ns1.example.net, ns2.example.net, but the "
            "resolver 192.0.2.53 still says NXDOMAIN (for up to 40 s)",
            NULL);
    assert_int_equal(r.verdicts[0].retry_s, 40);
    teardown(&r);
    /* An alias to another zone is all that its servers know. */
    setup(&r, ZONE_HEAD "conference.im.example.org. 300 IN CNAME www.example.net.");
    r.d.rules[0] = cached_no;
    r.d.rules[1] = (struct fake_dns_rule){.server = "198.51.100.1",
            .action = FAKE_DNS_RECORDS,
            .records = "conference.im.example.org. 300 IN CNAME www.example.net."};
    add(&r, "conference.im.example.org");
    go(&r);
    assert_int_equal(r.verdicts[0].check, DNS_CHECK_STALE);
    teardown(&r);
}

static void test_not_everywhere_yet(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_wildcard);
    r.d.rules[0] = cached_no;
    r.d.rules[1] = cached_no;
    r.d.rules[1].server = "198.51.100.2";
    single(&r, "conference.im.example.org", DNS_CHECK_NXDOMAIN,
            "conference.im.example.org has an address only at ns1.example.net (NXDOMAIN at "
            "ns2.example.net)",
            NULL);
}

static void test_authority_silent(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_no_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){.server = "198.51.100.1", .action = FAKE_DNS_DROP};
    r.d.rules[1] = (struct fake_dns_rule){.server = "198.51.100.2", .action = FAKE_DNS_NOT_AA};
    r.d.rules[2] =
            (struct fake_dns_rule){.server = "2001:db8:53::1", .action = FAKE_DNS_UNREACHABLE};
    single(&r, "conference.im.example.org", DNS_CHECK_NXDOMAIN,
            "conference.im.example.org has no address (NXDOMAIN from the resolver 192.0.2.53; no "
            "answer from ns1.example.net, ns2.example.net)",
            "*.im.example.org. 300 IN CNAME mail.example.org.");
    /* One that answers is enough; one that can't be reached from here says nothing. */
    setup(&r, zone_no_wildcard);
    r.d.rules[0] =
            (struct fake_dns_rule){.server = "2001:db8:53::1", .action = FAKE_DNS_UNREACHABLE};
    r.d.rules[1] = (struct fake_dns_rule){.server = "198.51.100.2", .action = FAKE_DNS_REFUSE};
    single(&r, "conference.im.example.org", DNS_CHECK_NXDOMAIN,
            "conference.im.example.org has no address (NXDOMAIN at ns1.example.net)",
            "*.im.example.org. 300 IN CNAME mail.example.org.");
    setup(&r, zone_no_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){
            .type = LDNS_RR_TYPE_NS, .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_SERVFAIL};
    single(&r, "conference.im.example.org", DNS_CHECK_NXDOMAIN,
            "conference.im.example.org has no address (NXDOMAIN from the resolver 192.0.2.53; the "
            "name servers of example.org are unknown (SERVFAIL for its NS))",
            "*.im.example.org. 300 IN CNAME mail.example.org.");
}

/* ---- failures ---- */

static void test_servfail(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){
            .owner = "im.example.org", .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_SERVFAIL};
    single(&r, "im.example.org", DNS_CHECK_SERVFAIL,
            "im.example.org can't be resolved: SERVFAIL from the resolver 192.0.2.53, which gets "
            "no usable answer from the name servers above it; check the delegation and the servers "
            "of "
            "this zone",
            NULL);
    setup(&r, zone_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){.owner = "im.example.org",
            .action = FAKE_DNS_RCODE,
            .rcode = LDNS_RCODE_SERVFAIL,
            .unless_checked = true};
    single(&r, "im.example.org", DNS_CHECK_SERVFAIL,
            "im.example.org can't be resolved: its DNSSEC is broken (bogus): 192.0.2.53 says "
            "SERVFAIL, and answers only without validation; a CA will refuse it too",
            NULL);
    setup(&r, zone_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){
            .owner = "im.example.org", .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_REFUSED};
    single(&r, "im.example.org", DNS_CHECK_SERVFAIL,
            "im.example.org can't be resolved: REFUSED from the resolver 192.0.2.53", NULL);
    setup(&r, zone_wildcard);
    r.d.rules[0] =
            (struct fake_dns_rule){.owner = "im.example.org", .action = FAKE_DNS_RCODE, .rcode = 9};
    single(&r, "im.example.org", DNS_CHECK_SERVFAIL,
            "im.example.org can't be resolved: broken answer (rcode 9) from the resolver "
            "192.0.2.53",
            NULL);
}

/* The name itself is fine, but what it leads to is not. */
static void test_servfail_behind_alias(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD);
    r.d.rules[0] = (struct fake_dns_rule){.owner = "im.example.org",
            .action = FAKE_DNS_RECORDS,
            .records = "im.example.org. 300 IN CNAME www.example.net."};
    r.d.rules[1] = (struct fake_dns_rule){
            .owner = "www.example.net", .action = FAKE_DNS_RCODE, .rcode = LDNS_RCODE_SERVFAIL};
    single(&r, "im.example.org", DNS_CHECK_SERVFAIL,
            "im.example.org leads to www.example.net, which can't be resolved: SERVFAIL from the "
            "resolver 192.0.2.53, which gets no usable answer from the name servers above it; "
            "check "
            "the delegation and the servers of this zone",
            NULL);
}

static void test_loop(void **state)
{
    (void)state;
    static const char zone[] = ZONE_HEAD "im.example.org. 300 IN CNAME a.example.org.\n"
                                         "a.example.org. 300 IN CNAME b.example.org.\n"
                                         "b.example.org. 300 IN CNAME im.example.org.";
    static const char sentence[] = "im.example.org can't be resolved: its CNAMEs lead in a loop "
                                   "(im.example.org -> a.example.org -> b.example.org -> …)";
    struct run r;
    setup(&r, zone);
    single(&r, "im.example.org", DNS_CHECK_LOOP, sentence,
            "im.example.org. 300 IN CNAME mail.example.org.");
    /* A resolver that says no more than SERVFAIL. */
    setup(&r, zone);
    for (size_t i = 0; i < 2; i++)
        r.d.rules[i] = (struct fake_dns_rule){.owner = "im.example.org",
                .type = i == 0 ? LDNS_RR_TYPE_A : LDNS_RR_TYPE_AAAA,
                .action = FAKE_DNS_RCODE,
                .rcode = LDNS_RCODE_SERVFAIL};
    single(&r, "im.example.org", DNS_CHECK_LOOP, sentence,
            "im.example.org. 300 IN CNAME mail.example.org.");
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME im.example.org.");
    single(&r, "im.example.org", DNS_CHECK_LOOP,
            "im.example.org can't be resolved: its CNAMEs lead in a loop (im.example.org -> "
            "itself)",
            "im.example.org. 300 IN CNAME mail.example.org.");
}

static void test_too_many_hops(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME c1.example.org.\n"
                        "c1.example.org. 300 IN CNAME c2.example.org.\n"
                        "c2.example.org. 300 IN CNAME c3.example.org.\n"
                        "c3.example.org. 300 IN CNAME c4.example.org.\n"
                        "c4.example.org. 300 IN CNAME c5.example.org.\n"
                        "c5.example.org. 300 IN CNAME c6.example.org.\n"
                        "c6.example.org. 300 IN CNAME c7.example.org.\n"
                        "c7.example.org. 300 IN CNAME c8.example.org.\n"
                        "c8.example.org. 300 IN CNAME mail.example.org.");
    single(&r, "im.example.org", DNS_CHECK_LOOP,
            "im.example.org can't be resolved: more than 8 CNAMEs in a row, up to c8.example.org",
            "im.example.org. 300 IN CNAME mail.example.org.");
}

static void test_timeout(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){.server = "192.0.2.53", .action = FAKE_DNS_DROP};
    single(&r, "im.example.org", DNS_CHECK_TIMEOUT,
            "im.example.org: no answer from the resolver 192.0.2.53", NULL);
    setup(&r, zone_wildcard);
    r.d.rules[0] = (struct fake_dns_rule){.server = "192.0.2.53", .action = FAKE_DNS_UNREACHABLE};
    single(&r, "im.example.org", DNS_CHECK_TIMEOUT,
            "im.example.org: no route to the resolver 192.0.2.53", NULL);
}

/* Three kinds of trouble beside one that is fine: each name has its own verdict. */
static void test_mixed(void **state)
{
    (void)state;
    struct run r;
    setup(&r, ZONE_HEAD "im.example.org. 300 IN CNAME mail.example.org.\n"
                        "proxy.im.example.org. 300 IN A 192.0.2.7");
    r.d.rules[0] = (struct fake_dns_rule){.owner = "pubsub.im.example.org",
            .action = FAKE_DNS_RCODE,
            .rcode = LDNS_RCODE_SERVFAIL};
    add(&r, "im.example.org");
    add(&r, "conference.im.example.org");
    add(&r, "proxy.im.example.org");
    add(&r, "pubsub.im.example.org");
    go(&r);
    assert_int_equal(r.verdicts[0].check, DNS_CHECK_OK);
    assert_int_equal(r.verdicts[1].check, DNS_CHECK_NXDOMAIN);
    assert_int_equal(r.verdicts[2].check, DNS_CHECK_DIFFERS);
    assert_int_equal(r.verdicts[3].check, DNS_CHECK_SERVFAIL);
    teardown(&r);
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    struct run r;
    setup(&r, zone_wildcard);
    go(&r);
    teardown(&r);
}

/* ---- stopping ---- */

static void test_faults_everywhere(void **state)
{
    (void)state;
    static const enum fake_fault faults[] = {
            FAKE_FAULT_CANCEL, FAKE_FAULT_ERROR, FAKE_FAULT_ERROR_AFTER};
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
        for (size_t at = 1;; at++) {
            struct run r;
            setup(&r, zone_no_wildcard);
            add(&r, "im.example.org");
            add(&r, "conference.im.example.org");
            r.d.fw.fault = faults[i];
            r.d.fw.fault_at = at;
            struct err *e = fake_world_run(&r.d.fw, preflight, &r);
            bool past = r.d.fw.calls < at;
            r.done = e == NULL;
            if (faults[i] == FAKE_FAULT_CANCEL && !past)
                assert_err(e, ERR_CANCELED, "");
            else
                assert_ok(e);
            if (r.done)
                assert_int_equal(r.verdicts[1].check, DNS_CHECK_NXDOMAIN);
            teardown(&r);
            if (past)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_five_names),
            cmocka_unit_test(test_explicit_beside_wildcard),
            cmocka_unit_test(test_wildcard_of_addresses),
            cmocka_unit_test(test_same_addresses_without_alias),
            cmocka_unit_test(test_any_address_without_mail_host),
            cmocka_unit_test(test_differs),
            cmocka_unit_test(test_half_known),
            cmocka_unit_test(test_mail_host_without_address),
            cmocka_unit_test(test_nxdomain),
            cmocka_unit_test(test_host_missing),
            cmocka_unit_test(test_no_prefix),
            cmocka_unit_test(test_shadowed),
            cmocka_unit_test(test_dangling),
            cmocka_unit_test(test_no_such_domain),
            cmocka_unit_test(test_stale),
            cmocka_unit_test(test_not_everywhere_yet),
            cmocka_unit_test(test_authority_silent),
            cmocka_unit_test(test_servfail),
            cmocka_unit_test(test_servfail_behind_alias),
            cmocka_unit_test(test_loop),
            cmocka_unit_test(test_too_many_hops),
            cmocka_unit_test(test_timeout),
            cmocka_unit_test(test_mixed),
            cmocka_unit_test(test_nothing_to_do),
            cmocka_unit_test(test_faults_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
