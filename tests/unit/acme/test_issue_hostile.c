/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CA that lies: replies are changed on their way. Whatever it says, we talk to no other host,
 * publish no odd token, keep nothing that is no chain, and take away what we published.
 */
#include "tests/unit/acme/issue_scene.h"

#define TWO "im.example.org,conference.im.example.org"

/* Replaces text in the replies of one resource. */
struct lie {
    enum fake_resource resource;
    const char *what, *with;
    bool done;
};

static void tell_lie(void *arg, enum fake_resource resource, struct http_reply *reply)
{
    struct lie *lie = arg;
    AUTO_FREE char *old = str_dup(buf_str(&reply->body));
    char *at = strstr(old, lie->what);

    if (resource != lie->resource || at == NULL)
        return;
    lie->done = true;
    buf_reset(&reply->body);
    buf_append(&reply->body, old, (size_t)(at - old));
    buf_puts(&reply->body, lie->with);
    buf_puts(&reply->body, at + strlen(lie->what));
}

static void expect(const struct lie *told, enum err_kind kind, const char *part)
{
    struct scene s;
    struct lie lie = *told;

    scene_init(&s, TWO);
    s.ca.tamper = tell_lie;
    s.ca.tamper_arg = &lie;
    assert_err(scene_run(&s), kind, part);
    assert_true(lie.done);
    assert_int_equal(s.result.chain_pem.len, 0);
    if (lie.resource == FAKE_CA_NEW_ORDER || lie.resource == FAKE_CA_AUTHZ)
        assert_int_equal(s.n_answers, 0);
    /* Once the CA is honest again, all goes on. */
    s.ca.tamper = NULL;
    scene_clear(&s);
    scene_expect_issued(&s);
    scene_done(&s);
}

static void urls_that_lead_away(void **state)
{
    static const struct lie lies[] = {
            {FAKE_CA_NEW_ORDER, "https://ca.test:14000/authz/0/0", "http://ca.test:14000/x", 0},
            {FAKE_CA_NEW_ORDER, "https://ca.test:14000/authz/0/0", "https://169.254.169.254/x", 0},
            {FAKE_CA_NEW_ORDER, "https://ca.test:14000/finalize", "https://127.0.0.1/finalize", 0},
            {FAKE_CA_AUTHZ, "https://ca.test:14000/challenge", "https://ca.test:22/challenge", 0},
            {FAKE_CA_ORDER, "https://ca.test:14000/cert", "https://other.test/cert", 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(lies); i++)
        expect(&lies[i], ERR_PROTOCOL, " '");
}

static void tokens_that_are_none(void **state)
{
    static const char *const tokens[] = {"../../../../../../../etc/cron.d/x", "short", "",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaa/b", "aaaaaaaaaaaaaaaaaaaaaaaaaaa%2e"};

    for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
        struct scene s;
        scene_init(&s, TWO);
        s.ca.token = tokens[i];
        assert_err(scene_run(&s), ERR_PROTOCOL, "token");
        assert_int_equal(s.n_answers, 0);
        scene_done(&s);
    }
}

static void names_of_others(void **state)
{
    expect(&(struct lie){FAKE_CA_NEW_ORDER, "conference.im", "victim", false}, ERR_PROTOCOL,
            "is for other names than asked for");
    expect(&(struct lie){FAKE_CA_AUTHZ, "conference.im.example.org", "victim.example", false},
            ERR_PROTOCOL, "authorization https://ca.test:14000/authz/0/1 is for victim.example");
    expect(&(struct lie){FAKE_CA_AUTHZ, "conference.im.example.org", "im.example.org", false},
            ERR_PROTOCOL, "two authorizations for im.example.org");
}

static void certificates_that_are_none(void **state)
{
    static const struct lie lies[] = {
            {FAKE_CA_CERT, "-----BEGIN", "<html>", 0},
            {FAKE_CA_CERT, "-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nAAAA", 0},
            {FAKE_CA_CERT, "-----END CERTIFICATE-----", "", 0},
            {FAKE_CA_CERT, "-----BEGIN CERTIFICATE-----",
                    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
                    "-----BEGIN CERTIFICATE-----",
                    0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        struct scene s;
        struct lie lie = lies[i];
        scene_init(&s, TWO);
        s.ca.tamper = tell_lie;
        s.ca.tamper_arg = &lie;
        assert_err(scene_run(&s), ERR_PROTOCOL, "certificate https://ca.test:14000/cert/0");
        assert_non_null(s.order_url);
        assert_int_equal(s.dropped, 0);
        s.ca.tamper = NULL;
        scene_clear(&s);
        scene_expect_issued(&s); /* the same order, downloaded again */
        assert_int_equal(s.ca.of[FAKE_CA_NEW_ORDER], 0);
        scene_done(&s);
    }
}

static void grow(void *arg, enum fake_resource resource, struct http_reply *reply)
{
    if (resource == FAKE_CA_CERT)
        for (int i = 0; i < 2000; i++)
            fake_reply_body(reply,
                    "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"
                    "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n");
}

static void certificates_that_are_too_large_or_of_another_type(void **state)
{
    struct scene s;

    scene_init(&s, TWO);
    s.ca.tamper = grow;
    assert_err(scene_run(&s), ERR_PROTOCOL, "larger than");
    s.ca.tamper = NULL;
    s.ca.content_type = "text/html";
    assert_err(scene_run(&s), ERR_PROTOCOL, "of type 'text/html' instead of");
    assert_non_null(s.order_url);
    scene_done(&s);
}

static void states_that_make_no_sense(void **state)
{
    expect(&(struct lie){FAKE_CA_NEW_ORDER, "\"pending\"", "\"nonsense\"", false}, ERR_PROTOCOL,
            "'nonsense' is no status");
    expect(&(struct lie){FAKE_CA_FINALIZE, "\"processing\"", "\"pending\"", false}, ERR_RETRY,
            "went back to pending");
    expect(&(struct lie){FAKE_CA_AUTHZ, "\"pending\"", "\"ready\"", false}, ERR_PROTOCOL,
            "'ready' is no status");
}

static void json_that_is_none(void **state)
{
    expect(&(struct lie){FAKE_CA_NEW_ORDER, "{", "", false}, ERR_PROTOCOL, "order");
    expect(&(struct lie){FAKE_CA_AUTHZ, "{", "[", false}, ERR_PROTOCOL, "authorization");
    expect(&(struct lie){FAKE_CA_ORDER, "{", "{\"status\":\"valid\",", false}, ERR_PROTOCOL,
            "order");
}

static void no_location(void **state)
{
    struct scene s;

    scene_init(&s, TWO);
    scene_expect_issued(&s);
    free(STEAL(s.order_url));
    s.ca.no_location = true;
    assert_err(scene_run(&s), ERR_PROTOCOL, "newOrder: the reply has no Location header");
    scene_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(urls_that_lead_away),
            cmocka_unit_test(tokens_that_are_none),
            cmocka_unit_test(names_of_others),
            cmocka_unit_test(certificates_that_are_none),
            cmocka_unit_test(certificates_that_are_too_large_or_of_another_type),
            cmocka_unit_test(states_that_make_no_sense),
            cmocka_unit_test(json_that_is_none),
            cmocka_unit_test(no_location),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
