/* SPDX-License-Identifier: Apache-2.0 */
/* Orders: what is accepted has names, and URLs of this CA only. */
#include "acme/order.h"
#include "tests/fuzz/acme_ca.h"

#define URL "https://localhost:14000/my-order/1"

static void check(const struct acme_order *o)
{
    assert((unsigned)o->status < ACME_STATUS_MAX && strcmp(o->url, URL) == 0);
    assert(o->identifiers.n >= 1 && o->identifiers.n <= ACME_ORDER_NAMES_MAX);
    for (size_t i = 0; i < o->identifiers.n; i++) {
        struct name again;
        bool lost = fuzz_refused(name_parse_wildcard(o->identifiers.v[i].text, &again), ~0u);
        assert(!lost && name_equal(&again, &o->identifiers.v[i]));
    }
    assert(o->authorizations.n <= ACME_ORDER_NAMES_MAX);
    assert(o->status != ACME_PENDING || o->authorizations.n > 0);
    assert(o->finalize != NULL && (o->status == ACME_VALID) == (o->certificate != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    AUTO_ORDER struct acme_order loose = {0}, strict = {0};
    bool is_loose =
            !fuzz_refused(acme_order_decode(NULL, URL, text, len, &loose), 1u << ERR_PROTOCOL);
    bool is_strict = !fuzz_refused(
            acme_order_decode(ca_client(), URL, text, len, &strict), 1u << ERR_PROTOCOL);
    assert(is_loose || !is_strict);
    if (is_loose)
        check(&loose);
    if (!is_strict)
        return 0;
    check(&strict);
    ca_check_url(strict.finalize);
    if (strict.certificate != NULL)
        ca_check_url(strict.certificate);
    for (size_t i = 0; i < strict.authorizations.n; i++)
        ca_check_url(strict.authorizations.v[i]);
    if (strict.error != NULL) {
        assert(acme_problem_of(strict.error) != NULL);
        fuzz_refused(STEAL(strict.error), ~0u);
    }
    return 0;
}
