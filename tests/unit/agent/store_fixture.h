/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in a temporary directory on a fake world, and certificates for it. Bodies of tests run as
 * a fiber. Include after cmocka.h.
 */
#pragma once

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acme/base64url.h"
#include "agent/store.h"
#include "base/file.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_certs.h"
#include "tests/lib/test_err.h"

#define HOST      "im.example.org"
#define COMPONENT "conference.im.example.org"
#define DIRECTORY "https://ca.test/dir"

struct fixture {
    struct fake_world fw;
    char top[64];
    char *state_dir, *cert_dir;
    struct store *store;
    struct name host;
    struct test_cert *root, *other_root;
    char *roots; /* path of root's PEM */
    struct strv warnings;
    void (*body)(struct fixture *fx);
};

static inline void take_line(void *arg, enum log_level level, const char *line)
{
    struct fixture *fx = arg;
    if (level >= LOG_WARNING)
        strv_add(&fx->warnings, line);
}

static inline struct name name_of(const char *text)
{
    struct name name = {0};
    snprintf(name.text, sizeof(name.text), "%s", text);
    return name;
}

static inline char *in(const struct fixture *fx, const char *relative)
{
    return str_printf("%s/%s", fx->state_dir, relative);
}

static inline char *lineage(const struct fixture *fx, const char *relative)
{
    return str_printf("%s/lineages/%s/%s", fx->state_dir, HOST, relative);
}

static inline char *live(const struct fixture *fx)
{
    return str_printf("%s/%s.pem", fx->cert_dir, HOST);
}

static inline void put(const char *path, const char *text, mode_t mode)
{
    const struct file_write_options options = {.mode = mode};
    assert_ok(file_write(path, text, strlen(text), &options));
}

static inline char *text_of(const char *path)
{
    AUTO_BUF struct buf text = BUF_INIT(1024 * 1024);
    assert_ok(file_read(path, 1024 * 1024, &text, NULL));
    return buf_steal(&text);
}

static inline bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static inline mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

/* Names of a lineage's entries by commas: what is there and nothing else. */
static inline void assert_entries(const char *dir, const char *expected)
{
    AUTO_STRV struct strv entries = {0};
    bool found = false;
    assert_ok(file_list(dir, 1000, &entries, &found));
    AUTO_FREE char *text = strv_join(&entries, ",");
    assert_string_equal(text, expected);
}

