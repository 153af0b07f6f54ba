/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "tests/lib/test_err.h"

static void a_plain_error(void **state)
{
    AUTO_ERR struct err *e = ERR(ERR_CONFIG, "no %s is set", "mail_host");
    int line = __LINE__ - 1;
    AUTO_FREE char *where = str_printf("tests/unit/base/test_err.c:%d", line);
    assert_int_equal(err_kind(e), ERR_CONFIG);
    assert_int_equal(err_origin(e), ERR_FROM_SELF);
    assert_int_equal(err_number(e), 0);
    assert_string_equal(err_text(e), "no mail_host is set");
    assert_string_equal(err_where(e), where);
    assert_null(err_advice(e));
    assert_true(err_is(e, ERR_CONFIG));
    assert_false(err_is(e, ERR_RETRY));
    assert_false(err_is(NULL, ERR_RETRY));
}

static struct err *inner(void)
{
    return err_advise(ERR_FROM(ERR_RETRY, ERR_FROM_HTTP, 503, "HTTP 503"), "wait");
}

static struct err *middle(void)
{
    TRY_CTX(inner(), "order %d", 7);
    return NULL;
}

static struct err *outer(void)
{
    TRY(err_context(middle(), "im.example.org"));
    return NULL;
}

static void contexts_stand_in_front(void **state)
{
    AUTO_ERR struct err *e = err_advise(outer(), "outer advice loses");
    assert_string_equal(err_text(e), "im.example.org: order 7: HTTP 503");
    assert_string_equal(err_advice(e), "wait");
    assert_int_equal(err_origin(e), ERR_FROM_HTTP);
    assert_int_equal(err_number(e), 503);
    e = err_rekind(e, ERR_DENIED);
    assert_true(err_is(e, ERR_DENIED));
    assert_string_equal(err_text(e), "im.example.org: order 7: HTTP 503");
}

static void null_passes_through(void **state)
{
    assert_null(err_context(NULL, "x"));
    assert_null(err_advise(NULL, "x"));
    assert_null(err_rekind(NULL, ERR_RETRY));
    assert_null(err_set_retry_at(NULL, (struct wall){1}));
    assert_null(err_first(NULL, NULL));
    err_free(NULL);
    err_ignore(NULL, "nothing");
}

static void errno_decides_the_kind(void **state)
{
    static const struct {
        int number;
        enum err_kind kind;
    } cases[] = {{EACCES, ERR_CONFIG}, {EPERM, ERR_CONFIG}, {ENOENT, ERR_CONFIG},
            {ENOTDIR, ERR_CONFIG}, {EROFS, ERR_CONFIG}, {ENOSPC, ERR_LOCAL}, {EIO, ERR_LOCAL},
            {EMFILE, ERR_LOCAL}, {EEXIST, ERR_LOCAL}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_ERR struct err *e = ERR_ERRNO(cases[i].number, "cannot open %s", "/x");
        AUTO_FREE char *text = str_printf("cannot open /x: %s", strerror(cases[i].number));
        assert_int_equal(err_kind(e), cases[i].kind);
        assert_int_equal(err_origin(e), ERR_FROM_ERRNO);
        assert_int_equal(err_number(e), cases[i].number);
        assert_string_equal(err_text(e), text);
    }
}

