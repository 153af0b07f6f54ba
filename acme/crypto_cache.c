/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates that were decoded before, by their PEM text. One issuance reads the same chain some
 * ten times (after the download, before and after each file is written), all hosts have the same
 * intermediates, and OpenSSL 3.0 spends 0.2 ms on each certificate's public key. What comes out is
 * shared: OpenSSL's certificates are counted, and safe to read from several threads.
 */
#include <pthread.h>

#include "acme/crypto.h"

/* Chains of some twenty hosts that are under way at once, with what they have in common. */
#define ENTRIES ((size_t)64)

struct entry {
    char *text;
    size_t len;
    uint64_t hash;
    uint64_t used; /* when, by the clock below */
    X509 *cert;
};
static struct entry entries[ENTRIES];
static uint64_t uses;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* FNV-1a; only to compare few texts */
static uint64_t hash_of(const char *text, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3;
    return hash;
}

static struct entry *find(const char *text, size_t len, uint64_t hash)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &entries[i];
        if (e->hash == hash && e->len == len && e->cert != NULL && memcmp(e->text, text, len) == 0)
            return e;
    }
    return NULL;
}

static struct entry *least_used(void)
{
    struct entry *least = &entries[0];

    for (size_t i = 1; i < ENTRIES; i++)
        if (entries[i].used < least->used)
            least = &entries[i];
    return least;
}

X509 *crypto_cache_get(const char *text, size_t len)
{
    X509 *cert = NULL;

    pthread_mutex_lock(&mutex);
    struct entry *e = find(text, len, hash_of(text, len));
    if (e != NULL) {
        e->used = ++uses;
        X509_up_ref(e->cert);
        cert = e->cert;
    }
    pthread_mutex_unlock(&mutex);
    return cert;
}

void crypto_cache_put(const char *text, size_t len, X509 *cert)
{
    uint64_t hash = hash_of(text, len);

    pthread_mutex_lock(&mutex);
    if (find(text, len, hash) == NULL) {
        struct entry *e = least_used();
        free(e->text);
        X509_free(e->cert);
        X509_up_ref(cert);
        *e = (struct entry){mem_dup(text, len), len, hash, ++uses, cert};
    }
    pthread_mutex_unlock(&mutex);
}
