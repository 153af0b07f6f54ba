/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "tests/lib/test_err.h"

static struct err *parse(const char *text, json_t **ret)
{
    return json_parse(text, strlen(text), "reply", ret);
}

static json_t *parsed(const char *text)
{
    json_t *root = NULL;
    assert_ok(parse(text, &root));
    return root;
}

static void objects_and_arrays(void **state)
{
    AUTO_JSON json_t *root = parsed(" {\"a\": [1, {\"b\": null}]} \n");
    assert_true(json_is_object(root));
    json_t *other = NULL;
    assert_err(parse("[1]", &other), ERR_PROTOCOL, "reply: expected a JSON object, found an array");
    assert_null(other);
    AUTO_JSON json_t *array = NULL;
    assert_ok(json_parse_any("[1]", 3, "reply", &array));
    assert_int_equal(json_array_size(array), 1);
}

static void hostile_text_is_refused(void **state)
{
    static const char *const bad[] = {"", " ", "x", "1", "\"a\"", "null", "{", "}", "{\"a\":1",
            "{\"a\":1}}", "{\"a\":1} x", "{\"a\":1,}", "{'a':1}", "{\"a\":1,\"a\":2}",
            "{\"a\":{\"b\":1,\"b\":1}}", "{\"a\":1e999}", "{\"a\":123456789012345678901234567890}",
            "{\"a\":\"\\u0000\"}", "{\"a\\u0000\":1}", "{\"a\":\"\xff\"}",
            "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\n\"}", "{\"a\":01}",
            "{\"a\":NaN}", "{\"a\":tru}", "{]", "[}", "\xef\xbb\xbf{}", "{\"a\":\"\\",
            "{\"a\":\"\\\""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        json_t *root = NULL;
        assert_err(parse(bad[i], &root), ERR_PROTOCOL, "reply: not valid JSON at line 1, column ");
        assert_null(root);
    }
    json_t *root = NULL;
    assert_err(json_parse("{}\0", 3, "reply", &root), ERR_PROTOCOL, "not valid JSON");
    assert_err(parse("{\"a\":\x1b[31m}", &root), ERR_PROTOCOL, "not valid JSON");
}

static char *nested(size_t depth, char open, char close)
{
    char *text = mem_alloc(2 * depth + 1);
    memset(text, open, depth);
    memset(text + depth, close, depth);
    text[2 * depth] = '\0';
    return text;
}

static void depth_is_limited_before_parsing(void **state)
{
    json_t *root = NULL;
    AUTO_FREE char *fits = nested(JSON_DEPTH_MAX, '[', ']');
    AUTO_FREE char *over = nested(JSON_DEPTH_MAX + 1, '[', ']');
    AUTO_FREE char *bomb = nested(1000000, '[', ']');
    assert_ok(json_parse_any(fits, strlen(fits), "x", &root));
    json_decref(root);
    root = NULL;
    assert_err(json_parse_any(over, strlen(over), "x", &root), ERR_PROTOCOL,
            "x: JSON nested 33 levels deep, at most 32 are accepted");
    assert_err(json_parse_any(bomb, strlen(bomb), "x", &root), ERR_PROTOCOL,
            "x: JSON nested 1000000 levels deep");
    /* Unclosed ones too: the parser would descend all the same. */
    assert_err(json_parse_any(bomb, 1000000, "x", &root), ERR_PROTOCOL, "nested 1000000");
    AUTO_FREE char *shuffled = nested(1000, '{', ']');
    assert_err(json_parse_any(shuffled, 1000, "x", &root), ERR_PROTOCOL, "nested 1000");
    assert_null(root);
}

