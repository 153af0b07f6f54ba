/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dates are computed by the proleptic Gregorian calendar here instead of by timegm(): no time zone,
 * no locale and no range of time_t can interfere, and every field is checked on the way in.
 */
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct civil {
    int64_t year;
    int month; /* 1..12 */
    int day;   /* 1..31 */
    int hour;
    int minute;
    int second; /* 0..60 when parsed */
};

#define FIRST_MS INT64_C(-62167219200000) /* 0000-01-01T00:00:00Z */
#define LAST_MS  INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

/* Days since 1970-01-01. Years begin in March, so that the leap day is the last of its year; an
 * era of 400 years has 146097 days. */
static int64_t days_from_civil(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static struct civil civil_from_days(int64_t days)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    struct civil c = {0};
    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2 ? 1 : 0);
    return c;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool is_valid(const struct civil *c)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c->month < 1 || c->month > 12 || c->hour > 23 || c->minute > 59 || c->second > 60)
        return false;
    int last = days[c->month - 1] + (c->month == 2 && is_leap(c->year) ? 1 : 0);
    return c->day >= 1 && c->day <= last;
}

/* A leap second (":60") is the first second of the next minute, as in POSIX time. */
static int64_t ms_from_civil(const struct civil *c)
{
    int64_t sec = days_from_civil(c->year, c->month, c->day) * 86400;
    sec += c->hour * 3600 + c->minute * 60 + c->second;
    return sec * 1000;
}

/* What wall_format() can write, so that an instant that was read is the same when written. */
static bool in_range(int64_t ms)
{
    return ms >= FIRST_MS && ms <= LAST_MS;
}

