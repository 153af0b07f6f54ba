/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>
#include <dlfcn.h>

#include "base/fiber.h"

/* Each test is one fiber on a virtual loop, which ends the test when it ends. */
struct test {
    struct loop *loop;
    fiber_fn *fn;
    struct err *result;
    bool done;
};

static void test_done(void *arg, struct err *result)
{
    struct test *t = arg;

    t->result = result;
    t->done = true;
}

static struct loop *the_loop;

static struct err *run_on(struct loop *loop, fiber_fn *fn)
{
    struct test t = {.loop = loop};

    the_loop = loop;
    struct fiber *f = fiber_spawn(loop, "test", fn, &t, test_done);
    assert_non_null(f);
    loop_run(loop);
    assert_true(t.done);
    loop_free(loop);
    return t.result;
}

static struct err *run_virtual(fiber_fn *fn)
{
    struct loop *loop = NULL;

    assert_null(loop_new_virtual((struct wall){1000000}, &loop));
    return run_on(loop, fn);
}

static void expect_kind(struct err *e, enum err_kind kind)
{
    assert_non_null(e);
    assert_int_equal(err_kind(e), kind);
    err_free(e);
}

/* ---- sleeping and virtual time ---- */

static struct err *sleep_90_days(void *arg) MAY_SUSPEND;
static struct err *sleep_90_days(void *arg)
{
    (void)arg;
    struct wall wall = loop_wall(the_loop);
    struct mono mono = loop_mono(the_loop);

    for (int day = 0; day < 90; day++)
        TRY(fiber_sleep(CLOCK_DAY));
    assert_int_equal(wall_diff(loop_wall(the_loop), wall), 90 * CLOCK_DAY);
    assert_int_equal(mono_diff(loop_mono(the_loop), mono), 90 * CLOCK_DAY);
    loop_shift_wall(the_loop, -CLOCK_HOUR);
    assert_int_equal(wall_diff(loop_wall(the_loop), wall), 90 * CLOCK_DAY - CLOCK_HOUR);
    return NULL;
}

static void virtual_time_jumps(void **state)
{
    (void)state;
    assert_null(run_virtual(sleep_90_days));
}

static struct err *sleep_really(void *arg) MAY_SUSPEND;
static struct err *sleep_really(void *arg)
{
    (void)arg;
    struct mono before = loop_mono(the_loop);

    TRY(fiber_sleep(20));
    assert_true(mono_diff(loop_mono(the_loop), before) >= 20);
    return NULL;
}

static void real_time_passes(void **state)
{
    (void)state;
    struct loop *loop = NULL;

    assert_null(loop_new(&loop));
    assert_null(run_on(loop, sleep_really));
}

/* ---- groups ---- */

static char order[64];

static struct err *sleeper(void *arg) MAY_SUSPEND;
static struct err *sleeper(void *arg)
{
    const char *what = arg;

    TRY(fiber_sleep((what[0] - 'a' + 1) * 100));
    strncat(order, what, 1);
    return NULL;
}

static struct err *failing(void *arg) MAY_SUSPEND;
static struct err *failing(void *arg)
{
    (void)arg;
    TRY(fiber_sleep(150));
    return ERR(ERR_DENIED, "no");
}

static struct err *group_all_run(void *arg) MAY_SUSPEND;
static struct err *group_all_run(void *arg)
{
    (void)arg;
    static char names[] = "dbca";
    struct mono before = loop_mono(the_loop);
    struct fiber_group group;

    order[0] = '\0';
    fiber_group_init(&group);
    for (size_t i = 0; i < 4; i++)
        fiber_group_spawn(&group, "sleeper", sleeper, &names[i]);
    TRY(fiber_group_wait(&group));
    assert_string_equal(order, "abcd");
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 400);
    return NULL;
}

static void group_runs_at_once(void **state)
{
    (void)state;
    assert_null(run_virtual(group_all_run));
}

static struct err *group_first_error(void *arg) MAY_SUSPEND;
static struct err *group_first_error(void *arg)
{
    (void)arg;
    struct mono before = loop_mono(the_loop);
    struct fiber_group group;

    order[0] = '\0';
    fiber_group_init(&group);
    fiber_group_spawn(&group, "a", sleeper, (char[]){"a"});
    fiber_group_spawn(&group, "failing", failing, NULL);
    fiber_group_spawn(&group, "c", sleeper, (char[]){"c"});
    struct err *e = fiber_group_wait(&group);
    assert_string_equal(order, "a");
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 150);
    return e;
}

