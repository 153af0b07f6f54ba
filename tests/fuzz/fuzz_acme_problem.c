/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever a failed request brought becomes a problem that can be shown and acted upon. */
#include "acme/problem.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_LIMIT (1024 + sizeof("…"))

static void check_string(const char *text)
{
    if (text == NULL)
        return;
    assert(strlen(text) <= TEXT_LIMIT);
    fuzz_check_text(text);
}

static void check(struct err *owned)
{
    AUTO_ERR struct err *e = owned;
    const struct acme_problem *p = acme_problem_of(e);
    assert(p != NULL && (unsigned)p->type < ACME_PROBLEM_MAX);
    assert(err_origin(e) == ERR_FROM_ACME && err_number(e) == (long)p->type);
    assert(p->type_text != NULL && p->n_subproblems <= ACME_SUBPROBLEMS_MAX);
    check_string(p->type_text);
    check_string(p->detail);
    check_string(p->instance);
    for (size_t i = 0; i < p->n_subproblems; i++) {
        check_string(p->subproblems[i].type_text);
        check_string(p->subproblems[i].detail);
        check_string(p->subproblems[i].identifier);
    }
    fuzz_refused(STEAL(e), ~0u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const long statuses[] = {200, 302, 400, 403, 429, 503};
    static struct http_header headers[] = {
            {"retry-after", "86400"}, {"link", "<https://ca.test/tos>;rel=\"terms-of-service\", "
                                               "<https://ca.test/h>;rel=help"}};
    const struct wall now = {1795348800000};
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        struct http_reply reply = {.status = statuses[i],
                .headers = headers,
                .n_headers = i % 3,
                .body = BUF_INIT(len + 1)};
        buf_append(&reply.body, data, len);
        struct err *e = acme_problem_from_reply(&reply, now);
        assert(acme_problem_of(e)->status == statuses[i]);
        if (err_is(e, ERR_RETRY_AT))
            assert(reply.n_headers > 0 && wall_diff(err_retry_at(e), now) > 0);
        check(e);
        buf_done(&reply.body);
    }
    AUTO_JSON json_t *root = NULL;
    if (!fuzz_refused(json_parse((const char *)data, len, "error", &root), 1u << ERR_PROTOCOL))
        check(acme_problem_from_json(root));
    return 0;
}
