/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/log.h"

static struct strv lines;
static enum log_level levels[64];

static void keep(void *arg, enum log_level level, const char *line)
{
    if (lines.n < ARRAY_SIZE(levels))
        levels[lines.n] = level;
    strv_add(&lines, line);
}

static int64_t fixed_clock(void *arg)
{
    return *(int64_t *)arg;
}

static int64_t now = INT64_C(1795351361123);
#define TIME "time=2026-11-22T12:42:41.123Z "

static int set_up(void **state)
{
    now = INT64_C(1795351361123);
    log_set_sink(keep, NULL);
    log_set_clock(fixed_clock, &now);
    log_set_level(LOG_DEBUG);
    log_set_format(LOG_LOGFMT);
    return 0;
}

static int tear_down(void **state)
{
    strv_done(&lines);
    log_set_sink(NULL, NULL);
    log_set_clock(NULL, NULL);
    log_set_level(LOG_INFO);
    log_set_format(LOG_LOGFMT);
    return 0;
}

static const char *last(void)
{
    assert_true(lines.n > 0);
    return lines.v[lines.n - 1];
}

static void logfmt_of_every_type(void **state)
{
    log_info("issued", "certificate issued", LOG_INT("names", -5), LOG_STR("serial", "0a:ff"),
            LOG_BOOL("new", true), LOG_STR("gone", NULL), LOG_STR("empty", ""));
    assert_string_equal(last(),
            TIME "level=info event=issued msg=\"certificate issued\" names=-5 serial=0a:ff "
                 "new=true empty=\"\"");
    assert_int_equal(levels[0], LOG_INFO);
    log_error("stop", "stopping");
    assert_string_equal(last(), TIME "level=error event=stop msg=stopping");
    log_warning("w", "m");
    log_debug("d", "m");
    assert_string_equal(last(), TIME "level=debug event=d msg=m");
}

static void foreign_values_are_escaped(void **state)
{
    log_info("x", "a \"b\" \\", LOG_STR("a", "x=y"), LOG_STR("b", "l1\nl2\r\t"),
            LOG_STR("c", "\x1b[2J\x7f"), LOG_STR("d", "\xff\xc3("), LOG_STR("e", "grün"),
            LOG_STR("f", "\xc2\x9b\xe2\x80\xae"));
    assert_string_equal(last(),
            TIME "level=info event=x msg=\"a \\\"b\\\" \\\\\" a=\"x=y\" b=\"l1\\nl2\\r\\t\" "
                 "c=\"\\u001b[2J\\u007f\" d=\"\xef\xbf\xbd\xef\xbf\xbd(\" e=\"grün\" "
                 "f=\"\\u009b\\u202e\"");
}

static const char *member(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    assert_non_null(value);
    return value;
}

