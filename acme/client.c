/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three loops around one exchange, from the inside: badNonce (the reply brings the nonce for the
 * next try), transport errors (bounded, and only where the caller says that repeating is safe), and
 * a stale directory (a cached URL that the CA no longer knows: fetched again once, tried again if
 * the URL has changed).
 *
 * Fetches of nonces run in fibers of their own and may outlive acme_client_free() by a few turns of
 * the loop, so the object is counted: one reference for the owner, one per such fiber.
 */
#include "acme/client.h"

#include <assert.h>

#include "acme/cert.h"
#include "acme/directory.h"
#include "acme/nonce.h"
#include "acme/url.h"

/* A CA (pebble in its tests) may refuse every second nonce on purpose: the chance of sixteen
 * refusals in a row is then 1 : 65,536 per request. */
#define BAD_NONCE_MAX 16
/* Few beside a CA's limits (Let's Encrypt: 300 a second). pebble can deadlock when it makes orders
 * while it validates (a read lock within a read lock); since orders come before all else, it does
 * not have to. */
#define NEW_ORDERS_MAX 20
#define REPLY_MAX      ((size_t)256 * 1024)
#define CONNECT_MS     (10 * CLOCK_SEC)
#define STALL_MS       (30 * CLOCK_SEC)
#define TOTAL_MS       (60 * CLOCK_SEC)
#define RETRY_PAUSE_MS 250
/* A directory younger than this is not the reason for a 404. */
#define DIRECTORY_FRESH CLOCK_MIN
#define DIRECTORIES_MAX 64

struct fetch {
    struct acme_client *client;
    struct fiber *fiber;
    struct fetch *prev, *next;
};

struct acme_client {
    unsigned refs;
    bool closed;
    struct world *world;
    char *directory_url;
    char *ca_bundle;
    char *cache_path;
    struct strv hosts; /* "host:port" that URLs may have; the first is the directory's */
    struct acme_directory *directory;                    /* or NULL */
    struct acme_directory *directories[DIRECTORIES_MAX]; /* all, since they are borrowed */
    size_t n_directories;
    bool cache_read;
    struct fiber_sem directory_turn;
    struct fiber_sem order_slots;
    struct acme_nonces nonces;
    struct fetch *fetches;
    const struct key *key;
    const char *kid;
    uint64_t requests;
};

static void nonces_wanted(void *arg);

/* ---- lifecycle ---- */

static struct err *add_hosts(struct acme_client *c, const struct strv *extra)
{
    char *authority = NULL;

    TRY(acme_url_authority("the directory URL", c->directory_url, &authority));
    strv_take(&c->hosts, authority);
    for (size_t i = 0; extra != NULL && i < extra->n; i++) {
        AUTO_FREE char *url = str_printf("https://%s", extra->v[i]);
        TRY(acme_url_authority("the extra host", url, &authority));
        strv_take(&c->hosts, authority);
    }
    return NULL;
}

struct err *acme_client_new(
        struct world *world, const struct acme_client_options *options, struct acme_client **ret)
{
    AUTO(acme_client_freep) struct acme_client *c = MEM_NEW(struct acme_client);

    c->refs = 1;
    c->world = world;
    c->directory_url = str_dup(options->directory_url);
    c->ca_bundle = str_dup_null(options->ca_bundle);
    c->cache_path = str_dup_null(options->cache_path);
    fiber_sem_init(&c->directory_turn, 1);
    fiber_sem_init(&c->order_slots,
            options->max_new_orders > 0 ? options->max_new_orders : NEW_ORDERS_MAX);
    acme_nonces_init(&c->nonces, world, options->nonces_per_second, nonces_wanted, c);
    struct err *e = add_hosts(c, options->extra_hosts);
    if (e != NULL)
        return err_advise(err_rekind(e, ERR_CONFIG), "correct acme.directory");
    *ret = STEAL(c);
    return NULL;
}

static void unref(struct acme_client *c)
{
    if (--c->refs > 0)
        return;
    for (size_t i = 0; i < c->n_directories; i++) {
        acme_directory_done(c->directories[i]);
        free(c->directories[i]);
    }
    acme_nonces_done(&c->nonces);
    strv_done(&c->hosts);
    free(c->directory_url);
    free(c->ca_bundle);
    free(c->cache_path);
    free(c);
}

