/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy on disk is the CA's own text in an envelope (whose, from when), so that it goes through
 * the same strict decoder as a fresh one.
 */
#include "acme/directory.h"

#include "base/file.h"
#include "base/json.h"

#define LIST_MAX   64
#define STRING_MAX ((size_t)255)

void acme_directory_done(struct acme_directory *d)
{
    free(d->new_nonce);
    free(d->new_account);
    free(d->new_order);
    free(d->revoke_cert);
    free(d->key_change);
    free(d->renewal_info);
    free(d->terms_of_service);
    strv_done(&d->caa_identities);
    strv_done(&d->profiles);
    *d = (struct acme_directory){0};
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool same_list(const struct strv *a, const struct strv *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->v[i], b->v[i]) != 0)
            return false;
    return true;
}

bool acme_directory_same(const struct acme_directory *a, const struct acme_directory *b)
{
    return same_text(a->new_nonce, b->new_nonce) && same_text(a->new_account, b->new_account) &&
           same_text(a->new_order, b->new_order) && same_text(a->revoke_cert, b->revoke_cert) &&
           same_text(a->key_change, b->key_change) && same_text(a->renewal_info, b->renewal_info) &&
           same_text(a->terms_of_service, b->terms_of_service) &&
           a->external_account_required == b->external_account_required &&
           same_list(&a->caa_identities, &b->caa_identities) &&
           same_list(&a->profiles, &b->profiles);
}

static struct err *take_url(
        const struct acme_client *client, const json_t *root, const char *key, char **ret)
{
    const char *url = NULL;

    TRY(json_opt_str(root, key, 2048, &url));
    if (url == NULL)
        return NULL;
    TRY(acme_client_check_url(client, key, url));
    *ret = str_dup(url);
    return NULL;
}

static struct err *require_url(
        const struct acme_client *client, const json_t *root, const char *key, char **ret)
{
    TRY(take_url(client, root, key, ret));
    return *ret != NULL ? NULL : ERR(ERR_PROTOCOL, "'%s' is missing", key);
}

/* Information for people and for checks of our own: what is odd in it is left out. */
static void take_strings(const json_t *array, struct strv *ret)
{
    size_t i;
    json_t *item;

    json_array_foreach (array, i, item) {
        const char *text = json_string_value(item);
        if (text != NULL && json_string_length(item) <= STRING_MAX && i < LIST_MAX)
            strv_take(ret, str_foreign(text, STRING_MAX));
    }
}

static struct err *read_meta(json_t *meta, struct acme_directory *d)
{
    const char *terms = NULL;
    const char *key;
    json_t *value;

    if (!json_is_object(meta))
        return NULL;
    TRY(json_opt_str(meta, "termsOfService", 2048, &terms));
    if (terms != NULL)
        d->terms_of_service = str_foreign(terms, 2048);
    TRY(json_opt_bool(meta, "externalAccountRequired", &d->external_account_required));
    take_strings(json_object_get(meta, "caaIdentities"), &d->caa_identities);
    json_object_foreach (json_object_get(meta, "profiles"), key, value) {
        (void)value;
        if (d->profiles.n < LIST_MAX && strlen(key) <= STRING_MAX)
            strv_take(&d->profiles, str_foreign(key, STRING_MAX));
    }
    return NULL;
}

static struct err *read_directory(
        const struct acme_client *client, const json_t *root, struct acme_directory *d)
{
    TRY(require_url(client, root, "newNonce", &d->new_nonce));
    TRY(require_url(client, root, "newAccount", &d->new_account));
    TRY(require_url(client, root, "newOrder", &d->new_order));
    TRY(take_url(client, root, "revokeCert", &d->revoke_cert));
    TRY(take_url(client, root, "keyChange", &d->key_change));
    TRY(take_url(client, root, "renewalInfo", &d->renewal_info));
    return read_meta(json_object_get(root, "meta"), d);
}

