/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file backend. Every public call packs its arguments into a job, runs the blocking half on the
 * thread pool and then writes the warnings that the job collected; so a slow disk never holds up
 * the loop, and the log's scopes are touched by the loop's thread only.
 *
 * Only the holder of the lock sweeps: another process' temporary files are not a crash's remains.
 */
#include "agent/store_private.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_SIZE ((size_t)64 * 1024) /* key, chain, joined file and state of one issuance */

static const char *const private_dirs[] = {"lineages", "accounts", "budget", "journal"};

struct err *store_work(struct store *store, struct err *(*fn)(void *arg), void *arg)
{
    struct store_job *job = arg;
    job->store = store;
    job->now = world_now(store->world);
    struct err *e = fiber_work(fn, arg);
    for (size_t i = 0; i < job->warnings.n; i++)
        log_warning("state", job->warnings.v[i],
                LOG_STR("host", job->host != NULL ? job->host->text : NULL));
    strv_done(&job->warnings);
    return e;
}

void store_warn(struct store_job *job, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    strv_take(&job->warnings, str_vprintf(fmt, ap));
    va_end(ap);
}

struct err *store_check_write(const struct store *store)
{
    if (store->read_only)
        return ERR(ERR_LOCAL, "the state in %s was opened for reading only", store->state_dir);
    return NULL;
}

/* ---- paths ---- */

char *store_path(const struct store *store, const char *relative)
{
    return str_printf("%s/%s", store->state_dir, relative);
}

char *store_lineage_path(const struct store *store, const struct name *host, const char *rest)
{
    return str_printf("%s/lineages/%s%s%s", store->state_dir, host->text, rest != NULL ? "/" : "",
            rest != NULL ? rest : "");
}

char *store_live_path(const struct store *store, const struct name *host)
{
    return str_printf("%s/%s.pem", store->cert_dir, host->text);
}

bool store_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 || errno != ENOENT;
}

struct err *store_lineage_make(const struct store *store, const struct name *host)
{
    AUTO_FREE char *path = store_lineage_path(store, host, NULL);
    return file_mkdir(path, 0700);
}

/* Files that were not renamed yet, and directories that were on their way out. */
struct err *store_lineage_sweep(const struct store *store, const struct name *host)
{
    AUTO_FREE char *dir = store_lineage_path(store, host, NULL);
    AUTO_FREE char *pending = store_lineage_path(store, host, "pending");
    AUTO_STRV struct strv entries = {0};
    TRY(file_sweep_temporary(dir));
    TRY(file_sweep_temporary(pending));
    TRY(file_list(dir, STORE_ENTRIES_MAX, &entries, &(bool){false}));
    for (size_t i = 0; i < entries.n; i++) {
        const char *entry = entries.v[i];
        if (!str_starts(entry, ".") || !str_ends(entry, ".tmp"))
            continue;
        AUTO_FREE char *path = str_printf("%s/%s", dir, entry);
        TRY(file_remove_tree(path));
    }
    return NULL;
}

/* ---- directories ---- */

/* Refuses what others could write to (state and certificates) or even read (what is below). */
static struct err *check_dir(const char *path, mode_t forbidden, const char *mode, bool owner)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return ERR_ERRNO(errno, "%s", path);
    if (!S_ISDIR(st.st_mode))
        return err_advise(
                ERR(ERR_CONFIG, "%s is not a directory", path), "move %s out of the way", path);
    if (owner && st.st_uid != geteuid())
        return err_advise(ERR(ERR_CONFIG, "%s belongs to user %u, not to us (user %u)", path,
                                  (unsigned)st.st_uid, (unsigned)geteuid()),
                "chown %u %s", (unsigned)geteuid(), path);
    if ((st.st_mode & forbidden) != 0)
        return err_advise(ERR(ERR_CONFIG, "%s has mode %04o, which lets others in", path,
                                  (unsigned)(st.st_mode & 07777)),
                "chmod %s %s", mode, path);
    return NULL;
}