void acme_client_free(struct acme_client *c)
{
    if (c == NULL)
        return;
    c->closed = true;
    for (struct fetch *f = c->fetches; f != NULL; f = f->next)
        fiber_cancel(f->fiber);
    unref(c);
}

struct world *acme_client_world(struct acme_client *c)
{
    return c->world;
}

const char *acme_client_directory_url(const struct acme_client *c)
{
    return c->directory_url;
}

uint64_t acme_client_requests(const struct acme_client *c)
{
    return c->requests;
}

void acme_client_set_account(struct acme_client *c, const struct key *key, const char *kid)
{
    c->key = key;
    c->kid = kid;
}

const struct key *acme_client_key(const struct acme_client *c)
{
    return c->key;
}

const char *acme_client_kid(const struct acme_client *c)
{
    return c->kid;
}

struct fiber_sem *acme_client_order_slots(struct acme_client *c)
{
    return &c->order_slots;
}

struct err *acme_client_check_url(const struct acme_client *c, const char *what, const char *url)
{
    AUTO_FREE char *authority = NULL;

    TRY(acme_url_authority(what, url, &authority));
    if (strv_has(&c->hosts, authority))
        return NULL;
    AUTO_FREE char *shown = str_foreign(url, 200);
    return err_advise(ERR(ERR_PROTOCOL, "%s '%s' leads away from the CA's host %s", what, shown,
                              c->hosts.v[0]),
            "if this CA really uses several hosts, list %s in extra_hosts", authority);
}

/* ---- one exchange ---- */

/* Whether e may be tried again, after a pause. Frees e then. */
static bool try_again(struct err **e, unsigned *tries, unsigned max) MAY_SUSPEND;
static bool try_again(struct err **e, unsigned *tries, unsigned max)
{
    static const int64_t factor[] = {1, 4, 16};
    bool transport =
            acme_problem_of(*e) == NULL && (err_is(*e, ERR_RETRY) || err_is(*e, ERR_TIMEOUT));

    if (!transport || *tries >= max || *tries >= ARRAY_SIZE(factor))
        return false;
    AUTO_ERR struct err *stop = fiber_sleep(RETRY_PAUSE_MS * factor[(*tries)++]);
    if (stop != NULL)
        return false;
    log_debug("ca_retry", "the request is sent again", LOG_STR("error", err_text(*e)));
    err_free(STEAL(*e));
    return true;
}

static struct err *no_reply(const struct acme_client *c, const char *url, struct err *e)
{
    if (err_is(e, ERR_CANCELED))
        return e;
    if (err_is(e, ERR_RETRY) || err_is(e, ERR_TIMEOUT))
        e = err_advise(e, "check that this machine reaches %s: DNS, firewall, proxy", url);
    /* Of the directory itself the caller says it. */
    return strcmp(url, c->directory_url) == 0 ? e : err_context(e, "the CA %s", c->directory_url);
}

static struct err *exchange(
        struct acme_client *c, struct http_request *request, struct http_reply *ret) MAY_SUSPEND;
static struct err *exchange(
        struct acme_client *c, struct http_request *request, struct http_reply *ret)
{
    request->connect_ms = CONNECT_MS;
    request->stall_ms = STALL_MS;
    request->total_ms = TOTAL_MS;
    request->max_body = REPLY_MAX;
    c->requests++;
    struct err *e = world_http(c->world, c->ca_bundle, request, ret);
    if (e != NULL)
        return no_reply(c, request->url, e);
    log_debug("ca_reply", "reply of the CA", LOG_STR("url", request->url),
            LOG_INT("status", ret->status));
    return NULL;
}

static bool is_success(const struct http_reply *reply)
{
    return reply->status >= 200 && reply->status <= 299;
}

static bool is_problem(const struct err *e, enum acme_problem_type type)
{
    const struct acme_problem *p = acme_problem_of(e);

    return p != NULL && p->type == type;
}

/* ---- directory ---- */

/* Takes over what d holds. A client lives as long as the agent, so one that says the same as
 * before, which is nearly every one, must not be kept beside it. */
