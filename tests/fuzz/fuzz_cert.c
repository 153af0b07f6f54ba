/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chain from the CA and a joined file of our own, as PEM. Bytes that begin like DER are put into
 * PEM first, so that a fuzzer gets to the fields of a certificate without knowing base64.
 */
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "acme/cert.h"
#include "acme/keys.h"
#include "tests/fuzz/fuzz.h"

/* One block, from a DER value at the beginning of data; its length. */
static size_t put_block(struct buf *pem, const uint8_t *data, size_t len)
{
    const unsigned char *at = data;
    long content = 0;
    int tag, class;
    int flags = ASN1_get_object(&at, &content, &tag, &class, (long)len);
    ERR_clear_error();
    size_t whole = (flags & 0x80) != 0 ? len : (size_t)(at - data) + (size_t)content;
    buf_puts(pem, "-----BEGIN CERTIFICATE-----\n");
    for (size_t i = 0; i < whole; i += 48) {
        unsigned char line[65];
        int n = EVP_EncodeBlock(line, data + i, (int)(whole - i < 48 ? whole - i : 48));
        buf_append(pem, line, (size_t)n);
        buf_putc(pem, '\n');
    }
    buf_puts(pem, "-----END CERTIFICATE-----\n");
    return whole;
}

static void check(const struct cert_info *info, bool joined)
{
    const struct name own = {.text = "im.example.org"};
    assert(info->chain_len >= 1 && info->chain_len <= 10);
    assert(strlen(info->serial) >= 2 && strlen(info->serial) < CERT_SERIAL_MAX);
    assert(strspn(info->serial, "0123456789abcdef") == strlen(info->serial));
    fuzz_check_text(info->issuer);
    for (size_t i = 0; i < info->names.n; i++) {
        const char *name = info->names.v[i];
        assert(strlen(name) > 0 && strlen(name) < NAME_MAX_TEXT);
        assert(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-._*") == strlen(name));
    }
    if (strv_has(&info->names, own.text))
        assert(cert_covers(info, &own));
    struct name_list names = {0};
    name_list_add(&names, &own);
    if (!fuzz_refused(cert_check_issued(info, &names, info->not_before), 1u << ERR_PROTOCOL))
        assert(info->names.n == 1 && info->n_other_names == 0 && !info->upper_case);
    name_list_done(&names);
}

static void try_text(const char *pem, size_t len)
{
    AUTO_CERT_INFO struct cert_info strict = {0}, loose = {0};
    bool is_strict = !fuzz_refused(cert_parse(pem, len, false, &strict), 1u << ERR_PROTOCOL);
    bool is_loose = !fuzz_refused(cert_parse(pem, len, true, &loose), 1u << ERR_PROTOCOL);
    assert(is_loose || !is_strict);
    if (is_strict) {
        assert(memcmp(strict.leaf_sha256, loose.leaf_sha256, 32) == 0);
        assert(memmem(pem, len, "PRIVATE KEY", 11) == NULL);
        check(&strict, false);
    }
    if (is_loose)
        check(&loose, true);
    if (!fuzz_refused(key_check_joined(pem, len), 1u << ERR_PROTOCOL | 1u << ERR_CONFIG))
        assert(memmem(pem, len, "PRIVATE KEY", 11) != NULL);
    assert(ERR_peek_error() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0 || data[0] != 0x30) {
        AUTO_FREE char *text = mem_dup(data, len);
        try_text(text, len);
        return 0;
    }
    AUTO_BUF struct buf pem = BUF_INIT(2 * len + 4096);
    for (size_t at = 0; at < len && pem.len < 2 * len + 2048;)
        at += put_block(&pem, data + at, len - at);
    try_text(buf_str(&pem), pem.len);
    return 0;
}
