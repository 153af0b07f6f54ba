/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Root stores, parsed once: the system's bundle costs 20 ms. A few are kept, by path; one whose
 * file has another time stamp, size or inode is read again.
 */
#include <openssl/err.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/tls_private.h"

#define STORES_MAX 4

struct cached {
    char *path;
    struct stat stat;
    X509_STORE *store;
};
static struct cached cache[STORES_MAX];
static size_t next_victim;

const char *tls_system_roots(void)
{
    static const char *const places[] = {
            "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Alpine */
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora */
            "/etc/ssl/ca-bundle.pem",                            /* SUSE */
            "/etc/ssl/cert.pem",                                 /* BSD, Alpine */
    };

    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return NULL;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void drop(struct cached *c)
{
    X509_STORE_free(c->store);
    free(c->path);
    *c = (struct cached){0};
}

static struct cached *lookup(const char *path)
{
    for (size_t i = 0; i < STORES_MAX; i++)
        if (cache[i].path != NULL && strcmp(cache[i].path, path) == 0)
            return &cache[i];
    return NULL;
}

static struct err *load(const char *path, const struct stat *st, struct cached **ret)
{
    X509_STORE *store = X509_STORE_new();

    if (store == NULL)
        mem_fail(0);
    if (X509_STORE_load_file(store, path) != 1) {
        X509_STORE_free(store);
        return err_advise(ERR_OPENSSL(ERR_CONFIG, "root certificates %s", path),
                "check the CA bundle %s: PEM certificates", path);
    }
    ERR_clear_error();
    struct cached *c = &cache[next_victim];
    next_victim = (next_victim + 1) % STORES_MAX;
    drop(c);
    *c = (struct cached){.path = str_dup(path), .stat = *st, .store = store};
    *ret = c;
    return NULL;
}

struct err *tls_roots_store(const char *path, X509_STORE **ret)
{
    struct stat st;

    if (path == NULL)
        path = tls_system_roots();
    if (path == NULL)
        return err_advise(ERR(ERR_CONFIG, "this system has no store of root certificates"),
                "install ca-certificates");
    if (stat(path, &st) != 0)
        return err_advise(
                ERR_ERRNO(errno, "root certificates %s", path), "check the CA bundle %s", path);
    struct cached *c = lookup(path);
    if (c != NULL && !same_file(&c->stat, &st)) {
        drop(c);
        c = NULL;
    }
    if (c == NULL)
        TRY(load(path, &st, &c));
    *ret = c->store;
    return NULL;
}