static void brackets_in_strings_are_no_depth(void **state)
{
    AUTO_FREE char *brackets = nested(500, '[', '{');
    AUTO_FREE char *text = str_printf(
            "{\"%s\":\"\\\"%s\\\\\",\"b\":[\"\\\\\\\"%s\"]}", brackets, brackets, brackets);
    AUTO_JSON json_t *root = parsed(text);
    assert_int_equal(json_object_size(root), 2);
    /* Many beside each other are no depth either. */
    AUTO_BUF struct buf b = BUF_INIT(100000);
    for (int i = 0; i < 10000; i++)
        buf_puts(&b, i == 0 ? "[[]" : ",[]");
    buf_puts(&b, "]");
    AUTO_JSON json_t *flat = NULL;
    assert_ok(json_parse_any(b.data, b.len, "x", &flat));
    assert_int_equal(json_array_size(flat), 10000);
}

static void size_is_limited(void **state)
{
    json_t *root = NULL;
    size_t len = JSON_SIZE_MAX + 1;
    AUTO_FREE char *text = mem_alloc(len);
    memset(text, ' ', len);
    text[0] = '[';
    text[1] = ']';
    assert_err(json_parse_any(text, len, "x", &root), ERR_PROTOCOL,
            "x: 33554433 bytes of JSON, at most 33554432 are accepted");
    assert_null(root);
}

static void required_members(void **state)
{
    AUTO_JSON json_t *o =
            parsed("{\"s\":\"text\",\"i\":-5,\"t\":true,\"f\":false,\"a\":[1,2,3],\"o\":{\"x\":1},"
                   "\"n\":null,\"r\":1.5,\"max\":9223372036854775807,\"e\":\"\"}");
    const char *s = NULL;
    int64_t i = 0;
    bool b = false;
    const json_t *v = NULL;
    assert_ok(json_get_str(o, "s", 4, &s));
    assert_string_equal(s, "text");
    assert_ok(json_get_str(o, "e", 0, &s));
    assert_string_equal(s, "");
    assert_ok(json_get_int(o, "i", -5, -5, &i));
    assert_int_equal(i, -5);
    assert_ok(json_get_int(o, "max", 0, INT64_MAX, &i));
    assert_true(i == INT64_MAX);
    assert_ok(json_get_bool(o, "t", &b));
    assert_true(b);
    assert_ok(json_get_bool(o, "f", &b));
    assert_false(b);
    assert_ok(json_get_array(o, "a", 3, &v));
    assert_int_equal(json_array_size(v), 3);
    assert_ok(json_get_object(o, "o", &v));
    assert_int_equal(json_object_size(v), 1);
}

static void what_was_expected_and_found(void **state)
{
    AUTO_JSON json_t *o = parsed(
            "{\"s\":\"text\",\"i\":-5,\"a\":[1,2,3],\"n\":null,\"r\":1.5,\"o\":{},\"b\":true,"
            "\"nl\":\"a\\nb\",\"c1\":\"\\u009b\",\"del\":\"\\u007f\"}");
    const char *s = "untouched";
    int64_t i = 42;
    bool b = true;
    const json_t *v = NULL;
    assert_err(json_get_str(o, "x", 9, &s), ERR_PROTOCOL, "member \"x\" is missing");
    assert_err(json_get_str(NULL, "x", 9, &s), ERR_PROTOCOL, "member \"x\" is missing");
    assert_err(json_get_str(o, "n", 9, &s), ERR_PROTOCOL,
            "member \"n\": expected a string, found null");
    assert_err(json_get_str(o, "i", 9, &s), ERR_PROTOCOL, "expected a string, found an integer");
    assert_err(json_get_str(o, "s", 3, &s), ERR_PROTOCOL,
            "member \"s\": 4 bytes, at most 3 are accepted");
    assert_err(json_get_str(o, "nl", 9, &s), ERR_PROTOCOL, "control characters");
    assert_err(json_get_str(o, "c1", 9, &s), ERR_PROTOCOL, "control characters");
    assert_err(json_get_str(o, "del", 9, &s), ERR_PROTOCOL, "control characters");
    assert_err(json_get_int(o, "r", 0, 9, &i), ERR_PROTOCOL,
            "expected an integer, found a real number");
    assert_err(json_get_int(o, "i", 0, 9, &i), ERR_PROTOCOL,
            "member \"i\": expected 0 to 9, found -5");
    assert_err(json_get_int(o, "s", 0, 9, &i), ERR_PROTOCOL, "found a string");
    assert_err(json_get_bool(o, "i", &b), ERR_PROTOCOL, "expected a boolean, found an integer");
    assert_err(json_get_array(o, "o", 9, &v), ERR_PROTOCOL, "expected an array, found an object");
    assert_err(json_get_array(o, "a", 2, &v), ERR_PROTOCOL,
            "member \"a\": 3 elements, at most 2 are accepted");
    assert_err(json_get_object(o, "a", &v), ERR_PROTOCOL, "expected an object, found an array");
    assert_err(json_get_object(o, "b", &v), ERR_PROTOCOL, "found a boolean");
    assert_string_equal(s, "untouched");
    assert_int_equal(i, 42);
    assert_true(b);
    assert_null(v);
}

