/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that survive a power cut: written whole under a temporary name, fsynced, renamed, directory
 * fsynced. All calls block; a flow calls them through fiber_work(). Temporary names start with "."
 * and end in ".tmp", so that neither a
 * "*.pem" glob nor a reader of the directory takes them for real; file_sweep_temporary() removes
 * what a crash left.
 */
#pragma once

#include <sys/types.h>

#include "base/buf.h"

/* At most max bytes, else ERR_LOCAL; a regular file (symbolic links are followed). ret is an
 * initialised buffer, BUF_INIT(0) will do: its contents are replaced, its wipe is kept. ENOENT is
 * reported by *ret_exists = false if that is not NULL, else as an error. */
struct err *file_read(const char *path, size_t max, struct buf *ret, bool *ret_exists) NODISCARD;

struct file_write_options {
    mode_t mode;          /* set by fchmod, not subject to umask */
    bool mtime_increases; /* mtime = max(now, old file's + 1 s), in whole seconds: ejabberd ignores
                             anything else */
    bool exclusive;       /* the target must not exist: ERR_LOCAL with EEXIST */
    /* Called with the temporary file's path after fsync, before the rename: a last look. May be
     * NULL. */
    struct err *(*check)(void *arg, const char *temporary_path);
    void *arg;
};
struct err *file_write(const char *path, const void *data, size_t len,
        const struct file_write_options *options) NODISCARD;

/* Creates what is missing (parents with the same mode) and fsyncs the parent of each one made. An
 * existing one keeps its mode. */
struct err *file_mkdir(const char *path, mode_t mode) NODISCARD;
struct err *file_sync_dir(const char *path) NODISCARD;
/* ENOENT is success. Fsyncs the directory. */
struct err *file_remove(const char *path) NODISCARD;
/* A directory and everything in it (at most two levels deep); ENOENT is success. */
struct err *file_remove_tree(const char *path) NODISCARD;
struct err *file_rename(const char *from, const char *to)
        NODISCARD; /* with fsync of both directories */
/* ret is an initialised list, replaced on success. Names of a directory's entries without "." and
 * "..", sorted; at most max, else ERR_LOCAL. */
struct err *file_list(const char *path, size_t max, struct strv *ret, bool *ret_exists) NODISCARD;
/* Removes ".<name>.<16 hexadecimal digits>.tmp" and nothing else; ENOENT is success. */
struct err *file_sweep_temporary(const char *dir) NODISCARD;
/* Refuses what belongs to another user than us or root, what is looser than allowed_mode ("chmod
 * 0600 …" is the advice) or not a regular file. */
struct err *file_check_private(const char *path, mode_t allowed_mode) NODISCARD;

/* OFD lock; freed by the kernel with the process, so there is never a stale one. The file holds our
 * pid as text. */
struct file_lock;
/* *ret == NULL: held by another process, *ret_holder is its pid (0 if unknown). */
struct err *file_lock_try(const char *path, struct file_lock **ret, pid_t *ret_holder) NODISCARD;
void file_lock_release(struct file_lock *lock);
DEFINE_FREEP(struct file_lock, file_lock_release)
