/* SPDX-License-Identifier: Apache-2.0 */
/* state.json: damaged ones are set aside and count as empty, others are kept as they are. */
#include "tests/fuzz/store_served.h"

#include "agent/store_document.c"
#include "agent/store_state.c"

static void write_again(const struct host_state *state)
{
    AUTO(host_state_done) struct host_state again = {0};
    AUTO_JSON json_t *first = encode_state(state, state->version);
    bool lost = fuzz_refused(decode_state(first, &again), ~0u);
    assert(!lost);
    AUTO_JSON json_t *second = encode_state(&again, again.version);
    assert(json_equal(first, second));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(host_state_done) struct host_state state = {0};
    struct store_job job = served_job(data, len);
    bool refused = fuzz_refused(
            state_read(&job, &state), 1u << ERR_CONFIG | 1u << ERR_PROTOCOL | 1u << ERR_LOCAL);
    assert(served.set_aside <= 1 && served.set_aside == job.warnings.n);
    if (refused || served.set_aside > 0)
        assert(state.version == 0 && state.error_text == NULL && state.n_deployed == 0);
    else
        write_again(&state);
    assert(state.n_deployed <= STORE_NODES_MAX);
    strv_done(&job.warnings);
    return 0;
}