static inline int fixture_new(void **state)
{
    struct fixture *fx = MEM_NEW(struct fixture);
    fake_world_init(&fx->fw);
    snprintf(fx->top, sizeof(fx->top), "/tmp/certherd-store-XXXXXX");
    if (mkdtemp(fx->top) == NULL)
        return -1;
    fx->state_dir = str_printf("%s/state", fx->top);
    fx->cert_dir = str_printf("%s/state/live", fx->top);
    fx->roots = str_printf("%s/roots.pem", fx->top);
    fx->host = name_of(HOST);
    struct wall now = FAKE_WORLD_START;
    struct test_cert_spec spec = {.cn = "Test Root",
            .ca = true,
            .not_before = wall_add(now, -1000 * CLOCK_DAY),
            .not_after = wall_add(now, 4000 * CLOCK_DAY)};
    fx->root = test_cert_new(&spec);
    spec.cn = "Unknown Root";
    fx->other_root = test_cert_new(&spec);
    AUTO_FREE char *pem = test_cert_pem(fx->root);
    put(fx->roots, pem, 0644);
    log_set_level(LOG_WARNING);
    log_set_sink(take_line, fx);
    *state = fx;
    return 0;
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static inline int fixture_free(void **state)
{
    struct fixture *fx = *state;
    log_set_sink(NULL, NULL);
    store_close(fx->store);
    fake_world_done(&fx->fw);
    int rc = nftw(fx->top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    test_cert_free(fx->root);
    test_cert_free(fx->other_root);
    strv_done(&fx->warnings);
    free(fx->state_dir);
    free(fx->cert_dir);
    free(fx->roots);
    free(fx);
    return rc;
}

static inline struct err *fixture_fiber(void *arg)
{
    struct fixture *fx = arg;
    fx->body(fx);
    return NULL;
}

static inline void run_body(void **state, void (*body)(struct fixture *fx))
{
    struct fixture *fx = *state;
    fx->body = body;
    assert_ok(fake_world_run(&fx->fw, fixture_fiber, fx));
}
/* A test whose body is a fiber. */
#define FIBER_TEST(name)                                                                           \
    static void name##_body(struct fixture *fx) MAY_SUSPEND;                                       \
    static void name(void **state)                                                                 \
    {                                                                                              \
        run_body(state, name##_body);                                                              \
    }                                                                                              \
    static void name##_body(struct fixture *fx)
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_new, fixture_free)

static inline struct err *reopen(struct fixture *fx, bool read_only) MAY_SUSPEND;
static inline struct err *reopen(struct fixture *fx, bool read_only)
{
    const struct store_options options = {
            .state_dir = fx->state_dir, .cert_dir = fx->cert_dir, .read_only = read_only};
    store_close(STEAL(fx->store));
    return store_open(&fx->fw.world, &options, &fx->store);
}

static inline struct wall now_of(struct fixture *fx)
{
    return world_now(&fx->fw.world);
}

/* ---- certificates ---- */

struct cert_wish {
    const char *names;              /* by commas; NULL: HOST and COMPONENT */
    const struct test_cert *issuer; /* NULL: the trusted root */
    int64_t before_days, days;      /* valid from, to, relative to now; 0: -1 and 90 */
    bool staging;
};

static inline void add_names(struct name_list *list, const char *names)
{
    AUTO_FREE char *copy = str_dup(names);
    for (char *rest = copy, *word; (word = strsep(&rest, ",")) != NULL;) {
        struct name name = name_of(word);
        name_list_add(list, &name);
    }
}

/* A chain for the pending key, as the CA would send it. */
static inline char *chain_for(struct fixture *fx, const struct key *key, struct cert_wish wish)
{
    AUTO(name_list_done) struct name_list names = {0};
    AUTO_FREE char *csr = NULL;
    AUTO_BUF struct buf der = BUF_INIT(64 * 1024);
    add_names(&names, wish.names != NULL ? wish.names : HOST "," COMPONENT);
    assert_ok(key_make_csr(key, &names, &csr));
    assert_ok(base64url_decode(csr, strlen(csr), &der));
    int64_t from = wish.before_days != 0 ? wish.before_days : -1;
    int64_t to = wish.days != 0 ? wish.days : 90;
    AUTO_TEST_CERT struct test_cert *leaf = test_cert_new(
            &(struct test_cert_spec){.issuer = wish.issuer != NULL ? wish.issuer : fx->root,
                    .not_before = wall_add(now_of(fx), from * CLOCK_DAY),
                    .not_after = wall_add(now_of(fx), to * CLOCK_DAY),
                    .csr = der.data,
                    .csr_len = der.len});
    return test_cert_chain(leaf, false);
}

static inline void make_pending(struct fixture *fx, struct key **ret) MAY_SUSPEND;
static inline void make_pending(struct fixture *fx, struct key **ret)
{
    struct store_pending pending = {.order_url = str_dup(DIRECTORY "/order/1"),
            .directory = str_dup(DIRECTORY),
            .made = now_of(fx)};
    add_names(&pending.names, HOST "," COMPONENT);
    assert_ok(store_pending_save(fx->store, &fx->host, &pending));
    store_pending_done(&pending);
    assert_ok(store_pending_key(fx->store, &fx->host, KEY_P256, ret));
}

/* A whole issuance; returns the generation's number. */
static inline uint64_t issue(struct fixture *fx, struct cert_wish wish) MAY_SUSPEND;
static inline uint64_t issue(struct fixture *fx, struct cert_wish wish)
{
    AUTO(key_freep) struct key *key = NULL;
    AUTO(store_generation_done) struct store_generation generation = {0};
    make_pending(fx, &key);
    AUTO_FREE char *chain = chain_for(fx, key, wish);
    assert_ok(store_generation_commit(
            fx->store, &fx->host, chain, strlen(chain), DIRECTORY, wish.staging, &generation));
    return generation.number;
}
