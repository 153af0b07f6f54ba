/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/name.h"
#include "tests/lib/test_err.h"

#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void good_names_are_normalised(void **state)
{
    static const struct {
        const char *text;
        const char *name;
    } cases[] = {
            {"im.example.org", "im.example.org"},
            {"IM.Example.ORG", "im.example.org"},
            {"im.example.org.", "im.example.org"},
            {"a.b", "a.b"},
            {"1.example.org", "1.example.org"},
            {"1and1.com", "1and1.com"},
            {"a-b.c--d.org", "a-b.c--d.org"},
            {"bücher.example", "xn--bcher-kva.example"},
            {"BÜCHER.example", "xn--bcher-kva.example"},
            {"u\xcc\x88"
             "x.example",
                    "xn--x-dha.example"}, /* decomposed */
            {"xn--bcher-kva.example", "xn--bcher-kva.example"},
            {"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
            {"faß.de", "xn--fa-hia.de"}, /* non-transitional: not fass.de */
            {"xn--fa-hia.de", "xn--fa-hia.de"},
            {"пример.испытание", "xn--e1afmkfd.xn--80akhbyknj4f"},
            {"例え.テスト", "xn--r8jz45g.xn--zckzah"},
            {"a。b．example", "a.b.example"}, /* ideographic and full-width full stops */
            {"ｉｍ.example", "im.example"},
            {L63 ".org", L63 ".org"},
            {L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                    L63 "." L63 "." L63
                        ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct name name = {.text = "untouched"};
        assert_ok(name_parse(cases[i].text, &name));
        assert_string_equal(name.text, cases[i].name);
        struct name again;
        assert_ok(name_parse(name.text, &again));
        assert_true(name_equal(&name, &again));
    }
}

static void bad_names_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
            {"", "it is empty"},
            {".", "empty label"},
            {"..", "empty label"},
            {"a..b", "'a..b' is not a host name: empty label"},
            {".a.b", "empty label"},
            {"a.b..", "empty label"},
            {"a。。b", "empty label"},
            {"localhost", "at least two labels"},
            {"localhost.", "at least two labels"},
            {"../../etc", "only letters, digits and hyphens"},
            {"a/../b.example", "only letters, digits and hyphens"},
            {"../etc/passwd.example", "only letters, digits and hyphens"},
            {"a.example/b", "only letters, digits and hyphens"},
            {"a.example:443", "only letters, digits and hyphens"},
            {"user@a.example", "only letters, digits and hyphens"},
            {"a.example?", "only letters, digits and hyphens"},
            {"a\\b.example", "only letters, digits and hyphens"},
            {"-a.b", "begins or ends with a hyphen"},
            {"a-.b", "begins or ends with a hyphen"},
            {"a.-", "begins or ends with a hyphen"},
            {"a_b.example", "underscore"},
            {"_acme-challenge.example.org", "underscore"},
            {"ü_b.example", "underscore"},
            {"a b.example", "space"},
            {" a.example", "space"},
            {"a.example ", "space"},
            {"ü b.example", "space"},
            {"ü\xc2\xa0"
             "b.example",
                    "' is not a host name: "}, /* no-break space */
            {"a\tb.example", "control character"},
            {"a.example\n", "control character"},
            {"a\x7f.example", "control character"},
            {"ü\xe2\x80\xae.example", "control character"},
            {"*.example.org", "wildcard"},
            {"*.*.example.org", "wildcard"},
            {"a.*.org", "wildcard"},
            {"ü.*.org", "wildcard"},
            {"a\xff.example", "invalid UTF-8"},
            {"\xed\xa0\x80.example", "invalid UTF-8"},
            {"192.0.2.1", "it is an address"},
            {"2001:db8::1", "it is an address"},
            {"::", "it is an address"},
            {"[2001:db8::1]", "it is an address"},
            {"192.0.2.1.", "the last label consists of digits"},
            {"1.2.3", "the last label consists of digits"},
            {"999.999.999.999", "the last label consists of digits"},
            {"１９２.０.２.１", "the last label consists of digits"}, /* full-width digits */
            {"a.1", "the last label consists of digits"},
            {"ab--cd.example", "third and fourth place"},
            {"xn--.example", "begins or ends with a hyphen"},
            {"xn--a.example", "A-label"},
            {"xn--zzzzzz9999.example", "A-label"},
            {"xn--abc-.example", "a label begins or ends with a hyphen"},
            {"xn--ls8h.example", "A-label"}, /* an emoji: not allowed in IDNA2008 */
            {"xn--BCHER-KVA8.example", "A-label"},
            {"xn--example-.org", "begins or ends with a hyphen"},
            {"☃.example", "' is not a host name: "},
            {"\xd8\xa7"
             "a.example",
                    "' is not a host name: "}, /* mixed direction */
            {L63 "a.org", "longer than 63 octets"},
            {L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                    "longer than 253 octets"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct name name = {.text = "untouched"};
        assert_err(name_parse(cases[i].text, &name), ERR_CONFIG, cases[i].why);
        assert_string_equal(name.text, "untouched");
    }
}

static void lengths_have_limits(void **state)
{
    static const size_t sizes[] = {300, 1024, 1025, 100000};
    struct name name;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        AUTO_FREE char *text = mem_alloc(sizes[i] + 1);
        for (size_t k = 0; k < sizes[i]; k++)
            text[k] = k % 10 == 9 ? '.' : 'a';
        text[sizes[i] - 1] = 'a';
        text[sizes[i]] = '\0';
        assert_err(name_parse(text, &name), ERR_CONFIG, "longer than 253 octets");
        assert_err(name_parse_label(text, &name), ERR_CONFIG, "is not a label");
    }
}

