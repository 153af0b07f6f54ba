/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenSSL's secure heap is one locked mapping between guard pages, kept out of core dumps. It has a
 * fixed size; when it is full (or was never made) a secret goes to the ordinary heap and is wiped
 * all the same: running on beats being stricter than the machine allows.
 */
#include "base/secret.h"

#include <openssl/crypto.h>

/* OpenSSL itself puts private numbers of keys here; its minimum block wants a power of two. */
#define HEAP_SIZE  ((size_t)1024 * 1024)
#define HEAP_BLOCK ((size_t)32)

struct secret {
    size_t len;
    char data[];
};

void secret_heap_init(void)
{
    if (CRYPTO_secure_malloc_initialized())
        return;
    /* 2 (it could not be locked) and 0 (not made at all) are both served by the fallback. */
    (void)CRYPTO_secure_malloc_init(HEAP_SIZE, HEAP_BLOCK);
}

static struct secret *alloc(size_t len)
{
    size_t size;
    if (__builtin_add_overflow(sizeof(struct secret) + 1, len, &size))
        mem_fail(SIZE_MAX);
    struct secret *s = OPENSSL_secure_malloc(size);
    if (s == NULL)
        s = OPENSSL_malloc(size);
    if (s == NULL)
        mem_fail(size);
    s->len = len;
    s->data[len] = '\0';
    return s;
}

struct secret *secret_new(const void *data, size_t len)
{
    struct secret *s = alloc(len);
    if (len > 0)
        memcpy(s->data, data, len);
    return s;
}

struct secret *secret_take_str(char *owned)
{
    size_t len = strlen(owned);
    struct secret *s = secret_new(owned, len);
    OPENSSL_cleanse(owned, len);
    free(owned);
    return s;
}

struct secret *secret_dup(const struct secret *s)
{
    return secret_new(s->data, s->len);
}

const char *secret_reveal(const struct secret *s, size_t *ret_len)
{
    if (ret_len != NULL)
        *ret_len = s->len;
    return s->data;
}

bool secret_equal(const struct secret *a, const void *data, size_t len)
{
    /* The length is not the secret; the bytes are. */
    return a->len == len && CRYPTO_memcmp(a->data, data, len) == 0;
}

void secret_free(struct secret *s)
{
    if (s != NULL)
        OPENSSL_secure_clear_free(s, sizeof(*s) + s->len + 1);
}
