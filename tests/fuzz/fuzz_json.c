/* SPDX-License-Identifier: Apache-2.0 */
/* JSON from outside: what is accepted keeps to the limits and survives being written again. */
#include "base/json.h"
#include "tests/fuzz/fuzz.h"

static size_t depth_of(const json_t *value)
{
    size_t deepest = 0;
    size_t i;
    const char *key;
    json_t *item;
    json_array_foreach (value, i, item) {
        size_t depth = depth_of(item);
        deepest = depth > deepest ? depth : deepest;
    }
    json_object_foreach ((json_t *)(uintptr_t)value, key, item) {
        size_t depth = depth_of(item);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + (json_is_array(value) || json_is_object(value));
}

static void read_member(const json_t *object, const char *key)
{
    const json_t *found = NULL;
    const char *text = NULL;
    int64_t number = 0;
    bool flag = false;
    if (!fuzz_refused(json_get_str(object, key, 64, &text), 1u << ERR_PROTOCOL)) {
        assert(strlen(text) <= 64);
        fuzz_check_text(text);
    }
    if (!fuzz_refused(json_get_int(object, key, -5, 1000, &number), 1u << ERR_PROTOCOL))
        assert(number >= -5 && number <= 1000);
    fuzz_refused(json_get_bool(object, key, &flag), 1u << ERR_PROTOCOL);
    if (!fuzz_refused(json_get_array(object, key, 3, &found), 1u << ERR_PROTOCOL))
        assert(json_array_size(found) <= 3);
    if (!fuzz_refused(json_get_object(object, key, &found), 1u << ERR_PROTOCOL))
        assert(json_is_object(found));
    fuzz_refused(json_opt_str(object, key, 64, &text), 1u << ERR_PROTOCOL);
    fuzz_refused(json_opt_int(object, key, 0, INT64_MAX, &number), 1u << ERR_PROTOCOL);
    fuzz_refused(json_opt_bool(object, key, &flag), 1u << ERR_PROTOCOL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_JSON json_t *value = NULL, *object = NULL, *again = NULL;
    bool any = !fuzz_refused(
            json_parse_any((const char *)data, len, "fuzz", &value), 1u << ERR_PROTOCOL);
    bool is_object =
            !fuzz_refused(json_parse((const char *)data, len, "fuzz", &object), 1u << ERR_PROTOCOL);
    assert(any == (value != NULL) && is_object == (object != NULL));
    assert(is_object == (any && json_is_object(value)));
    if (!any)
        return 0;
    assert(depth_of(value) <= JSON_DEPTH_MAX);
    AUTO_FREE char *text = json_text(value);
    bool lost = fuzz_refused(json_parse_any(text, strlen(text), "again", &again), ~0u);
    assert(!lost && json_equal(value, again));
    const char *key;
    json_t *member;
    json_object_foreach (value, key, member)
        read_member(value, key);
    return 0;
}
