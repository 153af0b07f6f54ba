/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "acme/order.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_err.h"

#define URL   "https://ca.test/order/1"
#define TOKEN "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"

static struct fake_world fw;
static struct acme_client *client;

static int make_client(void **state)
{
    const struct acme_client_options options = {.directory_url = "https://ca.test/directory"};

    fake_world_init(&fw);
    assert_ok(acme_client_new(&fw.world, &options, &client));
    return 0;
}

static int drop_client(void **state)
{
    acme_client_free(client);
    fake_world_done(&fw);
    return 0;
}

/* A good document with one member replaced (or left out: value NULL). */
static char *changed(const char *good, const char *key, const char *value)
{
    AUTO_JSON json_t *root = json_loads(good, 0, NULL);

    assert_non_null(root);
    if (key != NULL && value == NULL)
        json_object_del(root, key);
    else if (key != NULL)
        json_put(root, key, json_loads(value, JSON_DECODE_ANY, NULL));
    return json_text(root);
}

/* ---- order ---- */

static const char order[] =
        "{\"status\":\"pending\",\"expires\":\"2026-11-29T12:00:00Z\",\"odd\":{\"x\":[]},"
        "\"identifiers\":[{\"type\":\"dns\",\"value\":\"B.Example.org\"},"
        "{\"type\":\"dns\",\"value\":\"*.im.example.org\"}],"
        "\"authorizations\":[\"https://ca.test/a/1\",\"https://ca.test/a/2\"],"
        "\"finalize\":\"https://ca.test/f/1\"}";

static struct err *decode_order(const char *key, const char *value, struct acme_order *ret)
{
    AUTO_FREE char *text = changed(order, key, value);

    return acme_order_decode(client, URL, text, strlen(text), ret);
}

static void a_good_order(void **state)
{
    AUTO_ORDER struct acme_order o = {0};
    char when[WALL_TEXT_MAX];

    assert_ok(decode_order(NULL, NULL, &o));
    assert_int_equal(o.status, ACME_PENDING);
    assert_string_equal(acme_status_name(o.status), "pending");
    assert_string_equal(wall_format(o.expires, when), "2026-11-29T12:00:00Z");
    assert_int_equal(o.identifiers.n, 2);
    assert_string_equal(o.identifiers.v[0].text, "b.example.org");
    assert_string_equal(o.identifiers.v[1].text, "*.im.example.org");
    assert_int_equal(o.authorizations.n, 2);
    assert_string_equal(o.url, URL);
    assert_null(o.certificate);
    assert_null(o.error);
}

static void a_valid_order_needs_its_certificate(void **state)
{
    AUTO_ORDER struct acme_order o = {0};

    assert_err(decode_order("status", "\"valid\"", &o), ERR_PROTOCOL, "certificate");
    AUTO_FREE char *valid = changed(order, "status", "\"valid\"");
    AUTO_FREE char *text = changed(valid, "certificate", "\"https://ca.test/c/1\"");
    assert_ok(acme_order_decode(client, URL, text, strlen(text), &o));
    assert_string_equal(o.certificate, "https://ca.test/c/1");
}

static void the_error_of_an_order_is_typed(void **state)
{
    AUTO_ORDER struct acme_order o = {0};

    assert_ok(decode_order(
            "error", "{\"type\":\"urn:ietf:params:acme:error:caa\",\"detail\":\"no\"}", &o));
    assert_int_equal(acme_problem_of(o.error)->type, ACME_CAA);
}

