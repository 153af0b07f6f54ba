/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dns/message.h"
#include "tests/lib/test_err.h"
#include "tests/unit/dns/fake_dns.h"

/* ---- names ---- */

static void test_names(void **state)
{
    (void)state;
    static const char *const good[][2] = {
            {"im.example.org", "im.example.org"},
            {"IM.Example.ORG.", "im.example.org"},
            {"_acme-challenge.im.example.org", "_acme-challenge.im.example.org"},
            {"org", "org"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
        struct name name;
        assert_ok(dns_message_name(good[i][0], &dname));
        assert_true(dns_message_name_text(dname, &name));
        assert_string_equal(name.text, good[i][1]);
    }
    ldns_rdf *untouched = NULL;
    assert_err(dns_message_name("a..b", &untouched), ERR_CONFIG, "'a..b' is not a domain name");
    assert_err(
            dns_message_name("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234.org",
                    &untouched),
            ERR_CONFIG, "is not a domain name");
    assert_null(untouched);
}

static void test_names_that_are_no_host_names(void **state)
{
    (void)state;
    static const char *const odd[] = {
            ".", "a\\.b.example.org", "a b.org", "*.example.org", "caf\\233.example.org"};
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
        struct name name = {"untouched"};
        assert_ok(dns_message_name(odd[i], &dname));
        assert_false(dns_message_name_text(dname, &name));
        assert_string_equal(name.text, "untouched");
    }
}

/* ---- questions ---- */

static struct buf encode(
        const char *owner, bool edns, bool unchecked, struct dns_question *q, ldns_rdf **dname)
{
    struct buf wire = BUF_INIT(512);
    assert_ok(dns_message_name(owner, dname));
    *q = (struct dns_question){.id = 0x1234,
            .owner = *dname,
            .type = LDNS_RR_TYPE_A,
            .recurse = true,
            .unchecked = unchecked,
            .edns = edns};
    assert_ok(dns_message_encode(q, &wire));
    return wire;
}

static void test_encode(void **state)
{
    (void)state;
    AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
    struct dns_question q;
    AUTO_BUF struct buf wire = encode("im.example.org", true, false, &q, &dname);
    static const char expected[] = "\x12\x34\x01\x20\0\1\0\0\0\0\0\1"
                                   "\2im\7example\3org\0\0\1\0\1"
                                   "\0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_int_equal(wire.len, sizeof(expected) - 1);
    assert_memory_equal(wire.data, expected, sizeof(expected) - 1);
}

static void test_encode_plain(void **state)
{
    (void)state;
    AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
    struct dns_question q;
    AUTO_BUF struct buf wire = encode("im.example.org", false, true, &q, &dname);
    assert_int_equal(wire.len, 12 + 16 + 4);
    assert_int_equal((uint8_t)wire.data[3], 0x30); /* AD, CD */
    assert_int_equal(wire.data[11], 0);
    q.recurse = q.unchecked = false;
    buf_reset(&wire);
    assert_ok(dns_message_encode(&q, &wire));
    assert_int_equal(wire.data[2], 0);
    assert_int_equal(wire.data[3], 0);
}

/* ---- is it the reply ---- */

static void test_is_reply(void **state)
{
    (void)state;
    AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
    struct dns_question q;
    size_t len;
    AUTO_BUF struct buf wire = encode("im.example.org", true, false, &q, &dname);
    AUTO_FREE uint8_t *reply = fake_dns_reply(wire.data, wire.len, 0, NULL, NULL, &len);
    assert_true(dns_message_is_reply(&q, reply, len));
    assert_false(dns_message_is_truncated(reply, len));
    reply[13] = 'I'; /* case does not count */
    assert_true(dns_message_is_reply(&q, reply, len));
    reply[13] = 'j';
    assert_false(dns_message_is_reply(&q, reply, len));
    reply[13] = 'i';
    q.type = LDNS_RR_TYPE_AAAA;
    assert_false(dns_message_is_reply(&q, reply, len));
    q.type = LDNS_RR_TYPE_A;
    assert_false(dns_message_is_reply(&q, reply, len - 1));
    assert_false(dns_message_is_reply(&q, (const uint8_t *)wire.data, wire.len)); /* itself */
    q.id ^= 1;
    assert_false(dns_message_is_reply(&q, reply, len));
    q.id ^= 1;
    reply[2] |= 0x02;
    assert_true(dns_message_is_truncated(reply, len));
    reply[5] = 2; /* two questions */
    assert_false(dns_message_is_reply(&q, reply, len));
}

