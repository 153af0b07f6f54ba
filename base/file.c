/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing. The order is what makes a power cut harmless: contents, mode and times reach the disk
 * (fsync) before the name points at them (rename), and the name is on the disk (fsync of the
 * directory) before anybody is told. fsync is never tried twice on one descriptor: after a failure
 * the kernel has dropped the dirty pages, and a second call would lie. All steps go through one
 * descriptor of the directory, so a directory swapped under way cannot split them.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file_private.h"

#define READ_PIECE     ((size_t)16 * 1024)
#define TEMPORARY_NAME 200 /* bytes of the real name in a temporary one; NAME_MAX is 255 */
#define TEMPORARY_TRY  8

/* ---- errors ---- */

static struct err *advise(struct err *e, int errno_value, const char *path)
{
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        return err_advise(e, "free some space or inodes on the file system of %s", path);
    case EROFS:
        return err_advise(e, "mount the file system of %s read-write", path);
    case EACCES:
    case EPERM:
        return err_advise(e, "give user id %u the permission, for %s and the directories above it",
                (unsigned)geteuid(), path);
    case ENOENT:
        return err_advise(e, "make sure that %s and the directories above it exist", path);
    case ENOTDIR:
        return err_advise(e, "a part of %s is not a directory: remove or rename it", path);
    case ELOOP:
        return err_advise(e, "%s must not be a symbolic link: put the real one there", path);
    case EMFILE:
    case ENFILE:
        return err_advise(e, "raise the limit of open files (ulimit -n, LimitNOFILE=)");
    case EFBIG:
        return err_advise(e, "raise the limit of file size (ulimit -f, LimitFSIZE=)");
    case EIO:
        return err_advise(e, "check the disk under %s: the kernel log names the fault", path);
    case ENAMETOOLONG:
        return err_advise(e, "choose a shorter name: a file name has at most 255 bytes");
    default:
        return e;
    }
}

struct err *file_failed(int errno_value, const char *verb, const char *path)
{
    return advise(ERR_ERRNO(errno_value, "cannot %s %s", verb, path), errno_value, path);
}

/* ---- descriptors ---- */

void file_fd_done(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

struct err *file_place_open(const char *path, struct file_place *ret)
{
    const char *slash = strrchr(path, '/');
    AUTO_FREE char *dir_path = slash == NULL   ? str_dup(".")
                               : slash == path ? str_dup("/")
                                               : str_printf("%.*s", (int)(slash - path), path);
    const char *name = slash == NULL ? path : slash + 1;
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return file_failed(EISDIR, "use as a file", path);
    int dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return file_failed(errno, "open directory", dir_path);
    *ret = (struct file_place){.dir = dir, .dir_path = STEAL(dir_path), .name = str_dup(name)};
    return NULL;
}

struct err *file_place_sync(const struct file_place *place)
{
    if (fsync(place->dir) != 0)
        return file_failed(errno, "sync directory", place->dir_path);
    return NULL;
}

void file_place_done(struct file_place *place)
{
    file_fd_done(&place->dir);
    free(place->dir_path);
    free(place->name);
    *place = (struct file_place){.dir = -1};
}

/* ---- reading ---- */

static struct err *open_for_reading(const char *path, int *ret, bool *ret_exists)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO in the place of the file must not hold us. */
    AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && ret_exists != NULL) {
        *ret_exists = false;
        return NULL;
    }
    if (fd < 0 || fstat(fd, &st) != 0)
        return file_failed(errno, "open", path);
    if (!S_ISREG(st.st_mode))
        return err_advise(ERR(ERR_CONFIG, "cannot read %s: not a regular file", path),
                "put a regular file at %s", path);
    if (ret_exists != NULL)
        *ret_exists = true;
    *ret = fd;
    fd = -1;
    return NULL;
}

