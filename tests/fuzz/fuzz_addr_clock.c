/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and dates: what is read is written, and read again as the same. */
#include "base/addr.h"
#include "tests/fuzz/fuzz.h"

static void try_addr(const char *text)
{
    struct addr a, again;
    char formatted[ADDR_TEXT_MAX], ip[ADDR_TEXT_MAX];
    if (fuzz_refused(addr_parse(text, 53, &a), 1u << ERR_CONFIG))
        return;
    assert(addr_port(&a) != 0);
    assert(addr_family(&a) == AF_INET || addr_family(&a) == AF_INET6);
    bool lost = fuzz_refused(addr_parse(addr_format(&a, formatted), 1, &again), ~0u);
    assert(!lost && addr_equal_ip(&a, &again) && addr_port(&a) == addr_port(&again));
    lost = fuzz_refused(addr_parse(addr_format_ip(&a, ip), addr_port(&a), &again), ~0u);
    assert(!lost && addr_equal_ip(&a, &again) && addr_port(&a) == addr_port(&again));
}

static void check_wall(struct wall t)
{
    char text[WALL_TEXT_MAX], again_text[WALL_TEXT_MAX], span[WALL_TEXT_MAX];
    struct wall again = {0};
    bool ok = wall_parse(wall_format(t, text), &again);
    int64_t dropped = wall_diff(t, again);
    assert(ok && dropped >= 0 && dropped < CLOCK_SEC);
    assert(strcmp(text, wall_format(again, again_text)) == 0);
    assert(strlen(clock_span(t.ms, span)) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = mem_dup(data, len);
    struct wall t;
    int64_t ms = 0;
    char span[WALL_TEXT_MAX];
    try_addr(text);
    if (wall_parse(text, &t))
        check_wall(t);
    if (wall_parse_http(text, &t))
        check_wall(t);
    memcpy(&ms, data, len < sizeof(ms) ? len : sizeof(ms));
    assert(strlen(clock_span(ms, span)) > 0);
    return 0;
}
