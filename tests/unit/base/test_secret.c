/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/crypto.h>

#include "base/secret.h"

static void holds_a_copy(void **state)
{
    char source[] = "pass\0word";
    size_t len = 0;
    AUTO(secret_freep) struct secret *s = secret_new(source, 9);
    memset(source, 'x', sizeof(source));
    assert_memory_equal(secret_reveal(s, &len), "pass\0word\0", 10);
    assert_int_equal(len, 9);
    AUTO(secret_freep) struct secret *copy = secret_dup(s);
    secret_freep(&s);
    assert_null(s);
    assert_memory_equal(secret_reveal(copy, NULL), "pass\0word", 9);
    AUTO(secret_freep) struct secret *empty = secret_new(NULL, 0);
    assert_string_equal(secret_reveal(empty, &len), "");
    assert_int_equal(len, 0);
}

static void takes_strings(void **state)
{
    AUTO(secret_freep) struct secret *s = secret_take_str(str_dup("token"));
    assert_string_equal(secret_reveal(s, NULL), "token");
}

static void compares(void **state)
{
    AUTO(secret_freep) struct secret *s = secret_new("token", 5);
    assert_true(secret_equal(s, "token", 5));
    assert_false(secret_equal(s, "token", 4));
    assert_false(secret_equal(s, "tokem", 5));
    assert_false(secret_equal(s, "tokens", 6));
    AUTO(secret_freep) struct secret *empty = secret_new("", 0);
    assert_true(secret_equal(empty, "", 0));
}

static void ordinary_heap_first(void **state)
{
    assert_false(CRYPTO_secure_malloc_initialized());
    holds_a_copy(state);
    takes_strings(state);
    compares(state);
}

/* A secret from before goes back to the heap that it came from. */
static void secure_heap_when_there_is_one(void **state)
{
    AUTO(secret_freep) struct secret *before = secret_new("old", 3);
    secret_heap_init();
    secret_heap_init();
    assert_true(CRYPTO_secure_malloc_initialized());
    AUTO(secret_freep) struct secret *s = secret_new("new", 3);
    assert_true(CRYPTO_secure_allocated(s));
    assert_false(CRYPTO_secure_allocated(before));
    holds_a_copy(state);
    takes_strings(state);
    compares(state);
}

static void a_full_secure_heap_is_no_failure(void **state)
{
    enum { COUNT = 40, SIZE = 64 * 1024 };
    struct secret *all[COUNT];
    AUTO_FREE char *data = mem_zalloc(SIZE);
    size_t outside = 0;
    for (size_t i = 0; i < COUNT; i++) {
        all[i] = secret_new(data, SIZE);
        outside += CRYPTO_secure_allocated(all[i]) ? 0 : 1;
    }
    assert_true(outside > 0);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(secret_equal(all[i], data, SIZE));
        secret_free(all[i]);
    }
    assert_int_equal(CRYPTO_secure_used(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(ordinary_heap_first),
            cmocka_unit_test(secure_heap_when_there_is_one),
            cmocka_unit_test(a_full_secure_heap_is_no_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
