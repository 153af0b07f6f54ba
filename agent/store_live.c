/* SPDX-License-Identifier: Apache-2.0 */
/*
 * <cert_dir>/<host>.pem, the one file that ejabberd reads. It is derived from a generation and
 * replaced by rename after the temporary file was read back and checked, because ejabberd drops
 * what it can't use and answers "0" all the same: from then on every new connection of the host
 * fails. The mtime rises by whole seconds, else ejabberd overlooks the change.
 *
 * A live file that can't be read (EIO) is an error and stays; one that can be read but not used is
 * no obstacle.
 */
#include "agent/store_private.h"

#include <errno.h>
#include <sys/stat.h>

#define LIVE_MODE 0640

/* ---- reading ---- */

struct live_file {
    enum store_live state;
    struct buf pem;
    struct cert_info cert; /* where GOOD */
    char *why;             /* where DAMAGED */
    bool access_ok;        /* mode and group are what a new file would get */
    struct stat st;        /* unless NONE */
};

static void live_file_done(struct live_file *file)
{
    buf_done(&file->pem);
    cert_info_done(&file->cert);
    free(file->why);
    *file = (struct live_file){0};
}

static struct err *damaged(struct live_file *file, struct err *why)
{
    AUTO_ERR struct err *e = why;
    file->state = STORE_LIVE_DAMAGED;
    file->why = str_dup(err_text(e));
    return NULL;
}

static bool access_ok(const char *dir, const struct stat *st)
{
    struct stat parent;
    if ((st->st_mode & 07777) != LIVE_MODE || stat(dir, &parent) != 0)
        return false;
    return (parent.st_mode & S_ISGID) == 0 || parent.st_gid == st->st_gid;
}

/* A file that is byte by byte what a generation makes was checked when that was made. */
static struct err *look_at_pem(const struct store_job *job, struct live_file *file)
{
    struct err *e = cert_parse(buf_str(&file->pem), file->pem.len, true, &file->cert);
    if (e == NULL && !store_generation_made(job->store, job->host, &file->pem))
        e = key_check_joined(buf_str(&file->pem), file->pem.len);
    if (e != NULL)
        return damaged(file, e);
    file->state = STORE_LIVE_GOOD;
    return NULL;
}