/* 63 octets as an A-label is the limit, not the count of characters. */
static void unicode_labels_are_measured_encoded(void **state)
{
    struct name name;
    AUTO_BUF struct buf text = BUF_INIT(1000);
    for (int i = 0; i < 60; i++)
        buf_puts(&text, i % 2 == 0 ? "ü" : "ж");
    buf_puts(&text, ".example");
    assert_err(name_parse(buf_str(&text), &name), ERR_CONFIG, "is not a host name");
}

static void the_message_shows_no_control_characters(void **state)
{
    struct name name;
    AUTO_ERR struct err *e = name_parse("a\x1b[31m\n.example", &name);
    assert_non_null(e);
    assert_string_equal(err_text(e), "'a?[31m?.example' is not a host name: control character");
}

static void labels(void **state)
{
    static const char *const bad[] = {"", ".", "a.b", "a.", "-a", "a-", "a_b", "a b", "*", "xn--a",
            "ab--c", L63 "a", "a。b", "../x", "\xff", "a\n"};
    struct name name = {.text = "untouched"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_err(name_parse_label(bad[i], &name), ERR_CONFIG, "is not a label of a host name");
    assert_string_equal(name.text, "untouched");
    assert_ok(name_parse_label("IM", &name));
    assert_string_equal(name.text, "im");
    assert_ok(name_parse_label("42", &name));
    assert_string_equal(name.text, "42");
    assert_ok(name_parse_label("größe", &name));
    assert_string_equal(name.text, "xn--gre-6ka8i");
    assert_ok(name_parse_label(L63, &name));
}

static struct name parsed(const char *text)
{
    struct name name;
    assert_ok(name_parse_wildcard(text, &name));
    return name;
}

static void wildcards_only_where_asked_for(void **state)
{
    static const char *const bad[] = {"*", "*.", "*.a", "*.*.a.b", "a.*.b", "**.a.b", "*a.b.c",
            "*.192.0.2.1", "*..a.b", "*.a_b.c"};
    struct name name;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_err(name_parse_wildcard(bad[i], &name), ERR_CONFIG, "is not a host name");
    assert_ok(name_parse_wildcard("*.IM.example.org.", &name));
    assert_string_equal(name.text, "*.im.example.org");
    assert_true(name_is_wildcard(&name));
    assert_ok(name_parse_wildcard("im.example.org", &name));
    assert_false(name_is_wildcard(&name));
    struct name longest = parsed(
            L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    AUTO_FREE char *fits = str_printf("*.%s", longest.text);
    assert_int_equal(strlen(fits), 253);
    assert_ok(name_parse_wildcard(fits, &name));
    AUTO_FREE char *too_long = str_printf("*.a%s", longest.text + 63);
    AUTO_FREE char *way_too_long = str_printf("*.%sa", longest.text);
    assert_ok(name_parse_wildcard(too_long, &name));
    assert_err(name_parse_wildcard(way_too_long, &name), ERR_CONFIG, "longer than 253");
}

static void joining(void **state)
{
    struct name parent = parsed("example.org");
    struct name name = {.text = "untouched"};
    assert_ok(name_join("IM", &parent, &name));
    assert_string_equal(name.text, "im.example.org");
    assert_ok(name_join("conference", &name, &name));
    assert_string_equal(name.text, "conference.im.example.org");
    assert_ok(name_join("", &parent, &name));
    assert_string_equal(name.text, "example.org");
    assert_ok(name_join("*", &parent, &name));
    assert_string_equal(name.text, "*.example.org");
    assert_err(name_join("a.b", &parent, &name), ERR_CONFIG, "no dot");
    assert_err(name_join("_x", &parent, &name), ERR_CONFIG, "underscore");
    assert_string_equal(name.text, "*.example.org");
    struct name longest = parsed(
            L63 "." L63 "." L63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_ok(name_join("a", &longest, &name));
    assert_int_equal(strlen(name.text), 253);
    assert_err(name_join("ab", &longest, &name), ERR_CONFIG, "longer than 253 octets");
}

static void below(void **state)
{
    struct name zone = parsed("example.org");
    struct name inside = parsed("a.b.example.org");
    struct name beside = parsed("aexample.org");
    struct name above = parsed("a.org");
    assert_true(name_is_below(&zone, &zone));
    assert_true(name_is_below(&inside, &zone));
    assert_false(name_is_below(&zone, &inside));
    assert_false(name_is_below(&beside, &zone));
    assert_false(name_is_below(&above, &zone));
}

static void shown_to_people(void **state)
{
    struct name a = parsed("xn--bcher-kva.example");
    struct name b = parsed("*.bücher.example");
    struct name c = parsed("im.example.org");
    AUTO_FREE char *u = name_to_unicode(&a);
    AUTO_FREE char *v = name_to_unicode(&b);
    AUTO_FREE char *w = name_to_unicode(&c);
    assert_string_equal(u, "bücher.example");
    assert_string_equal(v, "*.bücher.example");
    assert_string_equal(w, "im.example.org");
    struct name broken = {.text = "xn--zzzzzz9999.example"};
    AUTO_FREE char *x = name_to_unicode(&broken);
    assert_string_equal(x, broken.text);
}

static void certificates_cover_names(void **state)
{
    static const struct {
        const char *cert;
        const char *name;
        bool covers;
    } cases[] = {{"im.example.org", "im.example.org", true},
            {"IM.Example.org", "im.example.org", true}, {"*.example.org", "im.example.org", true},
            {"*.EXAMPLE.org", "im.example.org", true}, {"*.example.org", "a.im.example.org", false},
            {"*.example.org", "example.org", false}, {"*.org", "im.example.org", false},
            {"*", "im.example.org", false}, {"*.", "im.example.org", false},
            {"", "im.example.org", false}, {"*.*.org", "im.example.org", false},
            {"i*.example.org", "im.example.org", false}, {"example.org", "im.example.org", false},
            {"*.example.org", "*.example.org", true}, {"*.example.org", "*.im.example.org", false},
            {"*.org", "*.example.org", false}, {"im.example.org.", "im.example.org", false}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct name name = parsed(cases[i].name);
        assert_int_equal(name_covers(cases[i].cert, &name), cases[i].covers);
    }
}

static void lists_have_no_duplicates(void **state)
{
    struct name_list l = {0};
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 100; i++) {
            AUTO_FREE char *text = str_printf("n%d.example.org", i);
            struct name name = parsed(text);
            name_list_add(&l, &name);
        }
    assert_int_equal(l.n, 100);
    assert_string_equal(l.v[77].text, "n77.example.org");
    struct name other = parsed("other.example.org");
    assert_true(name_list_has(&l, &l.v[99]));
    assert_false(name_list_has(&l, &other));
    name_list_done(&l);
    assert_int_equal(l.n, 0);
    name_list_add(&l, &other);
    assert_int_equal(l.n, 1);
    name_list_done(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(good_names_are_normalised),
            cmocka_unit_test(bad_names_are_refused_with_the_reason),
            cmocka_unit_test(lengths_have_limits),
            cmocka_unit_test(unicode_labels_are_measured_encoded),
            cmocka_unit_test(the_message_shows_no_control_characters),
            cmocka_unit_test(labels),
            cmocka_unit_test(wildcards_only_where_asked_for),
            cmocka_unit_test(joining),
            cmocka_unit_test(below),
            cmocka_unit_test(shown_to_people),
            cmocka_unit_test(certificates_cover_names),
            cmocka_unit_test(lists_have_no_duplicates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
