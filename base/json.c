/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jansson's parser recurses once per level and its own limit (2048) is generous, so nesting is
 * counted in a flat scan first. The scan need not understand JSON: inside strings brackets don't
 * count, and whatever else is malformed is left for jansson to refuse.
 */
#include "base/json.h"

#include <assert.h>
#include <inttypes.h>

/* ---- parsing ---- */

static size_t nesting(const char *text, size_t len)
{
    size_t depth = 0;
    size_t deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

struct err *json_parse_any(const char *text, size_t len, const char *what, json_t **ret)
{
    json_error_t problem;
    if (len > JSON_SIZE_MAX)
        return ERR(ERR_PROTOCOL, "%s: %zu bytes of JSON, at most %zu are accepted", what, len,
                JSON_SIZE_MAX);
    size_t depth = nesting(text, len);
    if (depth > JSON_DEPTH_MAX)
        return ERR(ERR_PROTOCOL, "%s: JSON nested %zu levels deep, at most %d are accepted", what,
                depth, JSON_DEPTH_MAX);
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);
    if (value == NULL && json_error_code(&problem) == json_error_out_of_memory)
        return err_nomem();
    if (value == NULL)
        return ERR(ERR_PROTOCOL, "%s: not valid JSON at line %d, column %d: %s", what, problem.line,
                problem.column, problem.text);
    *ret = value;
    return NULL;
}

struct err *json_parse(const char *text, size_t len, const char *what, json_t **ret)
{
    json_t *value = NULL;
    TRY(json_parse_any(text, len, what, &value));
    if (!json_is_object(value)) {
        json_decref(value);
        return ERR(ERR_PROTOCOL, "%s: expected a JSON object, found an array", what);
    }
    *ret = value;
    return NULL;
}

/* ---- getters ---- */

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a real number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static struct err *wrong_type(const char *key, const char *expected, const json_t *found)
{
    if (found == NULL)
        return ERR(ERR_PROTOCOL, "member \"%s\" is missing", key);
    return ERR(
            ERR_PROTOCOL, "member \"%s\": expected %s, found %s", key, expected, type_name(found));
}

static bool is_absent(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value == NULL || json_is_null(value);
}

/* jansson lets only well-formed UTF-8 in. */
static bool has_control(const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        uint32_t c;
        size_t size = str_utf8_decode(text + at, len - at, &c);
        if (size == 0 || c < 0x20 || (c >= 0x7f && c <= 0x9f))
            return true;
        at += size;
    }
    return false;
}

struct err *json_get_str(const json_t *object, const char *key, size_t max, const char **ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return wrong_type(key, "a string", value);
    const char *text = json_string_value(value);
    size_t len = json_string_length(value);
    if (len > max)
        return ERR(
                ERR_PROTOCOL, "member \"%s\": %zu bytes, at most %zu are accepted", key, len, max);
    if (has_control(text, len))
        return ERR(ERR_PROTOCOL, "member \"%s\": control characters are not accepted", key);
    *ret = text;
    return NULL;
}

struct err *json_get_int(
        const json_t *object, const char *key, int64_t min, int64_t max, int64_t *ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return wrong_type(key, "an integer", value);
    int64_t number = json_integer_value(value);
    if (number < min || number > max)
        return ERR(ERR_PROTOCOL,
                "member \"%s\": expected %" PRId64 " to %" PRId64 ", found %" PRId64, key, min, max,
                number);
    *ret = number;
    return NULL;
}

struct err *json_get_bool(const json_t *object, const char *key, bool *ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        return wrong_type(key, "a boolean", value);
    *ret = json_is_true(value);
    return NULL;
}

struct err *json_get_array(const json_t *object, const char *key, size_t max, const json_t **ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_array(value))
        return wrong_type(key, "an array", value);
    if (json_array_size(value) > max)
        return ERR(ERR_PROTOCOL, "member \"%s\": %zu elements, at most %zu are accepted", key,
                json_array_size(value), max);
    *ret = value;
    return NULL;
}

struct err *json_get_object(const json_t *object, const char *key, const json_t **ret)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_object(value))
        return wrong_type(key, "an object", value);
    *ret = value;
    return NULL;
}

struct err *json_opt_str(const json_t *object, const char *key, size_t max, const char **ret)
{
    if (!is_absent(object, key))
        return json_get_str(object, key, max, ret);
    *ret = NULL;
    return NULL;
}

struct err *json_opt_int(
        const json_t *object, const char *key, int64_t min, int64_t max, int64_t *ret)
{
    return is_absent(object, key) ? NULL : json_get_int(object, key, min, max, ret);
}

struct err *json_opt_bool(const json_t *object, const char *key, bool *ret)
{
    return is_absent(object, key) ? NULL : json_get_bool(object, key, ret);
}

/* ---- making ---- */

static char *dump(const json_t *value, size_t flags)
{
    char *text = json_dumps(value, flags | JSON_ENCODE_ANY);
    if (text == NULL)
        mem_fail(0);
    return text;
}

char *json_text(const json_t *value)
{
    return dump(value, JSON_COMPACT);
}

char *json_text_pretty(const json_t *value)
{
    return dump(value, JSON_INDENT(2));
}

void json_put(json_t *object, const char *key, json_t *owned)
{
    assert(json_is_object(object));
    if (owned == NULL || json_object_set_new(object, key, owned) != 0)
        mem_fail(0);
}

void json_push(json_t *array, json_t *owned)
{
    assert(json_is_array(array));
    if (owned == NULL || json_array_append_new(array, owned) != 0)
        mem_fail(0);
}

void json_put_str(json_t *object, const char *key, const char *value)
{
    if (value == NULL) {
        json_put(object, key, json_null());
        return;
    }
    json_t *string = json_string(value);
    if (string == NULL) {
        /* Most likely text of a peer that is not UTF-8, which must not end the process. */
        AUTO_FREE char *clean = str_foreign(value, strlen(value));
        string = json_string(clean);
    }
    json_put(object, key, string);
}

void json_put_int(json_t *object, const char *key, int64_t value)
{
    json_put(object, key, json_integer(value));
}

void json_put_bool(json_t *object, const char *key, bool value)
{
    json_put(object, key, json_boolean(value));
}
