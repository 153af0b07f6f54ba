/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lineages/<host>/<n>: a generation is born by one rename. chain.pem and manifest.json are written
 * and fsynced beside the key in pending, then pending itself is renamed to the number: before that
 * instant there is an order that can be downloaded again, after it a complete generation, and never
 * both or neither. The key is not copied, linked or opened for it. What else lay in pending
 * (order.json) is removed afterwards; a crash before that leaves a file that nobody reads, until
 * the next commit.
 *
 * The manifest holds the SHA-256 of key, chain and of both joined, so that whether they are as they
 * were is told without parsing a key, which costs half a millisecond; a thousand hosts with nothing
 * due are looked at in each run. The digest of the key's file is made by acme/keys.h.
 */
#include "agent/store_private.h"

#include <openssl/evp.h>
#include <stdio.h>

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
    free(manifest->joined_sha256);
    buf_done(&manifest->joined);
    *manifest = (struct store_manifest){0};
}

/* ---- small things ---- */

static void hex_of(const uint8_t digest[32], char ret[STORE_HEX_MAX])
{
    for (size_t i = 0; i < 32; i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

void store_sha256(const void *data, size_t len, char ret[STORE_HEX_MAX])
{
    uint8_t digest[32];
    if (EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) != 1)
        mem_fail(0); /* the one reason left */
    hex_of(digest, ret);
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

static json_t *digest_entry(const char *digest, size_t size)
{
    json_t *entry = store_json_made(json_object());
    json_put_int(entry, "size", (int64_t)size);
    json_put_str(entry, "sha256", digest);
    return entry;
}

static json_t *encode_files(const struct store_manifest *m, const char *key_digest)
{
    char chain[STORE_HEX_MAX], joined[STORE_HEX_MAX];
    store_sha256(m->chain_pem, m->chain_len, chain);
    store_sha256(buf_str(&m->joined), m->joined.len, joined);
    json_t *files = store_json_made(json_object());
    json_t *key = store_json_made(json_object());
    json_put_str(key, "sha256", key_digest);
    json_put(files, "key.pem", key);
    json_put(files, "chain.pem", digest_entry(chain, m->chain_len));
    json_put(files, "joined", digest_entry(joined, m->joined.len));
    return files;
}

static json_t *encode_manifest(const struct store_manifest *m, const char *key_digest)
{
    const struct store_generation *g = &m->generation;
    char leaf[STORE_HEX_MAX];
    hex_of(g->cert.leaf_sha256, leaf);
    json_t *names = store_json_made(json_array());
    for (size_t i = 0; i < g->cert.names.n; i++)
        json_push(names, store_json_made(json_string(g->cert.names.v[i])));

    json_t *document = store_document_new(MANIFEST_SCHEMA);
    json_put(document, "files", encode_files(m, key_digest));
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

static struct err *get_digest(const json_t *files, const char *file, const char **ret)
{
    const json_t *entry = NULL;
    TRY(json_get_object(files, file, &entry));
    return json_get_str(entry, "sha256", STORE_HEX_MAX - 1, ret);
}

static struct err *check_chain(const char *dir, const json_t *files, struct store_manifest *m)
{
    const char *expected = NULL;
    TRY(get_digest(files, "chain.pem", &expected));
    AUTO_FREE char *path = str_printf("%s/chain.pem", dir);
    AUTO_BUF struct buf pem = BUF_INIT(CERT_CHAIN_MAX);
    TRY(file_read(path, CERT_CHAIN_MAX, &pem, NULL));
    char digest[STORE_HEX_MAX];
    store_sha256(buf_str(&pem), pem.len, digest);
    if (strcmp(digest, expected) != 0)
        return ERR(ERR_PROTOCOL, "chain.pem is not what manifest.json says (%zu bytes)", pem.len);
    TRY(cert_parse(buf_str(&pem), pem.len, false, &m->generation.cert));
    m->chain_len = pem.len;
    m->chain_pem = buf_steal(&pem);
    return NULL;
}

static struct err *check_key(const char *dir, const json_t *files)
{
    const char *expected = NULL;
    uint8_t digest[32];
    char hex[STORE_HEX_MAX];
    TRY(get_digest(files, "key.pem", &expected));
    AUTO_FREE char *path = str_printf("%s/key.pem", dir);
    TRY(key_file_sha256(path, digest));
    hex_of(digest, hex);
    if (strcmp(hex, expected) != 0)
        return ERR(ERR_PROTOCOL, "key.pem is not what manifest.json says");
    return NULL;
}

static char *generation_dir(const struct store *store, const struct name *host, uint64_t number)
{
    AUTO_FREE char *rest = str_printf("%llu", (unsigned long long)number);
    return store_lineage_path(store, host, rest);
}

struct err *store_generation_read(const struct store *store, const struct name *host,
        uint64_t number, struct store_manifest *ret)
{
    AUTO_FREE char *dir = generation_dir(store, host, number);
    AUTO_JSON json_t *document = NULL;
    const json_t *files = NULL;
    const char *directory = NULL, *joined = NULL;
    TRY(read_manifest(dir, &document));
    AUTO(store_manifest_done) struct store_manifest m = {.generation.number = number};
    TRY(json_get_object(document, "files", &files));
    TRY(json_opt_str(document, "directory", 2048, &directory));
    TRY(json_get_bool(document, "staging", &m.generation.staging));
    TRY(store_get_wall(document, "made", &m.generation.made));
    TRY(get_digest(files, "joined", &joined));
    m.generation.directory = str_dup_null(directory);
    m.joined_sha256 = str_dup(joined);
    TRY(check_chain(dir, files, &m));
    TRY(check_key(dir, files));
    *ret = m;
    m = (struct store_manifest){0};
    return NULL;
}

static struct err *join(const char *dir, struct store_manifest *m)
{
    AUTO_FREE char *path = str_printf("%s/key.pem", dir);
    AUTO(key_freep) struct key *key = NULL;
    m->joined = BUF_INIT_SECRET(STORE_JOINED_MAX);
    TRY(key_open(path, &key));
    TRY(key_check_matches(key, m->chain_pem, m->chain_len));
    return key_join_chain(key, m->chain_pem, m->chain_len, &m->joined);
}

struct err *store_generation_join(
        const struct store *store, const struct name *host, struct store_manifest *m)
{
    AUTO_FREE char *dir = generation_dir(store, host, m->generation.number);
    return join(dir, m);
}

static struct err *joined_digest(const char *dir, char ret[STORE_HEX_MAX])
{
    AUTO_JSON json_t *document = NULL;
    const json_t *files = NULL;
    const char *digest = NULL;
    TRY(read_manifest(dir, &document));
    TRY(json_get_object(document, "files", &files));
    TRY(get_digest(files, "joined", &digest));
    snprintf(ret, STORE_HEX_MAX, "%s", digest);
    return NULL;
}

bool store_generation_made(
        const struct store *store, const struct name *host, const struct buf *joined)
{
    AUTO_FREE uint64_t *numbers = NULL;
    size_t n = 0;
    char wanted[STORE_HEX_MAX], found[STORE_HEX_MAX];
    store_sha256(buf_str(joined), joined->len, wanted);
    AUTO_ERR struct err *none = store_generation_numbers(store, host, &numbers, &n);
    for (size_t i = 0; none == NULL && i < n; i++) {
        AUTO_FREE char *dir = generation_dir(store, host, numbers[i]);
        AUTO_ERR struct err *bad = joined_digest(dir, found);
        if (bad == NULL && strcmp(found, wanted) == 0)
            return true;
    }
    return false;
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
    TRY(cert_parse(job->chain_pem, job->len, false, &m->generation.cert));
    m->chain_pem = mem_dup(job->chain_pem, job->len);
    m->chain_len = job->len;
    m->generation.directory = str_dup_null(job->directory);
    m->generation.staging = job->staging;
    m->generation.made = job->job.now;
    return join(pending, m);
}

static struct err *write_pending(const char *pending, const struct store_manifest *m)
{
    AUTO_FREE char *key_path = str_printf("%s/key.pem", pending);
    AUTO_FREE char *chain_path = str_printf("%s/chain.pem", pending);
    AUTO_FREE char *manifest_path = str_printf("%s/manifest.json", pending);
    uint8_t digest[32];
    char hex[STORE_HEX_MAX];
    TRY(key_file_sha256(key_path, digest));
    hex_of(digest, hex);
    const struct file_write_options options = {.mode = 0600};
    TRY(file_write(chain_path, m->chain_pem, m->chain_len, &options));
    AUTO_JSON json_t *document = encode_manifest(m, hex);
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
