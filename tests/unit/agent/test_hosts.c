/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/hosts.h"
#include "tests/lib/test_err.h"

static struct config *config_of(const char *domains, const char *components, const char *mail_host)
{
    AUTO_FREE char *a = str_printf("CERTHERD_DOMAINS=%s", domains);
    AUTO_FREE char *b = str_printf("CERTHERD_COMPONENTS=%s", components);
    AUTO_FREE char *c = str_printf("CERTHERD_MAIL_HOST=%s", mail_host);
    char *environment[] = {a, b, c, NULL};
    AUTO(config_problems_done) struct config_problems problems = {0};
    const struct config_load load = {.environment = environment};
    struct config *config = NULL;
    assert_ok(config_load(&load, &config, &problems));
    for (size_t i = 0; i < problems.lines.n; i++)
        print_error("%s\n", problems.lines.v[i]);
    assert_non_null(config);
    return config;
}

static void make(const char *domains, const char *components, struct host_set *ret)
{
    AUTO(config_unrefp) struct config *config = config_of(domains, components, "mail.example.org");
    assert_ok(host_set_make(config, ret));
}

static void five_names(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    make("example.org:im", "", &set);
    static const char *const expected[] = {"im.example.org", "conference.im.example.org",
            "proxy.im.example.org", "pubsub.im.example.org", "upload.im.example.org"};
    assert_int_equal(set.n, 1);
    assert_string_equal(set.v[0].host.text, "im.example.org");
    assert_string_equal(set.v[0].domain.text, "example.org");
    assert_string_equal(set.v[0].prefix, "im");
    assert_string_equal(set.v[0].origin, "CERTHERD_DOMAINS");
    assert_int_equal(set.v[0].names.n, ARRAY_SIZE(expected));
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
        assert_string_equal(set.v[0].names.v[i].text, expected[i]);
}

static void sorted_by_host(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    make("example.org:im,example.net:chat,Bücher.example:IM", "muc", &set);
    assert_int_equal(set.n, 3);
    assert_string_equal(set.v[0].host.text, "chat.example.net");
    assert_string_equal(set.v[1].host.text, "im.example.org");
    assert_string_equal(set.v[2].host.text, "im.xn--bcher-kva.example");
    assert_string_equal(set.v[2].names.v[1].text, "muc.im.xn--bcher-kva.example");
}

static void nothing_configured(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    make("", "", &set);
    assert_int_equal(set.n, 0);
    const struct host **list = NULL;
    size_t n = 1;
    assert_ok(host_set_select(&set, NULL, 0, &list, &n));
    assert_int_equal(n, 0);
    free(list);
}

static void the_mail_host_is_taken(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    AUTO(config_unrefp)
    struct config *config = config_of("example.org:mail", "", "mail.example.org");
    assert_err(host_set_make(config, &set), ERR_CONFIG, "mail.example.org is the mail host itself");
    assert_int_equal(set.n, 0);
}

/* Not possible by the configuration of this version (it needs a domain without prefix), but by
 * sources to come. */
static void two_domains_one_host(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    AUTO(config_unrefp)
    struct config *config = config_of("example.org:im,example.net:im", "", "mail.example.org");
    config->domains[1].host = config->domains[0].host;
    assert_err(host_set_make(config, &set), ERR_CONFIG,
            "im.example.org is claimed by two domains: example.");
}

static void too_many_names(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    AUTO_STRV struct strv labels = {0};
    for (int i = 0; i < 100; i++)
        strv_take(&labels, str_printf("c%d", i));
    AUTO_FREE char *components = strv_join(&labels, ",");
    AUTO(config_unrefp)
    struct config *config = config_of("example.org:im", components, "mail.example.org");
    assert_err(host_set_make(config, &set), ERR_CONFIG,
            "im.example.org has 101 names; allowed: at most 100");
}

static void a_name_that_is_too_long(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    AUTO_FREE char *label = str_printf("%063d", 0);
    AUTO_FREE char *domain = str_printf("%s.%s.%s.example:im", label, label, label);
    AUTO_FREE char *component = str_printf("a%062d", 0);
    AUTO(config_unrefp) struct config *config = config_of(domain, component, "mail.example.org");
    assert_err(host_set_make(config, &set), ERR_CONFIG, "CERTHERD_DOMAINS: im.");
}

/* ---- selection ---- */

static void assert_selected(const struct host_set *set, const char *wanted, const char *expected)
{
    AUTO_FREE char *copy = str_dup(wanted);
    char *words[8];
    size_t n = 0;
    for (char *rest = copy, *word; *wanted != '\0' && (word = strsep(&rest, " ")) != NULL;)
        words[n++] = word;
    const struct host **list = NULL;
    size_t count = 0;
    assert_ok(host_set_select(set, words, n, &list, &count));
    AUTO_STRV struct strv found = {0};
    for (size_t i = 0; i < count; i++)
        strv_add(&found, list[i]->host.text);
    AUTO_FREE char *text = strv_join(&found, " ");
    free(list);
    assert_string_equal(text, expected);
}

static void selection(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    make("example.org:im,example.org:chat,example.net:im,bücher.example:im", "", &set);
    assert_selected(
            &set, "", "chat.example.org im.example.net im.example.org im.xn--bcher-kva.example");
    assert_selected(&set, "im.example.org", "im.example.org");
    assert_selected(
            &set, "IM.Example.ORG. im.example.net im.example.org", "im.example.net im.example.org");
    assert_selected(&set, "example.org", "chat.example.org im.example.org");
    assert_selected(&set, "bücher.example", "im.xn--bcher-kva.example");
}

static void unknown_hosts(void **state)
{
    AUTO_HOST_SET struct host_set set = {0};
    make("example.org:im", "", &set);
    const struct host **list = NULL;
    size_t n = 0;
    char near[] = "in.example.org", far[] = "something.else", broken[] = "a..b";
    char *words[] = {near, far, broken};
    assert_err(host_set_select(&set, &words[0], 1, &list, &n), ERR_CONFIG,
            "did you mean im.example.org?");
    assert_err(host_set_select(&set, &words[1], 1, &list, &n), ERR_CONFIG,
            "something.else is none of the configured");
    assert_err(host_set_select(&set, &words[2], 1, &list, &n), ERR_CONFIG, "empty label");
    assert_null(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(five_names),
            cmocka_unit_test(sorted_by_host),
            cmocka_unit_test(nothing_configured),
            cmocka_unit_test(the_mail_host_is_taken),
            cmocka_unit_test(two_domains_one_host),
            cmocka_unit_test(too_many_names),
            cmocka_unit_test(a_name_that_is_too_long),
            cmocka_unit_test(selection),
            cmocka_unit_test(unknown_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
