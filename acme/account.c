/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key is the account: account.json is only a note of what the CA calls it. A missing, damaged
 * or foreign note is therefore harmless; newAccount with the same key answers 200 and the URL (RFC
 * 8555 7.3.1). The key is never replaced by a new one.
 */
#include "acme/account.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"

#define NOTE_MAX   ((size_t)64 * 1024)
#define BACKUP_MAX 99
/* A CA that forgets an account more often than this does so with each one. */
#define MAKE_AGAIN_MS CLOCK_DAY

struct acme_account {
    struct acme_client *client;
    char *dir, *key_path, *note_path;
    char *email;
    enum key_type key_type;
    struct key *key;
    char *url;
    unsigned generation; /* how often it was made again */
    struct mono made_again;
    struct fiber_sem turn;
};

/* ---- on disk (thread pool) ---- */

static struct err *open_key(struct acme_account *a)
{
    struct stat st;

    if (lstat(a->key_path, &st) == 0)
        return key_open(a->key_path, &a->key);
    if (errno != ENOENT)
        return ERR_ERRNO(errno, "%s", a->key_path);
    return key_create(a->key_path, a->key_type, &a->key);
}

static struct err *keep_aside(const struct acme_account *a, const char *suffix)
{
    AUTO_FREE char *aside = str_printf("%s.%s", a->note_path, suffix);

    return file_rename(a->note_path, aside);
}

/* The URL of a note that is whole and of this CA. */
static struct err *read_note(struct acme_account *a, const struct buf *text)
{
    AUTO_JSON json_t *root = NULL;
    const char *url = NULL, *directory = NULL;

    TRY(json_parse(buf_str(text), text->len, a->note_path, &root));
    TRY(json_get_str(root, "url", 2048, &url));
    TRY(json_get_str(root, "directory", 2048, &directory));
    if (strcmp(directory, acme_client_directory_url(a->client)) != 0)
        return ERR(ERR_LOCAL, "the note is of another CA");
    TRY(acme_client_check_url(a->client, "the account URL", url));
    a->url = str_dup(url);
    return NULL;
}

static struct err *load(void *arg)
{
    struct acme_account *a = arg;
    AUTO_BUF struct buf text = BUF_INIT(NOTE_MAX);
    bool exists = false;

    TRY(file_mkdir(a->dir, 0700));
    /* A crash while the key was written leaves a temporary file with a key in it. */
    TRY(file_sweep_temporary(a->dir));
    TRY(open_key(a));
    TRY(file_read(a->note_path, NOTE_MAX, &text, &exists));
    if (!exists)
        return NULL;
    struct err *e = read_note(a, &text);
    if (e == NULL)
        return NULL;
    err_ignore(e, "the CA knows the account by its key");
    return keep_aside(a, "bad");
}

struct note {
    const struct acme_account *account;
    const char *text;
    bool keep_old;
};

static struct err *keep_old_note(const struct acme_account *a)
{
    for (unsigned n = 1; n <= BACKUP_MAX; n++) {
        AUTO_FREE char *suffix = str_printf("%u", n);
        AUTO_FREE char *aside = str_printf("%s.%s", a->note_path, suffix);
        AUTO_BUF struct buf text = BUF_INIT(NOTE_MAX);
        bool taken = false, exists = false;
        TRY(file_read(aside, NOTE_MAX, &text, &taken));
        if (taken)
            continue;
        TRY(file_read(a->note_path, NOTE_MAX, &text, &exists));
        return exists ? keep_aside(a, suffix) : NULL;
    }
    return err_advise(
            ERR(ERR_LOCAL, "there are %d old copies of %s already", BACKUP_MAX, a->note_path),
            "remove old copies of the account file");
}

static struct err *write_note(void *arg)
{
    const struct note *n = arg;
    const struct file_write_options options = {.mode = 0600};

    if (n->keep_old)
        TRY(keep_old_note(n->account));
    return file_write(n->account->note_path, n->text, strlen(n->text), &options);
}

static struct err *save(struct acme_account *a, const char *url, bool keep_old) MAY_SUSPEND;
static struct err *save(struct acme_account *a, const char *url, bool keep_old)
{
    AUTO_JSON json_t *root = json_object();
    char when[WALL_TEXT_MAX];

    json_put_str(root, "url", url);
    json_put_str(root, "directory", acme_client_directory_url(a->client));
    json_put_str(root, "email", a->email);
    json_put_str(root, "registered", wall_format(world_now(acme_client_world(a->client)), when));
    AUTO_FREE char *text = json_text_pretty(root);
    struct note n = {a, text, keep_old};
    return fiber_work(write_note, &n);
}

/* ---- at the CA ---- */

static char *registration(const struct acme_account *a)
{
    AUTO_JSON json_t *root = json_object();

    json_put_bool(root, "termsOfServiceAgreed", true);
    if (a->email != NULL) {
        AUTO_FREE char *mailto = str_printf("mailto:%s", a->email);
        json_t *contact = json_array();
        json_push(contact, json_string(mailto));
        json_put(root, "contact", contact);
    }
    return json_text(root);
}

