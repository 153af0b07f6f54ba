/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/config_private.h"
#include "base/file.h"
#include "tests/lib/test_err.h"

/* ---- the table ---- */

static void the_table(void **state)
{
    size_t n = 0;
    const struct config_key *keys = config_keys(&n);
    AUTO_STRV struct strv paths = {0};
    AUTO_STRV struct strv variables = {0};
    assert_true(n > 60);
    for (size_t i = 0; i < n; i++) {
        const struct config_key *key = &keys[i];
        assert_non_null(key->path);
        assert_non_null(key->help);
        assert_true(str_ends(key->help, "."));
        assert_true(key->type != CONFIG_ENUM || key->allowed != NULL);
        assert_false(strv_has(&paths, key->path));
        strv_add(&paths, key->path);
        AUTO_FREE char *variable = config_key_environment(key);
        if (*variable == '\0')
            continue;
        assert_false(strv_has(&variables, variable));
        strv_add(&variables, variable);
    }
    assert_true(strv_has(&variables, "CERTHERD_HTTP01_WEBROOT"));
    assert_true(strv_has(&variables, "CERTHERD_DOMAINS"));
    assert_true(strv_has(&variables, "CERTHERD_EJABBERD_PASSWORD_FILE"));
    assert_false(strv_has(&variables, "CERTHERD_EJABBERD_NODES"));
}

static void nearest(void **state)
{
    static const char *const words[] = {"webroot", "token_dir", "listen"};
    assert_string_equal(config_nearest("web_root", words, 3), "webroot");
    assert_string_equal(config_nearest("tokendri", words, 3), "token_dir");
    assert_string_equal(config_nearest("lisetn", words, 3), "listen");
    assert_null(config_nearest("provider", words, 3));
    assert_null(config_nearest("", words, 3));
    assert_null(config_nearest("x", words, 3));
    AUTO_FREE char *endless = str_printf("%0500d", 0);
    assert_null(config_nearest(endless, words, 3));
}

/* ---- the manual page ---- */

/* Keys as the page's list has them: ".It Ic key" */
static void read_page(struct strv *ret)
{
    AUTO_BUF struct buf text = BUF_INIT(1024 * 1024);
    assert_ok(file_read(MAN_PAGE, 1024 * 1024, &text, NULL));
    for (char *rest = text.data, *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (str_starts(line, ".It Ic "))
            strv_add(ret, line + strlen(".It Ic "));
    }
}

static void the_page_has_every_key(void **state)
{
    AUTO_STRV struct strv page = {0};
    AUTO_STRV struct strv table = {0};
    read_page(&page);
    size_t n = 0;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < n; i++)
        strv_add(&table, keys[i].path);
    AUTO_FREE char *a = strv_join(&page, "\n");
    AUTO_FREE char *b = strv_join(&table, "\n");
    assert_string_equal(a, b); /* also the same order */
}

/* Default, what is allowed and help stand in the page as in the table, word for word. */
static void the_page_says_the_same(void **state)
{
    AUTO_BUF struct buf text = BUF_INIT(1024 * 1024);
    assert_ok(file_read(MAN_PAGE, 1024 * 1024, &text, NULL));
    size_t n = 0;
    const struct config_key *keys = config_keys(&n);
    for (size_t i = 0; i < n; i++) {
        AUTO_BUF struct buf entry = BUF_INIT(64 * 1024);
        AUTO_FREE char *variable = config_key_environment(&keys[i]);
        buf_printf(&entry, ".It Ic %s\n%s\n", keys[i].path, keys[i].help);
        if (keys[i].allowed != NULL)
            buf_printf(&entry, "Allowed: %s.\n", keys[i].allowed);
        if (keys[i].def != NULL)
            buf_printf(&entry, "Default: %s.\n", keys[i].def);
        if (*variable != '\0')
            buf_printf(&entry, ".Ev %s\n", variable);
        if (keys[i].aliases != NULL)
            buf_printf(&entry, "mailcow: %s.\n", keys[i].aliases);
        if (strstr(text.data, buf_str(&entry)) == NULL)
            print_error("certherd.yml.5 should have:\n%s\n", buf_str(&entry));
        assert_non_null(strstr(text.data, buf_str(&entry)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(the_table),
            cmocka_unit_test(nearest),
            cmocka_unit_test(the_page_has_every_key),
            cmocka_unit_test(the_page_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