static struct err *live_read(const struct store_job *job, const char *path, struct live_file *ret)
{
    struct stat st;
    *ret = (struct live_file){.pem = BUF_INIT_SECRET(STORE_JOINED_MAX)};
    if (!store_exists(path))
        return NULL;
    if (stat(path, &st) != 0)
        return errno == ENOENT || errno == ELOOP
                       ? damaged(ret, ERR(ERR_LOCAL, "%s is a dangling link", path))
                       : ERR_ERRNO(errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return damaged(ret, ERR(ERR_LOCAL, "%s is not a regular file", path));
    if (st.st_size > (off_t)STORE_JOINED_MAX)
        return damaged(ret, ERR(ERR_LOCAL, "%s is larger than %zu bytes", path, STORE_JOINED_MAX));
    TRY(file_read(path, STORE_JOINED_MAX, &ret->pem, NULL));
    ret->access_ok = access_ok(job->store->cert_dir, &st);
    ret->st = st;
    return look_at_pem(job, ret);
}

struct load_job {
    struct store_job job;
    struct live_file file;
};

static struct err *load_blocking(void *arg)
{
    struct load_job *job = arg;
    AUTO_FREE char *path = store_live_path(job->job.store, job->job.host);
    return live_read(&job->job, path, &job->file);
}

struct err *store_live_load(struct store *store, const struct name *host,
        enum store_live *ret_state, struct cert_info *ret, char **ret_why)
{
    struct load_job job = {.job.host = host};
    struct err *e = store_work(store, load_blocking, &job);
    if (e == NULL) {
        *ret_state = job.file.state;
        *ret = job.file.cert;
        job.file.cert = (struct cert_info){0};
        *ret_why = STEAL(job.file.why);
    }
    live_file_done(&job.file);
    return e;
}

/* ---- writing ---- */

/* The last look at the temporary file: what ejabberd is going to read, not what we meant to write.
 */
struct read_back {
    const struct cert_info *expected;
    const struct name *host; /* that it must cover; NULL: whatever it covers */
    const char *dir;
    const struct live_file *replaced; /* or NULL */
};

/* A file that ejabberd may no longer read is dropped by it like a broken one. setgid says that
 * somebody has thought about the group. */
static struct err *check_readers(const struct read_back *back, const char *path)
{
    struct stat dir, fresh;
    if (back->replaced == NULL || back->replaced->state != STORE_LIVE_GOOD)
        return NULL;
    if (stat(back->dir, &dir) != 0 || stat(path, &fresh) != 0)
        return ERR_ERRNO(errno, "%s", path);
    const struct stat *old = &back->replaced->st;
    bool group_lost = (old->st_mode & S_IRGRP) != 0 && fresh.st_gid != old->st_gid;
    bool others_lost = (old->st_mode & S_IROTH) != 0 && fresh.st_uid == 0;
    if ((dir.st_mode & S_ISGID) != 0 || !(group_lost || others_lost))
        return NULL;
    struct err *e = ERR(ERR_CONFIG,
            "the new file would be readable by group %u only, the one in place is by %s %u: "
            "ejabberd could lose its certificate",
            (unsigned)fresh.st_gid, group_lost ? "group" : "everybody, with group",
            (unsigned)old->st_gid);
    return err_advise(e, "give %s the group of ejabberd, and setgid: chgrp GROUP %s; chmod 2750 %s",
            back->dir, back->dir, back->dir);
}

static struct err *read_back(void *arg, const char *path)
{
    const struct read_back *back = arg;
    AUTO_BUF struct buf pem = BUF_INIT_SECRET(STORE_JOINED_MAX);
    AUTO_CERT_INFO struct cert_info cert = {0};
    TRY(file_read(path, STORE_JOINED_MAX, &pem, NULL));
    TRY_CTX(cert_parse(buf_str(&pem), pem.len, true, &cert), "read back");
    TRY_CTX(key_check_joined(buf_str(&pem), pem.len), "read back");
    if (memcmp(cert.leaf_sha256, back->expected->leaf_sha256, sizeof(cert.leaf_sha256)) != 0)
        return ERR(ERR_LOCAL, "read back: another certificate than was written");
    if (back->host != NULL && !cert_covers(&cert, back->host))
        return ERR(ERR_PROTOCOL, "the certificate does not cover %s itself", back->host->text);
    if (!wall_before(cert.not_before, cert.not_after))
        return ERR(ERR_PROTOCOL, "the certificate expires before it begins");
    return check_readers(back, path);
}

static struct err *live_write(
        const struct store_job *job, const struct buf *pem, struct read_back back)
{
    const struct file_write_options options = {
            .mode = LIVE_MODE, .mtime_increases = true, .check = read_back, .arg = &back};
    AUTO_FREE char *path = store_live_path(job->store, job->host);
    struct err *e = file_write(path, buf_str(pem), pem->len, &options);
    return err_context(e, "%s", path);
}

/* Kept before the new one is put in place; what could not be used is not worth going back to. */
static struct err *keep_previous(const struct store_job *job, const struct live_file *live)
{
    AUTO_FREE char *path = store_lineage_path(job->store, job->host, "previous.pem");
    if (live->state != STORE_LIVE_GOOD)
        return file_remove(path);
    TRY(store_lineage_make(job->store, job->host));
    const struct file_write_options options = {.mode = 0600};
    return file_write(path, buf_str(&live->pem), live->pem.len, &options);
}

/* ---- install ---- */

struct install_job {
    struct store_job job;
    uint64_t generation;
    const struct store_install *install;
    enum store_installed result;
    char *why;
};

/* A broken roots file is an error, a chain that doesn't lead to the roots is an answer. */
static struct err *ask_trust(const struct install_job *job, const char *pem, size_t len,
        const struct cert_info *cert, bool *ret)
{
    struct wall at =
            wall_before(job->install->now, cert->not_before) ? cert->not_before : job->install->now;
    struct err *e = cert_check_trust(pem, len, job->install->roots, at);
    if (e != NULL && err_origin(e) != ERR_FROM_X509)
        return e;
    *ret = e == NULL;
    err_free(e);
    return NULL;
}

/* Which CA the live one came from is not in it, but in the generation with the same leaf. *ret is
 * empty where there is none. */
static struct err *find_origin(
        const struct install_job *job, const struct cert_info *live, struct store_generation *ret)
{
    AUTO_FREE uint64_t *numbers = NULL;
    size_t n = 0;
    TRY(store_generation_numbers(job->job.store, job->job.host, &numbers, &n));
    for (size_t i = 0; i < n; i++) {
        AUTO(store_manifest_done) struct store_manifest m = {0};
        AUTO_ERR struct err *bad =
                store_generation_read(job->job.store, job->job.host, numbers[i], &m);
        if (bad != NULL)
            continue;
        if (memcmp(m.generation.cert.leaf_sha256, live->leaf_sha256, 32) == 0) {
            *ret = m.generation;
            m.generation = (struct store_generation){0};
            return NULL;
        }
    }
    return NULL;
}

static struct err *judge(
        struct install_job *job, const struct live_file *file, const struct store_manifest *m)
{
    struct store_candidate live = {.cert = &file->cert};
    struct store_candidate candidate = {
            .cert = &m->generation.cert, .staging = m->generation.staging};
    TRY(ask_trust(job, m->chain_pem, m->chain_len, candidate.cert, &candidate.trusted));
    AUTO(store_generation_done) struct store_generation origin = {0};
    struct store_install install = *job->install;
    bool usable = file->state == STORE_LIVE_GOOD;
    if (usable) {
        TRY(ask_trust(job, buf_str(&file->pem), file->pem.len, live.cert, &live.trusted));
        TRY(find_origin(job, live.cert, &origin));
        live.staging = origin.staging;
    }
    /* A later generation than the live one was ordered for a reason, which may have been forgotten
     * by a crash since. */
    if (origin.number != 0 && origin.number < job->generation)
        install.allow_earlier_expiry = true;
    bool may = store_may_replace(usable ? &live : NULL, &candidate, &install, &job->why);
    job->result = may ? STORE_INSTALLED : STORE_WORSE;
    return NULL;
}

static bool same_file(const struct live_file *live, const struct buf *joined)
{
    return live->state == STORE_LIVE_GOOD && live->access_ok && live->pem.len == joined->len &&
           memcmp(live->pem.data, joined->data, joined->len) == 0;
}

static struct err *install_blocking(void *arg)
{
    struct install_job *job = arg;
    struct store *store = job->job.store;
    AUTO_FREE char *path = store_live_path(store, job->job.host);
    AUTO(store_manifest_done) struct store_manifest m = {0};
    AUTO(live_file_done) struct live_file live = {0};
    TRY_CTX(store_generation_read(store, job->job.host, job->generation, &m), "generation %llu",
            (unsigned long long)job->generation);
    TRY(store_generation_join(store, job->job.host, &m));
    TRY(live_read(&job->job, path, &live));
    if (same_file(&live, &m.joined)) {
        job->result = STORE_ALREADY_THERE;
        return NULL;
    }
    TRY(judge(job, &live, &m));
    if (job->result != STORE_INSTALLED)
        return NULL;
    TRY(keep_previous(&job->job, &live));
    return live_write(&job->job, &m.joined,
            (struct read_back){.expected = &m.generation.cert,
                    .host = job->job.host,
                    .dir = store->cert_dir,
                    .replaced = &live});
}

struct err *store_live_install(struct store *store, const struct name *host, uint64_t generation,
        const struct store_install *install, enum store_installed *ret, char **ret_why)
{
    TRY(store_check_write(store));
    struct install_job job = {.job.host = host, .generation = generation, .install = install};
    struct err *e = store_work(store, install_blocking, &job);
    if (e != NULL) {
        free(job.why);
        return err_context(e, "installing the certificate of %s", host->text);
    }
    *ret = job.result;
    *ret_why = job.why;
    return NULL;
}

/* ---- roll back ---- */

static struct err *roll_back_blocking(void *arg)
{
    struct store_job *job = arg;
    AUTO_FREE char *path = store_lineage_path(job->store, job->host, "previous.pem");
    AUTO(live_file_done) struct live_file previous = {0};
    TRY(live_read(job, path, &previous));
    if (previous.state == STORE_LIVE_NONE)
        return ERR(ERR_LOCAL, "there is no earlier certificate (%s)", path);
    if (previous.state == STORE_LIVE_DAMAGED)
        return ERR(ERR_LOCAL, "the earlier certificate is damaged: %s", previous.why);
    return live_write(job, &previous.pem, (struct read_back){.expected = &previous.cert});
}

struct roll_back_job {
    struct store_job job;
};

struct err *store_live_roll_back(struct store *store, const struct name *host)
{
    TRY(store_check_write(store));
    struct roll_back_job job = {.job.host = host};
    return err_context(store_work(store, roll_back_blocking, &job),
            "putting back the certificate of %s", host->text);
}
