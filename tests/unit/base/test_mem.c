/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"

static char *duplicate_free(void)
{
    AUTO_FREE char *text = str_printf("%s-%d", "a", 7);
    return STEAL(text);
}

static void strings_are_owned(void **state)
{
    AUTO_FREE char *a = duplicate_free();
    assert_string_equal(a, "a-7");
    AUTO_FREE char *b = str_dup(a);
    assert_ptr_not_equal(a, b);
    assert_string_equal(a, b);
    assert_null(str_dup_null(NULL));
    AUTO_FREE char *c = str_dup_null("x");
    assert_string_equal(c, "x");
    AUTO_FREE char *empty = str_printf("%s", "");
    assert_string_equal(empty, "");
    AUTO_FREE char *d = mem_dup("ab\0cd", 5);
    assert_memory_equal(d, "ab\0cd\0", 6);
    AUTO_FREE char *nothing = mem_dup(NULL, 0);
    assert_string_equal(nothing, "");
}

static void allocations_are_zeroed_and_never_null(void **state)
{
    AUTO_FREE int *numbers = mem_array(100, sizeof(int));
    for (int i = 0; i < 100; i++)
        assert_int_equal(numbers[i], 0);
    AUTO_FREE void *none = mem_alloc(0);
    assert_non_null(none);
    AUTO_FREE void *none_either = mem_array(0, 8);
    assert_non_null(none_either);
    numbers = mem_realloc_array(numbers, 200, sizeof(int));
    assert_int_equal(numbers[99], 0);
    numbers[199] = 1;
}

static void numbers_are_plain_decimals(void **state)
{
    static const char *const bad[] = {"", " ", "-1", "+1", " 1", "1 ", "1a", "0x10", "1.0", "1e3",
            "18446744073709551616", "99999999999999999999999", "1\n", "\xd9\xa1"};
    unsigned long long n = 42;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(str_to_u64(bad[i], UINT64_MAX, &n));
    assert_false(str_to_u64("65536", 65535, &n));
    assert_int_equal(n, 42);
    assert_true(str_to_u64("0", 0, &n));
    assert_int_equal(n, 0);
    assert_true(str_to_u64("65535", 65535, &n));
    assert_int_equal(n, 65535);
    assert_true(str_to_u64("18446744073709551615", UINT64_MAX, &n));
    assert_true(n == UINT64_MAX);
}

static void prefixes_and_suffixes(void **state)
{
    assert_true(str_starts("*.a", "*."));
    assert_true(str_starts("a", ""));
    assert_false(str_starts("a", "ab"));
    assert_true(str_ends("a.tmp", ".tmp"));
    assert_true(str_ends("a", ""));
    assert_false(str_ends("tmp", ".tmp"));
}

static void lists_of_strings(void **state)
{
    AUTO_STRV struct strv l = {0};
    AUTO_STRV struct strv copy = {0};
    AUTO_FREE char *none = strv_join(&l, ", ");
    assert_string_equal(none, "");
    for (int i = 0; i < 100; i++)
        strv_take(&l, str_printf("%d", i));
    strv_add(&l, "last");
    assert_int_equal(l.n, 101);
    assert_string_equal(l.v[64], "64");
    assert_true(strv_has(&l, "last"));
    assert_false(strv_has(&l, "100"));
    strv_copy(&copy, &l);
    strv_done(&l);
    assert_int_equal(l.n, 0);
    assert_string_equal(copy.v[100], "last");
    strv_add(&l, "a");
    strv_add(&l, "b");
    AUTO_FREE char *joined = strv_join(&l, ", ");
    assert_string_equal(joined, "a, b");
}

/* Runs fn in a child whose stderr is read back. */
static int die_in_child(void (*fn)(void), char *text, size_t size)
{
    int ends[2];
    int status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        fn();
        _exit(0);
    }
    close(ends[1]);
    size_t len = 0;
    ssize_t n;
    while (len < size - 1 && (n = read(ends[0], text + len, size - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void run_out(void)
{
    mem_fail(123456789);
}

static void overflow_product(void)
{
    volatile size_t count = SIZE_MAX / 2;
    free(mem_array(count, 4));
}

static void overflow_realloc(void)
{
    volatile size_t count = SIZE_MAX / 2;
    free(mem_realloc_array(NULL, count, 4));
}

static void no_memory_ends_the_process(void **state)
{
    void (*const ways[])(void) = {run_out, overflow_product, overflow_realloc};
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        char text[512];
        int status = die_in_child(ways[i], text, sizeof(text));
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
        assert_non_null(strstr(text, "out of memory, wanted "));
        assert_int_equal(text[strlen(text) - 1], '\n');
        if (i == 0)
            assert_non_null(strstr(text, "wanted 123456789 bytes"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(strings_are_owned),
            cmocka_unit_test(allocations_are_zeroed_and_never_null),
            cmocka_unit_test(numbers_are_plain_decimals),
            cmocka_unit_test(prefixes_and_suffixes),
            cmocka_unit_test(lists_of_strings),
            cmocka_unit_test(no_memory_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