static struct err *read_all(int fd, const char *path, struct buf *b)
{
    char piece[READ_PIECE];
    struct err *e = NULL;
    for (;;) {
        ssize_t n = read(fd, piece, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            e = file_failed(errno, "read", path);
        if (n <= 0)
            break;
        buf_append(b, piece, (size_t)n);
        if (b->overflow || b->nomem)
            break;
    }
    if (b->wipe)
        explicit_bzero(piece, sizeof(piece));
    return e;
}

struct err *file_read(const char *path, size_t max, struct buf *ret, bool *ret_exists)
{
    AUTO_FD int fd = -1;
    bool exists = true;
    TRY(open_for_reading(path, &fd, ret_exists != NULL ? &exists : NULL));
    if (exists) {
        AUTO_BUF struct buf b = {.max = max, .wipe = ret->wipe};
        TRY(read_all(fd, path, &b));
        if (b.overflow)
            return ERR(ERR_LOCAL, "cannot read %s: larger than %zu bytes", path, max);
        if (b.nomem)
            return err_nomem();
        buf_done(ret);
        *ret = b;
        b = (struct buf){0};
    }
    if (ret_exists != NULL)
        *ret_exists = exists;
    return NULL;
}

/* ---- writing ---- */

struct temporary {
    const struct file_place *place;
    char *name; /* NULL: none, or it has become the real one */
    char *path;
    int fd;
};

static void temporary_done(struct temporary *t)
{
    file_fd_done(&t->fd);
    if (t->name != NULL)
        unlinkat(t->place->dir, t->name, 0);
    free(t->name);
    free(t->path);
}

static struct err *random_number(uint64_t *ret)
{
    ssize_t n;
    do
        n = getrandom(ret, sizeof(*ret), 0);
    while (n < 0 && errno == EINTR);
    if (n != sizeof(*ret))
        return ERR_ERRNO(n < 0 ? errno : EIO, "cannot get random bytes");
    return NULL;
}

static struct err *temporary_open(struct temporary *t)
{
    int number = EEXIST;
    for (int i = 0; i < TEMPORARY_TRY && number == EEXIST; i++) {
        uint64_t random = 0;
        TRY(random_number(&random));
        AUTO_FREE char *name = str_printf(
                ".%.*s.%016llx.tmp", TEMPORARY_NAME, t->place->name, (unsigned long long)random);
        /* Nobody else may read it before its mode is set. */
        t->fd = openat(
                t->place->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        number = t->fd < 0 ? errno : 0;
        if (number != 0)
            continue;
        t->path = str_printf("%s/%s", t->place->dir_path, name);
        t->name = STEAL(name);
    }
    if (number != 0)
        return file_failed(number, "create a file in", t->place->dir_path);
    return NULL;
}

static struct err *write_all(int fd, const char *path, const char *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_failed(errno, "write", path);
        /* Never seen on a regular file; without this line it would be an endless loop. */
        if (n == 0)
            return file_failed(EIO, "write", path);
        done += (size_t)n;
    }
    return NULL;
}

/* ejabberd compares whole seconds and takes only what is later than the file it has loaded. */
static struct err *raise_mtime(const struct temporary *t, const char *path)
{
    struct stat old;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return ERR_ERRNO(errno, "cannot read the clock");
    time_t sec = now.tv_sec;
    if (fstatat(t->place->dir, t->place->name, &old, AT_SYMLINK_NOFOLLOW) == 0) {
        if (sec <= old.st_mtim.tv_sec)
            sec = old.st_mtim.tv_sec + 1;
    } else if (errno != ENOENT) {
        return file_failed(errno, "look at", path);
    }
    const struct timespec times[2] = {{.tv_sec = sec}, {.tv_sec = sec}};
    if (futimens(t->fd, times) != 0)
        return file_failed(errno, "set the time of", path);
    return NULL;
}

static struct err *temporary_fill(struct temporary *t, const char *path, const void *data,
        size_t len, const struct file_write_options *options)
{
    TRY(write_all(t->fd, path, data, len));
    if (fchmod(t->fd, options->mode) != 0)
        return file_failed(errno, "set the mode of", path);
    if (options->mtime_increases)
        TRY(raise_mtime(t, path));
    if (fsync(t->fd) != 0)
        return file_failed(errno, "sync", path);
    int fd = t->fd;
    t->fd = -1;
    /* Quota errors of network file systems may come as late as this. On Linux the descriptor is
     * closed even after EINTR. */
    if (close(fd) != 0 && errno != EINTR)
        return file_failed(errno, "close", path);
    return NULL;
}

/* Without RENAME_NOREPLACE (some network file systems) a hard link does the same. */
static int publish_exclusive(const struct temporary *t)
{
    int dir = t->place->dir;
    if (renameat2(dir, t->name, dir, t->place->name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (linkat(dir, t->name, dir, t->place->name, 0) != 0)
        return -1;
    return unlinkat(dir, t->name, 0);
}

static struct err *publish(struct temporary *t, const char *path, bool exclusive)
{
    int dir = t->place->dir;
    int rc = exclusive ? publish_exclusive(t) : renameat(dir, t->name, dir, t->place->name);
    if (rc != 0)
        return file_failed(errno, exclusive ? "create" : "replace", path);
    mem_freep(&t->name);
    return file_place_sync(t->place);
}

struct err *file_write(
        const char *path, const void *data, size_t len, const struct file_write_options *options)
{
    AUTO(file_place_done) struct file_place place = {.dir = -1};
    TRY(file_place_open(path, &place));
    if (options->exclusive && faccessat(place.dir, place.name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return file_failed(EEXIST, "create", path);
    AUTO(temporary_done) struct temporary t = {.place = &place, .fd = -1};
    TRY(temporary_open(&t));
    TRY(temporary_fill(&t, path, data, len, options));
    if (options->check != NULL)
        TRY(options->check(options->arg, t.path));
    return publish(&t, path, options->exclusive);
}

/* ---- names ---- */

struct err *file_remove(const char *path)
{
    AUTO(file_place_done) struct file_place place = {.dir = -1};
    struct stat st;
    if (lstat(path, &st) != 0 && errno == ENOENT)
        return NULL;
    TRY(file_place_open(path, &place));
    if (unlinkat(place.dir, place.name, 0) != 0)
        return errno == ENOENT ? NULL : file_failed(errno, "remove", path);
    return file_place_sync(&place);
}

struct err *file_rename(const char *from, const char *to)
{
    AUTO(file_place_done) struct file_place source = {.dir = -1};
    AUTO(file_place_done) struct file_place target = {.dir = -1};
    TRY(file_place_open(from, &source));
    TRY(file_place_open(to, &target));
    if (renameat(source.dir, source.name, target.dir, target.name) != 0)
        return err_context(file_failed(errno, "rename to", to), "%s", from);
    /* The new name first: a power cut in between then leaves both rather than none. */
    TRY(file_place_sync(&target));
    return strcmp(source.dir_path, target.dir_path) == 0 ? NULL : file_place_sync(&source);
}