/* Only who can't read the question may leave it out. */
static void test_is_reply_without_question(void **state)
{
    (void)state;
    AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
    struct dns_question q;
    AUTO_BUF struct buf wire = encode("im.example.org", true, false, &q, &dname);
    uint8_t header[12] = {0x12, 0x34, 0x80, LDNS_RCODE_FORMERR};
    assert_int_equal(wire.len, 43);
    assert_true(dns_message_is_reply(&q, header, sizeof(header)));
    header[3] = LDNS_RCODE_NOTIMPL;
    assert_true(dns_message_is_reply(&q, header, sizeof(header)));
    header[3] = LDNS_RCODE_NXDOMAIN;
    assert_false(dns_message_is_reply(&q, header, sizeof(header)));
    header[3] = LDNS_RCODE_FORMERR;
    assert_false(dns_message_is_reply(&q, header, 11));
}

/* ---- decoding ---- */

static void test_decode(void **state)
{
    (void)state;
    AUTO(dns_message_name_freep) ldns_rdf *dname = NULL;
    struct dns_question q;
    size_t len;
    AUTO_BUF struct buf wire = encode("im.example.org", true, false, &q, &dname);
    AUTO_FREE uint8_t *reply = fake_dns_reply(wire.data, wire.len, LDNS_RCODE_NXDOMAIN,
            "im.example.org. 300 IN CNAME mail.example.org.\n"
            "_x._tcp.im.example.org. 300 IN SRV 10 1 5222 mail.example.org.\n"
            "im.example.org. 300 IN TXT \"x\"",
            "example.org. 3600 IN SOA ns1.example.org. h.example.org. 1 2 3 4 60", &len);
    ldns_pkt *packet = NULL;
    assert_ok(dns_message_decode(reply, len, &packet));
    assert_int_equal(ldns_pkt_ancount(packet), 3);
    assert_int_equal(ldns_pkt_nscount(packet), 1);
    assert_int_equal(dns_message_rcode(packet), LDNS_RCODE_NXDOMAIN);
    ldns_pkt_free(packet);
    /* Cut anywhere, it is refused, not read. */
    for (size_t cut = 0; cut < len; cut++) {
        packet = NULL;
        assert_err(dns_message_decode(reply, cut, &packet), ERR_PROTOCOL, "not a DNS message");
        assert_null(packet);
    }
}

#define HEADER(qd, an, ns, ar) "\x12\x34\x80\0\0" qd "\0" an "\0" ns "\0" ar
#define QUESTION               "\2im\7example\3org\0\0\1\0\1" /* at 12; "org" at 23 */
#define OPT                    "\0\0\x29\x04\xd0\0\0\0\0\0\0"
#define TSIG                   "\3key\0\0\xfa\0\xff\0\0\0\0\0\x15\3alg\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void test_decode_refused(void **state)
{
    (void)state;
#define CASE(bytes, why)                                                                           \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, why                                                              \
    }
    static const struct {
        const char *data;
        size_t len;
        const char *why;
    } cases[] = {
            CASE(HEADER("\2", "\0", "\0", "\0") QUESTION QUESTION, "more than one question"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION, "runs past the end"),
            CASE("\x12\x34\x80\0\0\1\xff\xff\xff\xff\xff\xff" QUESTION, "more than 1024 records"),
            /* a pointer to itself, forwards, to nowhere, and two that point at each other */
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xc0\x20\0\1\0\1\0\0\0\0\0\4abcd",
                    "leads nowhere"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xc0\x22\0\1\0\1\0\0\0\0\0\4abcd",
                    "leads nowhere"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xff\xff\0\1\0\1\0\0\0\0\0\4abcd",
                    "leads nowhere"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\1a\xc0\x20\0\1\0\1\0\0\0\0\0\4abcd",
                    "leads nowhere"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION
                    "\xc0\x0c\0\5\0\1\0\0\0\0\0\2\xc0\x2c", /* in RDATA */
                    "leads nowhere"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\x80\0\1\0\1\0\0\0\0\0\4abcd",
                    "unknown type"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xc0\x0c\0\5\0\1\0\0\0\0\0\1\xc0\x0c",
                    "past its record"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xc0\x0c\0\x0f\0\1\0\0\0\0\0\1x",
                    "too short"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xc0\x0c\0\x37\0\1\0\0\0\0\0\2\0\0",
                    "nobody asked for"),
            CASE(HEADER("\1", "\0", "\0", "\2") QUESTION TSIG TSIG, "follows the TSIG"),
            CASE(HEADER("\1", "\0", "\0", "\2") QUESTION TSIG OPT, "follows the TSIG"),
            CASE(HEADER("\1", "\0", "\0", "\2") QUESTION OPT OPT, "too many"),
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION OPT, "too many"),
            CASE(HEADER("\1", "\0", "\1", "\0") QUESTION TSIG, "too many"),
            /* an A record of three octets: ldns's own check */
            CASE(HEADER("\1", "\1", "\0", "\0") QUESTION "\xc0\x0c\0\1\0\1\0\0\0\0\0\3abc",
                    "not a DNS message"),
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE uint8_t *exact = mem_dup(cases[i].data, cases[i].len);
        ldns_pkt *packet = NULL;
        assert_err(dns_message_decode(exact, cases[i].len, &packet), ERR_PROTOCOL, cases[i].why);
        assert_null(packet);
    }
}

