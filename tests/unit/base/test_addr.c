/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/addr.h"
#include "tests/lib/test_err.h"

static void good_addresses(void **state)
{
    static const struct {
        const char *text;
        const char *formatted;
        const char *ip;
        int family;
        uint16_t port;
    } cases[] = {{"192.0.2.1", "192.0.2.1:53", "192.0.2.1", AF_INET, 53},
            {"192.0.2.1:5353", "192.0.2.1:5353", "192.0.2.1", AF_INET, 5353},
            {"2001:db8::1", "[2001:db8::1]:53", "2001:db8::1", AF_INET6, 53},
            {"[2001:db8::1]", "[2001:db8::1]:53", "2001:db8::1", AF_INET6, 53},
            {"[2001:DB8:0:0::1]:65535", "[2001:db8::1]:65535", "2001:db8::1", AF_INET6, 65535},
            {"::", "[::]:53", "::", AF_INET6, 53}, {"[::]:80", "[::]:80", "::", AF_INET6, 80},
            {"::ffff:192.0.2.1", "[::ffff:192.0.2.1]:53", "::ffff:192.0.2.1", AF_INET6, 53},
            {"fe80::1%7", "[fe80::1%7]:53", "fe80::1%7", AF_INET6, 53},
            {"[fe80::1%lo]:54", "[fe80::1%1]:54", "fe80::1%1", AF_INET6, 54}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct addr a;
        char text[ADDR_TEXT_MAX];
        assert_ok(addr_parse(cases[i].text, 53, &a));
        assert_string_equal(addr_format(&a, text), cases[i].formatted);
        assert_string_equal(addr_format_ip(&a, text), cases[i].ip);
        assert_int_equal(addr_family(&a), cases[i].family);
        assert_int_equal(addr_port(&a), cases[i].port);
        assert_int_equal(addr_len(&a), cases[i].family == AF_INET ? sizeof(struct sockaddr_in)
                                                                  : sizeof(struct sockaddr_in6));
    }
}

static void bad_addresses(void **state)
{
    static const char *const bad[] = {"", ":", "::1:", "localhost", "192.0.2", "192.0.2.256",
            "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:5x",
            "192.0.2.1: 53", " 192.0.2.1", "192.0.2.1 ", "0192.0.2.1", "192.0.2.1/24", "[", "[]",
            "[]:53", "[192.0.2.1]:53", "[2001:db8::1", "[2001:db8::1]53",
            "[2001:db8::1]:", "[2001:db8::1]:0", "[[::1]]", "2001:db8::g", "1:2:3:4:5:6:7:8:9",
            "fe80::1%", "fe80::1%nosuchif0", "fe80::1%0", "fe80::1%4294967296", "\x1b[::1]"};
    struct addr a = {0};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_err(addr_parse(bad[i], 53, &a), ERR_CONFIG, "is not an address");
        assert_err(addr_parse(bad[i], 53, &a), ERR_CONFIG, "write 192.0.2.1, ");
    }
    assert_int_equal(addr_family(&a), AF_UNSPEC);
}

static void made_from_bytes(void **state)
{
    char text[ADDR_TEXT_MAX];
    struct addr four = addr_from_ipv4((const uint8_t[]){192, 0, 2, 7}, 80);
    struct addr six = addr_from_ipv6((const uint8_t[]){0x20, 1, 0xd, 0xb8, [15] = 9}, 443);
    assert_string_equal(addr_format(&four, text), "192.0.2.7:80");
    assert_string_equal(addr_format(&six, text), "[2001:db8::9]:443");
    addr_set_port(&four, 81);
    addr_set_port(&six, 444);
    assert_int_equal(addr_port(&four), 81);
    assert_int_equal(addr_port(&six), 444);
}

static void the_longest_fits(void **state)
{
    char text[ADDR_TEXT_MAX];
    struct addr a;
    assert_ok(addr_parse("[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535", 1, &a));
    assert_string_equal(
            addr_format(&a, text), "[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535");
    struct addr none = {0};
    assert_string_equal(addr_format_ip(&none, text), "none");
    assert_int_equal(addr_port(&none), 0);
}

static void compared_without_port(void **state)
{
    struct addr a, b, c, d, mapped;
    assert_ok(addr_parse("192.0.2.1:1", 0, &a));
    assert_ok(addr_parse("192.0.2.1:2", 0, &b));
    assert_ok(addr_parse("[2001:db8::1]:1", 0, &c));
    assert_ok(addr_parse("[2001:db8::1]:2", 0, &d));
    assert_ok(addr_parse("::ffff:192.0.2.1", 1, &mapped));
    assert_true(addr_equal_ip(&a, &b));
    assert_true(addr_equal_ip(&c, &d));
    assert_false(addr_equal_ip(&a, &c));
    assert_false(addr_equal_ip(&a, &mapped));
    assert_ok(addr_parse("2001:db8::2", 1, &d));
    assert_false(addr_equal_ip(&c, &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(good_addresses),
            cmocka_unit_test(bad_addresses),
            cmocka_unit_test(made_from_bytes),
            cmocka_unit_test(the_longest_fits),
            cmocka_unit_test(compared_without_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
