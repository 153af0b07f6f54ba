/* SPDX-License-Identifier: Apache-2.0 */
/* pending/order.json, likewise. */
#include "tests/fuzz/store_served.h"

#include "agent/store_document.c"
#include "agent/store_pending.c"

static void write_again(const struct store_pending *pending)
{
    AUTO(store_pending_done) struct store_pending again = {0};
    AUTO_JSON json_t *first = encode_pending(pending);
    bool lost = fuzz_refused(decode_pending(first, &again), ~0u);
    assert(!lost && pending->exists);
    AUTO_JSON json_t *second = encode_pending(&again);
    assert(json_equal(first, second));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(store_pending_done) struct store_pending pending = {0};
    struct pending_job job = {.job = served_job(data, len), .ret = &pending};
    bool refused = fuzz_refused(
            pending_load_blocking(&job), 1u << ERR_CONFIG | 1u << ERR_PROTOCOL | 1u << ERR_LOCAL);
    assert(served.set_aside <= 1 && served.set_aside == job.job.warnings.n);
    if (refused || served.set_aside > 0)
        assert(!pending.exists && pending.order_url == NULL && pending.names.n == 0);
    else
        write_again(&pending);
    for (size_t i = 0; i < pending.names.n; i++) {
        struct name again;
        bool lost = fuzz_refused(name_parse_wildcard(pending.names.v[i].text, &again), ~0u);
        assert(!lost && name_equal(&again, &pending.names.v[i]));
    }
    strv_done(&job.job.warnings);
    return 0;
}