static void bad_orders_are_refused(void **state)
{
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
            {"status", NULL, "status"},
            {"status", "\"deactivated\"", "'deactivated' is no status"},
            {"status", "7", "status"},
            {"expires", "\"tomorrow\"", "'tomorrow', which is no RFC 3339 date"},
            {"identifiers", NULL, "identifiers"},
            {"identifiers", "[]", "'identifiers' is empty"},
            {"identifiers", "[7]", "not an object"},
            {"identifiers", "[{\"type\":\"ip\",\"value\":\"192.0.2.1\"}]", "not of type 'dns'"},
            {"identifiers", "[{\"type\":\"dns\",\"value\":\"../etc\"}]", "../etc"},
            {"identifiers", "[{\"type\":\"dns\",\"value\":\"*.*.example.org\"}]", "host name"},
            {"authorizations", NULL, "authorizations"},
            {"authorizations", "[]", "'authorizations' is empty"},
            {"authorizations", "[1]", "an authorization is not a URL"},
            {"authorizations", "[\"https://ca.test/a\",\"https://ca.test/a\"]", "listed twice"},
            {"authorizations", "[\"https://169.254.169.254/a\"]", "leads away from the CA's host"},
            {"authorizations", "[\"http://ca.test/a\"]", "does not begin with https://"},
            {"finalize", NULL, "finalize"},
            {"finalize", "\"https://user@ca.test/f\"", "user name or password"},
            {"finalize", "\"https://ca.test:8443/f\"", "leads away"},
            {"finalize", "\"file:///etc/passwd\"", "https://"},
            {"finalize", "\"https://ca.test/\\u00e4\"", "characters that no URL has"},
            {"error", "\"text\"", "'error' is not an object"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct acme_order o = {0};
        assert_err(decode_order(cases[i].key, cases[i].value, &o), ERR_PROTOCOL, cases[i].part);
        assert_null(o.url);
    }
    struct acme_order o = {0};
    assert_err(acme_order_decode(client, URL, "<html>", 6, &o), ERR_PROTOCOL, "order " URL);
    assert_err(acme_order_decode(client, URL, "[]", 2, &o), ERR_PROTOCOL, "object");
}

static void too_many_names_are_refused(void **state)
{
    AUTO_BUF struct buf list = BUF_INIT(64 * 1024);
    struct acme_order o = {0};

    buf_putc(&list, '[');
    for (int i = 0; i < 101; i++)
        buf_printf(&list, "%s\"https://ca.test/a/%d\"", i == 0 ? "" : ",", i);
    buf_putc(&list, ']');
    assert_err(decode_order("authorizations", buf_str(&list), &o), ERR_PROTOCOL, "authorizations");
}

/* ---- authorization ---- */

static const char authorization[] =
        "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"im.example.org\"},"
        "\"wildcard\":false,"
        "\"challenges\":[{\"type\":\"dns-01\"},{\"type\":\"odd-\\u001b01\",\"token\":7},"
        "{\"type\":\"http-01\",\"url\":\"https://ca.test/c/1\",\"status\":\"pending\","
        "\"token\":\"" TOKEN "\"}]}";

static struct err *decode_authorization(
        const char *key, const char *value, struct acme_authorization *ret)
{
    AUTO_FREE char *text = changed(authorization, key, value);

    return acme_authorization_decode(client, URL, "http-01", text, strlen(text), ret);
}

static void a_good_authorization(void **state)
{
    AUTO(acme_authorization_done) struct acme_authorization a = {0};

    assert_ok(decode_authorization(NULL, NULL, &a));
    assert_true(a.offered);
    assert_false(a.wildcard);
    assert_string_equal(a.name.text, "im.example.org");
    assert_string_equal(a.token, TOKEN);
    assert_string_equal(a.challenge_url, "https://ca.test/c/1");
    assert_int_equal(a.challenge_status, ACME_PENDING);
    AUTO_FREE char *types = strv_join(&a.types, " ");
    assert_string_equal(types, "dns-01 odd-?01 http-01");
}

static void the_wanted_type_may_be_missing(void **state)
{
    AUTO(acme_authorization_done) struct acme_authorization a = {0};

    assert_ok(decode_authorization("challenges", "[{\"type\":\"dns-01\"}]", &a));
    assert_false(a.offered);
    acme_authorization_done(&a);
    assert_ok(decode_authorization("challenges", "[]", &a));
    assert_false(a.offered);
    assert_int_equal(a.types.n, 0);
}

