/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A generation whose manifest.json, chain.pem and key.pem stand one behind the other in the input,
 * parted by lines "=====". The digest of the key's file is of its bytes; no key is opened here.
 */
#include "tests/fuzz/store_served.h"

#include <openssl/evp.h>

static struct {
    const char *text;
    size_t len;
} parts[3];

static struct err *serve_one(const char *path, size_t max, struct buf *ret, bool *ret_exists)
{
    int index = str_ends(path, "/manifest.json") ? 0 : str_ends(path, "/chain.pem") ? 1 : 2;
    served.data = parts[index].text;
    served.len = parts[index].len;
    return serve_file(path, max, ret, ret_exists);
}

static struct err *serve_key_sha256(const char *path, uint8_t ret[32])
{
    assert(str_ends(path, "/key.pem"));
    int ok = EVP_Digest(parts[2].text, parts[2].len, ret, NULL, EVP_sha256(), NULL);
    assert(ok == 1);
    return NULL;
}

#undef file_read
#define file_read       serve_one
#define key_file_sha256 serve_key_sha256
#include "agent/store_generation.c"

static void split(const char *text, size_t len)
{
    static const char mark[] = "=====\n";
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        const char *end = i + 1 < ARRAY_SIZE(parts) ? memmem(text, len, mark, strlen(mark)) : NULL;
        size_t n = end != NULL ? (size_t)(end - text) : len;
        parts[i].text = text;
        parts[i].len = n;
        size_t skip = end != NULL ? n + strlen(mark) : n;
        text += skip;
        len -= skip;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO(store_manifest_done) struct store_manifest m = {0};
    AUTO_FREE char *copy = mem_dup(data, len);
    struct store_job job = served_job(data, len);
    uint64_t number = 0;
    split(copy, len);
    struct err *e = store_generation_read(job.store, job.host, 7, &m);
    if (fuzz_refused(e, 1u << ERR_CONFIG | 1u << ERR_PROTOCOL | 1u << ERR_LOCAL))
        return 0;
    assert(m.generation.number == 7 && m.generation.cert.chain_len >= 1);
    assert(m.chain_len == parts[1].len && memcmp(m.chain_pem, parts[1].text, m.chain_len) == 0);
    assert(strlen(m.joined_sha256) < STORE_HEX_MAX + 1);
    char digest[STORE_HEX_MAX];
    e = joined_digest("/nowhere", digest);
    assert(!fuzz_refused(e, ~0u) && strcmp(digest, m.joined_sha256) == 0);
    if (parse_number(copy, &number))
        assert(number > 0 && number <= INT64_MAX);
    return 0;
}