static void first_error_cancels_the_rest(void **state)
{
    (void)state;
    expect_kind(run_virtual(group_first_error), ERR_DENIED);
}

static struct err *group_keeps_going(void *arg) MAY_SUSPEND;
static struct err *group_keeps_going(void *arg)
{
    (void)arg;
    struct fiber_group group;

    order[0] = '\0';
    fiber_group_init(&group);
    group.keep_going = true;
    fiber_group_spawn(&group, "failing", failing, NULL);
    fiber_group_spawn(&group, "c", sleeper, (char[]){"c"});
    struct err *e = fiber_group_wait(&group);
    assert_string_equal(order, "c");
    return e;
}

static void keep_going_lets_the_others_end(void **state)
{
    (void)state;
    expect_kind(run_virtual(group_keeps_going), ERR_DENIED);
}

/* ---- cancel, deadline, shield ---- */

static bool cleaned;

static struct err *undo_under_shield(void) MAY_SUSPEND;
static struct err *undo_under_shield(void)
{
    FIBER_SHIELD(1000);
    TRY(fiber_sleep(500));
    cleaned = true;
    return NULL;
}

static struct err *cancel_target(void *arg) MAY_SUSPEND;
static struct err *cancel_target(void *arg)
{
    (void)arg;
    struct err *e = fiber_sleep(CLOCK_DAY);

    assert_non_null(e);
    assert_int_equal(err_kind(e), ERR_CANCELED);
    /* Every later wait says the same, at once. */
    struct mono before = loop_mono(the_loop);
    struct err *again = fiber_sleep(CLOCK_DAY);
    assert_int_equal(err_kind(again), ERR_CANCELED);
    err_free(again);
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 0);
    assert_null(undo_under_shield());
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 500);
    return e;
}

static struct err *cancel_from_outside(void *arg) MAY_SUSPEND;
static struct err *cancel_from_outside(void *arg)
{
    (void)arg;
    struct fiber_group group;

    cleaned = false;
    fiber_group_init(&group);
    fiber_group_spawn(&group, "target", cancel_target, NULL);
    TRY(fiber_sleep(10));
    fiber_group_cancel(&group);
    fiber_group_cancel(&group);
    struct err *e = fiber_group_wait(&group);
    assert_true(cleaned);
    return e;
}

static void cancel_is_an_error_of_the_wait(void **state)
{
    (void)state;
    expect_kind(run_virtual(cancel_from_outside), ERR_CANCELED);
}

static struct err *waits_for_group(void *arg) MAY_SUSPEND;
static struct err *waits_for_group(void *arg)
{
    (void)arg;
    struct fiber_group group;

    fiber_group_init(&group);
    fiber_group_spawn(&group, "target", cancel_target, NULL);
    return fiber_group_wait(&group);
}

static struct err *cancel_reaches_members(void *arg) MAY_SUSPEND;
static struct err *cancel_reaches_members(void *arg)
{
    (void)arg;
    struct fiber_group group;

    cleaned = false;
    fiber_group_init(&group);
    fiber_group_spawn(&group, "outer", waits_for_group, NULL);
    TRY(fiber_sleep(10));
    fiber_group_cancel(&group);
    struct err *e = fiber_group_wait(&group);
    assert_true(cleaned);
    return e;
}

static void cancel_waits_for_the_members_clean_up(void **state)
{
    (void)state;
    expect_kind(run_virtual(cancel_reaches_members), ERR_CANCELED);
}

static struct err *nested_deadlines(void *arg) MAY_SUSPEND;
static struct err *nested_deadlines(void *arg)
{
    (void)arg;
    struct mono before = loop_mono(the_loop);
    FIBER_DEADLINE(100, "the outer");
    {
        FIBER_DEADLINE(50, "the inner");
        struct err *e = fiber_sleep(1000);
        assert_int_equal(err_kind(e), ERR_TIMEOUT);
        assert_string_equal(err_text(e), "the inner took longer than 50 ms");
        err_free(e);
    }
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 50);
    {
        FIBER_DEADLINE(5000, "a longer inner");
        struct err *e = fiber_sleep(1000);
        assert_string_equal(err_text(e), "the outer took longer than 100 ms");
        err_free(e);
    }
    {
        FIBER_SHIELD(30);
        assert_null(fiber_sleep(10));
        struct err *e = fiber_sleep(1000);
        assert_int_equal(err_kind(e), ERR_TIMEOUT);
        err_free(e);
    }
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 130);
    return NULL;
}

