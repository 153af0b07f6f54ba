/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock is the kernel's (OFD), the pid in the file is only for people: it may be stale or absent
 * for an instant, the lock never. A lock file that was removed while held would let two processes
 * lock two files of the same name, so after locking the name must still lead to the locked file.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_private.h"

#define ATTEMPTS 8

struct file_lock {
    int fd;
};

static struct err *open_and_lock(const char *path, int *ret_fd, bool *ret_locked)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return file_failed(errno, "open lock", path);
    bool locked = fcntl(fd, F_OFD_SETLK, &whole) == 0;
    if (!locked && errno != EAGAIN && errno != EACCES)
        return file_failed(errno, "lock", path);
    *ret_fd = fd;
    *ret_locked = locked;
    fd = -1;
    return NULL;
}

static bool is_named(int fd, const char *path)
{
    struct stat by_fd, by_name;
    return fstat(fd, &by_fd) == 0 && lstat(path, &by_name) == 0 && by_fd.st_dev == by_name.st_dev &&
           by_fd.st_ino == by_name.st_ino;
}

static pid_t read_pid(int fd)
{
    char text[24] = {0};
    unsigned long long pid = 0;
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[strcspn(text, "\n")] = '\0';
    return str_to_u64(text, INT_MAX, &pid) ? (pid_t)pid : 0;
}

/* A full disk must not keep us from holding the lock. */
static void write_pid(int fd, const char *path)
{
    char text[24];
    int len = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len)
        err_ignore(file_failed(errno, "write the pid to", path), "the lock holds without it");
}

struct err *file_lock_try(const char *path, struct file_lock **ret, pid_t *ret_holder)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        AUTO_FD int fd = -1;
        bool locked = false;
        TRY(open_and_lock(path, &fd, &locked));
        if (!locked) {
            *ret = NULL;
            *ret_holder = read_pid(fd);
            return NULL;
        }
        if (!is_named(fd, path))
            continue;
        write_pid(fd, path);
        struct file_lock *lock = MEM_NEW(struct file_lock);
        lock->fd = fd;
        fd = -1;
        *ret = lock;
        return NULL;
    }
    return ERR(ERR_LOCAL, "cannot lock %s: somebody keeps removing it", path);
}

void file_lock_release(struct file_lock *lock)
{
    if (lock == NULL)
        return;
    /* Still ours, so nobody reads a pid that is no longer true; if it fails the lock goes anyway.
     */
    if (ftruncate(lock->fd, 0) != 0)
        errno = 0;
    file_fd_done(&lock->fd);
    free(lock);
}
