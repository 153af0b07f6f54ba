/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "acme/cert.h"
#include "base/file.h"
#include "tests/lib/test_certs.h"
#include "tests/lib/test_err.h"

/* 2026-11-22T12:00:00Z */
static const struct wall now = {1795348800000};

static struct test_cert *root, *intermediate;
static char roots_path[64];

static int make_ca(void **state)
{
    const struct test_cert_spec root_spec = {.cn = "Test Root",
            .ca = true,
            .not_before = wall_add(now, -1000 * CLOCK_DAY),
            .not_after = wall_add(now, 1000 * CLOCK_DAY)};
    root = test_cert_new(&root_spec);
    struct test_cert_spec spec = root_spec;
    spec.cn = "Test Intermediate";
    spec.issuer = root;
    intermediate = test_cert_new(&spec);
    snprintf(roots_path, sizeof(roots_path), "/tmp/certherd-roots-XXXXXX");
    int fd = mkstemp(roots_path);
    AUTO_FREE char *pem = test_cert_pem(root);
    FILE *f = fdopen(fd, "w");
    fputs(pem, f);
    return fclose(f);
}

static int free_ca(void **state)
{
    test_cert_free(intermediate);
    test_cert_free(root);
    return unlink(roots_path);
}

static struct test_cert *make_leaf(const char *names)
{
    return test_cert_new(&(struct test_cert_spec){.names = names,
            .issuer = intermediate,
            .not_before = wall_add(now, -CLOCK_HOUR),
            .not_after = wall_add(now, 90 * CLOCK_DAY)});
}

static char *make_chain(const char *names)
{
    AUTO_TEST_CERT struct test_cert *leaf = make_leaf(names);
    return test_cert_chain(leaf, false);
}

static struct err *parse(const char *pem, struct cert_info *ret)
{
    return cert_parse(pem, strlen(pem), false, ret);
}

static void refuse(const char *pem, const char *part)
{
    struct cert_info info = {.chain_len = 77};
    assert_err(parse(pem, &info), ERR_PROTOCOL, part);
    assert_int_equal(info.chain_len, 77);
}

/* ---- reading ---- */

static void test_parse_reads_all(void **state)
{
    AUTO_TEST_CERT struct test_cert *leaf =
            make_leaf("im.example.org,Conference.IM.example.org,*.im.example.org,IP:192.0.2.1");
    AUTO_FREE char *pem = test_cert_chain(leaf, false);
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(parse(pem, &info));
    AUTO_FREE char *names = strv_join(&info.names, " ");
    assert_string_equal(names, "im.example.org conference.im.example.org *.im.example.org");
    assert_int_equal(info.n_other_names, 1);
    assert_true(info.upper_case);
    assert_string_equal(info.issuer, "Test Intermediate");
    assert_int_equal(info.not_before.ms, now.ms - CLOCK_HOUR);
    assert_int_equal(info.not_after.ms, now.ms + 90 * CLOCK_DAY);
    assert_int_equal(info.chain_len, 2);
    assert_false(info.self_signed);
    uint8_t sha256[32];
    test_cert_sha256(leaf, sha256);
    assert_memory_equal(info.leaf_sha256, sha256, 32);
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf->x509), NULL);
    char *hex = BN_bn2hex(serial);
    assert_int_equal(strcasecmp(hex, info.serial), 0);
    assert_null(strpbrk(info.serial, "ABCDEF"));
    OPENSSL_free(hex);
    BN_free(serial);
}

static void test_copy(void **state)
{
    AUTO_FREE char *pem = make_chain("im.example.org,conference.im.example.org");
    AUTO_CERT_INFO struct cert_info copy = {0};
    {
        AUTO_CERT_INFO struct cert_info info = {0};
        assert_ok(parse(pem, &info));
        cert_info_copy(&copy, &info);
    }
    assert_int_equal(copy.names.n, 2);
    assert_string_equal(copy.names.v[1], "conference.im.example.org");
    assert_string_equal(copy.issuer, "Test Intermediate");
    assert_int_equal(copy.chain_len, 2);
}

static void test_parse_self_signed(void **state)
{
    AUTO_FREE char *pem = test_cert_pem(root);
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(parse(pem, &info));
    assert_true(info.self_signed);
    assert_int_equal(info.chain_len, 1);
    assert_int_equal(info.names.n, 0); /* the subject's CN is no name */
}

