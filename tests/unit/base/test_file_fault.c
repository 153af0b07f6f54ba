/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that fail: this program has its own write(), fsync() and so on, which the linker
 * prefers over those of the C library. Each fails when the test says so and else goes to the
 * kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "tests/unit/base/file_fixture.h"

enum call {
    CALL_NONE,
    CALL_WRITE,
    CALL_FSYNC,
    CALL_FCHMOD,
    CALL_FUTIMENS,
    CALL_CLOSE,
    CALL_RENAMEAT,
    CALL_RENAMEAT2,
};

static struct {
    enum call call;
    int skip;   /* so many calls pass first */
    int number; /* errno */
    int hits;
    bool trickle; /* write(): two bytes at a time, EINTR in between */
} fault;

static bool fails(enum call call)
{
    if (fault.call != call || fault.skip-- > 0)
        return false;
    fault.hits++;
    errno = fault.number;
    return true;
}

ssize_t write(int fd, const void *data, size_t len)
{
    if (fails(CALL_WRITE))
        return -1;
    if (fault.trickle && ++fault.hits % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_write, fd, data, fault.trickle && len > 2 ? 2 : len);
}

int fsync(int fd)
{
    return fails(CALL_FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fchmod(int fd, mode_t mode)
{
    return fails(CALL_FCHMOD) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int futimens(int fd, const struct timespec times[2])
{
    return fails(CALL_FUTIMENS) ? -1 : (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}

/* As in the kernel: closed whatever it says. */
int close(int fd)
{
    int rc = (int)syscall(SYS_close, fd);
    return fails(CALL_CLOSE) ? -1 : rc;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return fails(CALL_RENAMEAT) ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
    return fails(CALL_RENAMEAT2) ? -1
                                 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

static void arm(enum call call, int skip, int number)
{
    memset(&fault, 0, sizeof(fault));
    fault.call = call;
    fault.skip = skip;
    fault.number = number;
}

static int disarm(void)
{
    int hits = fault.hits;
    memset(&fault, 0, sizeof(fault));
    return hits;
}

static const struct file_write_options live = {.mode = 0640, .mtime_increases = true};

static void each_step_may_fail(void **state)
{
    static const struct {
        enum call call;
        int number;
        enum err_kind kind;
        const char *says;
    } cases[] = {
            {CALL_WRITE, ENOSPC, ERR_LOCAL, "free some space"},
            {CALL_WRITE, EDQUOT, ERR_LOCAL, "free some space"},
            {CALL_WRITE, EIO, ERR_LOCAL, "check the disk"},
            {CALL_FCHMOD, EPERM, ERR_CONFIG, "cannot set the mode of"},
            {CALL_FUTIMENS, EPERM, ERR_CONFIG, "cannot set the time of"},
            {CALL_FSYNC, EIO, ERR_LOCAL, "check the disk"},
            {CALL_FSYNC, ENOSPC, ERR_LOCAL, "free some space"},
            {CALL_RENAMEAT, ENOSPC, ERR_LOCAL, "free some space"},
            {CALL_RENAMEAT, EROFS, ERR_CONFIG, "read-write"},
    };
    PATH(path, "a");
    assert_ok(put(path, "old"));
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        arm(cases[i].call, 0, cases[i].number);
        struct err *e = file_write(path, "new contents", 12, &live);
        int hits = disarm();
        assert_err(e, cases[i].kind, cases[i].says);
        /* Above all no second fsync, which would say that all is well. */
        assert_int_equal(hits, 1);
        assert_holds(path, "old");
        assert_listing("a");
    }
}

static void closing_may_fail(void **state)
{
    PATH(path, "a");
    assert_ok(put(path, "old"));
    arm(CALL_CLOSE, 0, EDQUOT);
    struct err *e = file_write(path, "new", 3, &live);
    disarm();
    assert_err(e, ERR_LOCAL, "free some space");
    assert_holds(path, "old");
    assert_listing("a");
    arm(CALL_CLOSE, 0, EINTR);
    e = file_write(path, "new", 3, &live);
    disarm();
    assert_ok(e);
    assert_holds(path, "new");
}

/* The new file is there, but nobody is told that it will survive. */
static void the_directory_may_not_reach_the_disk(void **state)
{
    PATH(path, "a");
    PATH(other, "b");
    PATH(below, "d");
    arm(CALL_FSYNC, 1, EIO);
    struct err *e = file_write(path, "new", 3, &live);
    disarm();
    assert_err(e, ERR_LOCAL, "cannot sync directory");
    assert_holds(path, "new");
    assert_listing("a");
    arm(CALL_FSYNC, 0, EIO);
    struct err *renamed = file_rename(path, other);
    struct err *made = file_mkdir(below, 0700);
    struct err *removed = file_remove(other);
    disarm();
    assert_err(renamed, ERR_LOCAL, "cannot sync directory");
    assert_err(made, ERR_LOCAL, "cannot sync directory");
    assert_err(removed, ERR_LOCAL, "cannot sync directory");
}

static void short_writes_and_signals_lose_nothing(void **state)
{
    PATH(path, "a");
    AUTO_FREE char *text = str_printf("%01001d", 7);
    arm(CALL_NONE, 0, 0);
    fault.trickle = true;
    struct err *e = file_write(path, text, strlen(text), &live);
    int calls = disarm();
    assert_ok(e);
    assert_true(calls > 900);
    assert_holds(path, text);
}

static void exclusive_without_the_newer_call(void **state)
{
    const struct file_write_options options = {.mode = 0600, .exclusive = true};
    PATH(path, "a");
    arm(CALL_RENAMEAT2, 0, EINVAL);
    struct err *e = file_write(path, "new", 3, &options);
    assert_int_equal(disarm(), 1);
    assert_ok(e);
    assert_holds(path, "new");
    assert_int_equal(stat_of(path).st_nlink, 1);
    assert_listing("a");
}

static struct err *make_it_meanwhile(void *arg, const char *temporary_path)
{
    return put(arg, "somebody else's");
}

static void a_race_without_the_newer_call(void **state)
{
    PATH(path, "a");
    const struct file_write_options options = {
            .mode = 0600, .exclusive = true, .check = make_it_meanwhile, .arg = path};
    arm(CALL_RENAMEAT2, 0, EINVAL);
    struct err *e = file_write(path, "ours", 4, &options);
    disarm();
    assert_err(e, ERR_LOCAL, "File exists");
    assert_holds(path, "somebody else's");
    assert_listing("a");
}

static void a_lock_needs_no_space(void **state)
{
    struct rlimit old, none;
    struct file_lock *lock = NULL;
    pid_t holder = -1;
    PATH(path, "lock");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    struct err *e = file_lock_try(path, &lock, &holder);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_ok(e);
    assert_non_null(lock);
    assert_holds(path, "");
    file_lock_release(lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            TEST(each_step_may_fail),
            TEST(closing_may_fail),
            TEST(the_directory_may_not_reach_the_disk),
            TEST(short_writes_and_signals_lose_nothing),
            TEST(exclusive_without_the_newer_call),
            TEST(a_race_without_the_newer_call),
            TEST(a_lock_needs_no_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
