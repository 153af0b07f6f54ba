/* SPDX-License-Identifier: Apache-2.0 */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/base/rim.h"

struct run {
    struct child_request request;
    struct child_result result;
    int64_t deadline_ms;
};

static struct err *run_fiber(void *arg) MAY_SUSPEND;

static struct err *run_fiber(void *arg)
{
    struct run *r = arg;

    FIBER_DEADLINE(r->deadline_ms > 0 ? r->deadline_ms : CLOCK_MIN, "the flow");
    return child_run(rim_loop, &r->request, &r->result);
}

/* Only here: the product never runs a shell. */
static struct run shell(const char *const *argv)
{
    return (struct run){.request = {.argv = argv}};
}
#define SHELL(script) shell((const char *const[]){"/bin/sh", "-c", script, NULL})

static void output_errors_and_status(void **state)
{
    struct run r = SHELL("echo out; echo err >&2; exit 3");

    assert_ok(rim_run(run_fiber, &r));
    assert_string_equal(buf_str(&r.result.output), "out\n");
    assert_string_equal(buf_str(&r.result.errors), "err\n");
    assert_int_equal(r.result.exit_status, 3);
    assert_int_equal(r.result.term_signal, 0);
    child_result_done(&r.result);
}

static void death_by_signal(void **state)
{
    struct run r = SHELL("kill -USR1 $$");

    assert_ok(rim_run(run_fiber, &r));
    assert_int_equal(r.result.exit_status, -1);
    assert_int_equal(r.result.term_signal, SIGUSR1);
    child_result_done(&r.result);
}

static void input_is_handed_over(void **state)
{
    AUTO_FREE char *big = mem_zalloc(1000000);
    struct run r = SHELL("wc -c");

    r.request.input = big;
    r.request.input_len = 1000000;
    assert_ok(rim_run(run_fiber, &r));
    assert_string_equal(buf_str(&r.result.output), "1000000\n");
    child_result_done(&r.result);

    r = SHELL("exec 0<&-; echo fine"); /* does not want it */
    r.request.input = big;
    r.request.input_len = 1000000;
    assert_ok(rim_run(run_fiber, &r));
    assert_string_equal(buf_str(&r.result.output), "fine\n");
    child_result_done(&r.result);

    r = SHELL("cat /dev/stdin; echo end > /dev/stderr"); /* opens them anew */
    r.request.input = "text";
    r.request.input_len = 4;
    assert_ok(rim_run(run_fiber, &r));
    assert_string_equal(buf_str(&r.result.output), "text");
    assert_string_equal(buf_str(&r.result.errors), "end\n");
    child_result_done(&r.result);

    r = SHELL("cat");
    assert_ok(rim_run(run_fiber, &r));
    assert_string_equal(buf_str(&r.result.output), "");
    child_result_done(&r.result);
}