/* 201: made; 200: there was one with this key. */
static struct err *check_registered(const struct acme_account *a, const struct http_reply *reply)
{
    AUTO_JSON json_t *root = NULL;
    const char *status = NULL;

    const char *url = http_reply_header(reply, "location");
    if (url == NULL)
        return ERR(ERR_PROTOCOL, "the reply has no Location header");
    TRY(acme_client_check_url(a->client, "the account URL", url));
    TRY(json_parse(buf_str(&reply->body), reply->body.len, "account", &root));
    TRY(json_opt_str(root, "status", 64, &status));
    if (status == NULL || strcmp(status, "valid") == 0)
        return NULL;
    AUTO_FREE char *shown = str_foreign(status, 64);
    return err_advise(ERR(ERR_DENIED, "the CA calls the account of this key '%s'", shown),
            "move %s away to begin with a new account", a->dir);
}

static struct err *check_directory(const struct acme_account *a) MAY_SUSPEND;
static struct err *check_directory(const struct acme_account *a)
{
    const struct acme_directory *d = NULL;

    TRY(acme_client_directory(a->client, &d));
    if (!d->external_account_required)
        return NULL;
    return err_advise(ERR(ERR_CONFIG,
                              "%s gives accounts only to its customers (it requires an "
                              "external account binding), which is not supported yet",
                              acme_client_directory_url(a->client)),
            "choose another CA in acme.directory");
}

static struct err *register_key(struct acme_account *a, char **ret_url) MAY_SUSPEND;
static struct err *register_key(struct acme_account *a, char **ret_url)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    AUTO_FREE char *payload = registration(a);
    const struct acme_request request = {.resource = ACME_NEW_ACCOUNT,
            .payload = payload,
            .retries = ACME_RETRIES,
            .to_follow = ACME_AFTER_ACCOUNT};

    TRY(check_directory(a));
    TRY_CTX(acme_client_send(a->client, &request, &reply), "newAccount");
    TRY_CTX(check_registered(a, &reply), "newAccount");
    *ret_url = str_dup(http_reply_header(&reply, "location"));
    return NULL;
}

/* The new URL is in force even if it can't be noted: the note can be made again. */
static struct err *adopt(struct acme_account *a, char *owned_url, bool keep_old) MAY_SUSPEND;
static struct err *adopt(struct acme_account *a, char *owned_url, bool keep_old)
{
    free(a->url);
    a->url = owned_url;
    acme_client_set_account(a->client, a->key, a->url);
    return save(a, a->url, keep_old);
}

/* ---- */

static struct err *find_or_make(struct acme_account *a) MAY_SUSPEND;
static struct err *find_or_make(struct acme_account *a)
{
    char *url = NULL;

    TRY(fiber_work(load, a));
    acme_client_set_account(a->client, a->key, a->url);
    if (a->url != NULL)
        return NULL;
    TRY(register_key(a, &url));
    return adopt(a, url, false);
}

struct err *acme_account_open(struct acme_client *client,
        const struct acme_account_options *options, struct acme_account **ret)
{
    AUTO(acme_account_freep) struct acme_account *a = MEM_NEW(struct acme_account);

    a->client = client;
    a->dir = str_dup(options->dir);
    a->key_path = str_printf("%s/key.pem", options->dir);
    a->note_path = str_printf("%s/account.json", options->dir);
    a->email = str_dup_null(options->email);
    a->key_type = options->key_type;
    fiber_sem_init(&a->turn, 1);
    TRY_CTX(find_or_make(a), "account %s", options->dir);
    *ret = STEAL(a);
    return NULL;
}

static struct err *make_again(struct acme_account *a) MAY_SUSPEND;
static struct err *make_again(struct acme_account *a)
{
    struct mono now = world_mono(acme_client_world(a->client));
    char *url = NULL;

    if (a->generation > 0 && mono_diff(now, a->made_again) < MAKE_AGAIN_MS)
        return err_advise(ERR(ERR_DENIED, "the CA forgot the account again after it was made anew"),
                "ask the CA, or try again later");
    /* Other flows go on signing with the old URL meanwhile: they are refused and come here. */
    TRY(register_key(a, &url));
    a->generation++;
    a->made_again = now;
    return adopt(a, url, true);
}

struct err *acme_account_recreate(struct acme_account *a)
{
    unsigned seen = a->generation;

    TRY(fiber_sem_acquire(&a->turn));
    /* Another flow may have done it while this one waited for its turn. */
    struct err *e = a->generation == seen ? make_again(a) : NULL;
    fiber_sem_release(&a->turn);
    return err_context(e, "account %s", a->dir);
}

unsigned acme_account_generation(const struct acme_account *a)
{
    return a->generation;
}

const char *acme_account_url(const struct acme_account *a)
{
    return a->url;
}

void acme_account_free(struct acme_account *a)
{
    if (a == NULL)
        return;
    acme_client_set_account(a->client, NULL, NULL);
    key_free(a->key);
    free(a->dir);
    free(a->key_path);
    free(a->note_path);
    free(a->email);
    free(a->url);
    free(a);
}
