/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The solver. A token is in the table from before it is published until after it was taken away,
 * and the journal on disk is never behind the files: table, journal, file; and back in the opposite
 * order. Names presented at once share one rewrite of the journal.
 *
 * What the journal of a killed run lists is put into the table without an answer and stays in its
 * place: an order that is gone on with presents the same tokens again, and the CA may be looking
 * at them this very moment. What nobody has presented by the end of the run is removed then.
 */
#include "acme/http01.h"

#include "acme/base64url.h"
#include "acme/http01_private.h"
#include "base/file.h"

/* RFC 8555 8.1 asks for 128 bits of entropy, which are 22 characters. */
#define TOKEN_MIN 22

static struct http01_token *find(const struct http01 *h, const char *token)
{
    for (size_t i = 0; i < h->n_tokens; i++) {
        if (strcmp(h->tokens[i].token, token) == 0)
            return &h->tokens[i];
    }
    return NULL;
}

const char *http01_answer(const struct http01 *h, const char *token)
{
    const struct http01_token *t = find(h, token);
    return t != NULL ? t->answer : NULL;
}

static void table_put(struct http01 *h, const char *token, const char *answer)
{
    struct http01_token *t = find(h, token);
    if (t == NULL) {
        h->tokens = mem_realloc_array(h->tokens, h->n_tokens + 1, sizeof(*h->tokens));
        t = &h->tokens[h->n_tokens++];
        *t = (struct http01_token){0};
        snprintf(t->token, sizeof(t->token), "%s", token);
        h->version++;
    }
    free(t->answer);
    t->answer = str_dup(answer);
}

static void table_drop(struct http01 *h, const char *token)
{
    struct http01_token *t = find(h, token);
    if (t == NULL)
        return;
    free(t->answer);
    *t = h->tokens[--h->n_tokens];
    h->version++;
}

/* A token of an earlier run: on disk perhaps, but not presented in this one. */
static bool is_left_behind(const struct http01_token *t)
{
    return t->answer == NULL;
}

static void table_put_left_behind(struct http01 *h, const struct strv *tokens)
{
    for (size_t i = 0; i < tokens->n; i++) {
        if (find(h, tokens->v[i]) != NULL)
            continue;
        h->tokens = mem_realloc_array(h->tokens, h->n_tokens + 1, sizeof(*h->tokens));
        h->tokens[h->n_tokens] = (struct http01_token){0};
        snprintf(h->tokens[h->n_tokens++].token, ACME_TOKEN_MAX, "%s", tokens->v[i]);
    }
}

/* ---- journal ---- */

struct journal_work {
    const char *path;
    const char *names;
};

static struct err *journal_work(void *arg)
{
    const struct journal_work *work = arg;
    return http01_journal_write(work->path, work->names);
}

static struct err *journal_write(struct http01 *h) MAY_SUSPEND;
static struct err *journal_write(struct http01 *h)
{
    uint64_t version = h->version;
    AUTO_BUF struct buf names = BUF_INIT((h->n_tokens + 1) * (ACME_TOKEN_MAX + 1));
    for (size_t i = 0; i < h->n_tokens; i++)
        buf_printf(&names, "%s\n", h->tokens[i].token);
    struct journal_work work = {.path = h->journal_path, .names = buf_str(&names)};
    TRY(fiber_work(journal_work, &work));
    h->journal_version = version;
    return NULL;
}

/* Returns when the journal on disk is as new as the table was at the call. Whoever else is about to
 * change the table in this turn of the loop shall be in the same write, which costs two fsyncs. */
static struct err *journal_sync(struct http01 *h) MAY_SUSPEND;
static struct err *journal_sync(struct http01 *h)
{
    TRY(fiber_yield());
    uint64_t wanted = h->version;
    TRY(fiber_sem_acquire(&h->journal_sem));
    struct err *e = h->journal_version < wanted ? journal_write(h) : NULL;
    fiber_sem_release(&h->journal_sem);
    return err_context(e, "the journal of tokens");
}

/* ---- files, off the loop ---- */

struct file_work {
    const char *dir;
    const char *token;
    const char *answer;
    bool good;
};

static struct err *write_work(void *arg)
{
    const struct file_work *work = arg;
    return http01_file_write(work->dir, work->token, work->answer);
}

static struct err *verify_work(void *arg)
{
    struct file_work *work = arg;
    TRY(http01_file_check(work->dir, work->token, work->answer, &work->good));
    return work->good ? NULL : write_work(arg);
}

static struct err *remove_work(void *arg)
{
    const struct file_work *work = arg;
    return http01_file_remove(work->dir, work->token);
}

/* ---- the solver ---- */

struct err *http01_present(struct http01 *h, const char *token, const char *answer)
{
    /* It becomes a file name. */
    if (!base64url_is_token(token, TOKEN_MIN, ACME_TOKEN_MAX - 1))
        return ERR(ERR_PROTOCOL, "the token is not %d to %d characters of base64url", TOKEN_MIN,
                ACME_TOKEN_MAX - 1);
    table_put(h, token, answer);
    if (h->token_dir == NULL)
        return NULL;
    TRY(journal_sync(h));
    struct file_work work = {.dir = h->token_dir, .token = token, .answer = answer};
    return fiber_work(write_work, &work);
}

