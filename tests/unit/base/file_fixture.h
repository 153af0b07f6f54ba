/* SPDX-License-Identifier: Apache-2.0 */
/* A fresh directory for each test of base/file.h, and what these tests say often. Include after
 * cmocka.h. */
#pragma once

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/lib/test_err.h"

static char dir[64];

static inline ATTR_MAYBE_UNUSED char *in_dir(const char *name)
{
    return str_printf("%s/%s", dir, name);
}
#define PATH(var, name) AUTO_FREE char *var = in_dir(name)

static inline ATTR_MAYBE_UNUSED int set_up(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/certherd-file-XXXXXX");
    umask(022);
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static inline ATTR_MAYBE_UNUSED int tear_down(void **state)
{
    struct err *e = file_remove_tree(dir);
    if (e != NULL)
        print_error("%s\n", err_text(e));
    int rc = e == NULL ? 0 : -1;
    err_free(e);
    return rc;
}

static inline ATTR_MAYBE_UNUSED struct err *put(const char *path, const char *text)
{
    const struct file_write_options options = {.mode = 0600};
    return file_write(path, text, strlen(text), &options);
}

static inline ATTR_MAYBE_UNUSED void assert_holds(const char *path, const char *text)
{
    AUTO_BUF struct buf b = BUF_INIT(0);
    assert_ok(file_read(path, 1 << 20, &b, NULL));
    assert_string_equal(buf_str(&b), text);
}

static inline ATTR_MAYBE_UNUSED struct stat stat_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st;
}

/* What the directory holds, joined by blanks. */
static inline ATTR_MAYBE_UNUSED char *listing(const char *path)
{
    AUTO_STRV struct strv names = {0};
    assert_ok(file_list(path, 100, &names, NULL));
    return strv_join(&names, " ");
}

static inline ATTR_MAYBE_UNUSED void assert_listing(const char *expected)
{
    AUTO_FREE char *found = listing(dir);
    assert_string_equal(found, expected);
}

/* Runs fn in a process of its own, which may change what belongs to a process. Its exit status: 0,
 * which of its expectations failed, or 77 if the machine does not allow what it needs. */
static inline ATTR_MAYBE_UNUSED void in_child(void (*fn)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* In the child: leaves with exit_status if e is not such an error with such an advice. */
static inline ATTR_MAYBE_UNUSED void expect(
        struct err *e, enum err_kind kind, const char *advice, int exit_status)
{
    if (!err_is(e, kind) || err_advice(e) == NULL || strstr(err_advice(e), advice) == NULL)
        _exit(exit_status);
    err_free(e);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