static void adopt_directory(struct acme_client *c, struct acme_directory *d)
{
    if (c->directory != NULL && acme_directory_same(c->directory, d)) {
        c->directory->fetched = d->fetched;
        acme_directory_done(d);
        return;
    }
    c->directory = mem_dup(d, sizeof(*d));
    c->directories[c->n_directories++] = c->directory;
}

static struct err *no_directory(const struct acme_client *c, struct err *e)
{
    if (err_is(e, ERR_RETRY) || err_is(e, ERR_RETRY_AT))
        return e;
    return err_advise(
            e, "check acme.directory: is %s the address of a CA's directory?", c->directory_url);
}

static struct err *get_directory(struct acme_client *c, struct buf *ret) MAY_SUSPEND;
static struct err *get_directory(struct acme_client *c, struct buf *ret)
{
    unsigned tries = 0;

    for (;;) {
        AUTO_HTTP_REPLY struct http_reply reply = {0};
        struct http_request request = {.url = c->directory_url};
        struct err *e = exchange(c, &request, &reply);
        if (e == NULL && is_success(&reply)) {
            acme_nonces_give(&c->nonces, http_reply_header(&reply, "replay-nonce"));
            *ret = reply.body;
            reply.body = (struct buf){0};
            return NULL;
        }
        if (e == NULL)
            return no_directory(c, acme_problem_from_reply(&reply, world_now(c->world)));
        if (!try_again(&e, &tries, ACME_RETRIES))
            return e;
    }
}

static struct err *fetch_directory(struct acme_client *c) MAY_SUSPEND;
static struct err *fetch_directory(struct acme_client *c)
{
    AUTO_BUF struct buf text = {0};
    struct acme_directory d = {0};

    if (c->n_directories == DIRECTORIES_MAX)
        return ERR(ERR_LOCAL, "the directory was fetched too often by one client");
    TRY_CTX(get_directory(c, &text), "directory %s", c->directory_url);
    TRY_CTX(acme_directory_decode(c, buf_str(&text), text.len, &d), "%s", c->directory_url);
    d.fetched = world_now(c->world);
    adopt_directory(c, &d);
    if (c->cache_path != NULL)
        acme_directory_save(c, c->cache_path, &text);
    return NULL;
}

static int64_t directory_age(const struct acme_client *c)
{
    return wall_diff(world_now(c->world), c->directory->fetched);
}

static struct err *read_cache(struct acme_client *c) MAY_SUSPEND;
static struct err *read_cache(struct acme_client *c)
{
    struct acme_directory d = {0};
    bool found = false;

    if (c->cache_read || c->cache_path == NULL)
        return NULL;
    TRY(acme_directory_load(c, c->cache_path, &d, &found));
    c->cache_read = true;
    if (found)
        adopt_directory(c, &d);
    return NULL;
}

static struct err *find_directory(struct acme_client *c) MAY_SUSPEND;
static struct err *find_directory(struct acme_client *c)
{
    TRY(read_cache(c));
    if (c->directory != NULL && directory_age(c) <= ACME_DIRECTORY_AGE)
        return NULL;
    return fetch_directory(c);
}

struct err *acme_client_directory(struct acme_client *c, const struct acme_directory **ret)
{
    if (c->directory == NULL || directory_age(c) > ACME_DIRECTORY_AGE) {
        TRY(fiber_sem_acquire(&c->directory_turn));
        struct err *e = find_directory(c);
        fiber_sem_release(&c->directory_turn);
        TRY(e);
    }
    *ret = c->directory;
    return NULL;
}

/* The CA does not know the URL that d has: is there a newer one? *ret is d where there is not. */
static struct err *newer_directory(struct acme_client *c, const struct acme_directory *d,
        const struct acme_directory **ret) MAY_SUSPEND;
static struct err *newer_directory(
        struct acme_client *c, const struct acme_directory *d, const struct acme_directory **ret)
{
    TRY(fiber_sem_acquire(&c->directory_turn));
    struct err *e = NULL;
    if (c->directory == d && directory_age(c) > DIRECTORY_FRESH)
        e = fetch_directory(c);
    fiber_sem_release(&c->directory_turn);
    *ret = c->directory;
    return e;
}

static const char *resource_url(const struct acme_directory *d, enum acme_resource resource)
{
    assert(resource < ACME_RESOURCE_MAX);
    return resource == ACME_NEW_NONCE     ? d->new_nonce
           : resource == ACME_NEW_ACCOUNT ? d->new_account
                                          : d->new_order;
}