static void a_failed_authorization_says_why(void **state)
{
    AUTO(acme_authorization_done) struct acme_authorization a = {0};
    AUTO_FREE char *invalid = changed(authorization, "status", "\"invalid\"");
    AUTO_FREE char *text = changed(invalid, "challenges",
            "[{\"type\":\"http-01\",\"status\":\"invalid\",\"error\":"
            "{\"type\":\"urn:ietf:params:acme:error:unauthorized\",\"detail\":\"404\"}}]");

    assert_ok(acme_authorization_decode(client, URL, "dns-01", text, strlen(text), &a));
    assert_int_equal(a.status, ACME_INVALID);
    assert_int_equal(acme_problem_of(a.error)->type, ACME_UNAUTHORIZED);
}

static void a_decided_authorization_needs_no_token(void **state)
{
    AUTO(acme_authorization_done) struct acme_authorization a = {0};
    AUTO_FREE char *valid = changed(authorization, "status", "\"valid\"");
    AUTO_FREE char *text = changed(valid, "challenges", "[{\"type\":\"http-01\"}]");

    assert_ok(acme_authorization_decode(client, URL, "http-01", text, strlen(text), &a));
    assert_int_equal(a.status, ACME_VALID);
}

static void bad_authorizations_are_refused(void **state)
{
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
            {"status", "\"ready\"", "'ready' is no status"},
            {"identifier", NULL, "identifier"},
            {"identifier", "{\"type\":\"dns\",\"value\":\"*.example.org\"}", "host name"},
            {"wildcard", "\"yes\"", "wildcard"},
            {"challenges", NULL, "challenges"},
            {"challenges", "[{}]", "a challenge has no type"},
            {"challenges", "[17]", "a challenge has no type"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct acme_authorization a = {0};
        assert_err(decode_authorization(cases[i].key, cases[i].value, &a), ERR_PROTOCOL,
                cases[i].part);
    }
}

static void bad_tokens_are_refused(void **state)
{
    AUTO_FREE char *long_token = mem_zalloc(130);
    const char *tokens[] = {"", "short", "../../../../../../../../etc/passwd",
            "aaaaaaaaaaaaaaaaaaaaaaaa%2e", "aaaaaaaaaaaaaaaaaaaaaa.bbb",
            "aaaaaaaaaaaaaaaaaaaaaaaa==", "aaaaaaaaaaaaaaaaaaaaaaaaa\\r\\nX",
            "aaaaaaaaaaaaaaaaaaaaaaaa\\u0000b", long_token};

    memset(long_token, 'a', 129);
    for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
        struct acme_authorization a = {0};
        AUTO_FREE char *text = str_printf(
                "{\"status\":\"pending\",\"identifier\":{\"type\":\"dns\",\"value\":\"a.example\"},"
                "\"challenges\":[{\"type\":\"http-01\",\"url\":\"https://ca.test/c/1\","
                "\"status\":\"pending\",\"token\":\"%s\"}]}",
                tokens[i]);
        struct err *e = acme_authorization_decode(client, URL, "http-01", text, strlen(text), &a);
        assert_non_null(e);
        assert_true(err_is(e, ERR_PROTOCOL));
        err_free(e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_good_order),
            cmocka_unit_test(a_valid_order_needs_its_certificate),
            cmocka_unit_test(the_error_of_an_order_is_typed),
            cmocka_unit_test(bad_orders_are_refused),
            cmocka_unit_test(too_many_names_are_refused),
            cmocka_unit_test(a_good_authorization),
            cmocka_unit_test(the_wanted_type_may_be_missing),
            cmocka_unit_test(a_failed_authorization_says_why),
            cmocka_unit_test(a_decided_authorization_needs_no_token),
            cmocka_unit_test(bad_authorizations_are_refused),
            cmocka_unit_test(bad_tokens_are_refused),
    };

    return cmocka_run_group_tests(tests, make_client, drop_client);
}
