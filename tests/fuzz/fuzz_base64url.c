/* SPDX-License-Identifier: Apache-2.0 */
/* One value has one spelling, so what is decoded comes back as it was. */
#include "acme/base64url.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_BUF struct buf decoded = BUF_INIT(64 * 1024);
    AUTO_BUF struct buf back = BUF_INIT(64 * 1024);
    AUTO_FREE char *encoded = base64url_encode(data, len);
    bool lost = fuzz_refused(base64url_decode(encoded, strlen(encoded), &back), ~0u);
    assert(!lost && back.len == len && memcmp(buf_str(&back), data, len) == 0);

    AUTO_FREE char *text = mem_dup(data, len);
    if (base64url_is_token(text, 22, 128))
        assert(strlen(text) >= 22 && strlen(text) <= 128 && strpbrk(text, "/.%\\+= ") == NULL);
    if (fuzz_refused(base64url_decode(text, len, &decoded), 1u << ERR_PROTOCOL))
        return 0;
    AUTO_FREE char *again = base64url_encode(buf_str(&decoded), decoded.len);
    assert(strlen(again) == len && memcmp(again, text, len) == 0);
    return 0;
}