/* A directory below state_dir must be one itself, not a link to one. */
static struct err *check_no_link(const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        return err_advise(ERR(ERR_CONFIG, "%s is a symbolic link", path),
                "put a directory in its place; mount other volumes there instead");
    return NULL;
}

/* Missing parents get 0755: the special mode is for the directory itself. */
static struct err *make_dir(const char *path, mode_t mode)
{
    if (store_exists(path))
        return NULL;
    AUTO_FREE char *parent = str_dup(path);
    char *slash = strrchr(parent, '/');
    if (slash != NULL && slash != parent) {
        *slash = '\0';
        if (!store_exists(parent))
            TRY(file_mkdir(parent, 0755));
    }
    return file_mkdir(path, mode);
}

static struct err *open_dirs(const struct store *store)
{
    TRY_CTX(make_dir(store->state_dir, 0711), "state_dir");
    TRY_CTX(check_dir(store->state_dir, 0022, "0711", true), "state_dir");
    for (size_t i = 0; i < ARRAY_SIZE(private_dirs); i++) {
        AUTO_FREE char *path = store_path(store, private_dirs[i]);
        TRY_CTX(check_no_link(path), "state_dir");
        TRY_CTX(make_dir(path, 0700), "state_dir");
        TRY_CTX(check_dir(path, 0077, "0700", true), "state_dir");
    }
    TRY_CTX(make_dir(store->cert_dir, 02750), "cert_dir");
    return err_context(check_dir(store->cert_dir, 0002, "2750", false), "cert_dir");
}

/* Nothing is made; what is there must not be loose either, but may belong to somebody else. */
static struct err *look_dirs(const struct store *store)
{
    if (store_exists(store->state_dir))
        TRY_CTX(check_dir(store->state_dir, 0022, "0711", false), "state_dir");
    if (store_exists(store->cert_dir))
        TRY_CTX(check_dir(store->cert_dir, 0002, "2750", false), "cert_dir");
    return NULL;
}

struct open_job {
    struct store_job job;
};

static struct err *open_blocking(void *arg)
{
    const struct open_job *job = arg;
    return job->job.store->read_only ? look_dirs(job->job.store) : open_dirs(job->job.store);
}

struct err *store_open(struct world *world, const struct store_options *options, struct store **ret)
{
    AUTO(store_closep) struct store *store = MEM_NEW(struct store);
    store->world = world;
    store->state_dir = str_dup(options->state_dir);
    store->cert_dir = options->cert_dir != NULL ? str_dup(options->cert_dir)
                                                : str_printf("%s/live", options->state_dir);
    store->read_only = options->read_only;
    for (size_t i = 0; i < STORE_LOCKS; i++)
        pthread_mutex_init(&store->cas[i], NULL);
    struct open_job job = {0};
    TRY(store_work(store, open_blocking, &job));
    *ret = STEAL(store);
    return NULL;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    file_lock_release(store->lock);
    for (size_t i = 0; i < STORE_LOCKS; i++)
        pthread_mutex_destroy(&store->cas[i]);
    free(store->state_dir);
    free(store->cert_dir);
    free(store);
}

/* ---- lock ---- */

struct lock_job {
    struct store_job job;
    struct file_lock *lock;
    pid_t holder;
};

static struct err *list_hosts(const struct store *store, struct name_list *ret)
{
    AUTO_FREE char *dir = store_path(store, "lineages");
    AUTO_STRV struct strv entries = {0};
    bool found = false;
    TRY(file_list(dir, STORE_LINEAGES_MAX, &entries, &found));
    struct name *names = mem_array(entries.n + 1, sizeof(*names));
    size_t n = 0;
    for (size_t i = 0; i < entries.n; i++) {
        AUTO_ERR struct err *e = name_parse(entries.v[i], &names[n]);
        if (e == NULL && strcmp(names[n].text, entries.v[i]) == 0)
            n++;
    }
    *ret = (struct name_list){.v = names, .n = n};
    return NULL;
}

