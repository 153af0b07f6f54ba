/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two clocks, two types. struct wall is a calendar instant (UTC, milliseconds since 1970) for what
 * is stored or shown; struct mono counts milliseconds since an unknown start and never jumps, for
 * deadlines and intervals. They are structs so that one cannot be assigned to the other. "Now"
 * comes from the world (world.h), never from the system directly.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wall {
    int64_t ms;
};

struct mono {
    uint64_t ms;
};

#define CLOCK_SEC  ((int64_t)1000)
#define CLOCK_MIN  (60 * CLOCK_SEC)
#define CLOCK_HOUR (60 * CLOCK_MIN)
#define CLOCK_DAY  (24 * CLOCK_HOUR)

static inline struct wall wall_add(struct wall t, int64_t ms)
{
    return (struct wall){t.ms + ms};
}

static inline int64_t wall_diff(struct wall later, struct wall earlier)
{
    return later.ms - earlier.ms;
}

static inline bool wall_before(struct wall a, struct wall b)
{
    return a.ms < b.ms;
}

static inline struct mono mono_add(struct mono t, uint64_t ms)
{
    return (struct mono){t.ms > UINT64_MAX - ms ? UINT64_MAX : t.ms + ms};
}

static inline int64_t mono_diff(struct mono later, struct mono earlier)
{
    return (int64_t)(later.ms - earlier.ms);
}

#define WALL_TEXT_MAX 32
/* "2026-11-22T12:42:41Z" (RFC 3339, seconds, UTC); returns text. */
const char *wall_format(struct wall t, char text[WALL_TEXT_MAX]);
/* RFC 3339 with fractions and offset, an instant of the years 0 to 9999 in UTC; false: not one,
 * *ret untouched. */
bool wall_parse(const char *text, struct wall *ret);
/* IMF-fixdate of RFC 9110 5.6.7 ("Sun, 06 Nov 1994 08:49:37 GMT"); false: not one. */
bool wall_parse_http(const char *text, struct wall *ret);
/* A length of time for people: "850 ms", "40 s", "12 min", "3 h", "29 days"; returns text. */
const char *clock_span(int64_t ms, char text[WALL_TEXT_MAX]);
