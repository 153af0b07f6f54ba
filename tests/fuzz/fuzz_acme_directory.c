/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's directory, and the same bytes as our copy of it on disk. */
#include "tests/fuzz/acme_ca.h"

#include "acme/directory.c"

static void check(const struct acme_directory *d)
{
    const char *const required[] = {d->new_nonce, d->new_account, d->new_order};
    const char *const optional[] = {d->revoke_cert, d->key_change, d->renewal_info};
    for (size_t i = 0; i < ARRAY_SIZE(required); i++) {
        assert(required[i] != NULL);
        ca_check_url(required[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(optional); i++)
        if (optional[i] != NULL)
            ca_check_url(optional[i]);
    assert(d->caa_identities.n <= LIST_MAX && d->profiles.n <= LIST_MAX);
    for (size_t i = 0; i < d->caa_identities.n; i++)
        fuzz_check_text(d->caa_identities.v[i]);
    for (size_t i = 0; i < d->profiles.n; i++)
        fuzz_check_text(d->profiles.v[i]);
    if (d->terms_of_service != NULL)
        fuzz_check_text(d->terms_of_service);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct wall now = {1795348800000};
    AUTO(acme_directory_done) struct acme_directory fresh = {0}, stored = {0};
    AUTO(copy_done) struct copy copy = {.path = str_dup("ca.json"), .text = BUF_INIT(len + 1)};
    bool found = false;
    if (!fuzz_refused(acme_directory_decode(ca_client(), (const char *)data, len, &fresh),
                1u << ERR_PROTOCOL))
        check(&fresh);
    buf_append(&copy.text, data, len);
    fuzz_refused(decode_copy(ca_client(), &copy, now, &stored, &found),
            1u << ERR_PROTOCOL | 1u << ERR_LOCAL);
    if (found)
        check(&stored);
    return 0;
}
