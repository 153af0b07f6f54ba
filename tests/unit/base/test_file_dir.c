/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/base/file_fixture.h"

/* ---- directories ---- */

static void makes_directories_with_their_mode(void **state)
{
    PATH(a, "a");
    PATH(b, "a/b");
    PATH(slashes, "a//b/c//");
    PATH(c, "a/b/c");
    umask(077);
    assert_ok(file_mkdir(b, 02750));
    umask(022);
    assert_int_equal(stat_of(a).st_mode & 07777, 02750);
    assert_int_equal(stat_of(b).st_mode & 07777, 02750);
    assert_ok(file_mkdir(b, 0700));
    assert_int_equal(stat_of(b).st_mode & 07777, 02750);
    assert_ok(file_mkdir(slashes, 0700));
    assert_int_equal(stat_of(c).st_mode & 07777, 0700);
    assert_ok(file_mkdir("/", 0700));
    /* The fixture removes two levels only. */
    assert_int_equal(rmdir(c), 0);
    assert_int_equal(rmdir(b), 0);
}

static void what_is_in_the_way_of_a_directory(void **state)
{
    PATH(file, "file");
    PATH(below, "file/d");
    PATH(dangling, "dangling");
    assert_ok(put(file, "x"));
    assert_err(file_mkdir(file, 0700), ERR_CONFIG, "remove or rename it");
    assert_err(file_mkdir(below, 0700), ERR_CONFIG, "remove or rename it");
    assert_int_equal(symlink("nowhere", dangling), 0);
    assert_err(file_mkdir(dangling, 0700), ERR_CONFIG, "No such file");
    assert_err(file_mkdir("", 0700), ERR_CONFIG, "No such file");
}

static void lists_in_order_and_within_limits(void **state)
{
    static const char *const names[] = {"b", "a", ".hidden", "C", "10", "9"};
    AUTO_STRV struct strv found = {0};
    bool exists = false;
    PATH(none, "none");
    assert_ok(file_list(dir, 0, &found, NULL));
    assert_int_equal(found.n, 0);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        PATH(path, names[i]);
        assert_ok(put(path, "x"));
    }
    assert_listing(".hidden 10 9 C a b");
    assert_ok(file_list(dir, 6, &found, &exists));
    assert_true(exists);
    assert_int_equal(found.n, 6);
    assert_err(file_list(dir, 5, &found, &exists), ERR_LOCAL, "more than 5 entries");
    assert_ok(file_list(none, 5, &found, &exists));
    assert_false(exists);
    assert_int_equal(found.n, 6);
    assert_err(file_list(none, 5, &found, NULL), ERR_CONFIG, "No such file");
    AUTO_FREE char *file = in_dir("a");
    assert_err(file_list(file, 5, &found, &exists), ERR_CONFIG, "Not a directory");
}

