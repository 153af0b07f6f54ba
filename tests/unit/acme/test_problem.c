/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "acme/problem.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_err.h"

static const struct wall now = {1795348800000};

static struct http_reply reply_of(long status, const char *body)
{
    struct http_reply r = {.status = status, .body = BUF_INIT((size_t)256 * 1024)};

    buf_puts(&r.body, body);
    return r;
}

static struct err *problem_of(long status, const char *body, const char *retry_after)
{
    AUTO_HTTP_REPLY struct http_reply r = reply_of(status, body);

    if (retry_after != NULL)
        fake_reply_header(&r, "Retry-After", retry_after);
    return acme_problem_from_reply(&r, now);
}

static const struct {
    enum acme_problem_type type;
    const char *name;
    enum err_kind kind;
} table[] = {
        {ACME_ACCOUNT_DOES_NOT_EXIST, "accountDoesNotExist", ERR_DENIED},
        {ACME_ALREADY_REPLACED, "alreadyReplaced", ERR_DENIED},
        {ACME_ALREADY_REVOKED, "alreadyRevoked", ERR_DENIED},
        {ACME_BAD_CSR, "badCSR", ERR_DENIED},
        {ACME_BAD_NONCE, "badNonce", ERR_RETRY},
        {ACME_BAD_PUBLIC_KEY, "badPublicKey", ERR_CONFIG},
        {ACME_BAD_REVOCATION_REASON, "badRevocationReason", ERR_DENIED},
        {ACME_BAD_SIGNATURE_ALGORITHM, "badSignatureAlgorithm", ERR_CONFIG},
        {ACME_CAA, "caa", ERR_CONFIG},
        {ACME_COMPOUND, "compound", ERR_DENIED},
        {ACME_CONFLICT, "conflict", ERR_DENIED},
        {ACME_CONNECTION, "connection", ERR_RETRY},
        {ACME_DNS, "dns", ERR_CONFIG},
        {ACME_EXTERNAL_ACCOUNT_REQUIRED, "externalAccountRequired", ERR_CONFIG},
        {ACME_INCORRECT_RESPONSE, "incorrectResponse", ERR_CONFIG},
        {ACME_INVALID_CONTACT, "invalidContact", ERR_CONFIG},
        {ACME_INVALID_PROFILE, "invalidProfile", ERR_CONFIG},
        {ACME_MALFORMED, "malformed", ERR_DENIED},
        {ACME_ORDER_NOT_READY, "orderNotReady", ERR_RETRY},
        {ACME_RATE_LIMITED, "rateLimited", ERR_RETRY},
        {ACME_REJECTED_IDENTIFIER, "rejectedIdentifier", ERR_DENIED},
        {ACME_SERVER_INTERNAL, "serverInternal", ERR_RETRY},
        {ACME_TLS, "tls", ERR_RETRY},
        {ACME_UNAUTHORIZED, "unauthorized", ERR_CONFIG},
        {ACME_UNSUPPORTED_CONTACT, "unsupportedContact", ERR_CONFIG},
        {ACME_UNSUPPORTED_IDENTIFIER, "unsupportedIdentifier", ERR_DENIED},
        {ACME_USER_ACTION_REQUIRED, "userActionRequired", ERR_CONFIG},
};

static void every_registered_type_has_its_kind(void **state)
{
    assert_int_equal(ARRAY_SIZE(table), ACME_PROBLEM_MAX - 1);
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        AUTO_FREE char *body = str_printf("{\"type\":\"urn:ietf:params:acme:error:%s\",\"detail\":"
                                          "\"because\",\"status\":400}",
                table[i].name);
        AUTO_ERR struct err *e = problem_of(400, body, NULL);
        const struct acme_problem *p = acme_problem_of(e);
        assert_non_null(p);
        assert_int_equal(p->type, table[i].type);
        assert_int_equal(err_kind(e), table[i].kind);
        assert_int_equal(err_origin(e), ERR_FROM_ACME);
        assert_int_equal(err_number(e), table[i].type);
        assert_string_equal(p->detail, "because");
        assert_string_equal(acme_problem_name(table[i].type), table[i].name);
        AUTO_FREE char *text = str_printf("the CA answered 400 %s: because", table[i].name);
        assert_string_equal(err_text(e), text);
    }
}

