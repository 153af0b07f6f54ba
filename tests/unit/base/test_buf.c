/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "tests/lib/test_err.h"

static void grows_up_to_its_maximum(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(1000);
    assert_string_equal(buf_str(&b), "");
    for (int i = 0; i < 1000; i++)
        buf_putc(&b, (char)('a' + i % 26));
    assert_ok(buf_check(&b, "x"));
    assert_int_equal(b.len, 1000);
    assert_int_equal(b.data[1000], '\0');
    assert_int_equal(b.data[999], 'a' + 999 % 26);
    assert_true(b.cap <= 1001);
    buf_putc(&b, '!');
    assert_true(b.overflow);
    assert_int_equal(b.len, 1000);
    assert_err(buf_check(&b, "the reply of %s", "ca"), ERR_PROTOCOL,
            "the reply of ca is larger than 1000 bytes");
}

static void refuses_everything_after_the_first_refusal(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(4);
    buf_puts(&b, "ab");
    buf_puts(&b, "cde");
    buf_puts(&b, "f");
    assert_string_equal(buf_str(&b), "ab");
    buf_reset(&b);
    assert_ok(buf_check(&b, "x"));
    buf_printf(&b, "%d", 1234);
    assert_string_equal(buf_str(&b), "1234");
    buf_printf(&b, "%d", 5);
    assert_true(b.overflow);
    assert_string_equal(buf_str(&b), "1234");
}

static void a_buffer_of_nothing_takes_nothing(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(0);
    buf_append(&b, "", 0);
    assert_ok(buf_check(&b, "x"));
    assert_string_equal(buf_str(&b), "");
    buf_append(&b, "x", 1);
    assert_true(b.overflow);
    AUTO_BUF struct buf huge = BUF_INIT(SIZE_MAX);
    buf_puts(&huge, "x");
    assert_ok(buf_check(&huge, "x"));
    assert_string_equal(buf_str(&huge), "x");
}

static void contents_can_be_taken(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT(100);
    AUTO_FREE char *nothing = buf_steal(&b);
    assert_string_equal(nothing, "");
    buf_append(&b, "a\0b", 3);
    AUTO_FREE char *text = buf_steal(&b);
    assert_memory_equal(text, "a\0b\0", 4);
    assert_int_equal(b.len, 0);
    assert_null(b.data);
    buf_puts(&b, "again");
    assert_string_equal(buf_str(&b), "again");
}

static void no_memory_is_told_apart(void **state)
{
    struct buf b = {.max = 10, .nomem = true};
    buf_puts(&b, "x");
    assert_int_equal(b.len, 0);
    assert_err(buf_check(&b, "x"), ERR_NOMEM, "out of memory");
}

static void secrets_are_wiped_on_reset_and_survive_growth(void **state)
{
    AUTO_BUF struct buf b = BUF_INIT_SECRET(10000);
    buf_puts(&b, "secret");
    for (int i = 0; i < 5000; i++)
        buf_putc(&b, 'x');
    assert_memory_equal(b.data, "secretxxx", 9);
    assert_int_equal(b.len, 5006);
    buf_reset(&b);
    for (size_t i = 0; i < 5006; i++)
        assert_int_equal(b.data[i], 0);
    assert_true(b.wipe);
}

static void utf8_is_checked(void **state)
{
    static const struct {
        const char *text;
        size_t size;
        uint32_t c;
    } good[] = {{"a", 1, 'a'}, {"\xc2\x80", 2, 0x80}, {"ü", 2, 0xfc}, {"\xe0\xa0\x80", 3, 0x800},
            {"€", 3, 0x20ac}, {"\xee\x80\x80", 3, 0xe000}, {"\xf0\x90\x80\x80", 4, 0x10000},
            {"\xf4\x8f\xbf\xbf", 4, 0x10ffff}};
    static const char *const bad[] = {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf",
            "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
            "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x92", "\xc3(", "\xe2(\xac"};
    uint32_t c = 1;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(str_utf8_decode(good[i].text, strlen(good[i].text), &c), good[i].size);
        assert_int_equal(c, good[i].c);
    }
    c = 1;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(str_utf8_decode(bad[i], strlen(bad[i]), &c), 0);
    assert_int_equal(str_utf8_decode("", 0, &c), 0);
    assert_int_equal(c, 1);
}

static void foreign_text_is_made_safe(void **state)
{
    static const struct {
        const char *text;
        const char *safe;
        size_t max;
    } cases[] = {{"", "", 10}, {"plain", "plain", 10}, {"grün €", "grün €", 100},
            {"a\x1b[31mb", "a?[31mb", 100}, {"\r\n\t\x7f", "????", 100}, {"\xff\xc3(", "?\?(", 100},
            {"\xc2\x9b", "?", 100}, /* C1: CSI in one byte */
            {"a\xe2\x80\xae"
             "b",
                    "a?b", 100}, /* turns the direction of writing */
            {"abcdef", "abc…", 3}, {"abc", "abc", 3}, {"abü", "ab…", 3}, {"abc", "…", 0},
            {"", "", 0}, {"\xe2\x82", "??", 10}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE char *safe = str_foreign(cases[i].text, cases[i].max);
        assert_string_equal(safe, cases[i].safe);
    }
    AUTO_BUF struct buf b = BUF_INIT(100);
    buf_put_foreign(&b, "a\0b", 3, 100);
    assert_string_equal(buf_str(&b), "a?b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(grows_up_to_its_maximum),
            cmocka_unit_test(refuses_everything_after_the_first_refusal),
            cmocka_unit_test(a_buffer_of_nothing_takes_nothing),
            cmocka_unit_test(contents_can_be_taken),
            cmocka_unit_test(no_memory_is_told_apart),
            cmocka_unit_test(secrets_are_wiped_on_reset_and_survive_growth),
            cmocka_unit_test(utf8_is_checked),
            cmocka_unit_test(foreign_text_is_made_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