struct err *acme_directory_decode(
        const struct acme_client *client, const char *text, size_t len, struct acme_directory *ret)
{
    AUTO(acme_directory_done) struct acme_directory d = {0};
    AUTO_JSON json_t *root = NULL;

    TRY(json_parse(text, len, "directory", &root));
    TRY_CTX(read_directory(client, root, &d), "directory");
    *ret = d;
    d = (struct acme_directory){0};
    return NULL;
}

/* ---- on disk ---- */

struct copy {
    char *path;
    struct buf text;
    bool exists;
};

static void copy_done(struct copy *c)
{
    free(c->path);
    buf_done(&c->text);
}

static struct err *read_copy(void *arg)
{
    struct copy *c = arg;

    return file_read(c->path, 2 * ACME_DIRECTORY_MAX, &c->text, &c->exists);
}

static struct err *decode_copy(const struct acme_client *client, const struct copy *c,
        struct wall now, struct acme_directory *ret, bool *ret_found)
{
    AUTO_JSON json_t *root = NULL;
    const char *url = NULL, *text = NULL;
    int64_t fetched = 0;

    TRY(json_parse(buf_str(&c->text), c->text.len, c->path, &root));
    TRY(json_get_str(root, "url", 2048, &url));
    TRY(json_get_int(root, "fetched", 0, INT64_MAX / 2, &fetched));
    text = json_string_value(json_object_get(root, "directory"));
    if (text == NULL)
        return ERR(ERR_LOCAL, "'directory' is missing");
    int64_t age = wall_diff(now, (struct wall){fetched});
    if (strcmp(url, acme_client_directory_url(client)) != 0 || age < 0 || age > ACME_DIRECTORY_AGE)
        return NULL;
    TRY(acme_directory_decode(client, text, strlen(text), ret));
    ret->fetched = (struct wall){fetched};
    *ret_found = true;
    return NULL;
}

struct err *acme_directory_load(
        struct acme_client *client, const char *path, struct acme_directory *ret, bool *ret_found)
{
    AUTO(copy_done)
    struct copy c = {.path = str_dup(path), .text = BUF_INIT(2 * ACME_DIRECTORY_MAX)};

    *ret_found = false;
    struct err *e = fiber_work(read_copy, &c);
    if (err_is(e, ERR_CANCELED) || err_is(e, ERR_TIMEOUT))
        return e;
    if (e == NULL && c.exists)
        e = decode_copy(client, &c, world_now(acme_client_world(client)), ret, ret_found);
    err_ignore(e, "the directory is fetched instead");
    return NULL;
}

static struct err *write_copy(void *arg)
{
    const struct copy *c = arg;
    const struct file_write_options options = {.mode = 0600};

    return file_write(c->path, c->text.data, c->text.len, &options);
}

static struct err *save_run(void *arg) MAY_SUSPEND;
static struct err *save_run(void *arg)
{
    return fiber_work(write_copy, arg);
}

static void save_ended(void *arg, struct err *result)
{
    struct copy *c = arg;

    err_ignore(result, "the copy of the directory only saves a request");
    copy_done(c);
    free(c);
}

void acme_directory_save(struct acme_client *client, const char *path, const struct buf *text)
{
    struct world *world = acme_client_world(client);
    AUTO_JSON json_t *root = json_object();
    struct copy *c = MEM_NEW(struct copy);

    json_put_str(root, "url", acme_client_directory_url(client));
    json_put_int(root, "fetched", world_now(world).ms);
    json_put_str(root, "directory", buf_str(text));
    AUTO_FREE char *json = json_text(root);
    c->path = str_dup(path);
    c->text = BUF_INIT(2 * ACME_DIRECTORY_MAX);
    buf_puts(&c->text, json);
    if (c->text.overflow) {
        copy_done(c);
        free(c);
        return;
    }
    fiber_spawn(world->loop, "directory cache", save_run, c, save_ended);
}