static void test_parse_accepts_forms(void **state)
{
    AUTO_TEST_CERT struct test_cert *leaf = make_leaf("im.example.org");
    AUTO_FREE char *first = test_cert_pem(leaf);
    AUTO_FREE char *second = test_cert_pem(intermediate);
    AUTO_FREE char *third = test_cert_pem(root);
    char *forms[] = {str_printf("%s\n%s\n", first, second),
            str_printf("%s%s%s", first, second, third),
            str_printf("\n%s\r\n%s\n\n", first, second)};
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        AUTO_CERT_INFO struct cert_info info = {0};
        assert_ok(parse(forms[i], &info));
        assert_int_equal(info.chain_len, i == 1 ? 3 : 2);
        free(forms[i]);
    }
}

static void test_parse_refuses_foreign_text(void **state)
{
    AUTO_FREE char *chain = make_chain("im.example.org");
    static const char *const shapes[] = {"hello\n%s", "%shello\n", "<html>%s</html>\n",
            "%s-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"};
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        AUTO_BUF struct buf text = BUF_INIT(64 * 1024);
        const char *hole = strstr(shapes[i], "%s");
        buf_append(&text, shapes[i], (size_t)(hole - shapes[i]));
        buf_puts(&text, chain);
        buf_puts(&text, hole + 2);
        refuse(buf_str(&text), "only certificates");
    }
    refuse("", "no certificate");
    refuse("<html><body>502 Bad Gateway</body></html>", "502 Bad Gateway");
}

static void test_parse_private_key(void **state)
{
    AUTO_TEST_CERT struct test_cert *leaf = make_leaf("im.example.org");
    AUTO_FREE char *chain = test_cert_chain(leaf, false);
    AUTO_FREE char *key = test_cert_key_pem(leaf);
    AUTO_FREE char *joined = str_printf("%s%s", chain, key);
    AUTO_FREE char *key_first = str_printf("some text\n%s%s", key, chain);
    refuse(joined, "PRIVATE KEY");
    refuse(key_first, "");
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(cert_parse(joined, strlen(joined), true, &info));
    AUTO_CERT_INFO struct cert_info second = {0};
    assert_ok(cert_parse(key_first, strlen(key_first), true, &second));
    assert_string_equal(info.serial, second.serial);
}

static void test_parse_refuses_broken(void **state)
{
    AUTO_FREE char *chain = make_chain("im.example.org");
    size_t len = strlen(chain);

    for (size_t cut = 1; cut < len; cut += 7) {
        AUTO_FREE char *part = mem_dup(chain, cut);
        if (str_ends(part, "-----END CERTIFICATE-----\n") ||
                str_ends(part, "-----END CERTIFICATE-----"))
            continue;
        refuse(part, "");
    }
    AUTO_FREE char *half = mem_dup(chain, len - 40);
    refuse(half, "cut off");

    AUTO_FREE char *nul = mem_dup(chain, len);
    nul[len / 2] = '\0';
    struct cert_info info = {0};
    assert_err(cert_parse(nul, len, false, &info), ERR_PROTOCOL, "NUL");

    AUTO_FREE char *flipped = mem_dup(chain, len);
    flipped[400] = flipped[400] == 'A' ? 'B' : 'A';
    struct err *e = parse(flipped, &info);
    assert_non_null(e);
    err_free(e);

    refuse("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1");
    refuse("-----BEGIN CERTIFICATE-----\nAA AA\n-----END CERTIFICATE-----\n", "base64");
    refuse("-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n", "END line");
    refuse("-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"
           "-----END CERTIFICATE-----\n",
            "base64");
}

static void test_parse_caps(void **state)
{
    AUTO_FREE char *one = make_chain("im.example.org");
    AUTO_FREE char *ca = test_cert_pem(root);
    AUTO_BUF struct buf many = BUF_INIT(256 * 1024);
    for (int i = 0; i < 11; i++)
        buf_puts(&many, ca);
    refuse(buf_str(&many), "more than 10");
    AUTO_BUF struct buf large = BUF_INIT(512 * 1024);
    while (large.len <= CERT_CHAIN_MAX)
        buf_puts(&large, one);
    refuse(buf_str(&large), "more than 131072");
}