/* Fixed places keep gcc sure that nothing is truncated. */
static char *put_digits(char *at, int64_t value, int places)
{
    for (int i = places - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + places;
}

const char *wall_format(struct wall t, char text[WALL_TEXT_MAX])
{
    int64_t ms = t.ms < FIRST_MS ? FIRST_MS : t.ms > LAST_MS ? LAST_MS : t.ms;
    int64_t sec = (ms - FIRST_MS) / 1000; /* since year 0: never negative */
    struct civil c = civil_from_days(sec / 86400 + FIRST_MS / CLOCK_DAY);
    int64_t in_day = sec % 86400;
    char *at = put_digits(text, c.year, 4);
    *at++ = '-';
    at = put_digits(at, c.month, 2);
    *at++ = '-';
    at = put_digits(at, c.day, 2);
    *at++ = 'T';
    at = put_digits(at, in_day / 3600, 2);
    *at++ = ':';
    at = put_digits(at, in_day / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, in_day % 60, 2);
    *at++ = 'Z';
    *at = '\0';
    return text;
}

/* Exactly `places` digits. */
static bool take_digits(const char **at, int places, int *ret)
{
    int value = 0;
    for (int i = 0; i < places; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *at += places;
    *ret = value;
    return true;
}

static bool take_char(const char **at, char wanted)
{
    if (**at != wanted)
        return false;
    (*at)++;
    return true;
}

static bool take_either(const char **at, char one, char other)
{
    return take_char(at, one) || take_char(at, other);
}

static bool take_time(const char **at, struct civil *c)
{
    return take_digits(at, 2, &c->hour) && take_char(at, ':') && take_digits(at, 2, &c->minute) &&
           take_char(at, ':') && take_digits(at, 2, &c->second);
}

/* Digits beyond the milliseconds are dropped, not rounded: an instant never moves into the future.
 */
static bool take_fraction(const char **at, int *ret_ms)
{
    int ms = 0;
    int places = 0;
    if (!take_char(at, '.'))
        return true;
    for (; **at >= '0' && **at <= '9'; (*at)++, places++)
        if (places < 3)
            ms = ms * 10 + (**at - '0');
    if (places == 0)
        return false;
    for (; places < 3; places++)
        ms *= 10;
    *ret_ms = ms;
    return true;
}

static bool take_offset(const char **at, int64_t *ret_ms)
{
    int hour, minute;
    if (take_either(at, 'Z', 'z')) {
        *ret_ms = 0;
        return true;
    }
    int sign = **at == '-' ? -1 : 1;
    if (!take_either(at, '+', '-') || !take_digits(at, 2, &hour) || !take_char(at, ':') ||
            !take_digits(at, 2, &minute) || hour > 23 || minute > 59)
        return false;
    *ret_ms = sign * (hour * CLOCK_HOUR + minute * CLOCK_MIN);
    return true;
}

bool wall_parse(const char *text, struct wall *ret)
{
    struct civil c = {0};
    const char *at = text;
    int year;
    int ms = 0;
    int64_t offset;
    if (!take_digits(&at, 4, &year) || !take_char(&at, '-') || !take_digits(&at, 2, &c.month) ||
            !take_char(&at, '-') || !take_digits(&at, 2, &c.day) || !take_either(&at, 'T', 't') ||
            !take_time(&at, &c) || !take_fraction(&at, &ms) || !take_offset(&at, &offset) ||
            *at != '\0')
        return false;
    c.year = year;
    if (!is_valid(&c) || !in_range(ms_from_civil(&c) + ms - offset))
        return false;
    *ret = (struct wall){ms_from_civil(&c) + ms - offset};
    return true;
}

/* Three letters out of a list, e.g. "JanFeb…"; case matters (RFC 9110 5.6.7). */
static bool take_word(const char **at, const char *list, int *ret_index)
{
    for (int i = 0; list[3 * i] != '\0'; i++) {
        if (strncmp(*at, list + 3 * i, 3) != 0)
            continue;
        *at += 3;
        *ret_index = i;
        return true;
    }
    return false;
}

bool wall_parse_http(const char *text, struct wall *ret)
{
    struct civil c = {0};
    const char *at = text;
    int weekday, month, year;
    if (!take_word(&at, "MonTueWedThuFriSatSun", &weekday) || !take_char(&at, ',') ||
            !take_char(&at, ' ') || !take_digits(&at, 2, &c.day) || !take_char(&at, ' ') ||
            !take_word(&at, "JanFebMarAprMayJunJulAugSepOctNovDec", &month) ||
            !take_char(&at, ' ') || !take_digits(&at, 4, &year) || !take_char(&at, ' ') ||
            !take_time(&at, &c) || strcmp(at, " GMT") != 0)
        return false;
    c.month = month + 1;
    c.year = year;
    if (!is_valid(&c) || !in_range(ms_from_civil(&c)))
        return false;
    *ret = (struct wall){ms_from_civil(&c)};
    return true;
}

/* Rounds down: "29 days left" must not promise what is not there. */
const char *clock_span(int64_t ms, char text[WALL_TEXT_MAX])
{
    static const struct {
        int64_t below;
        int64_t unit;
        const char *name;
    } steps[] = {
            {CLOCK_SEC, 1, "ms"},
            {2 * CLOCK_MIN, CLOCK_SEC, "s"},
            {2 * CLOCK_HOUR, CLOCK_MIN, "min"},
            {2 * CLOCK_DAY, CLOCK_HOUR, "h"},
            {INT64_MAX, CLOCK_DAY, "days"},
    };
    const char *sign = ms < 0 ? "-" : "";
    int64_t length = ms == INT64_MIN ? INT64_MAX : ms < 0 ? -ms : ms;
    size_t i = 0;
    while (i + 1 < sizeof(steps) / sizeof(steps[0]) && length >= steps[i].below)
        i++;
    if (length > CLOCK_SEC && length < 10 * CLOCK_SEC && length % CLOCK_SEC >= 100)
        snprintf(text, WALL_TEXT_MAX, "%s%d.%d s", sign, (int)(length / CLOCK_SEC),
                (int)(length % CLOCK_SEC / 100));
    else
        snprintf(text, WALL_TEXT_MAX, "%s%" PRId64 " %s", sign, length / steps[i].unit,
                steps[i].name);
    return text;
}