/* A name may be compressed, and may even be a chain of pointers, as long as that ends. */
static void test_decode_pointers(void **state)
{
    (void)state;
    static const char data[] = HEADER("\1", "\2", "\0", "\1") QUESTION
            "\xc0\x0c\0\5\0\1\0\0\1\x2c\0\7\4mail\xc0\x0f" /* CNAME at 32, target at 44 */
            "\xc0\x2c\0\1\0\1\0\0\1\x2c\0\4\xc0\0\2\1" TSIG;
    ldns_pkt *packet = NULL;
    assert_ok(dns_message_decode((const uint8_t *)data, sizeof(data) - 1, &packet));
    struct name target;
    const ldns_rr *rr = ldns_rr_list_rr(ldns_pkt_answer(packet), 0);
    assert_true(dns_message_name_text(ldns_rr_rdf(rr, 0), &target));
    assert_string_equal(target.text, "mail.example.org");
    ldns_pkt_free(packet);
}

/* 64 KiB of pointers, each to the one before: refused at the 128th, not followed. */
static void test_decode_pointer_chain(void **state)
{
    (void)state;
    AUTO_FREE uint8_t *data = mem_zalloc(DNS_MESSAGE_MAX);
    memcpy(data, HEADER("\0", "\2", "\0", "\0"), 12);
    memcpy(data + 12, "\0\0\x63\0\1\0\0\0\0", 9); /* type 99 */
    size_t start = 12 + 11, len = start;
    data[len++] = 0;
    for (size_t at = start; len + 2 <= 4000; at = len - 2) {
        data[len++] = (uint8_t)(0xc0 | at >> 8);
        data[len++] = (uint8_t)at;
    }
    data[21] = (uint8_t)((len - start) >> 8);
    data[22] = (uint8_t)(len - start);
    size_t last = len - 2;
    data[len++] = (uint8_t)(0xc0 | last >> 8);
    data[len++] = (uint8_t)last;
    memcpy(data + len, "\0\1\0\1\0\0\0\0\0\4abcd", 14);
    len += 14;
    ldns_pkt *packet = NULL;
    assert_err(dns_message_decode(data, len, &packet), ERR_PROTOCOL, "leads nowhere");
}

static void test_decode_extended_rcode(void **state)
{
    (void)state;
    static const char data[] =
            "\x12\x34\x80\0\0\1\0\0\0\0\0\1" QUESTION "\0\0\x29\x04\xd0\1\0\0\0\0\0";
    ldns_pkt *packet = NULL;
    assert_ok(dns_message_decode((const uint8_t *)data, sizeof(data) - 1, &packet));
    assert_int_equal(dns_message_rcode(packet), 16);
    ldns_pkt_free(packet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_names),
            cmocka_unit_test(test_names_that_are_no_host_names),
            cmocka_unit_test(test_encode),
            cmocka_unit_test(test_encode_plain),
            cmocka_unit_test(test_is_reply),
            cmocka_unit_test(test_is_reply_without_question),
            cmocka_unit_test(test_decode),
            cmocka_unit_test(test_decode_refused),
            cmocka_unit_test(test_decode_pointers),
            cmocka_unit_test(test_decode_pointer_chain),
            cmocka_unit_test(test_decode_extended_rcode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
