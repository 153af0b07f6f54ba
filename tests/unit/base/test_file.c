/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/base/file_fixture.h"

/* ---- reading ---- */

static void reads_whole_files(void **state)
{
    PATH(path, "a");
    AUTO_FREE char *text = str_printf("%050000d", 7);
    AUTO_BUF struct buf b = BUF_INIT_SECRET(0);
    bool exists = false;
    assert_ok(put(path, text));
    assert_ok(file_read(path, 50000, &b, &exists));
    assert_true(exists);
    assert_int_equal(b.len, 50000);
    assert_string_equal(b.data, text);
    assert_true(b.wipe);
    assert_ok(put(path, ""));
    assert_ok(file_read(path, 0, &b, NULL));
    assert_string_equal(buf_str(&b), "");
}

static void reading_has_a_limit(void **state)
{
    PATH(path, "a");
    AUTO_BUF struct buf b = BUF_INIT(100);
    buf_puts(&b, "untouched");
    assert_ok(put(path, "12345"));
    AUTO_FREE char *why = str_printf("cannot read %s: larger than 4 bytes", path);
    assert_err(file_read(path, 4, &b, NULL), ERR_LOCAL, why);
    assert_string_equal(buf_str(&b), "untouched");
    assert_ok(file_read(path, 5, &b, NULL));
    assert_string_equal(buf_str(&b), "12345");
}

static void a_missing_file_is_told_as_asked(void **state)
{
    PATH(path, "none");
    AUTO_BUF struct buf b = BUF_INIT(100);
    bool exists = true;
    buf_puts(&b, "untouched");
    assert_ok(file_read(path, 100, &b, &exists));
    assert_false(exists);
    assert_err(file_read(path, 100, &b, NULL), ERR_CONFIG, "No such file");
    assert_string_equal(buf_str(&b), "untouched");
}

static void only_regular_files_are_read(void **state)
{
    PATH(fifo, "fifo");
    AUTO_BUF struct buf b = BUF_INIT(100);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_err(file_read(fifo, 100, &b, NULL), ERR_CONFIG, "not a regular file");
    assert_err(file_read(dir, 100, &b, NULL), ERR_CONFIG, "not a regular file");
    assert_ok(file_read("/proc/self/cmdline", 4096, &b, NULL));
    assert_true(b.len > 0);
}

/* ---- writing ---- */

static void writes_with_exactly_the_mode(void **state)
{
    static const mode_t modes[] = {0600, 0640, 0666, 0400};
    PATH(path, "a");
    umask(077);
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        const struct file_write_options options = {.mode = modes[i]};
        assert_ok(file_write(path, "x", 1, &options));
        assert_int_equal(stat_of(path).st_mode & 07777, modes[i]);
    }
    umask(022);
    assert_listing("a");
}

static void replaces_as_a_whole(void **state)
{
    PATH(path, "a");
    char piece[10];
    assert_ok(put(path, "old contents"));
    int reader = open(path, O_RDONLY);
    assert_true(reader >= 0);
    assert_ok(put(path, "new"));
    assert_holds(path, "new");
    assert_int_equal(read(reader, piece, 3), 3);
    assert_memory_equal(piece, "old", 3);
    close(reader);
    assert_listing("a");
}

static void a_relative_path_will_do(void **state)
{
    int here = open(".", O_RDONLY | O_DIRECTORY);
    assert_int_equal(chdir(dir), 0);
    struct err *e = put("plain", "x");
    assert_int_equal(fchdir(here), 0);
    close(here);
    assert_ok(e);
    assert_listing("plain");
}

static void mtime_always_increases(void **state)
{
    const struct file_write_options options = {.mode = 0640, .mtime_increases = true};
    PATH(path, "a");
    time_t before = time(NULL);
    assert_ok(file_write(path, "1", 1, &options));
    struct stat first = stat_of(path);
    assert_true(first.st_mtim.tv_sec >= before);
    assert_int_equal(first.st_mtim.tv_nsec, 0);
    assert_ok(file_write(path, "2", 1, &options));
    assert_true(stat_of(path).st_mtim.tv_sec > first.st_mtim.tv_sec);
    /* The clock went back, or the last file came from another machine. */
    const struct timespec future[2] = {{.tv_sec = before + 5000, .tv_nsec = 900000000},
            {.tv_sec = before + 5000, .tv_nsec = 900000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, future, 0), 0);
    assert_ok(file_write(path, "3", 1, &options));
    assert_int_equal(stat_of(path).st_mtim.tv_sec, before + 5001);
    assert_int_equal(stat_of(path).st_mtim.tv_nsec, 0);
}

static void exclusive_never_replaces(void **state)
{
    const struct file_write_options options = {.mode = 0600, .exclusive = true};
    PATH(path, "a");
    PATH(link, "link");
    assert_ok(file_write(path, "1", 1, &options));
    AUTO_ERR struct err *e = file_write(path, "2", 1, &options);
    assert_true(err_is(e, ERR_LOCAL));
    assert_int_equal(err_origin(e), ERR_FROM_ERRNO);
    assert_int_equal(err_number(e), EEXIST);
    assert_holds(path, "1");
    assert_int_equal(symlink("nowhere", link), 0);
    assert_err(file_write(link, "2", 1, &options), ERR_LOCAL, "File exists");
    assert_listing("a link");
}