static void uv_codes_decide_the_kind(void **state)
{
    static const struct {
        int code;
        enum err_kind kind;
    } cases[] = {{UV_ECONNREFUSED, ERR_RETRY}, {UV_ETIMEDOUT, ERR_RETRY},
            {UV_EHOSTUNREACH, ERR_RETRY}, {UV_ENETUNREACH, ERR_RETRY}, {UV_ECONNRESET, ERR_RETRY},
            {UV_EPIPE, ERR_RETRY}, {UV_EOF, ERR_RETRY}, {UV_EAI_AGAIN, ERR_RETRY},
            {UV_EAI_NONAME, ERR_RETRY}, {UV_EAI_ADDRFAMILY, ERR_RETRY},
            {UV_EAI_PROTOCOL, ERR_RETRY}, {UV_EACCES, ERR_CONFIG}, {UV_ENOENT, ERR_CONFIG},
            {UV_EADDRINUSE, ERR_CONFIG}, {UV_EADDRNOTAVAIL, ERR_CONFIG},
            {UV_ECANCELED, ERR_CANCELED}, {UV_EMFILE, ERR_LOCAL}, {UV_ENOSPC, ERR_LOCAL},
            {UV_UNKNOWN, ERR_LOCAL}, {-12345, ERR_LOCAL}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_ERR struct err *e = ERR_UV(cases[i].code, "connect");
        assert_int_equal(err_kind(e), cases[i].kind);
        assert_int_equal(err_origin(e), ERR_FROM_UV);
        assert_int_equal(err_number(e), cases[i].code);
    }
    assert_err(ERR_UV(UV_ECONNREFUSED, "connect to %s", "h"), ERR_RETRY,
            "connect to h: connection refused");
}

static void openssl_queue_is_drained(void **state)
{
    ERR_clear_error();
    AUTO_ERR struct err *none = ERR_OPENSSL(ERR_LOCAL, "no reason");
    assert_string_equal(err_text(none), "no reason");
    assert_int_equal(err_number(none), 0);

    BIO *bio = BIO_new_mem_buf("not a key", -1);
    assert_non_null(bio);
    assert_null(PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL));
    BIO_free(bio);
    ERR_raise_data(ERR_LIB_USER, ERR_R_INTERNAL_ERROR, "more\x1b[31m data");
    unsigned long first = ERR_peek_error();
    AUTO_ERR struct err *e = ERR_OPENSSL(ERR_CONFIG, "cannot read the key");
    assert_int_equal(ERR_peek_error(), 0);
    assert_true(err_is(e, ERR_CONFIG));
    assert_int_equal(err_origin(e), ERR_FROM_OPENSSL);
    assert_true(err_number(e) == (long)first);
    assert_true(str_starts(err_text(e), "cannot read the key: "));
    assert_non_null(strstr(err_text(e), "; internal error (more?[31m data)"));

    ERR_raise(ERR_LIB_SYS, ENOENT);
    assert_err(ERR_OPENSSL(ERR_LOCAL, "open"), ERR_LOCAL, "open: No such file or directory");
}

static void retry_at_carries_the_instant(void **state)
{
    AUTO_ERR struct err *e = ERR_AT(((struct wall){1234}), "rate limited");
    assert_true(err_is(e, ERR_RETRY_AT));
    assert_int_equal(err_retry_at(e).ms, 1234);
    AUTO_ERR struct err *other = ERR(ERR_RETRY, "HTTP 503");
    other = err_set_retry_at(other, (struct wall){5678});
    assert_true(err_is(other, ERR_RETRY_AT));
    assert_int_equal(err_retry_at(other).ms, 5678);
}

static int freed;

static void free_document(void *detail)
{
    free(detail);
    freed++;
}

static const struct err_detail_type document = {.name = "document", .free = free_document};
static const struct err_detail_type another = {.name = "another", .free = free_document};

static void details_are_typed_and_owned(void **state)
{
    freed = 0;
    struct err *e = err_set_detail(ERR(ERR_DENIED, "no"), &document, str_dup("first"));
    assert_string_equal(err_detail(e, &document), "first");
    assert_null(err_detail(e, &another));
    e = err_context(e, "context");
    e = err_set_detail(e, &document, str_dup("second"));
    assert_int_equal(freed, 1);
    assert_string_equal(err_detail(e, &document), "second");
    err_free(e);
    assert_int_equal(freed, 2);
    assert_null(err_set_detail(NULL, &document, str_dup("nobody")));
    assert_int_equal(freed, 3);
}

