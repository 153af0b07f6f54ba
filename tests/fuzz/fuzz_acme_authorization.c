/* SPDX-License-Identifier: Apache-2.0 */
/* Authorizations: a token that is accepted is safe as a file name, whatever the CA says. */
#include "acme/base64url.h"
#include "acme/order.h"
#include "tests/fuzz/acme_ca.h"

#define URL "https://localhost:14000/authZ/1"

static void check(const struct acme_authorization *a)
{
    struct name again;
    bool lost = fuzz_refused(name_parse(a->name.text, &again), ~0u);
    assert(!lost && name_equal(&again, &a->name));
    assert((unsigned)a->status < ACME_STATUS_MAX && strcmp(a->url, URL) == 0);
    assert(a->offered == (a->challenge_url != NULL) && a->offered == (a->token[0] != '\0'));
    assert(!a->offered || a->status == ACME_PENDING);
    if (a->offered) {
        assert(base64url_is_token(a->token, 22, 128));
        assert(strpbrk(a->token, "./%") == NULL);
    }
    for (size_t i = 0; i < a->types.n; i++)
        fuzz_check_text(a->types.v[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const types[] = {"http-01", "dns-01"};
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        AUTO(acme_authorization_done) struct acme_authorization a = {0};
        struct err *e =
                acme_authorization_decode(ca_client(), URL, types[i], (const char *)data, len, &a);
        if (fuzz_refused(e, 1u << ERR_PROTOCOL))
            continue;
        check(&a);
        if (a.offered)
            ca_check_url(a.challenge_url);
        assert(a.error == NULL || acme_problem_of(a.error) != NULL);
        fuzz_refused(STEAL(a.error), ~0u);
    }
    return 0;
}
