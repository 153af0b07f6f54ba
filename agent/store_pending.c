/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lineages/<host>/pending: what must outlive a crash between newOrder and the certificate. The
 * directory appears with the order and vanishes as a whole, by a rename: either because the order
 * is forgotten, or because it became a generation (store_generation.c). So there is never an order
 * whose key was lost on the way.
 */
#include "agent/store_private.h"

#define ORDER_SCHEMA "certherd/order/1"
#define URL_MAX      2048

void store_pending_done(struct store_pending *pending)
{
    free(pending->order_url);
    free(pending->directory);
    name_list_done(&pending->names);
    *pending = (struct store_pending){0};
}

static json_t *encode_pending(const struct store_pending *pending)
{
    json_t *document = store_document_new(ORDER_SCHEMA);
    json_put_str(document, "order_url", pending->order_url);
    json_put_str(document, "directory", pending->directory);
    store_put_names(document, "names", &pending->names);
    store_put_wall(document, "made", pending->made);
    return document;
}

static struct err *decode_pending(const json_t *document, struct store_pending *ret)
{
    AUTO(store_pending_done) struct store_pending pending = {.exists = true};
    const char *order_url = NULL, *directory = NULL;
    TRY(json_opt_str(document, "order_url", URL_MAX, &order_url));
    TRY(json_opt_str(document, "directory", URL_MAX, &directory));
    TRY(store_get_names(document, "names", &pending.names));
    TRY(store_get_wall(document, "made", &pending.made));
    pending.order_url = str_dup_null(order_url);
    pending.directory = str_dup_null(directory);
    *ret = pending;
    pending = (struct store_pending){0};
    return NULL;
}

struct pending_job {
    struct store_job job;
    struct store_pending *ret;
    const struct store_pending *pending;
    enum key_type type;
    struct key *key;
};

static struct err *pending_load_blocking(void *arg)
{
    struct pending_job *job = arg;
    AUTO_FREE char *path = store_lineage_path(job->job.store, job->job.host, "pending/order.json");
    AUTO_JSON json_t *document = NULL;
    TRY(store_document_read(&job->job, path, ORDER_SCHEMA, &document));
    if (document == NULL)
        return NULL;
    struct err *bad = decode_pending(document, job->ret);
    return bad != NULL ? store_document_bad(&job->job, path, bad) : NULL;
}

struct err *store_pending_load(
        struct store *store, const struct name *host, struct store_pending *ret)
{
    AUTO(store_pending_done) struct store_pending pending = {0};
    struct pending_job job = {.job.host = host, .ret = &pending};
    TRY(store_work(store, pending_load_blocking, &job));
    *ret = pending;
    pending = (struct store_pending){0};
    return NULL;
}

static struct err *make_pending_dir(const struct store_job *job)
{
    AUTO_FREE char *dir = store_lineage_path(job->store, job->host, "pending");
    return file_mkdir(dir, 0700);
}

static struct err *pending_save_blocking(void *arg)
{
    struct pending_job *job = arg;
    AUTO_FREE char *path = store_lineage_path(job->job.store, job->job.host, "pending/order.json");
    AUTO_JSON json_t *document = encode_pending(job->pending);
    TRY(make_pending_dir(&job->job));
    return store_document_write(path, document);
}

struct err *store_pending_save(
        struct store *store, const struct name *host, const struct store_pending *pending)
{
    TRY(store_check_write(store));
    struct pending_job job = {.job.host = host, .pending = pending};
    return err_context(store_work(store, pending_save_blocking, &job), "order of %s", host->text);
}

static struct err *pending_key_blocking(void *arg)
{
    struct pending_job *job = arg;
    AUTO_FREE char *path = store_lineage_path(job->job.store, job->job.host, "pending/key.pem");
    TRY(make_pending_dir(&job->job));
    if (!store_exists(path))
        return key_create(path, job->type, &job->key);
    struct err *e = key_open(path, &job->key);
    if (e == NULL || err_is(e, ERR_LOCAL))
        return e;
    return err_advise(e, "remove %s; the next run then makes a new key and a new order", path);
}

struct err *store_pending_key(
        struct store *store, const struct name *host, enum key_type type, struct key **ret)
{
    TRY(store_check_write(store));
    struct pending_job job = {.job.host = host, .type = type};
    struct err *e = store_work(store, pending_key_blocking, &job);
    if (e != NULL) {
        key_free(job.key);
        return err_context(e, "key of %s", host->text);
    }
    *ret = job.key;
    return NULL;
}

/* Gone in one step, so that no crash leaves an order whose key is lost. */
static struct err *pending_drop_blocking(void *arg)
{
    struct pending_job *job = arg;
    AUTO_FREE char *path = store_lineage_path(job->job.store, job->job.host, "pending");
    AUTO_FREE char *doomed = store_lineage_path(job->job.store, job->job.host, ".pending.tmp");
    if (!store_exists(path))
        return NULL;
    TRY(file_remove_tree(doomed));
    TRY(file_rename(path, doomed));
    return file_remove_tree(doomed);
}

struct err *store_pending_drop(struct store *store, const struct name *host)
{
    TRY(store_check_write(store));
    struct pending_job job = {.job.host = host};
    return store_work(store, pending_drop_blocking, &job);
}