static void nothing_is_inherited(void **state)
{
    int leaky = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */
    struct run r = SHELL("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= | sort; pwd; "
                         "ls /proc/self/fd | wc -l");

    assert_true(leaky > 2);
    setenv("CERTHERD_SECRET", "visible", 1);
    assert_ok(rim_run(run_fiber, &r));
    unsetenv("CERTHERD_SECRET");
    /* 0, 1, 2 and the directory that ls reads. */
    assert_string_equal(buf_str(&r.result.output),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n/\n4\n");
    child_result_done(&r.result);
    close(leaky);

    r = SHELL("echo $A,$B,$PATH");
    r.request.env = (const char *const[]){"A=1", "B=two words", NULL};
    assert_ok(rim_run(run_fiber, &r));
    assert_true(str_starts(buf_str(&r.result.output), "1,two words,"));
    child_result_done(&r.result);
}

static void own_session(void **state)
{
    /* Fields of stat behind the name: state, parent, group, session. */
    struct run r = SHELL("set -- $(cat /proc/$$/stat); echo $1 $5 $6");
    int pid, group, session;

    assert_ok(rim_run(run_fiber, &r));
    assert_int_equal(sscanf(buf_str(&r.result.output), "%d %d %d", &pid, &group, &session), 3);
    assert_int_equal(pid, group);
    assert_int_equal(pid, session);
    child_result_done(&r.result);
}

static void output_has_a_limit(void **state)
{
    struct run r = SHELL("head -c 3000000 /dev/zero; head -c 70000 /dev/zero >&2; echo end >&2");

    r.request.max_output = 1000;
    assert_ok(rim_run(run_fiber, &r));
    assert_int_equal(r.result.output.len, 1000);
    assert_int_equal(r.result.errors.len, 1000);
    assert_false(r.result.output.overflow);
    assert_int_equal(r.result.exit_status, 0);
    child_result_done(&r.result);
}

static void grandchild_is_not_waited_for(void **state)
{
    struct run r = SHELL("sleep 30 & echo $!");
    unsigned long long pid = 0;

    assert_ok(rim_run(run_fiber, &r));
    r.result.output.data[r.result.output.len - 1] = '\0';
    assert_true(str_to_u64(r.result.output.data, 10000000, &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0); /* it was left alone */
    child_result_done(&r.result);
}

static void what_can_not_be_run(void **state)
{
    struct run r = shell((const char *const[]){"/nowhere/hook", NULL});

    assert_err(rim_run(run_fiber, &r), ERR_CONFIG, "/nowhere/hook");
    r = shell((const char *const[]){"/etc/passwd", NULL});
    assert_err(rim_run(run_fiber, &r), ERR_CONFIG, "/etc/passwd");
    r = shell((const char *const[]){"true", NULL});
    assert_err(rim_run(run_fiber, &r), ERR_CONFIG, "absolute");
}

/* ---- ending it ---- */

/* A directory in which scripts leave signs. */
static char dir[] = "/tmp/certherd-test-XXXXXX";

static bool sign(const char *name)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);

    return access(path, F_OK) == 0;
}

