/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lineages/<host>/<n>: a generation is born by one rename. chain.pem and manifest.json are written
 * and fsynced beside the key in pending, then pending itself is renamed to the number: before that
 * instant there is an order that can be downloaded again, after it a complete generation, and never
 * both or neither. The key is not copied, linked or opened for it. What else lay in pending
 * (order.json) is removed afterwards; a crash before that leaves a file that nobody reads, until
 * the next commit.
 *
 * The manifest holds size and SHA-256 of the chain; for the key its size and the thumbprint of its
 * public half (RFC 7638), since a digest of the file would mean to open it here.
 */
#include "agent/store_private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>

#define MANIFEST_SCHEMA "certherd/generation/1"

void store_generation_done(struct store_generation *generation)
{
    cert_info_done(&generation->cert);
    free(generation->directory);
    *generation = (struct store_generation){0};
}

void store_manifest_done(struct store_manifest *manifest)
{
    store_generation_done(&manifest->generation);
    free(manifest->chain_pem);
    key_free(manifest->key);
    *manifest = (struct store_manifest){0};
}

/* ---- small things ---- */

#define HEX_MAX 65
static void hex_of(const uint8_t digest[32], char ret[HEX_MAX])
{
    for (size_t i = 0; i < 32; i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static void sha256_hex(const void *data, size_t len, char ret[HEX_MAX])
{
    uint8_t digest[32];
    if (EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) != 1)
        mem_fail(0); /* the one reason left */
    hex_of(digest, ret);
}

static struct err *file_size(const char *path, int64_t *ret)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return ERR_ERRNO(errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return ERR(ERR_PROTOCOL, "%s is not a regular file", path);
    *ret = st.st_size;
    return NULL;
}

static bool parse_number(const char *entry, uint64_t *ret)
{
    unsigned long long number = 0;
    if (entry[0] == '0' || !str_to_u64(entry, INT64_MAX, &number))
        return false;
    *ret = number;
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

struct err *store_generation_numbers(
        const struct store *store, const struct name *host, uint64_t **ret, size_t *ret_n)
{
    AUTO_FREE char *dir = store_lineage_path(store, host, NULL);
    AUTO_STRV struct strv entries = {0};
    bool found = false;
    TRY(file_list(dir, STORE_ENTRIES_MAX, &entries, &found));
    uint64_t *numbers = mem_array(entries.n + 1, sizeof(*numbers));
    size_t n = 0;
    for (size_t i = 0; i < entries.n; i++)
        n += parse_number(entries.v[i], &numbers[n]);
    qsort(numbers, n, sizeof(*numbers), newest_first);
    *ret = numbers;
    *ret_n = n;
    return NULL;
}

/* ---- manifest ---- */

static json_t *encode_manifest(const struct store_manifest *m, int64_t key_size, const char *thumb)
{
    const struct store_generation *g = &m->generation;
    char digest[HEX_MAX], leaf[HEX_MAX];
    sha256_hex(m->chain_pem, m->chain_len, digest);
    hex_of(g->cert.leaf_sha256, leaf);

    json_t *key = store_json_made(json_object());
    json_put_int(key, "size", key_size);
    json_put_str(key, "thumbprint", thumb);
    json_t *chain = store_json_made(json_object());
    json_put_int(chain, "size", (int64_t)m->chain_len);
    json_put_str(chain, "sha256", digest);
    json_t *files = store_json_made(json_object());
    json_put(files, "key.pem", key);
    json_put(files, "chain.pem", chain);
    json_t *names = store_json_made(json_array());
    for (size_t i = 0; i < g->cert.names.n; i++)
        json_push(names, store_json_made(json_string(g->cert.names.v[i])));

    json_t *document = store_document_new(MANIFEST_SCHEMA);
    json_put(document, "files", files);
    json_put(document, "names", names);
    json_put_str(document, "serial", g->cert.serial);
    json_put_str(document, "leaf_sha256", leaf);
    store_put_wall(document, "not_before", g->cert.not_before);
    store_put_wall(document, "not_after", g->cert.not_after);
    json_put_str(document, "issuer", g->cert.issuer);
    json_put_str(document, "directory", g->directory);
    json_put_bool(document, "staging", g->staging);
    store_put_wall(document, "made", g->made);
    return document;
}

static struct err *read_manifest(const char *dir, json_t **ret)
{
    AUTO_FREE char *path = str_printf("%s/manifest.json", dir);
    AUTO_BUF struct buf text = BUF_INIT(STORE_DOCUMENT_MAX);
    TRY(file_read(path, STORE_DOCUMENT_MAX, &text, NULL));
    AUTO_JSON json_t *document = NULL;
    TRY(json_parse(buf_str(&text), text.len, "manifest.json", &document));
    const char *schema = NULL;
    TRY(json_get_str(document, "schema", 64, &schema));
    if (strcmp(schema, MANIFEST_SCHEMA) != 0)
        return ERR(ERR_PROTOCOL, "manifest.json has schema '%s', expected '%s'", schema,
                MANIFEST_SCHEMA);
    *ret = STEAL(document);
    return NULL;
}

static struct err *check_chain(const char *dir, const json_t *files, struct store_manifest *m)
{
    const json_t *entry = NULL;
    const char *expected = NULL;
    TRY(json_get_object(files, "chain.pem", &entry));
    TRY(json_get_str(entry, "sha256", HEX_MAX, &expected));
    AUTO_FREE char *path = str_printf("%s/chain.pem", dir);
    AUTO_BUF struct buf pem = BUF_INIT(CERT_CHAIN_MAX);
    TRY(file_read(path, CERT_CHAIN_MAX, &pem, NULL));
    char digest[HEX_MAX];
    sha256_hex(buf_str(&pem), pem.len, digest);
    if (strcmp(digest, expected) != 0)
        return ERR(
                ERR_PROTOCOL, "chain.pem is not what manifest.json says (SHA-256 %.16s…)", digest);
    TRY(cert_parse(buf_str(&pem), pem.len, false, &m->generation.cert));
    m->chain_len = pem.len;
    m->chain_pem = buf_steal(&pem);
    return NULL;
}

static struct err *check_key(const char *dir, const json_t *files, struct store_manifest *m)
{
    const json_t *entry = NULL;
    const char *expected = NULL;
    int64_t expected_size = 0, size = 0;
    TRY(json_get_object(files, "key.pem", &entry));
    TRY(json_get_str(entry, "thumbprint", KEY_THUMBPRINT_MAX, &expected));
    TRY(json_get_int(entry, "size", 1, INT64_MAX, &expected_size));
    AUTO_FREE char *path = str_printf("%s/key.pem", dir);
    TRY(file_size(path, &size));
    if (size != expected_size)
        return ERR(ERR_PROTOCOL, "key.pem has %lld bytes, manifest.json says %lld", (long long)size,
                (long long)expected_size);
    TRY(key_open(path, &m->key));
    char thumb[KEY_THUMBPRINT_MAX];
    TRY(key_thumbprint(m->key, thumb));
    if (strcmp(thumb, expected) != 0)
        return ERR(ERR_PROTOCOL, "key.pem is not the key that manifest.json names");
    return key_check_matches(m->key, m->chain_pem, m->chain_len);
}

struct err *store_generation_read(const struct store *store, const struct name *host,
        uint64_t number, struct store_manifest *ret)
{
    AUTO_FREE char *rest = str_printf("%llu", (unsigned long long)number);
    AUTO_FREE char *dir = store_lineage_path(store, host, rest);
    AUTO_JSON json_t *document = NULL;
    const json_t *files = NULL;
    const char *directory = NULL;
    TRY(read_manifest(dir, &document));
    AUTO(store_manifest_done) struct store_manifest m = {.generation.number = number};
    TRY(json_get_object(document, "files", &files));
    TRY(json_opt_str(document, "directory", 2048, &directory));
    TRY(json_get_bool(document, "staging", &m.generation.staging));
    TRY(store_get_wall(document, "made", &m.generation.made));
    m.generation.directory = str_dup_null(directory);
    TRY(check_chain(dir, files, &m));
    TRY(check_key(dir, files, &m));
    *ret = m;
    m = (struct store_manifest){0};
    return NULL;
}

/* ---- newest ---- */

struct generation_job {
    struct store_job job;
    const char *chain_pem;
    size_t len;
    const char *directory;
    bool staging;
    struct store_generation generation;
};

/* What is damaged or can't be read is skipped: an older one is better than none. */
static struct err *newest_blocking(void *arg)
{
    struct generation_job *job = arg;
    AUTO_FREE uint64_t *numbers = NULL;
    size_t n = 0;
    TRY(store_generation_numbers(job->job.store, job->job.host, &numbers, &n));
    for (size_t i = 0; i < n; i++) {
        AUTO(store_manifest_done) struct store_manifest m = {0};
        AUTO_ERR struct err *e =
                store_generation_read(job->job.store, job->job.host, numbers[i], &m);
        if (e == NULL) {
            job->generation = m.generation;
            m.generation = (struct store_generation){0};
            return NULL;
        }
        store_warn(&job->job, "generation %llu of %s is damaged and left out: %s",
                (unsigned long long)numbers[i], job->job.host->text, err_text(e));
    }
    return NULL;
}

struct err *store_generation_newest(
        struct store *store, const struct name *host, struct store_generation *ret)
{
    struct generation_job job = {.job.host = host};
    struct err *e = store_work(store, newest_blocking, &job);
    if (e != NULL) {
        store_generation_done(&job.generation);
        return err_context(e, "generations of %s", host->text);
    }
    *ret = job.generation;
    return NULL;
}

/* ---- commit ---- */

static struct err *fill_manifest(
        const struct generation_job *job, const char *pending, struct store_manifest *m)
{
    AUTO_FREE char *key_path = str_printf("%s/key.pem", pending);
    TRY(key_open(key_path, &m->key));
    TRY(key_check_matches(m->key, job->chain_pem, job->len));
    TRY(cert_parse(job->chain_pem, job->len, false, &m->generation.cert));
    m->chain_pem = mem_dup(job->chain_pem, job->len);
    m->chain_len = job->len;
    m->generation.directory = str_dup_null(job->directory);
    m->generation.staging = job->staging;
    m->generation.made = job->job.now;
    return NULL;
}

static struct err *write_pending(const char *pending, const struct store_manifest *m)
{
    AUTO_FREE char *key_path = str_printf("%s/key.pem", pending);
    AUTO_FREE char *chain_path = str_printf("%s/chain.pem", pending);
    AUTO_FREE char *manifest_path = str_printf("%s/manifest.json", pending);
    int64_t key_size = 0;
    char thumb[KEY_THUMBPRINT_MAX];
    TRY(file_size(key_path, &key_size));
    TRY(key_thumbprint(m->key, thumb));
    const struct file_write_options options = {.mode = 0600};
    TRY(file_write(chain_path, m->chain_pem, m->chain_len, &options));
    AUTO_JSON json_t *document = encode_manifest(m, key_size, thumb);
    return store_document_write(manifest_path, document);
}

/* Beyond three the oldest go, each in one step. The newest good one is the one just made. */
static struct err *prune(const struct store_job *job)
{
    AUTO_FREE uint64_t *numbers = NULL;
    size_t n = 0;
    TRY(store_generation_numbers(job->store, job->host, &numbers, &n));
    for (size_t i = STORE_GENERATIONS_KEPT; i < n; i++) {
        AUTO_FREE char *number = str_printf("%llu", (unsigned long long)numbers[i]);
        AUTO_FREE char *hidden = str_printf(".%s.tmp", number);
        AUTO_FREE char *from = store_lineage_path(job->store, job->host, number);
        AUTO_FREE char *to = store_lineage_path(job->store, job->host, hidden);
        TRY(file_rename(from, to));
        TRY(file_remove_tree(to));
    }
    return NULL;
}

/* What is left to do when the generation exists; a failure of it costs nothing but room. */
static void tidy(struct generation_job *job, const char *dir)
{
    AUTO_FREE char *order = str_printf("%s/order.json", dir);
    AUTO_ERR struct err *e = file_remove(order);
    if (e == NULL)
        e = prune(&job->job);
    if (e != NULL)
        store_warn(&job->job, "old files of %s could not be removed: %s", job->job.host->text,
                err_text(e));
}

static struct err *commit_blocking(void *arg)
{
    struct generation_job *job = arg;
    struct store *store = job->job.store;
    AUTO_FREE char *pending = store_lineage_path(store, job->job.host, "pending");
    AUTO_FREE uint64_t *numbers = NULL;
    size_t n = 0;
    AUTO(store_manifest_done) struct store_manifest m = {0};
    TRY(fill_manifest(job, pending, &m));
    TRY(store_generation_numbers(store, job->job.host, &numbers, &n));
    m.generation.number = n > 0 ? numbers[0] + 1 : 1;
    AUTO_FREE char *number = str_printf("%llu", (unsigned long long)m.generation.number);
    AUTO_FREE char *dir = store_lineage_path(store, job->job.host, number);
    TRY(write_pending(pending, &m));
    TRY(file_sync_dir(pending));
    TRY(file_rename(pending, dir));
    tidy(job, dir);
    job->generation = m.generation;
    m.generation = (struct store_generation){0};
    return NULL;
}

struct err *store_generation_commit(struct store *store, const struct name *host,
        const char *chain_pem, size_t len, const char *directory, bool staging,
        struct store_generation *ret)
{
    TRY(store_check_write(store));
    struct generation_job job = {.job.host = host,
            .chain_pem = chain_pem,
            .len = len,
            .directory = directory,
            .staging = staging};
    struct err *e = store_work(store, commit_blocking, &job);
    if (e != NULL) {
        store_generation_done(&job.generation);
        return err_context(e, "storing the certificate of %s", host->text);
    }
    *ret = job.generation;
    return NULL;
}