static bool unknown_url(const struct err *e)
{
    const struct acme_problem *p = acme_problem_of(e);

    return p != NULL && (p->status == 404 || p->status == 405 || p->type == ACME_MALFORMED);
}

/* ---- nonces ---- */

static struct err *head_nonce(struct acme_client *c, const char *url) MAY_SUSPEND;
static struct err *head_nonce(struct acme_client *c, const char *url)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    struct http_request request = {.method = "HEAD", .url = url};

    TRY_CTX(exchange(c, &request, &reply), "newNonce");
    if (!is_success(&reply))
        return err_context(acme_problem_from_reply(&reply, world_now(c->world)), "newNonce");
    const char *nonce = http_reply_header(&reply, "replay-nonce");
    if (!acme_nonce_ok(nonce))
        return ERR(ERR_PROTOCOL, "newNonce: the reply has %s Replay-Nonce header",
                nonce == NULL ? "no" : "an unusable");
    acme_nonces_give(&c->nonces, nonce);
    return NULL;
}

static struct err *fetch_nonce(void *arg) MAY_SUSPEND;
static struct err *fetch_nonce(void *arg)
{
    struct acme_client *c = ((struct fetch *)arg)->client;
    const struct acme_directory *d = NULL, *newer = NULL;

    TRY(acme_client_directory(c, &d));
    TRY(fiber_sleep(acme_nonces_pace(&c->nonces)));
    struct err *e = head_nonce(c, d->new_nonce);
    if (!unknown_url(e))
        return e;
    AUTO_ERR struct err *stale = newer_directory(c, d, &newer);
    if (stale != NULL || strcmp(newer->new_nonce, d->new_nonce) == 0)
        return e;
    err_free(e);
    return head_nonce(c, newer->new_nonce);
}

static void fetch_ended(void *arg, struct err *result)
{
    struct fetch *f = arg;
    struct acme_client *c = f->client;

    if (f->prev != NULL)
        f->prev->next = f->next;
    else
        c->fetches = f->next;
    if (f->next != NULL)
        f->next->prev = f->prev;
    free(f);
    c->nonces.fetching--;
    /* Whoever canceled this fiber did not mean those who wait: theirs is fetched anew. */
    if (result != NULL && !err_is(result, ERR_CANCELED))
        acme_nonces_failed(&c->nonces, result);
    else if (result != NULL)
        c->nonces.announced = 0;
    err_ignore(result, "those who wait for the nonce were told");
    nonces_wanted(c);
    unref(c);
}

static void nonces_wanted(void *arg)
{
    struct acme_client *c = arg;

    if (c->closed)
        return;
    for (size_t n = acme_nonces_missing(&c->nonces); n > 0; n--) {
        struct fetch *f = MEM_NEW(struct fetch);
        f->client = c;
        f->next = c->fetches;
        if (c->fetches != NULL)
            c->fetches->prev = f;
        c->fetches = f;
        c->refs++;
        c->nonces.fetching++;
        f->fiber = fiber_spawn(c->world->loop, "nonce", fetch_nonce, f, fetch_ended);
    }
}

void acme_client_want_nonces(struct acme_client *c, size_t n)
{
    acme_nonces_announce(&c->nonces, n);
}

/* ---- signed requests ---- */

static struct err *post(struct acme_client *c, const char *url, const struct acme_request *request,
        const char *nonce, struct http_reply *ret) MAY_SUSPEND;
static struct err *post(struct acme_client *c, const char *url, const struct acme_request *request,
        const char *nonce, struct http_reply *ret)
{
    AUTO_FREE char *body = NULL;
    const struct key_jws jws = {
            .url = url, .nonce = nonce, .kid = c->kid, .payload = request->payload};

    /* newAccount finds an account by its key even when one is set (RFC 8555 7.3.1). */
    struct key_jws signer = jws;
    if (request->url == NULL && request->resource == ACME_NEW_ACCOUNT)
        signer.kid = NULL;
    TRY(key_sign_jws(c->key, &signer, &body));
    struct http_request http = {
            .url = url,
            .body = body,
            .body_len = strlen(body),
            .headers = {{"Content-Type", "application/jose+json"}, {"Accept", request->accept}},
    };
    if (request->accept == NULL)
        http.headers[1].name = NULL;
    c->nonces.posts++;
    struct err *e = exchange(c, &http, ret);
    c->nonces.posts--;
    return e;
}