static void the_earliest_deadline_wins(void **state)
{
    (void)state;
    assert_null(run_virtual(nested_deadlines));
}

static struct err *cancel_all(void *arg) MAY_SUSPEND;
static struct err *cancel_all(void *arg)
{
    (void)arg;
    loop_cancel_all(the_loop);
    expect_kind(fiber_sleep(1), ERR_CANCELED);
    /* The shield also protects what the shielded fiber started. */
    FIBER_SHIELD(10000);
    struct fiber_group group;
    order[0] = '\0';
    fiber_group_init(&group);
    fiber_group_spawn(&group, "a", sleeper, (char[]){"a"});
    loop_cancel_all(the_loop);
    assert_null(fiber_group_wait(&group));
    assert_string_equal(order, "a");
    return NULL;
}

static void shields_cover_members(void **state)
{
    (void)state;
    assert_null(run_virtual(cancel_all));
}

/* ---- thread pool ---- */

struct job {
    int pipe[2];
    bool finished;
};

static struct err *block_until_told(void *arg)
{
    struct job *job = arg;
    char c;

    if (read(job->pipe[0], &c, 1) != 1)
        return ERR(ERR_LOCAL, "pipe");
    job->finished = true;
    return NULL;
}

static struct err *work_fails(void *arg)
{
    (void)arg;
    return ERR(ERR_LOCAL, "work failed");
}

static struct err *worker(void *arg) MAY_SUSPEND;
static struct err *worker(void *arg)
{
    return fiber_work(block_until_told, arg);
}

static struct err *work_and_cancel(void *arg) MAY_SUSPEND;
static struct err *work_and_cancel(void *arg)
{
    (void)arg;
    struct job job = {.finished = false};
    struct fiber_group group;

    expect_kind(fiber_work(work_fails, NULL), ERR_LOCAL);
    assert_int_equal(pipe(job.pipe), 0);
    fiber_group_init(&group);
    fiber_group_spawn(&group, "worker", worker, &job);
    TRY(fiber_yield());
    TRY(fiber_yield());
    fiber_group_cancel(&group);
    TRY(fiber_yield());
    assert_false(job.finished); /* canceled, but the thread is still inside */
    assert_int_equal(write(job.pipe[1], "x", 1), 1);
    /* Whether the pool had begun decides: then what it did is the truth. */
    struct err *e = fiber_group_wait(&group);
    assert_true(e == NULL ? job.finished : err_kind(e) == ERR_CANCELED);
    err_free(e);
    close(job.pipe[0]);
    close(job.pipe[1]);
    return NULL;
}

static void cancel_waits_for_the_thread(void **state)
{
    (void)state;
    struct loop *loop = NULL;

    assert_null(loop_new(&loop));
    assert_null(run_on(loop, work_and_cancel));
    assert_null(run_virtual(work_and_cancel));
}

/* ---- semaphore, event ---- */

static size_t inside, most;

static struct err *uses_semaphore(void *arg) MAY_SUSPEND;
static struct err *uses_semaphore(void *arg)
{
    struct fiber_sem *sem = arg;

    TRY(fiber_sem_acquire(sem));
    if (++inside > most)
        most = inside;
    struct err *e = fiber_sleep(10);
    inside--;
    fiber_sem_release(sem);
    return e;
}

static struct err *semaphore_caps(void *arg) MAY_SUSPEND;
static struct err *semaphore_caps(void *arg)
{
    (void)arg;
    struct fiber_sem sem;
    struct fiber_group group;
    struct mono before = loop_mono(the_loop);

    inside = most = 0;
    fiber_sem_init(&sem, 3);
    fiber_group_init(&group);
    for (int i = 0; i < 9; i++)
        fiber_group_spawn(&group, "user", uses_semaphore, &sem);
    TRY(fiber_group_wait(&group));
    assert_int_equal(most, 3);
    assert_int_equal(mono_diff(loop_mono(the_loop), before), 30);
    /* Canceled while queueing: no place is lost. */
    fiber_group_init(&group);
    for (int i = 0; i < 9; i++)
        fiber_group_spawn(&group, "user", uses_semaphore, &sem);
    TRY(fiber_sleep(5));
    fiber_group_cancel(&group);
    expect_kind(fiber_group_wait(&group), ERR_CANCELED);
    assert_int_equal(sem.free, 3);
    assert_null(sem.first);
    return NULL;
}