static struct err *make_it_meanwhile(void *arg, const char *temporary_path)
{
    return put(arg, "somebody else's");
}

static void exclusive_holds_in_a_race(void **state)
{
    PATH(path, "a");
    const struct file_write_options options = {
            .mode = 0600, .exclusive = true, .check = make_it_meanwhile, .arg = path};
    assert_err(file_write(path, "ours", 4, &options), ERR_LOCAL, "File exists");
    assert_holds(path, "somebody else's");
    assert_listing("a");
}

static struct err *look(void *arg, const char *temporary_path)
{
    const char *name = strrchr(temporary_path, '/') + 1;
    assert_true(str_starts(name, ".a.pem."));
    assert_true(str_ends(name, ".tmp"));
    assert_true(str_starts(temporary_path, dir));
    assert_holds(temporary_path, "new");
    assert_int_equal(stat_of(temporary_path).st_mode & 07777, 0640);
    *(int *)arg += 1;
    return NULL;
}

static struct err *refuse(void *arg, const char *temporary_path)
{
    return ERR(ERR_PROTOCOL, "not good enough");
}

static void the_last_look_decides(void **state)
{
    int looks = 0;
    PATH(path, "a.pem");
    const struct file_write_options good = {.mode = 0640, .check = look, .arg = &looks};
    const struct file_write_options bad = {.mode = 0640, .check = refuse};
    assert_ok(file_write(path, "new", 3, &good));
    assert_int_equal(looks, 1);
    assert_err(file_write(path, "worse", 5, &bad), ERR_PROTOCOL, "not good enough");
    assert_holds(path, "new");
    assert_listing("a.pem");
}

static void a_link_is_replaced_not_followed(void **state)
{
    PATH(target, "target");
    PATH(link, "link");
    assert_ok(put(target, "target"));
    assert_int_equal(symlink(target, link), 0);
    assert_ok(put(link, "new"));
    assert_true(S_ISREG(stat_of(link).st_mode));
    assert_holds(target, "target");
}

static void failures_name_the_path_and_the_fix(void **state)
{
    PATH(missing, "none/a");
    PATH(file, "file");
    PATH(below, "file/a");
    PATH(a_dir, "d");
    AUTO_FREE char *long_name = str_printf("%s/%0256d", dir, 1);
    assert_err(put(missing, "x"), ERR_CONFIG, "/none: No such file");
    assert_ok(put(file, "x"));
    assert_err(put(below, "x"), ERR_CONFIG, "is not a directory: remove or rename it");
    assert_err(put(long_name, "x"), ERR_LOCAL, "choose a shorter name");
    assert_err(put("/", "x"), ERR_LOCAL, "Is a directory");
    assert_err(put("/tmp/..", "x"), ERR_LOCAL, "Is a directory");
    assert_ok(file_mkdir(a_dir, 0700));
    assert_err(put(a_dir, "x"), ERR_LOCAL, "Is a directory");
    assert_err(put("/proc/a", "x"), ERR_CONFIG, "make sure that /proc and");
    assert_err(put("/dev/full/x", "x"), ERR_CONFIG, "Not a directory");
    assert_listing("d file");
}

static void the_longest_name_has_a_temporary_one(void **state)
{
    AUTO_FREE char *name = str_printf("%0255d", 1);
    PATH(path, name);
    assert_ok(put(path, "x"));
    assert_listing(name);
}

/* As on a full disk: the contents do not fit, the old file stays, nothing is left behind. */
static void a_file_that_does_not_fit_leaves_no_trace(void **state)
{
    struct rlimit old, small;
    PATH(path, "a");
    AUTO_FREE char *text = str_printf("%050000d", 7);
    assert_ok(put(path, "old"));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){.rlim_cur = 10000, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct err *e = put(path, text);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_err(e, ERR_LOCAL, "raise the limit of file size");
    assert_holds(path, "old");
    assert_listing("a");
}

static void no_descriptors_left(void **state)
{
    struct rlimit old, none;
    PATH(path, "a");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct err *e = put(path, "x");
    setrlimit(RLIMIT_NOFILE, &old);
    assert_err(e, ERR_LOCAL, "raise the limit of open files");
    assert_listing("");
}

/* "nobody", whom modes concern (root they do not). */
static void become_nobody(void)
{
    if (geteuid() != 0 || setgid(65534) != 0 || setuid(65534) != 0)
        _exit(77);
}

static void try_without_permission(void)
{
    become_nobody();
    PATH(path, "a");
    PATH(below, "d");
    struct buf b = BUF_INIT(0);
    struct strv names = {0};
    const char *advice = "give user id 65534 the permission, for ";
    expect(put(path, "x"), ERR_CONFIG, advice, 1);
    expect(file_read(path, 10, &b, NULL), ERR_CONFIG, advice, 2);
    expect(file_mkdir(below, 0700), ERR_CONFIG, advice, 3);
    expect(file_remove(path), ERR_CONFIG, advice, 4);
    expect(file_list(dir, 10, &names, NULL), ERR_CONFIG, advice, 5);
    struct file_lock *lock = NULL;
    pid_t holder;
    expect(file_lock_try(path, &lock, &holder), ERR_CONFIG, advice, 6);
}

