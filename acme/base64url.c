/* SPDX-License-Identifier: Apache-2.0 */
#include "acme/base64url.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char *base64url_encode(const void *data, size_t len)
{
    const uint8_t *in = data;
    char *text = mem_array(len / 3 + 1, 4);
    char *out = text;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t group = (uint32_t)in[i] << 16;
        if (n > 1)
            group |= (uint32_t)in[i + 1] << 8;
        if (n > 2)
            group |= in[i + 2];
        for (size_t k = 0; k <= n; k++)
            *out++ = alphabet[(group >> (18 - 6 * k)) & 63];
    }
    *out = '\0';
    return text;
}

/* The value of a character, -1 for one outside of the alphabet. */
static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '-')
        return 62;
    return c == '_' ? 63 : -1;
}

bool base64url_is_token(const char *text, size_t min, size_t max)
{
    size_t n = 0;
    while (n <= max && text[n] != '\0') {
        if (digit_value(text[n]) < 0)
            return false;
        n++;
    }
    return n >= min && n <= max;
}

struct err *base64url_decode(const char *text, size_t len, struct buf *ret)
{
    if (len % 4 == 1)
        return ERR(ERR_PROTOCOL, "%zu characters are no base64url text", len);
    uint32_t bits = 0;
    unsigned n_bits = 0;
    for (size_t i = 0; i < len; i++) {
        int value = digit_value(text[i]);
        if (value < 0)
            return ERR(ERR_PROTOCOL, "character %zu is not of the base64url alphabet", i + 1);
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            buf_putc(ret, (char)(bits >> n_bits & 0xff));
        }
    }
    if ((bits & ((1u << n_bits) - 1)) != 0)
        return ERR(ERR_PROTOCOL, "base64url text has bits behind its last byte");
    return buf_check(ret, "the base64url value");
}