struct err *http01_remove(struct http01 *h, const char *token)
{
    if (find(h, token) == NULL)
        return NULL;
    if (h->token_dir != NULL) {
        struct file_work work = {.dir = h->token_dir, .token = token};
        TRY(fiber_work(remove_work, &work));
    }
    table_drop(h, token);
    return h->token_dir != NULL ? journal_sync(h) : NULL;
}

static struct err *present(void *arg, const struct acme_challenge *challenge) MAY_SUSPEND;
static struct err *present(void *arg, const struct acme_challenge *challenge)
{
    return http01_present(arg, challenge->token, challenge->key_authorization);
}

static struct err *verify(void *arg, const struct acme_challenge *challenge) MAY_SUSPEND;
static struct err *verify(void *arg, const struct acme_challenge *challenge)
{
    struct http01 *h = arg;
    if (http01_answer(h, challenge->token) == NULL)
        return http01_present(h, challenge->token, challenge->key_authorization);
    if (h->token_dir == NULL)
        return NULL;
    struct file_work work = {
            .dir = h->token_dir, .token = challenge->token, .answer = challenge->key_authorization};
    TRY(fiber_work(verify_work, &work));
    if (!work.good)
        log_debug("token_lost", "the token's file was gone or changed, written again",
                LOG_STR("name", challenge->name.text), LOG_STR("dir", h->token_dir));
    return NULL;
}

static struct err *take_away(void *arg, const struct acme_challenge *challenge) MAY_SUSPEND;
static struct err *take_away(void *arg, const struct acme_challenge *challenge)
{
    return http01_remove(arg, challenge->token);
}

const struct acme_solver *http01_solver(struct http01 *h)
{
    return &h->solver;
}

struct addr http01_address(const struct http01 *h)
{
    if (h->server == NULL)
        return (struct addr){.sa.sa_family = AF_UNSPEC};
    return http_server_address(h->server);
}

/* ---- lifecycle ---- */

struct open_work {
    const char *dir;
    const char *journal_path;
    struct strv left_behind;
};

static struct err *sweep_work(void *arg)
{
    const struct open_work *work = arg;
    return err_context(http01_journal_sweep(work->journal_path, work->dir),
            "removing the tokens of an earlier run");
}

static struct err *open_work(void *arg)
{
    struct open_work *work = arg;
    TRY(http01_dir_check(work->dir));
    TRY(http01_journal_prepare(work->journal_path));
    return http01_journal_load(work->journal_path, &work->left_behind);
}

struct err *http01_sweep(const struct http01_options *options)
{
    struct open_work work = {.dir = options->token_dir, .journal_path = options->journal_path};
    return work.dir == NULL ? NULL : fiber_work(sweep_work, &work);
}

/* Taken from the end, since a removed entry is replaced by the last one. */
struct err *http01_settle(struct http01 *h)
{
    bool dropped = false;
    for (size_t i = h->n_tokens; i > 0; i--) {
        if (i > h->n_tokens || !is_left_behind(&h->tokens[i - 1]))
            continue;
        char token[ACME_TOKEN_MAX];
        memcpy(token, h->tokens[i - 1].token, sizeof(token));
        struct file_work work = {.dir = h->token_dir, .token = token};
        TRY_CTX(fiber_work(remove_work, &work), "removing the tokens of an earlier run");
        table_drop(h, token);
        dropped = true;
    }
    return dropped ? journal_sync(h) : NULL;
}

static struct err *start(struct http01 *h, const struct http01_options *options) MAY_SUSPEND;
static struct err *start(struct http01 *h, const struct http01_options *options)
{
    if (h->token_dir == NULL)
        return http01_respond(h, options);
    struct open_work work = {.dir = h->token_dir, .journal_path = h->journal_path};
    struct err *e = fiber_work(open_work, &work);
    if (e == NULL)
        table_put_left_behind(h, &work.left_behind);
    strv_done(&work.left_behind);
    return e;
}

struct err *http01_open(
        struct world *world, const struct http01_options *options, struct http01 **ret)
{
    AUTO(http01_closep) struct http01 *h = MEM_NEW(struct http01);
    h->world = world;
    h->token_dir = str_dup_null(options->token_dir);
    h->journal_path = str_dup_null(options->journal_path);
    h->solver = (struct acme_solver){
            .type = "http-01", .present = present, .verify = verify, .remove = take_away, .arg = h};
    fiber_sem_init(&h->journal_sem, 1);
    TRY(start(h, options));
    *ret = STEAL(h);
    return NULL;
}

void http01_close(struct http01 *h)
{
    if (h == NULL)
        return;
    http_server_stop(h->server);
    for (size_t i = 0; i < h->n_tokens; i++)
        free(h->tokens[i].answer);
    free(h->tokens);
    free(h->token_dir);
    free(h->journal_path);
    free(h);
}