static void sweeps_only_its_own(void **state)
{
    static const char *const stay[] = {".tmp", ".a.tmp", "a.0123456789abcdef.tmp",
            ".a.0123456789ABCDEF.tmp", ".a.123456789abcdef.tmp", ".a.0123456789abcdef",
            ".a0123456789abcdef.tmp", "real.pem", "..0123456789abcdef.tmp"};
    static const char *const go[] = {".a.pem.0123456789abcdef.tmp", ".a.ffffffffffffffff.tmp"};
    PATH(none, "none");
    for (size_t i = 0; i < ARRAY_SIZE(stay); i++) {
        PATH(path, stay[i]);
        assert_ok(put(path, "x"));
    }
    for (size_t i = 0; i < ARRAY_SIZE(go); i++) {
        PATH(path, go[i]);
        assert_ok(put(path, "x"));
    }
    assert_ok(file_sweep_temporary(dir));
    assert_ok(file_sweep_temporary(dir));
    for (size_t i = 0; i < ARRAY_SIZE(stay); i++) {
        PATH(path, stay[i]);
        assert_int_equal(access(path, F_OK), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(go); i++) {
        PATH(path, go[i]);
        assert_int_equal(access(path, F_OK), -1);
    }
    assert_ok(file_sweep_temporary(none));
}

/* What a crash between the write and the rename leaves is what the sweep knows. */
static struct err *keep_a_copy(void *arg, const char *temporary_path)
{
    *(char **)arg = str_dup(temporary_path);
    return NULL;
}

static void knows_the_temporary_names_of_writing(void **state)
{
    AUTO_FREE char *temporary = NULL;
    AUTO_FREE char *name = str_printf("%0255d", 1);
    PATH(path, name);
    const struct file_write_options options = {
            .mode = 0600, .check = keep_a_copy, .arg = &temporary};
    assert_ok(file_write(path, "x", 1, &options));
    assert_ok(put(temporary, "left behind"));
    assert_ok(file_sweep_temporary(dir));
    assert_listing(name);
}

static void removing_and_renaming(void **state)
{
    PATH(a, "a");
    PATH(b, "b");
    PATH(d, "d");
    PATH(c, "d/c");
    PATH(none, "none/a");
    assert_ok(put(a, "x"));
    assert_ok(file_mkdir(d, 0700));
    assert_ok(file_rename(a, b));
    assert_listing("b d");
    assert_ok(file_rename(b, c));
    assert_holds(c, "x");
    assert_err(file_rename(a, b), ERR_CONFIG, "No such file");
    assert_err(file_rename(c, none), ERR_CONFIG, "No such file");
    assert_err(file_remove(d), ERR_LOCAL, "cannot remove ");
    assert_ok(file_remove(c));
    assert_ok(file_remove(c));
    assert_ok(file_remove(none));
    assert_ok(file_sync_dir(dir));
    assert_err(file_sync_dir(none), ERR_CONFIG, "No such file");
}

static void trees_of_two_levels(void **state)
{
    PATH(tree, "tree");
    PATH(deep, "tree/1");
    PATH(file, "tree/1/key.pem");
    PATH(flat, "tree/state.json");
    PATH(link, "tree/link");
    PATH(outside, "outside");
    PATH(outside_file, "outside/file");
    assert_ok(file_mkdir(deep, 0700));
    assert_ok(file_mkdir(outside, 0700));
    assert_ok(put(file, "x"));
    assert_ok(put(flat, "x"));
    assert_ok(put(outside_file, "x"));
    assert_int_equal(symlink(outside, link), 0);
    assert_ok(file_remove_tree(tree));
    assert_ok(file_remove_tree(tree));
    assert_listing("outside");
    assert_holds(outside_file, "x");
}

static void deeper_trees_are_left(void **state)
{
    PATH(tree, "tree");
    PATH(deep, "tree/1/2");
    PATH(file, "file");
    PATH(link, "link");
    assert_ok(file_mkdir(deep, 0700));
    assert_err(file_remove_tree(tree), ERR_LOCAL, "nested deeper than expected");
    assert_int_equal(access(deep, F_OK), 0);
    assert_int_equal(rmdir(deep), 0);
    assert_ok(put(file, "x"));
    assert_err(file_remove_tree(file), ERR_CONFIG, "Not a directory");
    assert_int_equal(symlink(tree, link), 0);
    struct err *e = file_remove_tree(link);
    assert_non_null(e);
    err_free(e);
    assert_int_equal(access(tree, F_OK), 0);
    assert_ok(file_remove_tree(tree));
}

static void private_files(void **state)
{
    PATH(path, "key.pem");
    PATH(link, "link");
    PATH(fifo, "fifo");
    PATH(none, "none");
    AUTO_FREE char *advice = str_printf("\nchmod 0600 %s", path);
    assert_ok(put(path, "x"));
    assert_ok(file_check_private(path, 0600));
    assert_ok(file_check_private(path, 0640));
    assert_int_equal(chmod(path, 0400), 0);
    assert_ok(file_check_private(path, 0600));
    assert_int_equal(chmod(path, 0640), 0);
    assert_ok(file_check_private(path, 0640));
    assert_err(file_check_private(path, 0600), ERR_CONFIG, "has mode 0640, at most 0600");
    assert_int_equal(chmod(path, 0777), 0);
    assert_err(file_check_private(path, 0600), ERR_CONFIG, advice);
    assert_int_equal(chmod(path, 04600), 0);
    assert_err(file_check_private(path, 0600), ERR_CONFIG, "has mode 4600");
    assert_int_equal(symlink(path, link), 0);
    assert_err(file_check_private(link, 0777), ERR_CONFIG, "is not a regular file");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_err(file_check_private(fifo, 0777), ERR_CONFIG, "is not a regular file");
    assert_err(file_check_private(dir, 0777), ERR_CONFIG, "is not a regular file");
    assert_err(file_check_private(none, 0600), ERR_CONFIG, "No such file");
}

/* ---- locks ---- */

/* In a process of its own: -1 held, by whom in *ret_holder; 0 locked; then it dies without
 * releasing. */
static int lock_in_child(const char *path, pid_t *ret_holder)
{
    int ends[2];
    struct {
        int rc;
        pid_t holder;
    } answer = {.rc = -2};
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct file_lock *lock = NULL;
        struct err *e = file_lock_try(path, &lock, &answer.holder);
        answer.rc = e != NULL ? -3 : lock == NULL ? -1 : 0;
        ssize_t n = write(ends[1], &answer, sizeof(answer));
        _exit(n == sizeof(answer) ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &answer, sizeof(answer)), sizeof(answer));
    close(ends[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    *ret_holder = answer.holder;
    return answer.rc;
}

static void one_process_holds_the_lock(void **state)
{
    AUTO(file_lock_releasep) struct file_lock *lock = NULL;
    pid_t holder = -1;
    PATH(path, "lock");
    AUTO_FREE char *pid = str_printf("%ld\n", (long)getpid());
    assert_ok(file_lock_try(path, &lock, &holder));
    assert_non_null(lock);
    assert_int_equal(holder, -1);
    assert_holds(path, pid);
    assert_int_equal(lock_in_child(path, &holder), -1);
    assert_int_equal(holder, getpid());
    struct file_lock *second = NULL;
    assert_ok(file_lock_try(path, &second, &holder));
    assert_null(second);
    file_lock_releasep(&lock);
    assert_holds(path, "");
    assert_int_equal(lock_in_child(path, &holder), 0);
    /* It died with the lock, and its pid still stands there. */
    assert_ok(file_lock_try(path, &lock, &holder));
    assert_non_null(lock);
    assert_holds(path, pid);
}

static void an_unknown_holder_is_0(void **state)
{
    static const char *const texts[] = {"", "x", "-1", "99999999999999999999", "12 34"};
    PATH(path, "lock");
    AUTO(file_lock_releasep) struct file_lock *lock = NULL;
    pid_t holder = -1;
    assert_ok(file_lock_try(path, &lock, &holder));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        int fd = open(path, O_WRONLY | O_TRUNC);
        assert_int_equal(write(fd, texts[i], strlen(texts[i])), strlen(texts[i]));
        close(fd);
        assert_int_equal(lock_in_child(path, &holder), -1);
        assert_int_equal(holder, 0);
    }
}

static void a_lock_that_cannot_be(void **state)
{
    struct file_lock *lock = NULL;
    pid_t holder = -1;
    PATH(none, "none/lock");
    PATH(link, "link");
    PATH(target, "target");
    assert_err(file_lock_try(none, &lock, &holder), ERR_CONFIG, "cannot open lock ");
    assert_ok(put(target, "x"));
    assert_int_equal(symlink(target, link), 0);
    assert_err(file_lock_try(link, &lock, &holder), ERR_LOCAL, "must not be a symbolic link");
    assert_err(file_lock_try(dir, &lock, &holder), ERR_LOCAL, "Is a directory");
    assert_null(lock);
    file_lock_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            TEST(makes_directories_with_their_mode),
            TEST(what_is_in_the_way_of_a_directory),
            TEST(lists_in_order_and_within_limits),
            TEST(sweeps_only_its_own),
            TEST(knows_the_temporary_names_of_writing),
            TEST(removing_and_renaming),
            TEST(trees_of_two_levels),
            TEST(deeper_trees_are_left),
            TEST(private_files),
            TEST(one_process_holds_the_lock),
            TEST(an_unknown_holder_is_0),
            TEST(a_lock_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