static void the_static_object_never_changes(void **state)
{
    freed = 0;
    struct err *e = err_nomem();
    assert_ptr_equal(err_context(e, "context"), e);
    assert_ptr_equal(err_advise(e, "advice"), e);
    assert_ptr_equal(err_rekind(e, ERR_RETRY), e);
    assert_ptr_equal(err_set_retry_at(e, (struct wall){1}), e);
    assert_ptr_equal(err_set_detail(e, &document, str_dup("x")), e);
    assert_int_equal(freed, 1);
    assert_int_equal(err_kind(e), ERR_NOMEM);
    assert_string_equal(err_text(e), "out of memory");
    assert_null(err_advice(e));
    assert_non_null(err_where(e));
    err_free(e);
    err_free(e);
}

static void kinds_have_stable_names(void **state)
{
    static const char *const names[] = {"retry", "retry_at", "config", "denied", "protocol",
            "timeout", "canceled", "local", "nomem"};
    assert_int_equal(ARRAY_SIZE(names), ERR_KIND_MAX);
    enum err_kind kind = ERR_LOCAL;
    for (size_t i = 0; i < ERR_KIND_MAX; i++) {
        assert_string_equal(err_kind_name((enum err_kind)i), names[i]);
        assert_true(err_kind_parse(names[i], &kind));
        assert_int_equal(kind, i);
    }
    assert_false(err_kind_parse("Retry", &kind));
    assert_false(err_kind_parse("", &kind));
    assert_int_equal(kind, ERR_NOMEM);
}

static void the_first_of_two_stays(void **state)
{
    AUTO_ERR struct err *e = err_first(ERR(ERR_RETRY, "a"), ERR(ERR_LOCAL, "b"));
    assert_string_equal(err_text(e), "a");
    AUTO_ERR struct err *b = err_first(NULL, ERR(ERR_LOCAL, "b"));
    assert_string_equal(err_text(b), "b");
    AUTO_ERR struct err *a = err_first(ERR(ERR_RETRY, "a"), NULL);
    assert_string_equal(err_text(a), "a");
}

static void foreign_text_is_made_safe(void **state)
{
    AUTO_ERR struct err *e = ERR(ERR_PROTOCOL, "%s", "a\x1b[2J\r\nb\xff");
    assert_string_equal(err_text(e), "a?[2J??b?");
    e = err_context(e, "%s", "url\n");
    assert_string_equal(err_text(e), "url?: a?[2J??b?");
    e = err_advise(e, "%s", "do\tthis");
    assert_string_equal(err_advice(e), "do?this");
    AUTO_FREE char *huge = mem_alloc(100001);
    memset(huge, 'x', 100000);
    huge[100000] = '\0';
    AUTO_ERR struct err *big = ERR(ERR_PROTOCOL, "%s", huge);
    assert_true(strlen(err_text(big)) < 5000);
    assert_true(str_ends(err_text(big), "x…"));
}

static char last_line[512];

static void keep_line(void *arg, enum log_level level, const char *line)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static void ignored_errors_leave_a_trace(void **state)
{
    log_set_sink(keep_line, NULL);
    log_set_level(LOG_DEBUG);
    err_ignore(ERR(ERR_LOCAL, "cannot close"), "it was read only");
    log_set_level(LOG_INFO);
    log_set_sink(NULL, NULL);
    assert_non_null(strstr(last_line, "level=debug"));
    assert_non_null(strstr(last_line, "msg=\"it was read only\""));
    assert_non_null(strstr(last_line, "error=\"cannot close\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_plain_error),
            cmocka_unit_test(contexts_stand_in_front),
            cmocka_unit_test(null_passes_through),
            cmocka_unit_test(errno_decides_the_kind),
            cmocka_unit_test(uv_codes_decide_the_kind),
            cmocka_unit_test(openssl_queue_is_drained),
            cmocka_unit_test(retry_at_carries_the_instant),
            cmocka_unit_test(details_are_typed_and_owned),
            cmocka_unit_test(the_static_object_never_changes),
            cmocka_unit_test(kinds_have_stable_names),
            cmocka_unit_test(the_first_of_two_stays),
            cmocka_unit_test(foreign_text_is_made_safe),
            cmocka_unit_test(ignored_errors_leave_a_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
