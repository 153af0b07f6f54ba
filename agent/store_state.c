/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lineages/<host>/state.json. Its version makes saving a compare-and-set: the file is read again
 * under the host's mutex and only replaced when it still says what the caller loaded. (Other
 * processes are kept out by the lock.)
 */
#include "agent/store_private.h"

#include <assert.h>

#define STATE_SCHEMA "certherd/state/1"
#define TEXT_MAX     4096

void host_state_done(struct host_state *state)
{
    free(state->error_kind);
    free(state->error_text);
    free(state->error_advice);
    free(state->deploy_error);
    for (size_t i = 0; i < state->n_deployed; i++)
        free(state->deployed[i].node);
    *state = (struct host_state){0};
}

/* ---- state.json ---- */

/* The instants, so that reading and writing can't drift apart. */
static const struct {
    const char *key;
    size_t offset;
} instants[] = {
        {"next_try", offsetof(struct host_state, next_try)},
        {"renew_from", offsetof(struct host_state, renew_from)},
        {"not_before", offsetof(struct host_state, not_before)},
        {"first_seen", offsetof(struct host_state, first_seen)},
        {"incomplete_since", offsetof(struct host_state, incomplete_since)},
        {"last_growth", offsetof(struct host_state, last_growth)},
        {"last_issued", offsetof(struct host_state, last_issued)},
        {"error_since", offsetof(struct host_state, error_since)},
        {"next_deploy", offsetof(struct host_state, next_deploy)},
};
static const struct {
    const char *key;
    size_t offset;
} texts[] = {
        {"error_kind", offsetof(struct host_state, error_kind)},
        {"error_text", offsetof(struct host_state, error_text)},
        {"error_advice", offsetof(struct host_state, error_advice)},
        {"deploy_error", offsetof(struct host_state, deploy_error)},
};

static void put_deployed(json_t *document, const struct host_state *state)
{
    json_t *array = store_json_made(json_array());
    for (size_t i = 0; i < state->n_deployed; i++) {
        const struct store_deployed *d = &state->deployed[i];
        json_t *item = store_json_made(json_object());
        json_put_str(item, "node", d->node);
        json_put_int(item, "generation", (int64_t)d->generation);
        store_put_wall(item, "since", d->since);
        json_push(array, item);
    }
    json_put(document, "deployed", array);
}

/* What is stored of foreign text is cut; the rest of it helps nobody. */
static void put_text(json_t *document, const char *key, const char *text)
{
    AUTO_FREE char *safe = text != NULL ? str_foreign(text, TEXT_MAX - 8) : NULL;
    json_put_str(document, key, safe);
}

static json_t *encode_state(const struct host_state *state, uint64_t version)
{
    json_t *document = store_document_new(STATE_SCHEMA);
    json_put_int(document, "version", (int64_t)version);
    json_put_int(document, "attempts", state->attempts);
    json_put_int(document, "deploy_attempts", state->deploy_attempts);
    const char *base = (const char *)state;
    for (size_t i = 0; i < ARRAY_SIZE(instants); i++) {
        struct wall t;
        memcpy(&t, base + instants[i].offset, sizeof(t));
        store_put_wall(document, instants[i].key, t);
    }
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        const char *text;
        memcpy(&text, base + texts[i].offset, sizeof(text));
        put_text(document, texts[i].key, text);
    }
    put_deployed(document, state);
    return document;
}

static struct err *get_deployed(const json_t *document, struct host_state *state)
{
    const json_t *array = NULL;
    TRY(json_get_array(document, "deployed", STORE_NODES_MAX, &array));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        const char *node = NULL;
        int64_t generation = 0;
        TRY_CTX(json_get_str(item, "node", 256, &node), "deployed[%zu]", i);
        TRY_CTX(json_get_int(item, "generation", 0, INT64_MAX, &generation), "deployed[%zu]", i);
        struct store_deployed *d = &state->deployed[state->n_deployed];
        TRY_CTX(store_get_wall(item, "since", &d->since), "deployed[%zu]", i);
        d->node = str_dup(node);
        d->generation = (uint64_t)generation;
        state->n_deployed++;
    }
    return NULL;
}