static pid_t sign_pid(const char *name)
{
    AUTO_FREE char *path = str_printf("%s/%s", dir, name);
    FILE *file = fopen(path, "r");
    int pid = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

static int make_dir(void **state)
{
    memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
    assert_non_null(mkdtemp(dir));
    return rim_setup(state);
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"started", "term", "pid", "grandchild"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        AUTO_FREE char *path = str_printf("%s/%s", dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
    return rim_teardown(state);
}

static bool gone(pid_t pid)
{
    AUTO_FREE char *path = str_printf("/proc/%d/stat", pid);
    char line[256] = "";
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return true;
    const char *got = fgets(line, sizeof(line), file);
    fclose(file);
    /* A zombie of somebody else's is gone enough. */
    return got == NULL || strstr(line, ") Z ") != NULL;
}

static struct err *cancel_when_started(void *arg) MAY_SUSPEND;

static struct err *cancel_when_started(void *arg)
{
    while (!sign("started"))
        TRY(fiber_sleep(5));
    fiber_cancel(rim_fiber);
    fiber_cancel(rim_fiber);
    return NULL;
}

static struct err *run_and_cancel(struct run *r)
{
    assert_ok(loop_new(&rim_loop));
    fiber_spawn(rim_loop, "canceler", cancel_when_started, NULL, NULL);
    return rim_run(run_fiber, r);
}

static void cancel_ends_the_group(void **state)
{
    AUTO_FREE char *script = str_printf("cd %s; echo $$ >pid; sleep 60 & echo $! >grandchild; "
                                        "echo >started; wait",
            dir);
    struct run r = SHELL(script);

    assert_err(run_and_cancel(&r), ERR_CANCELED, "/bin/sh");
    assert_true(gone(sign_pid("pid")));
    assert_true(gone(sign_pid("grandchild")));
    assert_null(r.result.output.data);
}

static void deadline_lets_it_clean_up(void **state)
{
    AUTO_FREE char *script = str_printf(
            "cd %s; echo $$ >pid; trap 'echo >term; exit 0' TERM; while :; do sleep 0.05; done",
            dir);
    struct run r = SHELL(script);

    r.request.total_ms = 300;
    assert_err(rim_run(run_fiber, &r), ERR_TIMEOUT, "/bin/sh");
    assert_true(sign("term"));
    assert_true(gone(sign_pid("pid")));
}

static void outer_deadline_counts_too(void **state)
{
    struct run r = SHELL("sleep 60");

    r.deadline_ms = 100;
    assert_err(rim_run(run_fiber, &r), ERR_TIMEOUT, "the flow");
}

static void who_ignores_term_is_killed(void **state)
{
    AUTO_FREE char *script = str_printf(
            "cd %s; echo $$ >pid; trap '' TERM; echo >started; while :; do sleep 0.05; done", dir);
    struct run r = SHELL(script);

    assert_err(run_and_cancel(&r), ERR_CANCELED, "/bin/sh");
    assert_true(gone(sign_pid("pid")));
}

static void grandchild_that_ignores_term_is_killed(void **state)
{
    AUTO_FREE char *script =
            str_printf("cd %s; (trap '' TERM; sh -c 'echo $$ >grandchild; echo >started; "
                       "while :; do sleep 0.05; done') & echo $$ >pid; wait",
                    dir);
    struct run r = SHELL(script);

    assert_err(run_and_cancel(&r), ERR_CANCELED, "/bin/sh");
    assert_true(gone(sign_pid("pid")));
    /* SIGKILL is on its way; the kernel may need a moment for somebody else's child. */
    pid_t grandchild = sign_pid("grandchild");
    for (int i = 0; i < 1000 && !gone(grandchild); i++)
        usleep(1000);
    assert_true(gone(grandchild));
}

static void canceled_before_it_began(void **state)
{
    struct run r = SHELL("exit 0");

    assert_ok(loop_new(&rim_loop));
    rim_fiber = fiber_spawn(rim_loop, "test", run_fiber, &r, rim_done);
    fiber_cancel(rim_fiber);
    loop_run(rim_loop);
    assert_err(STEAL(rim_result), ERR_CANCELED, "");
}

/* ---- many ---- */

static struct err *one(void *arg) MAY_SUSPEND;
static struct err *many(void *arg) MAY_SUSPEND;

static struct err *one(void *arg)
{
    unsigned *good = arg;
    AUTO_CHILD_RESULT struct child_result result = {0};
    const char *const argv[] = {"/bin/sh", "-c", "echo x; exit 7", NULL};
    struct child_request request = {.argv = argv};

    TRY(child_run(rim_loop, &request, &result));
    *good += result.exit_status == 7 && strcmp(buf_str(&result.output), "x\n") == 0;
    return NULL;
}

static struct err *many(void *arg)
{
    struct fiber_group group;

    fiber_group_init(&group);
    for (int i = 0; i < 20; i++)
        fiber_group_spawn(&group, "one", one, arg);
    return fiber_group_wait(&group);
}

static void many_at_once(void **state)
{
    unsigned good = 0;

    assert_ok(rim_run(many, &good));
    assert_int_equal(good, 20);
}

#define DIR_TEST(fn) cmocka_unit_test_setup_teardown(fn, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
            RIM_TEST(output_errors_and_status),
            RIM_TEST(death_by_signal),
            RIM_TEST(input_is_handed_over),
            RIM_TEST(nothing_is_inherited),
            RIM_TEST(own_session),
            RIM_TEST(output_has_a_limit),
            RIM_TEST(grandchild_is_not_waited_for),
            RIM_TEST(what_can_not_be_run),
            DIR_TEST(cancel_ends_the_group),
            DIR_TEST(deadline_lets_it_clean_up),
            RIM_TEST(outer_deadline_counts_too),
            DIR_TEST(who_ignores_term_is_killed),
            DIR_TEST(grandchild_that_ignores_term_is_killed),
            RIM_TEST(canceled_before_it_began),
            RIM_TEST(many_at_once),
    };
    return cmocka_run_group_tests(tests, rim_paint, rim_check_stacks);
}