static void json_is_one_valid_object_a_line(void **state)
{
    log_set_format(LOG_JSON);
    log_warning("retry", "a \"b\"\\\n\x01", LOG_INT("n", INT64_MIN), LOG_BOOL("flag", false),
            LOG_STR("bad", "\xfe€\x1b"));
    assert_null(strchr(last(), '\n'));
    json_t *o = json_loads(last(), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    assert_string_equal(member(o, "time"), "2026-11-22T12:42:41.123Z");
    assert_string_equal(member(o, "level"), "warning");
    assert_string_equal(member(o, "event"), "retry");
    assert_string_equal(member(o, "msg"), "a \"b\"\\\n\x01");
    assert_string_equal(member(o, "bad"), "\xef\xbf\xbd€\x1b");
    assert_true(json_integer_value(json_object_get(o, "n")) == INT64_MIN);
    assert_true(json_is_false(json_object_get(o, "flag")));
    json_decref(o);
}

static void levels_are_filtered(void **state)
{
    log_set_level(LOG_WARNING);
    assert_int_equal(log_level(), LOG_WARNING);
    log_debug("x", "x");
    log_info("x", "x");
    assert_int_equal(lines.n, 0);
    log_warning("x", "x");
    log_error("x", "x");
    assert_int_equal(lines.n, 2);
    log_set_level(LOG_NOTHING);
    log_error("x", "x");
    assert_int_equal(lines.n, 2);
}

static void in_a_step(void)
{
    LOG_SCOPE(LOG_STR("step", "order"), LOG_STR("host", "inner.example.org"));
    log_info("x", "x", LOG_INT("n", 1));
}

static void scopes_add_their_fields(void **state)
{
    LOG_SCOPE(LOG_STR("host", "im.example.org"), LOG_INT("flow", 7));
    log_info("x", "x");
    assert_string_equal(last(), TIME "level=info event=x msg=x host=im.example.org flow=7");
    in_a_step();
    assert_string_equal(
            last(), TIME "level=info event=x msg=x flow=7 step=order host=inner.example.org n=1");
    log_info("x", "x", LOG_INT("flow", 8));
    assert_string_equal(last(), TIME "level=info event=x msg=x host=im.example.org flow=8");
}

static void scopes_end_with_their_block(void **state)
{
    assert_null(log_scope_current());
    {
        LOG_SCOPE(LOG_STR("a", "1"));
        assert_non_null(log_scope_current());
    }
    assert_null(log_scope_current());
    assert_null(log_scope_snapshot());
    log_scope_snapshot_free(NULL);
}

static struct log_scope *snapshot_of_two(void)
{
    char host[] = "im.example.org";
    char step[] = "order";
    LOG_SCOPE(LOG_STR("host", host), LOG_INT("flow", 7), LOG_STR("none", NULL));
    LOG_SCOPE(LOG_STR("step", step));
    struct log_scope *copy = log_scope_snapshot();
    memset(host, 'x', sizeof(host) - 1);
    memset(step, 'x', sizeof(step) - 1);
    return copy;
}

static void a_snapshot_outlives_its_scopes(void **state)
{
    struct log_scope *copy = snapshot_of_two();
    assert_null(log_scope_current());
    log_scope_set_current(copy);
    {
        LOG_SCOPE(LOG_STR("mine", "1"));
        log_info("x", "x");
    }
    assert_ptr_equal(log_scope_current(), copy);
    struct log_scope *again = log_scope_snapshot();
    log_scope_set_current(again);
    log_scope_snapshot_free(copy);
    log_info("y", "y");
    log_scope_set_current(NULL);
    log_scope_snapshot_free(again);
    assert_string_equal(lines.v[0],
            TIME "level=info event=x msg=x host=im.example.org flow=7 step=order mine=1");
    assert_string_equal(
            lines.v[1], TIME "level=info event=y msg=y host=im.example.org flow=7 step=order");
}

static void *log_in_thread(void *arg)
{
    *(bool *)arg = log_scope_current() == NULL;
    log_info("x", "from the pool");
    return NULL;
}

static void scopes_belong_to_their_thread(void **state)
{
    pthread_t thread;
    bool empty = false;
    LOG_SCOPE(LOG_STR("host", "im.example.org"));
    assert_int_equal(pthread_create(&thread, NULL, log_in_thread, &empty), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(empty);
    assert_string_equal(last(), TIME "level=info event=x msg=\"from the pool\"");
}

static void long_values_are_cut_and_long_lines_stay_whole(void **state)
{
    static const char *const keys[] = {
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"};
    AUTO_FREE char *text = mem_dup("", 0);
    text = mem_realloc_array(text, 10001, 1);
    memset(text, '\x01', 10000);
    text[10000] = '\0';
    struct log_field fields[ARRAY_SIZE(keys) + 1];
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        fields[i] = LOG_STR(keys[i], text);
    fields[ARRAY_SIZE(keys)] = LOG_END;
    log_set_format(LOG_JSON);
    log_write(LOG_INFO, "x", "x", fields);
    json_t *o = json_loads(last(), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(o);
    assert_int_equal(json_string_length(json_object_get(o, "a")), 4096 + strlen("…"));
    assert_true(json_is_true(json_object_get(o, "fields_missing")));
    json_decref(o);
    assert_true(strlen(last()) < 64 * 1024);
    log_info("x", text);
    assert_true(str_ends(last(), "…\"}"));
}

static void too_many_fields_are_said(void **state)
{
    char keys[100][8];
    struct log_field fields[101];
    for (size_t i = 0; i < 100; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%zu", i);
        fields[i] = LOG_INT(keys[i], i);
    }
    fields[100] = LOG_END;
    log_write(LOG_INFO, "x", "x", fields);
    assert_true(str_ends(last(), " k99=99 fields_missing=true"));
}

static void errno_survives(void **state)
{
    errno = ENOSPC;
    log_info("x", "x");
    assert_int_equal(errno, ENOSPC);
}

static void times_before_1970(void **state)
{
    now = -1;
    log_info("x", "x");
    assert_true(str_starts(last(), "time=1969-12-31T23:59:59.999Z "));
}

/* ---- stderr ---- */

struct capture {
    int saved;
    int read_end;
};

/* stderr becomes a small pipe, still blocking. */
static struct capture capture_begin(int size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, size) >= size);
    struct capture c = {.saved = dup(STDERR_FILENO), .read_end = ends[0]};
    assert_true(c.saved >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    log_set_sink(NULL, NULL);
    return c;
}

static char *capture_drain(const struct capture *c)
{
    static char text[128 * 1024];
    size_t len = 0;
    ssize_t n;
    int flags = fcntl(c->read_end, F_GETFL);
    fcntl(c->read_end, F_SETFL, flags | O_NONBLOCK);
    while (len < sizeof(text) - 1 &&
            (n = read(c->read_end, text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)n;
    fcntl(c->read_end, F_SETFL, flags);
    text[len] = '\0';
    return text;
}

static void capture_end(struct capture *c)
{
    dup2(c->saved, STDERR_FILENO);
    close(c->saved);
    close(c->read_end);
}

static void lines_go_to_stderr(void **state)
{
    struct capture c = capture_begin(65536);
    log_info("a", "one");
    log_info("b", "two");
    char *text = capture_drain(&c);
    capture_end(&c);
    assert_string_equal(
            text, TIME "level=info event=a msg=one\n" TIME "level=info event=b msg=two\n");
}

static void a_full_pipe_never_blocks(void **state)
{
    uint64_t before = log_dropped();
    struct capture c = capture_begin(4096);
    int written = 0;
    while (log_dropped() == before && written < 10000) {
        log_info("fill", "some text to fill the pipe");
        written++;
    }
    log_info("lost", "this one is lost too");
    uint64_t lost = log_dropped() - before;
    AUTO_FREE char *first = str_dup(capture_drain(&c));
    log_info("after", "there is room again");
    AUTO_FREE char *second = str_dup(capture_drain(&c));
    log_info("later", "x");
    AUTO_FREE char *third = str_dup(capture_drain(&c));
    capture_end(&c);
    assert_int_equal(lost, 2);
    assert_true(str_ends(first, "\n"));
    assert_null(strstr(first, "event=lost"));
    assert_string_equal(
            second, TIME "level=info event=after msg=\"there is room again\" lines_dropped=2\n");
    assert_string_equal(third, TIME "level=info event=later msg=x\n");
}

static void a_torn_line_does_not_spoil_the_next(void **state)
{
    AUTO_FREE char *text = str_printf("%04000d", 1);
    struct capture c = capture_begin(8192);
    uint64_t before = log_dropped();
    log_info("big", text, LOG_STR("b", text), LOG_STR("c", text), LOG_STR("d", text));
    uint64_t lost = log_dropped() - before;
    size_t first = strlen(capture_drain(&c));
    log_info("next", "x");
    AUTO_FREE char *second = str_dup(capture_drain(&c));
    capture_end(&c);
    assert_int_equal(lost, 1);
    assert_int_equal(first, 8192);
    assert_string_equal(second, "\n" TIME "level=info event=next msg=x lines_dropped=1\n");
}

static void a_closed_reader_is_no_failure(void **state)
{
    struct capture c = capture_begin(4096);
    uint64_t before = log_dropped();
    close(c.read_end);
    c.read_end = -1;
    log_info("x", "nobody reads this");
    uint64_t lost = log_dropped() - before;
    capture_end(&c);
    assert_int_equal(lost, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(logfmt_of_every_type, set_up, tear_down),
            cmocka_unit_test_setup_teardown(foreign_values_are_escaped, set_up, tear_down),
            cmocka_unit_test_setup_teardown(json_is_one_valid_object_a_line, set_up, tear_down),
            cmocka_unit_test_setup_teardown(levels_are_filtered, set_up, tear_down),
            cmocka_unit_test_setup_teardown(scopes_add_their_fields, set_up, tear_down),
            cmocka_unit_test_setup_teardown(scopes_end_with_their_block, set_up, tear_down),
            cmocka_unit_test_setup_teardown(a_snapshot_outlives_its_scopes, set_up, tear_down),
            cmocka_unit_test_setup_teardown(scopes_belong_to_their_thread, set_up, tear_down),
            cmocka_unit_test_setup_teardown(
                    long_values_are_cut_and_long_lines_stay_whole, set_up, tear_down),
            cmocka_unit_test_setup_teardown(too_many_fields_are_said, set_up, tear_down),
            cmocka_unit_test_setup_teardown(errno_survives, set_up, tear_down),
            cmocka_unit_test_setup_teardown(times_before_1970, set_up, tear_down),
            cmocka_unit_test_setup_teardown(lines_go_to_stderr, set_up, tear_down),
            cmocka_unit_test_setup_teardown(a_full_pipe_never_blocks, set_up, tear_down),
            cmocka_unit_test_setup_teardown(a_torn_line_does_not_spoil_the_next, set_up, tear_down),
            cmocka_unit_test_setup_teardown(a_closed_reader_is_no_failure, set_up, tear_down),
    };
    /* As the program does at its start. */
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