static void test_parse_checks_links(void **state)
{
    AUTO_TEST_CERT struct test_cert *leaf = make_leaf("im.example.org");
    AUTO_FREE char *first = test_cert_pem(leaf);
    AUTO_FREE char *second = test_cert_pem(intermediate);
    AUTO_FREE char *third = test_cert_pem(root);
    AUTO_FREE char *reversed = str_printf("%s%s", second, first);
    AUTO_FREE char *gap = str_printf("%s%s", first, third);
    AUTO_FREE char *twice = str_printf("%s%s", first, first);
    refuse(reversed, "certificate 1 of the chain was not issued by certificate 2");
    refuse(gap, "certificate 1 of the chain was not issued by certificate 2");
    refuse(twice, "certificate 1 of the chain was not issued by certificate 2");

    /* An impostor: same name as the intermediate, other key. */
    AUTO_TEST_CERT struct test_cert *impostor = test_cert_new(
            &(struct test_cert_spec){.cn = "Test Intermediate", .ca = true, .issuer = root});
    AUTO_FREE char *impostor_pem = test_cert_pem(impostor);
    AUTO_FREE char *forged = str_printf("%s%s", first, impostor_pem);
    refuse(forged, "certificate 1 of the chain was not issued by certificate 2");
}

static void test_parse_names(void **state)
{
    AUTO_FREE char *nul = make_chain("im.example.org\1.evil.example");
    refuse(nul, "0x00");
    AUTO_FREE char *space = make_chain("im example.org");
    refuse(space, "0x20");
    AUTO_FREE char *twice = make_chain("a.example.org,a.example.org");
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(parse(twice, &info));
    assert_int_equal(info.names.n, 1);
}

static void test_issuer_is_safe_to_print(void **state)
{
    AUTO_TEST_CERT struct test_cert *odd =
            test_cert_new(&(struct test_cert_spec){.cn = "Evil\033[31m\nCA", .ca = true});
    AUTO_FREE char *pem = test_cert_pem(odd);
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(parse(pem, &info));
    assert_null(strpbrk(info.issuer, "\033\n"));
    assert_non_null(strstr(info.issuer, "Evil"));

    AUTO_TEST_CERT struct test_cert *nameless =
            test_cert_new(&(struct test_cert_spec){.names = "a.example.org"});
    AUTO_FREE char *nameless_pem = test_cert_pem(nameless);
    AUTO_CERT_INFO struct cert_info second = {0};
    assert_ok(parse(nameless_pem, &second));
    assert_string_equal(second.issuer, "an issuer without name");
}

/* ---- checks ---- */

static void put_names(struct name_list *list, const char *a, const char *b)
{
    const char *const both[] = {a, b};
    for (size_t i = 0; i < 2 && both[i] != NULL; i++) {
        struct name name = {0};
        snprintf(name.text, sizeof(name.text), "%s", both[i]);
        name_list_add(list, &name);
    }
}

static struct err *issued(const char *names, const char *a, const char *b, struct wall at)
{
    AUTO_FREE char *pem = make_chain(names);
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(parse(pem, &info));
    AUTO(name_list_done) struct name_list list = {0};
    put_names(&list, a, b);
    return cert_check_issued(&info, &list, at);
}

static void test_issued_names(void **state)
{
    const char *h = "im.example.org", *w = "*.im.example.org";
    assert_ok(issued("im.example.org", h, NULL, now));
    assert_ok(issued("*.im.example.org,im.example.org", h, w, now));
    assert_err(issued("im.example.org", h, "conference.im.example.org", now), ERR_PROTOCOL,
            "lacks the name conference.im.example.org");
    assert_err(issued("im.example.org,evil.example.org", h, NULL, now), ERR_PROTOCOL,
            "has the name evil.example.org, which was not ordered");
    /* A wildcard instead of the name that was ordered is not what was ordered. */
    assert_err(issued("*.example.org", h, NULL, now), ERR_PROTOCOL, "lacks the name");
    assert_err(issued("im.example.org,IP:192.0.2.1", h, NULL, now), ERR_PROTOCOL, "no host names");
    assert_err(issued("IM.example.org", h, NULL, now), ERR_PROTOCOL, "upper case");
}

static void test_issued_dates(void **state)
{
    const char *h = "im.example.org";
    assert_err(issued("im.example.org", h, NULL, wall_add(now, 90 * CLOCK_DAY)), ERR_PROTOCOL,
            "has expired at 2027-02-20T12:00:00Z");
    assert_ok(issued("im.example.org", h, NULL, wall_add(now, 90 * CLOCK_DAY - 1000)));
    assert_err(issued("im.example.org", h, NULL, wall_add(now, -3 * CLOCK_HOUR)), ERR_PROTOCOL,
            "check this machine's clock");
    assert_ok(issued("im.example.org", h, NULL, wall_add(now, -CLOCK_HOUR - CLOCK_MIN)));
}

