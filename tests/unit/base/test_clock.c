/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"

static void formats_like_the_system(void **state)
{
    static const int64_t instants[] = {0, 1, 999, 1000, -1, -1000, -1001, 951782399000,
            951782400000, 1709164800000, 1795352561123, 4102444800000, 253402300799999,
            -62167219200000, 68169600000, 4107542400000, 946684799000, 1795305600000};
    for (size_t i = 0; i < ARRAY_SIZE(instants); i++) {
        char text[WALL_TEXT_MAX];
        char expected[64];
        int64_t ms = instants[i];
        time_t sec = (time_t)(ms >= 0 ? ms / 1000 : -((-ms + 999) / 1000));
        struct tm tm;
        assert_non_null(gmtime_r(&sec, &tm));
        snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        assert_string_equal(wall_format((struct wall){ms}, text), expected);
    }
}

static void extremes_are_clamped(void **state)
{
    char text[WALL_TEXT_MAX];
    assert_string_equal(wall_format((struct wall){INT64_MAX}, text), "9999-12-31T23:59:59Z");
    assert_string_equal(wall_format((struct wall){INT64_MIN}, text), "0000-01-01T00:00:00Z");
}

static void every_day_comes_back(void **state)
{
    for (int64_t day = -800000; day < 2900000; day += 37) {
        char text[WALL_TEXT_MAX];
        struct wall back = {-1};
        struct wall t = {day * CLOCK_DAY + 3723000};
        if (t.ms < -62167219200000 || t.ms > 253402300799999)
            continue;
        assert_true(wall_parse(wall_format(t, text), &back));
        assert_true(back.ms == t.ms);
    }
}

static void parses_rfc3339(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0}, {"2026-11-22T12:42:41Z", 1795351361000},
            {"2026-11-22t12:42:41z", 1795351361000}, {"2026-11-22T12:42:41.5Z", 1795351361500},
            {"2026-11-22T12:42:41.123999999Z", 1795351361123},
            {"2026-11-22T14:42:41+02:00", 1795351361000},
            {"2026-11-22T07:12:41.007-05:30", 1795351361007},
            {"2024-02-29T00:00:00Z", 1709164800000}, {"2016-12-31T23:59:60Z", 1483228800000},
            {"1969-12-31T23:59:59.999Z", -1}, {"2026-11-22T12:42:41-00:00", 1795351361000}};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct wall t = {-7};
        assert_true(wall_parse(good[i].text, &t));
        assert_true(t.ms == good[i].ms);
    }
}

static void refuses_what_is_not_rfc3339(void **state)
{
    static const char *const bad[] = {"", "2026", "2026-11-22", "2026-11-22T12:42:41",
            "2026-11-22 12:42:41Z", "2026-11-22T12:42:41.Z", "2026-11-22T12:42Z",
            "2026-11-22T12:42:41Z ", " 2026-11-22T12:42:41Z", "2026-11-22T12:42:41+0200",
            "2026-11-22T12:42:41+02", "2026-11-22T12:42:41+24:00", "2026-11-22T12:42:41+02:60",
            "2026-13-22T12:42:41Z", "2026-00-22T12:42:41Z", "2026-11-31T12:42:41Z",
            "2026-11-00T12:42:41Z", "2026-02-29T12:42:41Z", "1900-02-29T12:42:41Z",
            "2026-11-22T24:00:00Z", "2026-11-22T12:60:00Z", "2026-11-22T12:42:61Z",
            "26-11-22T12:42:41Z", "+026-11-22T12:42:41Z", "2026-1-22T12:42:41Z",
            "2026-11-22T12:42:41.1x3Z", "20261122T124241Z", "12026-11-22T12:42:41Z",
            "9999-12-31T23:59:60Z", "9999-12-31T23:30:00-00:30", "0000-01-01T00:29:59+00:30"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct wall t = {-7};
        assert_false(wall_parse(bad[i], &t));
        assert_int_equal(t.ms, -7);
    }
}

static void parses_http_dates(void **state)
{
    static const char *const bad[] = {"", "06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 06 Nov 1994 08:49:37",
            "Fri, 31 Dec 9999 23:59:60 GMT"};
    struct wall t = {-7};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(wall_parse_http(bad[i], &t));
    assert_int_equal(t.ms, -7);
    assert_true(wall_parse_http("Sun, 06 Nov 1994 08:49:37 GMT", &t));
    assert_true(t.ms == INT64_C(784111777000));
    assert_true(wall_parse_http("Sat, 31 Dec 2016 23:59:60 GMT", &t));
    assert_true(t.ms == INT64_C(1483228800000));
}

static void spans_read_well(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "0 ms"}, {850, "850 ms"}, {999, "999 ms"}, {1000, "1 s"}, {1500, "1.5 s"},
            {1050, "1 s"}, {9999, "9.9 s"}, {10500, "10 s"}, {40 * CLOCK_SEC, "40 s"},
            {119 * CLOCK_SEC, "119 s"}, {2 * CLOCK_MIN, "2 min"}, {12 * CLOCK_MIN, "12 min"},
            {119 * CLOCK_MIN, "119 min"}, {3 * CLOCK_HOUR, "3 h"}, {47 * CLOCK_HOUR, "47 h"},
            {2 * CLOCK_DAY, "2 days"}, {30 * CLOCK_DAY - 1, "29 days"}, {-1500, "-1.5 s"},
            {-3 * CLOCK_DAY, "-3 days"}, {INT64_MAX, "106751991167 days"},
            {INT64_MIN, "-106751991167 days"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[WALL_TEXT_MAX];
        assert_string_equal(clock_span(cases[i].ms, text), cases[i].text);
    }
}

static void arithmetic(void **state)
{
    struct wall a = {1000};
    assert_int_equal(wall_add(a, -2000).ms, -1000);
    assert_int_equal(wall_diff(a, wall_add(a, 5)), -5);
    assert_true(wall_before(a, wall_add(a, 1)));
    assert_false(wall_before(a, a));
    assert_true(mono_add((struct mono){UINT64_MAX - 1}, 5).ms == UINT64_MAX);
    assert_int_equal(mono_diff((struct mono){5}, (struct mono){8}), -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(formats_like_the_system),
            cmocka_unit_test(extremes_are_clamped),
            cmocka_unit_test(every_day_comes_back),
            cmocka_unit_test(parses_rfc3339),
            cmocka_unit_test(refuses_what_is_not_rfc3339),
            cmocka_unit_test(parses_http_dates),
            cmocka_unit_test(spans_read_well),
            cmocka_unit_test(arithmetic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