static void permissions_are_said(void **state)
{
    PATH(path, "a");
    assert_ok(put(path, "x"));
    assert_int_equal(chmod(dir, 0711), 0);
    in_child(try_without_permission);
    assert_listing("a");
}

static void try_foreign_owner(void)
{
    become_nobody();
    PATH(other, "other");
    PATH(roots, "roots");
    expect(file_check_private(other, 0600), ERR_CONFIG, "chown 65534 ", 1);
    /* root may read everything anyway, so a file of its own is no risk. */
    if (file_check_private(roots, 0600) != NULL)
        _exit(2);
}

static void a_foreign_owner_is_refused(void **state)
{
    PATH(other, "other");
    PATH(roots, "roots");
    assert_ok(put(other, "x"));
    assert_ok(put(roots, "x"));
    if (geteuid() == 0)
        assert_int_equal(chown(other, 1234, 1234), 0);
    assert_int_equal(chmod(dir, 0711), 0);
    in_child(try_foreign_owner);
}

/* ---- a file system of its own: full, without inodes, read-only ---- */

static void mount_small(const char *options, unsigned long flags)
{
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, "") != 0 ||
            mount("tmpfs", dir, "tmpfs", flags, options) != 0)
        _exit(77);
}

static void expect_only(const char *path, const char *text, int exit_status)
{
    AUTO_STRV struct strv names = {0};
    AUTO_BUF struct buf b = BUF_INIT(0);
    if (file_list(dir, 10, &names, NULL) != NULL || names.n != 1 ||
            file_read(path, 100, &b, NULL) != NULL || strcmp(buf_str(&b), text) != 0)
        _exit(exit_status);
}

static void try_without_space(void)
{
    const char *advice = "free some space or inodes on the file system of ";
    PATH(path, "a");
    AUTO_FREE char *text = str_printf("%0200000d", 7);
    mount_small("size=64k", 0);
    if (put(path, "old") != NULL)
        _exit(1);
    expect(put(path, text), ERR_LOCAL, advice, 2);
    expect_only(path, "old", 3);
    /* The space of what failed is free again. */
    if (put(path, "new") != NULL)
        _exit(4);
    expect_only(path, "new", 5);
}

static void try_without_inodes(void)
{
    const char *advice = "free some space or inodes on the file system of ";
    PATH(path, "a");
    PATH(below, "d");
    PATH(lock_path, "lock");
    struct file_lock *lock = NULL;
    pid_t holder;
    mount_small("nr_inodes=2", 0);
    if (put(path, "old") != NULL)
        _exit(1);
    expect(put(path, "new"), ERR_LOCAL, advice, 2);
    expect(file_mkdir(below, 0700), ERR_LOCAL, advice, 3);
    expect(file_lock_try(lock_path, &lock, &holder), ERR_LOCAL, advice, 4);
    expect_only(path, "old", 5);
}

static void try_read_only(void)
{
    const char *advice = "mount the file system of ";
    PATH(path, "a");
    PATH(other, "b");
    PATH(below, "d");
    struct file_lock *lock = NULL;
    pid_t holder;
    mount_small("size=64k", 0);
    if (put(path, "old") != NULL ||
            mount("none", dir, "none", MS_REMOUNT | MS_RDONLY, "size=64k") != 0)
        _exit(1);
    expect(put(path, "new"), ERR_CONFIG, advice, 2);
    expect(file_mkdir(below, 0700), ERR_CONFIG, advice, 3);
    expect(file_remove(path), ERR_CONFIG, advice, 4);
    expect(file_rename(path, other), ERR_CONFIG, advice, 5);
    expect(file_lock_try(other, &lock, &holder), ERR_CONFIG, advice, 6);
    expect_only(path, "old", 7);
}

static void a_full_disk(void **state)
{
    in_child(try_without_space);
}

static void no_inodes(void **state)
{
    in_child(try_without_inodes);
}

static void a_read_only_file_system(void **state)
{
    in_child(try_read_only);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            TEST(reads_whole_files),
            TEST(reading_has_a_limit),
            TEST(a_missing_file_is_told_as_asked),
            TEST(only_regular_files_are_read),
            TEST(writes_with_exactly_the_mode),
            TEST(replaces_as_a_whole),
            TEST(a_relative_path_will_do),
            TEST(mtime_always_increases),
            TEST(exclusive_never_replaces),
            TEST(exclusive_holds_in_a_race),
            TEST(the_last_look_decides),
            TEST(a_link_is_replaced_not_followed),
            TEST(failures_name_the_path_and_the_fix),
            TEST(the_longest_name_has_a_temporary_one),
            TEST(a_file_that_does_not_fit_leaves_no_trace),
            TEST(no_descriptors_left),
            TEST(permissions_are_said),
            TEST(a_foreign_owner_is_refused),
            TEST(a_full_disk),
            TEST(no_inodes),
            TEST(a_read_only_file_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
