/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of file.h share. */
#pragma once

#include "base/file.h"

/* An error of a system call on path: "cannot <verb> <path>: <reason>", with advice. */
struct err *file_failed(int errno_value, const char *verb, const char *path) NODISCARD;

/* A path taken apart: the open directory (for *at() calls and its fsync) and the name in it. */
struct file_place {
    int dir; /* -1: not open */
    char *dir_path;
    char *name;
};
struct err *file_place_open(const char *path, struct file_place *ret) NODISCARD;
struct err *file_place_sync(const struct file_place *place) NODISCARD;
void file_place_done(struct file_place *place);

/* For AUTO(): closes if not -1. */
void file_fd_done(int *fd);
#define AUTO_FD AUTO(file_fd_done)

/* Names in an open directory without "." and "..", sorted; the descriptor stays open. path is for
 * the error. */
struct err *file_list_fd(int dir, const char *path, size_t max, struct strv *ret) NODISCARD;
