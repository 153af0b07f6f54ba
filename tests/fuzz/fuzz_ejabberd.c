/* SPDX-License-Identifier: Apache-2.0 */
/* The body of an answer of ejabberd's API, read as each command's and as each error's. */
#include "hooks/ejabberd.c"
#include "tests/fuzz/fuzz.h"

static void read_errors(struct http_reply *reply)
{
    static const long statuses[] = {201, 302, 400, 401, 403, 404, 500, 503};
    static const char *const commands[] = {RELOAD, VHOSTS};
    const struct ejabberd_api api = {.url = "unix:/run/ejabberd/api"};
    for (size_t i = 0; i < ARRAY_SIZE(statuses) * ARRAY_SIZE(commands); i++) {
        reply->status = statuses[i / ARRAY_SIZE(commands)];
        bool refused = fuzz_refused(status_error(&api, commands[i % ARRAY_SIZE(commands)], reply),
                1u << ERR_CONFIG | 1u << ERR_RETRY);
        assert(refused);
    }
    AUTO_FREE char *words = own_words(reply);
    assert(strlen(words) <= SHOWN_MAX + sizeof("…"));
    fuzz_check_text(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_HTTP_REPLY struct http_reply reply = {.status = 200, .body = BUF_INIT(REPLY_MAX)};
    AUTO(name_list_done) struct name_list hosts = {0};
    buf_append(&reply.body, data, len);
    if (says_zero(&reply))
        assert(len > 0 && memchr(data, '0', len) != NULL);
    if (!fuzz_refused(read_vhosts(&reply, &hosts), 1u << ERR_PROTOCOL))
        assert(hosts.n <= VHOSTS_MAX);
    for (size_t i = 0; i < hosts.n; i++) {
        struct name again;
        bool lost = fuzz_refused(name_parse(hosts.v[i].text, &again), ~0u);
        assert(!lost && name_equal(&hosts.v[i], &again));
    }
    read_errors(&reply);
    return 0;
}