static void semaphore_limits(void **state)
{
    (void)state;
    assert_null(run_virtual(semaphore_caps));
}

static struct err *set_event(void *arg) MAY_SUSPEND;
static struct err *set_event(void *arg)
{
    TRY(fiber_sleep(70));
    fiber_event_set(arg);
    return NULL;
}

static struct err *event_waits(void *arg) MAY_SUSPEND;
static struct err *event_waits(void *arg)
{
    (void)arg;
    struct fiber_event event;
    struct fiber_group group;
    bool set = true;

    fiber_event_init(&event);
    TRY(fiber_event_wait(&event, 50, &set));
    assert_false(set);
    fiber_group_init(&group);
    fiber_group_spawn(&group, "setter", set_event, &event);
    TRY(fiber_event_wait(&event, -1, &set));
    assert_true(set);
    TRY(fiber_group_wait(&group));
    set = false;
    TRY(fiber_event_wait(&event, 0, &set));
    assert_true(set);
    fiber_event_clear(&event);
    TRY(fiber_event_wait(&event, 0, &set));
    assert_false(set);
    return NULL;
}

static void event_wakes(void **state)
{
    (void)state;
    assert_null(run_virtual(event_waits));
}

/* ---- log scope, introspection, stacks ---- */

static char last_line[512];

static void keep_line(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct err *logs_later(void *arg) MAY_SUSPEND;
static struct err *logs_later(void *arg)
{
    (void)arg;
    LOG_SCOPE(LOG_STR("step", "inner"));
    TRY(fiber_sleep(10));
    log_info("test", "inside");
    assert_non_null(strstr(last_line, "host=im.example.org"));
    assert_non_null(strstr(last_line, "step=inner"));
    return NULL;
}

static struct err *scopes_follow(void *arg) MAY_SUSPEND;
static struct err *scopes_follow(void *arg)
{
    (void)arg;
    struct fiber_group group;

    fiber_group_init(&group);
    {
        char host[] = "im.example.org";
        LOG_SCOPE(LOG_STR("host", host));
        fiber_group_spawn(&group, "logger", logs_later, NULL);
        memset(host, 'x', sizeof(host) - 1); /* the snapshot has its own copy */
    }
    TRY(fiber_sleep(5));
    log_info("test", "outside");
    assert_null(strstr(last_line, "host="));
    assert_null(strstr(last_line, "step="));
    return fiber_group_wait(&group);
}

static void log_scope_belongs_to_the_fiber(void **state)
{
    (void)state;
    log_set_sink(keep_line, NULL);
    assert_null(run_virtual(scopes_follow));
    log_set_sink(NULL, NULL);
}

static void count_waiting(void *arg, const struct fiber_info *info)
{
    size_t *n = arg;

    if (info->waits_for != NULL && strcmp(info->waits_for, "sleep") == 0)
        (*n)++;
}

static struct err *use_stack(void *arg)
{
    volatile char big[64 * 1024];

    (void)arg;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = 1;
    assert_int_equal(big[100], 1);
    return NULL;
}

static struct err *looks_in(void *arg) MAY_SUSPEND;
static struct err *looks_in(void *arg)
{
    (void)arg;
    struct fiber_group group;
    size_t n = 0;

    fiber_group_init(&group);
    fiber_group_spawn(&group, "one", sleeper, (char[]){"a"});
    fiber_group_spawn(&group, "two", sleeper, (char[]){"b"});
    fiber_group_spawn(&group, "stack", use_stack, NULL);
    TRY(fiber_yield());
    fiber_each(the_loop, count_waiting, &n);
    assert_int_equal(n, 2);
    return fiber_group_wait(&group);
}

static void introspection(void **state)
{
    (void)state;
    fiber_paint_stacks(true);
    order[0] = '\0';
    assert_null(run_virtual(looks_in));
    assert_true(fiber_stack_high_water() >= (size_t)64 * 1024);
    assert_true(fiber_stack_high_water() < FIBER_STACK_SIZE);
    fiber_paint_stacks(false);
}

static struct err *many(void *arg) MAY_SUSPEND;
static struct err *many(void *arg)
{
    (void)arg;
    struct fiber_group group;

    order[0] = '\0';
    fiber_group_init(&group);
    for (int i = 0; i < 1000; i++)
        fiber_group_spawn(&group, "many", use_stack, NULL);
    return fiber_group_wait(&group);
}

static void a_thousand_fibers(void **state)
{
    (void)state;
    assert_null(run_virtual(many));
}

/* ---- woken by a timer of libuv ---- */

static struct fiber_wait *timer_wakes;
static bool guard_ran;

static void wake_from_timer(uv_timer_t *timer)
{
    (void)timer;
    fiber_wait_wake(timer_wakes);
}

static void note_guard(uv_timer_t *timer)
{
    (void)timer;
    guard_ran = true;
}

/* Nothing else happens before the guard, so a loop that polls after its timers would be late. */
static struct err *wait_for_timer(void *arg) MAY_SUSPEND;
static struct err *wait_for_timer(void *arg)
{
    (void)arg;
    struct fiber_wait wait;
    uv_timer_t *now = MEM_NEW(uv_timer_t), *guard = MEM_NEW(uv_timer_t);

    fiber_wait_init(&wait, "timer", true);
    timer_wakes = &wait;
    guard_ran = false;
    uv_timer_init(loop_uv(the_loop), now);
    uv_timer_init(loop_uv(the_loop), guard);
    uv_timer_start(guard, note_guard, 5000, 0);
    uv_timer_start(now, wake_from_timer, 0, 0);
    struct err *e = fiber_wait_for(&wait);
    loop_close_free((uv_handle_t *)now);
    loop_close_free((uv_handle_t *)guard);
    return e;
}

static void a_timer_wakes_at_once(void **state)
{
    (void)state;
    struct loop *loop = NULL;

    assert_null(loop_new(&loop));
    assert_null(run_on(loop, wait_for_timer));
    assert_false(guard_ran);
}

/* ---- held up between arming the loop's timer and uv_run() ---- */

static bool hold_up;

/* In the place of libuv's: as if the machine was busy with others right after it. */
int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    static int (*real)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "uv_timer_start");
    int rc = real(timer, cb, timeout, repeat);
    if (hold_up)
        usleep((useconds_t)(timeout + 2) * 1000);
    return rc;
}