static struct err *check_type(const struct http_reply *reply, const char *accept)
{
    if (accept == NULL)
        return NULL; /* JSON proves itself when it is parsed */
    const char *type = http_reply_header(reply, "content-type");
    size_t len = type == NULL ? 0 : strcspn(type, "; \t");
    if (len == strlen(accept) && strncasecmp(type, accept, len) == 0)
        return NULL;
    AUTO_FREE char *shown = str_foreign(type == NULL ? "nothing" : type, 100);
    return ERR(ERR_PROTOCOL, "the reply is of type '%s' instead of '%s'", shown, accept);
}

static struct err *post_with_nonce(struct acme_client *c, const char *url,
        const struct acme_request *request, struct http_reply *ret) MAY_SUSPEND;
static struct err *post_with_nonce(struct acme_client *c, const char *url,
        const struct acme_request *request, struct http_reply *ret)
{
    AUTO_FREE char *fresh = NULL; /* from the badNonce reply */

    for (int refused = 0;; refused++) {
        AUTO_FREE char *nonce = STEAL(fresh);
        AUTO_HTTP_REPLY struct http_reply reply = {0};
        if (nonce == NULL)
            TRY(acme_nonces_take(&c->nonces, request->to_follow, &nonce));
        TRY(post(c, url, request, nonce, &reply));
        const char *next = http_reply_header(&reply, "replay-nonce");
        if (is_success(&reply)) {
            acme_nonces_give(&c->nonces, next);
            TRY(check_type(&reply, request->accept));
            *ret = reply;
            reply = (struct http_reply){0};
            return NULL;
        }
        struct err *e = acme_problem_from_reply(&reply, world_now(c->world));
        if (!is_problem(e, ACME_BAD_NONCE) || refused == BAD_NONCE_MAX) {
            acme_nonces_give(&c->nonces, next);
            return e;
        }
        err_free(e);
        fresh = acme_nonce_ok(next) ? str_dup(next) : NULL;
    }
}

static struct err *post_with_retries(struct acme_client *c, const char *url,
        const struct acme_request *request, struct http_reply *ret) MAY_SUSPEND;
static struct err *post_with_retries(struct acme_client *c, const char *url,
        const struct acme_request *request, struct http_reply *ret)
{
    unsigned tries = 0;

    for (;;) {
        struct err *e = post_with_nonce(c, url, request, ret);
        if (e == NULL || !try_again(&e, &tries, request->retries))
            return e;
    }
}

static struct err *send_to_resource(struct acme_client *c, const struct acme_request *request,
        struct http_reply *ret) MAY_SUSPEND;
static struct err *send_to_resource(
        struct acme_client *c, const struct acme_request *request, struct http_reply *ret)
{
    const struct acme_directory *d = NULL, *newer = NULL;

    TRY(acme_client_directory(c, &d));
    const char *url = resource_url(d, request->resource);
    struct err *e = post_with_retries(c, url, request, ret);
    if (!unknown_url(e))
        return e;
    AUTO_ERR struct err *stale = newer_directory(c, d, &newer);
    if (stale != NULL || strcmp(resource_url(newer, request->resource), url) == 0)
        return e;
    err_free(e);
    return post_with_retries(c, resource_url(newer, request->resource), request, ret);
}

struct err *acme_client_send(
        struct acme_client *c, const struct acme_request *request, struct http_reply *ret)
{
    assert(c->key != NULL);
    if (request->url == NULL)
        return send_to_resource(c, request, ret);
    TRY(acme_client_check_url(c, "the URL", request->url));
    return post_with_retries(c, request->url, request, ret);
}

struct err *acme_client_post(struct acme_client *c, const char *url, const char *payload,
        const char *accept, struct http_reply *ret)
{
    const struct acme_request request = {
            .url = url,
            .payload = payload,
            .accept = accept,
            .retries = payload == NULL ? ACME_RETRIES : 0,
    };

    return acme_client_send(c, &request, ret);
}