static void unknown_types_are_judged_by_the_status(void **state)
{
    static const struct {
        long status;
        enum err_kind kind;
    } cases[] = {{400, ERR_DENIED}, {403, ERR_DENIED}, {404, ERR_DENIED}, {408, ERR_RETRY},
            {429, ERR_RETRY}, {500, ERR_RETRY}, {503, ERR_RETRY}, {302, ERR_PROTOCOL},
            {204, ERR_PROTOCOL}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_err(problem_of(cases[i].status, "{\"type\":\"urn:x:new\",\"detail\":\"d\"}", NULL),
                cases[i].kind, "urn:x:new: d");
        assert_err(problem_of(cases[i].status, "{\"type\":17,\"detail\":[]}", NULL), cases[i].kind,
                "no explanation given");
    }
}

static void bodies_that_are_no_problem_document(void **state)
{
    assert_err(problem_of(503, "\r\n<html><h1>Busy\x1b[31m</h1>\nmore", NULL), ERR_RETRY,
            "the CA answered 503 <html><h1>Busy?[31m</h1>");
    assert_err(problem_of(503, "", NULL), ERR_RETRY, "no explanation given");
    assert_err(problem_of(400, "[1,2]", NULL), ERR_DENIED, "[1,2]");
    assert_err(problem_of(400, "{}", NULL), ERR_DENIED, "the CA answered 400 {}");
    AUTO_BUF struct buf deep = BUF_INIT(200000);
    for (int i = 0; i < 100000; i++)
        buf_putc(&deep, '[');
    assert_err(problem_of(500, buf_str(&deep), NULL), ERR_RETRY, "[[[[");
}