static void optional_members(void **state)
{
    AUTO_JSON json_t *o = parsed("{\"s\":\"text\",\"i\":5,\"b\":true,\"n\":null}");
    const char *s = "before";
    int64_t i = 42;
    bool b = false;
    assert_ok(json_opt_str(o, "s", 4, &s));
    assert_string_equal(s, "text");
    assert_ok(json_opt_str(o, "x", 4, &s));
    assert_null(s);
    s = "before";
    assert_ok(json_opt_str(o, "n", 4, &s));
    assert_null(s);
    assert_ok(json_opt_int(o, "x", 0, 9, &i));
    assert_ok(json_opt_int(o, "n", 0, 9, &i));
    assert_int_equal(i, 42);
    assert_ok(json_opt_int(o, "i", 0, 9, &i));
    assert_int_equal(i, 5);
    assert_ok(json_opt_bool(o, "n", &b));
    assert_false(b);
    assert_ok(json_opt_bool(o, "b", &b));
    assert_true(b);
    assert_err(json_opt_str(o, "i", 4, &s), ERR_PROTOCOL, "expected a string, found an integer");
    assert_err(json_opt_int(o, "s", 0, 9, &i), ERR_PROTOCOL, "expected an integer");
    assert_err(json_opt_bool(o, "s", &b), ERR_PROTOCOL, "expected a boolean");
}

static void documents_of_our_own(void **state)
{
    AUTO_JSON json_t *o = json_object();
    json_put_str(o, "s", "gr\xc3\xbcn \"x\"\n");
    json_put_str(o, "none", NULL);
    json_put_str(o, "bad",
            "a\xff"
            "b");
    json_put_int(o, "i", INT64_MIN);
    json_put_bool(o, "t", true);
    json_put_bool(o, "f", false);
    json_put(o, "a", json_array());
    json_push(json_object_get(o, "a"), json_integer(1));
    json_push(json_object_get(o, "a"), json_null());
    AUTO_FREE char *text = json_text(o);
    assert_string_equal(text, "{\"s\":\"gr\xc3\xbcn \\\"x\\\"\\n\",\"none\":null,\"bad\":\"a?b\","
                              "\"i\":-9223372036854775808,\"t\":true,\"f\":false,\"a\":[1,null]}");
    AUTO_JSON json_t *back = parsed(text);
    assert_true(json_equal(o, back));
    AUTO_JSON json_t *small = json_pack("{s:i}", "a", 1);
    AUTO_FREE char *pretty = json_text_pretty(small);
    assert_string_equal(pretty, "{\n  \"a\": 1\n}");
    AUTO_JSON json_t *scalar = json_integer(7);
    AUTO_FREE char *seven = json_text(scalar);
    assert_string_equal(seven, "7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(objects_and_arrays),
            cmocka_unit_test(hostile_text_is_refused),
            cmocka_unit_test(depth_is_limited_before_parsing),
            cmocka_unit_test(brackets_in_strings_are_no_depth),
            cmocka_unit_test(size_is_limited),
            cmocka_unit_test(required_members),
            cmocka_unit_test(what_was_expected_and_found),
            cmocka_unit_test(optional_members),
            cmocka_unit_test(documents_of_our_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