static struct err *decode_state(const json_t *document, struct host_state *ret)
{
    AUTO(host_state_done) struct host_state state = {0};
    int64_t version = 0, attempts = 0, deploy_attempts = 0;
    TRY(json_get_int(document, "version", 1, INT64_MAX - 1, &version));
    TRY(json_get_int(document, "attempts", 0, UINT32_MAX, &attempts));
    TRY(json_get_int(document, "deploy_attempts", 0, UINT32_MAX, &deploy_attempts));
    state.version = (uint64_t)version;
    state.attempts = (unsigned)attempts;
    state.deploy_attempts = (unsigned)deploy_attempts;
    char *base = (char *)&state;
    for (size_t i = 0; i < ARRAY_SIZE(instants); i++) {
        struct wall t;
        TRY(store_get_wall(document, instants[i].key, &t));
        memcpy(base + instants[i].offset, &t, sizeof(t));
    }
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        const char *text = NULL;
        TRY(json_opt_str(document, texts[i].key, TEXT_MAX, &text));
        char *copy = str_dup_null(text);
        memcpy(base + texts[i].offset, &copy, sizeof(copy));
    }
    TRY(get_deployed(document, &state));
    *ret = state;
    state = (struct host_state){0};
    return NULL;
}

struct state_job {
    struct store_job job;
    struct host_state *state;
    bool stored;
};

static struct err *state_read(struct store_job *job, struct host_state *ret)
{
    AUTO_FREE char *path = store_lineage_path(job->store, job->host, "state.json");
    AUTO_JSON json_t *document = NULL;
    TRY(store_document_read(job, path, STATE_SCHEMA, &document));
    *ret = (struct host_state){0};
    if (document == NULL)
        return NULL;
    struct err *bad = decode_state(document, ret);
    return bad != NULL ? store_document_bad(job, path, bad) : NULL;
}

static struct err *state_load_blocking(void *arg)
{
    struct state_job *job = arg;
    return state_read(&job->job, job->state);
}

struct err *store_state_load(struct store *store, const struct name *host, struct host_state *ret)
{
    AUTO(host_state_done) struct host_state state = {0};
    struct state_job job = {.job.host = host, .state = &state};
    TRY(store_work(store, state_load_blocking, &job));
    *ret = state;
    state = (struct host_state){0};
    return NULL;
}

static struct err *state_save_locked(struct state_job *job)
{
    AUTO(host_state_done) struct host_state current = {0};
    TRY(state_read(&job->job, &current));
    job->stored = current.version == job->state->version;
    if (!job->stored)
        return NULL;
    TRY(store_lineage_make(job->job.store, job->job.host));
    AUTO_FREE char *path = store_lineage_path(job->job.store, job->job.host, "state.json");
    AUTO_JSON json_t *document = encode_state(job->state, job->state->version + 1);
    TRY(store_document_write(path, document));
    /* Here, not by the waiting fiber: a cancelled one must not forget what is on disk. */
    job->state->version++;
    return NULL;
}

/* djb2; only spreads hosts over mutexes */
static pthread_mutex_t *cas_mutex(struct store *store, const struct name *host)
{
    unsigned hash = 5381;
    for (const char *p = host->text; *p != '\0'; p++)
        hash = hash * 33 + (unsigned char)*p;
    return &store->cas[hash % STORE_LOCKS];
}

static struct err *state_save_blocking(void *arg)
{
    struct state_job *job = arg;
    pthread_mutex_t *mutex = cas_mutex(job->job.store, job->job.host);
    pthread_mutex_lock(mutex);
    struct err *e = state_save_locked(job);
    pthread_mutex_unlock(mutex);
    return e;
}

struct err *store_state_save(
        struct store *store, const struct name *host, struct host_state *state, bool *ret_stored)
{
    TRY(store_check_write(store));
    assert(state->n_deployed <= STORE_NODES_MAX);
    struct state_job job = {.job.host = host, .state = state};
    TRY_CTX(store_work(store, state_save_blocking, &job), "state of %s", host->text);
    *ret_stored = job.stored;
    return NULL;
}
