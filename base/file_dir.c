/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories: making, listing, sweeping, removing. Trees are walked by descriptors with
 * O_NOFOLLOW, so a symbolic link in a tree is removed, never entered.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_private.h"

#define ENTRIES_MAX    ((size_t)1000000)
#define TREE_DEPTH_MAX 2
#define RANDOM_DIGITS  16

/* ---- making ---- */

struct err *file_sync_dir(const char *path)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return file_failed(errno, "open directory", path);
    if (fsync(fd) != 0)
        return file_failed(errno, "sync directory", path);
    return NULL;
}

static struct err *check_is_dir(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return file_failed(errno, "look at", path);
    return S_ISDIR(st.st_mode) ? NULL : file_failed(ENOTDIR, "make directory", path);
}

/* mkdir() is subject to the umask and drops setgid, so the mode is set again on what was made. */
static struct err *make_one(const char *path, mode_t mode)
{
    AUTO(file_place_done) struct file_place parent = {.dir = -1};
    TRY(file_place_open(path, &parent));
    if (mkdirat(parent.dir, parent.name, mode & 0777) != 0)
        return errno == EEXIST ? check_is_dir(path) : file_failed(errno, "make directory", path);
    AUTO_FD int fd =
            openat(parent.dir, parent.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, mode) != 0)
        return file_failed(errno, "set the mode of", path);
    return file_place_sync(&parent);
}

struct err *file_mkdir(const char *path, mode_t mode)
{
    struct stat st;
    if (*path == '\0')
        return file_failed(ENOENT, "make directory", "''");
    if (stat(path, &st) == 0)
        return S_ISDIR(st.st_mode) ? NULL : file_failed(ENOTDIR, "make directory", path);
    AUTO_FREE char *upto = str_dup(path);
    size_t len = strlen(upto);
    while (len > 1 && upto[len - 1] == '/')
        upto[--len] = '\0';
    for (char *at = upto + 1; *at != '\0'; at++) {
        if (*at != '/' || at[-1] == '/')
            continue;
        *at = '\0';
        if (stat(upto, &st) != 0)
            TRY(make_one(upto, mode));
        *at = '/';
    }
    return make_one(upto, mode);
}

/* ---- listing ---- */

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void close_dir(DIR **dir)
{
    if (*dir != NULL)
        closedir(*dir);
}

struct err *file_list_fd(int fd, const char *path, size_t max, struct strv *ret)
{
    /* A fresh open file description: a duplicate would share the reading position. */
    AUTO_FD int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(close_dir) DIR *dir = own < 0 ? NULL : fdopendir(own);
    AUTO_STRV struct strv names = {0};
    if (dir == NULL)
        return file_failed(errno, "list", path);
    own = -1;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL && errno != 0)
            return file_failed(errno, "list", path);
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (names.n == max)
            return ERR(ERR_LOCAL, "cannot list %s: more than %zu entries", path, max);
        strv_add(&names, entry->d_name);
    }
    if (names.n > 1)
        qsort(names.v, names.n, sizeof(*names.v), by_bytes);
    strv_done(ret);
    *ret = names;
    names = (struct strv){0};
    return NULL;
}

struct err *file_list(const char *path, size_t max, struct strv *ret, bool *ret_exists)
{
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && ret_exists != NULL) {
        *ret_exists = false;
        return NULL;
    }
    if (fd < 0)
        return file_failed(errno, "list", path);
    TRY(file_list_fd(fd, path, max, ret));
    if (ret_exists != NULL)
        *ret_exists = true;
    return NULL;
}

/* ---- removing ---- */

/* Empties dir; depth is how many levels of directories may still be below. */
static struct err *empty_dir(int dir, const char *path, int depth)
{
    AUTO_STRV struct strv names = {0};
    TRY(file_list_fd(dir, path, ENTRIES_MAX, &names));
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.v[i];
        if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
            continue;
        AUTO_FREE char *below = str_printf("%s/%s", path, name);
        if (errno != EISDIR)
            return file_failed(errno, "remove", below);
        if (depth == 0)
            return ERR(ERR_LOCAL, "cannot remove %s: nested deeper than expected", below);
        AUTO_FD int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return file_failed(errno, "open directory", below);
        TRY(empty_dir(fd, below, depth - 1));
        if (unlinkat(dir, name, AT_REMOVEDIR) != 0)
            return file_failed(errno, "remove", below);
    }
    return NULL;
}

struct err *file_remove_tree(const char *path)
{
    AUTO(file_place_done) struct file_place place = {.dir = -1};
    struct stat st;
    if (lstat(path, &st) != 0 && errno == ENOENT)
        return NULL;
    TRY(file_place_open(path, &place));
    AUTO_FD int fd = openat(place.dir, place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? NULL : file_failed(errno, "open directory", path);
    TRY(empty_dir(fd, path, TREE_DEPTH_MAX - 1));
    if (unlinkat(place.dir, place.name, AT_REMOVEDIR) != 0)
        return file_failed(errno, "remove", path);
    return file_place_sync(&place);
}

/* Exactly the form that file_write() makes, ".<name>.<16 hexadecimal digits>.tmp": the directory
 * may be shared with programs that have temporary files of their own. */
static bool is_temporary(const char *name)
{
    size_t len = strlen(name);
    size_t tail = strlen(".tmp");
    if (*name != '.' || !str_ends(name, ".tmp") || len < 1 + 1 + 1 + RANDOM_DIGITS + tail)
        return false;
    const char *digits = name + len - tail - RANDOM_DIGITS;
    return digits[-1] == '.' && strspn(digits, "0123456789abcdef") == RANDOM_DIGITS;
}

struct err *file_sweep_temporary(const char *path)
{
    AUTO_STRV struct strv names = {0};
    bool swept = false;
    AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? NULL : file_failed(errno, "list", path);
    TRY(file_list_fd(fd, path, ENTRIES_MAX, &names));
    for (size_t i = 0; i < names.n; i++) {
        if (!is_temporary(names.v[i]))
            continue;
        if (unlinkat(fd, names.v[i], 0) != 0 && errno != ENOENT) {
            AUTO_FREE char *full = str_printf("%s/%s", path, names.v[i]);
            return file_failed(errno, "remove", full);
        }
        swept = true;
    }
    if (swept && fsync(fd) != 0)
        return file_failed(errno, "sync directory", path);
    return NULL;
}

/* ---- checking ---- */

struct err *file_check_private(const char *path, mode_t allowed_mode)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return file_failed(errno, "look at", path);
    if (!S_ISREG(st.st_mode))
        return err_advise(ERR(ERR_CONFIG, "%s is not a regular file", path),
                "remove %s, or put a regular file there", path);
    if (st.st_uid != geteuid() && st.st_uid != 0)
        return err_advise(ERR(ERR_CONFIG, "%s belongs to user id %u, expected %u", path,
                                  (unsigned)st.st_uid, (unsigned)geteuid()),
                "chown %u %s", (unsigned)geteuid(), path);
    if ((st.st_mode & 07777 & ~allowed_mode) != 0)
        return err_advise(ERR(ERR_CONFIG, "%s has mode %04o, at most %04o is allowed", path,
                                  (unsigned)(st.st_mode & 07777), (unsigned)allowed_mode),
                "chmod %04o %s", (unsigned)allowed_mode, path);
    return NULL;
}