static void retry_after_makes_waiting_kinds_timed(void **state)
{
    static const char limited[] =
            "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"slow down\"}";
    static const char denied[] =
            "{\"type\":\"urn:ietf:params:acme:error:unauthorized\",\"detail\":\"no\"}";
    static const char nonce[] =
            "{\"type\":\"urn:ietf:params:acme:error:badNonce\",\"detail\":\"no\"}";
    struct err *e = problem_of(429, limited, "3600");

    assert_true(err_is(e, ERR_RETRY_AT));
    assert_int_equal(wall_diff(err_retry_at(e), now), CLOCK_HOUR);
    err_free(e);
    e = problem_of(429, limited, "Sun, 22 Nov 2026 14:00:00 GMT");
    assert_int_equal(wall_diff(err_retry_at(e), now), 2 * CLOCK_HOUR);
    err_free(e);
    /* Past and absurd instants are clamped: a week for a limit, a day for an outage. */
    e = problem_of(429, limited, "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_int_equal(wall_diff(err_retry_at(e), now), CLOCK_SEC);
    err_free(e);
    e = problem_of(429, limited, "999999999");
    assert_int_equal(wall_diff(err_retry_at(e), now), 7 * CLOCK_DAY);
    err_free(e);
    e = problem_of(503, "busy", "999999999");
    assert_int_equal(wall_diff(err_retry_at(e), now), CLOCK_DAY);
    err_free(e);
    assert_err(problem_of(429, limited, "soon"), ERR_RETRY, "slow down");
    assert_err(problem_of(403, denied, "60"), ERR_CONFIG, "no");
    assert_err(problem_of(400, nonce, "60"), ERR_RETRY, "no");
}

static void subproblems_are_read_up_to_sixteen(void **state)
{
    AUTO_BUF struct buf body = BUF_INIT(64 * 1024);

    buf_puts(&body, "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"several\","
                    "\"subproblems\":[7,");
    for (int i = 0; i < 40; i++)
        buf_printf(&body,
                "%s{\"type\":\"urn:ietf:params:acme:error:caa\",\"detail\":\"d%d\","
                "\"identifier\":{\"type\":\"dns\",\"value\":\"n%d.example.org\"}}",
                i == 0 ? "" : ",", i, i);
    buf_puts(&body, "]}");
    AUTO_ERR struct err *e = problem_of(403, buf_str(&body), NULL);
    const struct acme_problem *p = acme_problem_of(e);
    assert_int_equal(p->n_subproblems, ACME_SUBPROBLEMS_MAX);
    assert_int_equal(p->subproblems[15].type, ACME_CAA);
    assert_string_equal(p->subproblems[15].identifier, "n15.example.org");
    assert_string_equal(p->subproblems[0].detail, "d0");
    assert_non_null(strstr(err_text(e), "several (n0.example.org: d0; n1.example.org: d1; "
                                        "n2.example.org: d2; n3.example.org: d3; and 12 more)"));
}

static void compound_is_as_its_parts(void **state)
{
    static const char format[] =
            "{\"type\":\"urn:ietf:params:acme:error:compound\",\"subproblems\":["
            "{\"type\":\"urn:ietf:params:acme:error:%s\"},"
            "{\"type\":\"urn:ietf:params:acme:error:%s\"}]}";
    static const struct {
        const char *a, *b;
        enum err_kind kind;
    } cases[] = {{"connection", "tls", ERR_RETRY}, {"connection", "caa", ERR_CONFIG},
            {"rejectedIdentifier", "tls", ERR_DENIED}, {"rejectedIdentifier", "dns", ERR_CONFIG}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_BUF struct buf body = BUF_INIT(4096);
        const char *at = format;
        for (int k = 0; k < 2; k++) {
            const char *mark = strstr(at, "%s");
            buf_append(&body, at, (size_t)(mark - at));
            buf_puts(&body, k == 0 ? cases[i].a : cases[i].b);
            at = mark + 2;
        }
        buf_puts(&body, at);
        assert_err(problem_of(403, buf_str(&body), NULL), cases[i].kind, "compound");
    }
    assert_err(problem_of(503, "{\"type\":\"urn:ietf:params:acme:error:compound\"}", NULL),
            ERR_RETRY, "compound");
}

static void foreign_text_is_cut_and_made_safe(void **state)
{
    AUTO_BUF struct buf body = BUF_INIT(64 * 1024);

    buf_puts(&body, "{\"type\":\"urn:ietf:params:acme:error:dns\",\"detail\":\"\\u001b[2J\\r\\n");
    for (int i = 0; i < 10000; i++)
        buf_putc(&body, 'x');
    buf_puts(&body, "\"}");
    AUTO_ERR struct err *e = problem_of(400, buf_str(&body), NULL);
    const struct acme_problem *p = acme_problem_of(e);
    assert_true(strlen(p->detail) <= 1024 + 8);
    assert_null(strchr(err_text(e), '\x1b'));
    assert_null(strchr(err_text(e), '\n'));
}

static void terms_and_help_are_found_in_links(void **state)
{
    AUTO_HTTP_REPLY struct http_reply r = reply_of(
            403, "{\"type\":\"urn:ietf:params:acme:error:userActionRequired\",\"detail\":\"t\"}");

    fake_reply_header(&r, "Link", "<https://ca.test/terms/v2>;rel=\"terms-of-service\"");
    assert_err(acme_problem_from_reply(&r, now), ERR_CONFIG,
            "read and accept what the CA asks for at https://ca.test/terms/v2");

    AUTO_HTTP_REPLY struct http_reply limited = reply_of(
            429, "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"paused\"}");
    fake_reply_header(&limited, "Link", "<https://ca.test/limits>;rel=\"help\"");
    struct err *e = acme_problem_from_reply(&limited, now);
    assert_string_equal(acme_problem_of(e)->instance, "https://ca.test/limits");
    assert_err(e, ERR_RETRY, "the CA explains this at https://ca.test/limits");
}

static void errors_of_a_validation(void **state)
{
    AUTO_JSON json_t *good =
            json_loads("{\"type\":\"urn:ietf:params:acme:error:connection\",\"detail\":\"refused\","
                       "\"status\":400}",
                    0, NULL);
    AUTO_JSON json_t *odd = json_loads("{\"status\":\"x\",\"subproblems\":{}}", 0, NULL);
    struct err *e = acme_problem_from_json(good);

    assert_string_equal(err_text(e), "connection: refused");
    assert_int_equal(acme_problem_of(e)->status, 400);
    assert_err(e, ERR_RETRY, "reachable from the internet");
    assert_err(acme_problem_from_json(odd), ERR_DENIED, "no explanation given");
    assert_null(acme_problem_of(NULL));
    struct err *plain = ERR(ERR_RETRY, "plain");
    assert_null(acme_problem_of(plain));
    err_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_registered_type_has_its_kind),
            cmocka_unit_test(unknown_types_are_judged_by_the_status),
            cmocka_unit_test(bodies_that_are_no_problem_document),
            cmocka_unit_test(retry_after_makes_waiting_kinds_timed),
            cmocka_unit_test(subproblems_are_read_up_to_sixteen),
            cmocka_unit_test(compound_is_as_its_parts),
            cmocka_unit_test(foreign_text_is_cut_and_made_safe),
            cmocka_unit_test(terms_and_help_are_found_in_links),
            cmocka_unit_test(errors_of_a_validation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
