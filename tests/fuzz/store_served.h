/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store whose files are the fuzzer's bytes: what a full disk, an operator's editor or an older
 * version may have left. Include before the .c files of the store.
 */
#pragma once

#include "agent/store_private.h"
#include "tests/fuzz/fuzz.h"

static struct {
    const void *data;
    size_t len;
    unsigned set_aside;
} served;

static inline struct err *serve_file(
        const char *path, size_t max, struct buf *ret, bool *ret_exists)
{
    bool wipe = ret->wipe;
    buf_done(ret);
    *ret = wipe ? BUF_INIT_SECRET(max) : BUF_INIT(max);
    buf_append(ret, served.data, served.len);
    return buf_check(ret, "%s", path);
}

static inline struct err *set_aside(const char *from, const char *to)
{
    assert(str_starts(to, from) && strstr(to, ".bad-") != NULL);
    served.set_aside++;
    return NULL;
}

#define file_read   serve_file
#define file_rename set_aside

static inline struct store_job served_job(const void *data, size_t len)
{
    static char state_dir[] = "/nowhere", cert_dir[] = "/nowhere/live";
    static struct store store = {.state_dir = state_dir, .cert_dir = cert_dir};
    static const struct name host = {.text = "im.example.org"};
    served.data = data;
    served.len = len;
    served.set_aside = 0;
    return (struct store_job){.store = &store, .host = &host, .now = {1795348800000}};
}