static void test_covers(void **state)
{
    AUTO_FREE char *pem = make_chain("im.example.org,*.im.example.org");
    AUTO_CERT_INFO struct cert_info info = {0};
    assert_ok(parse(pem, &info));
    static const struct {
        const char *name;
        bool covered;
    } cases[] = {{"im.example.org", true}, {"upload.im.example.org", true},
            {"a.upload.im.example.org", false}, {"example.org", false}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct name name;
        assert_ok(name_parse(cases[i].name, &name));
        assert_int_equal(cert_covers(&info, &name), cases[i].covered);
    }
}

/* ---- trust ---- */

static struct err *trust(const char *pem, struct wall at)
{
    return cert_check_trust(pem, strlen(pem), roots_path, at);
}

static void test_trust(void **state)
{
    AUTO_TEST_CERT struct test_cert *leaf = make_leaf("im.example.org");
    AUTO_FREE char *chain = test_cert_chain(leaf, false);
    AUTO_FREE char *alone = test_cert_pem(leaf);
    AUTO_FREE char *with_root = test_cert_chain(leaf, true);
    AUTO_FREE char *key = test_cert_key_pem(leaf);
    AUTO_FREE char *joined = str_printf("%s%s", chain, key);
    assert_ok(trust(chain, now));
    assert_ok(trust(with_root, now));
    assert_ok(trust(joined, now));
    assert_err(trust(alone, now), ERR_PROTOCOL, "not trusted");
    assert_err(trust(chain, wall_add(now, 91 * CLOCK_DAY)), ERR_PROTOCOL, "expired");
    assert_err(trust(chain, wall_add(now, -CLOCK_DAY)), ERR_PROTOCOL, "not yet valid");
    assert_err(cert_check_trust(chain, strlen(chain), NULL, now), ERR_PROTOCOL,
            "system's certificate store");
}

static void test_trust_refuses_stranger(void **state)
{
    AUTO_TEST_CERT struct test_cert *other =
            test_cert_new(&(struct test_cert_spec){.cn = "Test Root", .ca = true});
    AUTO_TEST_CERT struct test_cert *leaf =
            test_cert_new(&(struct test_cert_spec){.names = "im.example.org", .issuer = other});
    AUTO_FREE char *with_own_root = test_cert_chain(leaf, true);
    assert_err(trust(with_own_root, now), ERR_PROTOCOL, "not trusted");
    /* A certificate that is no CA's cannot certify. */
    AUTO_TEST_CERT struct test_cert *no_ca = make_leaf("a.example.org");
    AUTO_TEST_CERT struct test_cert *below =
            test_cert_new(&(struct test_cert_spec){.names = "im.example.org", .issuer = no_ca});
    AUTO_FREE char *chain = test_cert_chain(below, false);
    assert_err(trust(chain, now), ERR_PROTOCOL, "not trusted");
}

static void test_trust_needs_roots(void **state)
{
    AUTO_FREE char *chain = make_chain("im.example.org");
    assert_err(cert_check_trust(chain, strlen(chain), "/nonexistent/roots.pem", now), ERR_CONFIG,
            "/nonexistent/roots.pem");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_parse_reads_all),
            cmocka_unit_test(test_copy),
            cmocka_unit_test(test_parse_self_signed),
            cmocka_unit_test(test_parse_accepts_forms),
            cmocka_unit_test(test_parse_refuses_foreign_text),
            cmocka_unit_test(test_parse_private_key),
            cmocka_unit_test(test_parse_refuses_broken),
            cmocka_unit_test(test_parse_caps),
            cmocka_unit_test(test_parse_checks_links),
            cmocka_unit_test(test_parse_names),
            cmocka_unit_test(test_issuer_is_safe_to_print),
            cmocka_unit_test(test_issued_names),
            cmocka_unit_test(test_issued_dates),
            cmocka_unit_test(test_covers),
            cmocka_unit_test(test_trust),
            cmocka_unit_test(test_trust_refuses_stranger),
            cmocka_unit_test(test_trust_needs_roots),
    };
    return cmocka_run_group_tests(tests, make_ca, free_ca);
}