static struct err *sleep_shortly(void *arg) MAY_SUSPEND;
static struct err *sleep_shortly(void *arg)
{
    (void)arg;
    uv_timer_t *guard = MEM_NEW(uv_timer_t);

    guard_ran = false;
    uv_timer_init(loop_uv(the_loop), guard);
    uv_timer_start(guard, note_guard, 5000, 0);
    hold_up = true;
    struct err *e = fiber_sleep(3);
    hold_up = false;
    loop_close_free((uv_handle_t *)guard);
    return e;
}

static void a_sleep_ends_though_we_were_held_up(void **state)
{
    (void)state;
    struct loop *loop = NULL;

    assert_null(loop_new(&loop));
    assert_null(run_on(loop, sleep_shortly));
    assert_false(guard_ran);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(virtual_time_jumps),
            cmocka_unit_test(real_time_passes),
            cmocka_unit_test(a_timer_wakes_at_once),
            cmocka_unit_test(a_sleep_ends_though_we_were_held_up),
            cmocka_unit_test(group_runs_at_once),
            cmocka_unit_test(first_error_cancels_the_rest),
            cmocka_unit_test(keep_going_lets_the_others_end),
            cmocka_unit_test(cancel_is_an_error_of_the_wait),
            cmocka_unit_test(cancel_waits_for_the_members_clean_up),
            cmocka_unit_test(the_earliest_deadline_wins),
            cmocka_unit_test(shields_cover_members),
            cmocka_unit_test(cancel_waits_for_the_thread),
            cmocka_unit_test(semaphore_limits),
            cmocka_unit_test(event_wakes),
            cmocka_unit_test(log_scope_belongs_to_the_fiber),
            cmocka_unit_test(introspection),
            cmocka_unit_test(a_thousand_fibers),
    };
    return cmocka_run_group_tests_name("fiber", tests, NULL, NULL);
}