/* What belongs to no host; accounts/ has one directory per CA. */
static struct err *sweep_private(const struct store *store)
{
    AUTO_FREE char *accounts = store_path(store, "accounts");
    AUTO_STRV struct strv entries = {0};
    for (size_t i = 0; i < ARRAY_SIZE(private_dirs); i++) {
        AUTO_FREE char *path = store_path(store, private_dirs[i]);
        TRY(file_sweep_temporary(path));
    }
    TRY(file_list(accounts, STORE_ENTRIES_MAX, &entries, &(bool){false}));
    for (size_t i = 0; i < entries.n; i++) {
        AUTO_FREE char *path = str_printf("%s/%s", accounts, entries.v[i]);
        struct stat st;
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
            TRY(file_sweep_temporary(path));
    }
    return NULL;
}

static struct err *sweep(const struct store *store)
{
    TRY(file_sweep_temporary(store->state_dir));
    TRY(file_sweep_temporary(store->cert_dir));
    TRY(sweep_private(store));
    AUTO(name_list_done) struct name_list hosts = {0};
    TRY(list_hosts(store, &hosts));
    for (size_t i = 0; i < hosts.n; i++)
        TRY(store_lineage_sweep(store, &hosts.v[i]));
    return NULL;
}

static struct err *lock_blocking(void *arg)
{
    struct lock_job *job = arg;
    AUTO_FREE char *path = store_path(job->job.store, "lock");
    AUTO(file_lock_releasep) struct file_lock *lock = NULL;
    TRY(file_lock_try(path, &lock, &job->holder));
    if (lock != NULL)
        TRY_CTX(sweep(job->job.store), "clearing away what a crash left");
    job->lock = STEAL(lock);
    return NULL;
}

struct err *store_lock(struct store *store, bool *ret_locked, pid_t *ret_holder)
{
    TRY(store_check_write(store));
    struct lock_job job = {0};
    if (store->lock == NULL) {
        struct err *e = store_work(store, lock_blocking, &job);
        store->lock = job.lock; /* also when we were cancelled: store_close() lets go */
        TRY(e);
    }
    *ret_locked = store->lock != NULL;
    *ret_holder = store->lock != NULL ? 0 : job.holder;
    return NULL;
}

/* ---- can we write? ---- */

static struct err *probe_dir(const char *dir, const char *what)
{
    /* No "*.pem" glob sees it, and what a crash leaves is replaced by the next probe. */
    AUTO_FREE char *path = str_printf("%s/.probe.tmp", dir);
    AUTO_FREE char *data = mem_zalloc(PROBE_SIZE);
    const struct file_write_options options = {.mode = 0600};
    struct err *e = file_write(path, data, PROBE_SIZE, &options);
    e = err_first(e, file_remove(path));
    if (e == NULL)
        return NULL;
    e = err_context(e, "%s cannot be written", what);
    return err_advise(e, "make %s writable and free some space in it", dir);
}

struct probe_job {
    struct store_job job;
};

static struct err *probe_blocking(void *arg)
{
    const struct probe_job *job = arg;
    TRY(probe_dir(job->job.store->state_dir, "state_dir"));
    return probe_dir(job->job.store->cert_dir, "cert_dir");
}

struct err *store_check_writable(struct store *store)
{
    TRY(store_check_write(store));
    struct probe_job job = {0};
    return store_work(store, probe_blocking, &job);
}

/* ---- hosts ---- */

struct hosts_job {
    struct store_job job;
    struct name_list hosts;
};

static struct err *hosts_blocking(void *arg)
{
    struct hosts_job *job = arg;
    return list_hosts(job->job.store, &job->hosts);
}

struct err *store_hosts(struct store *store, struct name_list *ret)
{
    struct hosts_job job = {0};
    struct err *e = store_work(store, hosts_blocking, &job);
    if (e != NULL) {
        name_list_done(&job.hosts);
        return e;
    }
    *ret = job.hosts;
    return NULL;
}
