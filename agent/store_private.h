/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the file backend share. Everything here blocks and runs on the thread pool, so
 * it neither logs nor asks the world for the time: warnings are collected in the job and written by
 * the fiber that waits for it.
 */
#pragma once

#include <pthread.h>

#include "agent/store.h"

#define STORE_LOCKS            64
#define STORE_DOCUMENT_MAX     ((size_t)256 * 1024)
#define STORE_JOINED_MAX       (CERT_CHAIN_MAX + 32 * 1024)
#define STORE_LINEAGES_MAX     ((size_t)100000)
#define STORE_ENTRIES_MAX      ((size_t)1000)
#define STORE_GENERATIONS_KEPT 3

struct store {
    struct world *world;
    char *state_dir, *cert_dir;
    bool read_only;
    struct file_lock *lock;
    pthread_mutex_t cas[STORE_LOCKS]; /* compare-and-set of one host's documents, by its hash */
};

/* What every job begins with. */
struct store_job {
    struct store *store;
    const struct name *host;
    struct wall now;
    struct strv warnings;
};
/* Runs fn(job) on the thread pool and writes the job's warnings. arg begins with a struct
 * store_job, whose now is filled in here. */
struct err *store_work(struct store *store, struct err *(*fn)(void *arg), void *arg)
        MAY_SUSPEND NODISCARD;
void store_warn(struct store_job *job, const char *fmt, ...) ATTR_PRINTF(2, 3);
/* ERR_LOCAL where the store was opened for reading. */
struct err *store_check_write(const struct store *store) NODISCARD;

/* <state_dir>/lineages/<host>[/<rest>] */
ATTR_MALLOC char *store_lineage_path(
        const struct store *store, const struct name *host, const char *rest);
/* Anything of that name, a dangling link too. */
bool store_exists(const char *path);
struct err *store_lineage_make(const struct store *store, const struct name *host) NODISCARD;
ATTR_MALLOC char *store_live_path(const struct store *store, const struct name *host);
/* Temporary files and directories of a lineage that a crash left. */
struct err *store_lineage_sweep(const struct store *store, const struct name *host) NODISCARD;

/* A JSON document with "schema". *ret NULL: there is none, or it was damaged: then it is kept as
 * <path>.bad-<time> and a warning is added. ERR_CONFIG for one of a newer schema. */
struct err *store_document_read(
        struct store_job *job, const char *path, const char *schema, json_t **ret) NODISCARD;
/* Passes through what jansson made; no memory ends the process, as in mem.h. */
json_t *store_json_made(json_t *made);
json_t *store_document_new(const char *schema);
struct err *store_document_write(const char *path, const json_t *document) NODISCARD;
/* For a document whose members are wrong: sets it aside, as store_document_read() does. Takes why.
 */
struct err *store_document_bad(struct store_job *job, const char *path, struct err *why) NODISCARD;
/* Instants with milliseconds; "nothing" (ms == 0) is null. */
void store_put_wall(json_t *object, const char *key, struct wall t);
struct err *store_get_wall(const json_t *object, const char *key, struct wall *ret) NODISCARD;
void store_put_names(json_t *object, const char *key, const struct name_list *names);
struct err *store_get_names(const json_t *object, const char *key, struct name_list *ret) NODISCARD;

/* store_generation.c */
#define STORE_HEX_MAX 65
void store_sha256(const void *data, size_t len, char ret[STORE_HEX_MAX]);
struct store_manifest {
    struct store_generation generation; /* cert from chain.pem itself */
    char *chain_pem;
    size_t chain_len;
    char *joined_sha256; /* of what is to be the live file */
    struct buf joined;   /* that itself, after store_generation_join() */
};
void store_manifest_done(struct store_manifest *manifest);
/* Reads a generation and checks that files and manifest agree. Every error means: damaged. */
struct err *store_generation_read(const struct store *store, const struct name *host,
        uint64_t number, struct store_manifest *ret) NODISCARD;
/* Makes the contents of the live file: opens the key and checks once more that it fits. */
struct err *store_generation_join(const struct store *store, const struct name *host,
        struct store_manifest *manifest) NODISCARD;
/* Is this, byte by byte, what one of the generations makes? By manifests alone. */
bool store_generation_made(
        const struct store *store, const struct name *host, const struct buf *joined);
/* Numbers on disk, newest first. */
struct err *store_generation_numbers(const struct store *store, const struct name *host,
        uint64_t **ret, size_t *ret_n) NODISCARD;

/* store_rules.c: may candidate replace what is live? */
struct store_candidate {
    const struct cert_info *cert;
    bool trusted; /* chains to the roots in force */
    bool staging;
};
/* live NULL: nothing usable is live. false: *ret_why (owned) says why not. */
bool store_may_replace(const struct store_candidate *live, const struct store_candidate *candidate,
        const struct store_install *install, char **ret_why);
