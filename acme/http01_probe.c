/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe: is what answers for this name at this address us? It costs no CA request, and its
 * sentence is what the operator reads when the answer is no, so it says what was found and, where
 * the pattern is a known one, what that usually means.
 */
#include "acme/base64url.h"
#include "acme/http01_private.h"

#define HTTP_PORT   80
#define TOTAL_MS    (10 * CLOCK_SEC)
#define CONNECT_MS  (5 * CLOCK_SEC)
#define REMOVE_MS   (10 * CLOCK_SEC)
#define BODY_MAX    ((size_t)64 * 1024)
#define SHOWN_MAX   60
#define RANDOM_SIZE 32

struct probe {
    struct http01 *h;
    const struct name *name;
    struct addr at;
    char *token;
    char *answer;
    char *url;
    char where[ADDR_TEXT_MAX]; /* the address without port */
};

static void probe_done(struct probe *p)
{
    free(p->token);
    free(p->answer);
    free(p->url);
}

void http01_probe_result_done(struct http01_probe_result *result)
{
    free(result->detail);
    *result = (struct http01_probe_result){0};
}

static char *random_text(struct world *world)
{
    uint8_t octets[RANDOM_SIZE];
    world_random(world, octets, sizeof(octets));
    return base64url_encode(octets, sizeof(octets));
}

static void probe_init(
        struct probe *p, struct http01 *h, const struct name *name, const struct addr *at)
{
    AUTO_FREE char *secret_half = random_text(h->world);
    *p = (struct probe){.h = h, .name = name, .at = *at, .token = random_text(h->world)};
    p->answer = str_printf("%s.%s", p->token, secret_half);
    p->url = str_printf("http://%s" HTTP01_PATH "%s", name->text, p->token);
    if (addr_port(&p->at) == 0)
        addr_set_port(&p->at, HTTP_PORT);
    addr_format_ip(&p->at, p->where);
}

/* ---- what the answer means ---- */

/* Validators pass over white space at the end (RFC 8555 8.3). */
static bool is_our_answer(const struct probe *p, const struct http_reply *reply)
{
    size_t len = reply->body.len, wanted = strlen(p->answer);
    if (reply->status != 200)
        return false;
    while (len > wanted && strchr(" \t\r\n", reply->body.data[len - 1]) != NULL)
        len--;
    return len == wanted && memcmp(reply->body.data, p->answer, wanted) == 0;
}

static bool is_html(const struct http_reply *reply)
{
    const char *type = http_reply_header(reply, "content-type");
    if (type != NULL && str_starts(type, "text/html"))
        return true;
    const char *at = buf_str(&reply->body);
    at += strspn(at, " \t\r\n");
    return strncasecmp(at, "<!doctype html", 14) == 0 || strncasecmp(at, "<html", 5) == 0;
}

static bool was_redirected(const struct probe *p, const struct http_reply *reply)
{
    return reply->effective_url != NULL && strcmp(reply->effective_url, p->url) != 0;
}

/* What is usually behind it; NULL: no idea. */
static const char *explain(const struct probe *p, const struct http_reply *reply)
{
    size_t token_len = strlen(p->token);
    if (reply->status == 200 && strncmp(buf_str(&reply->body), p->token, token_len) == 0)
        return "that is the answer of another ACME client";
    if (reply->status == 403)
        return "the web server may not read the token's file";
    if (is_html(reply) && reply->status == 200)
        return "that is a web page: another site answers for this name";
    if (reply->status == 404)
        return p->h->token_dir != NULL
                       ? "another web server, virtual host or directory answers there"
                       : "another web server answers there, not certherd's responder";
    if (reply->status >= 500)
        return "the web server or the one behind it is in trouble";
    return NULL;
}

/* What a reader recognises a page by: its title. The whole, where it has none. */
static void page_title(const struct http_reply *reply, const char **ret, size_t *ret_len)
{
    const char *body = buf_str(&reply->body), *begin = strcasestr(body, "<title>");
    const char *end = begin != NULL ? strcasestr(begin, "</title>") : NULL;
    *ret = end != NULL ? begin + strlen("<title>") : body;
    *ret_len = end != NULL ? (size_t)(end - *ret) : reply->body.len;
}

static void put_body(struct buf *text, const struct http_reply *reply)
{
    const char *shown = reply->body.data;
    size_t len = reply->body.len;
    if (is_html(reply))
        page_title(reply, &shown, &len);
    while (len > 0 && strchr(" \t\r\n", shown[len - 1]) != NULL)
        len--;
    if (len == 0)
        return;
    buf_printf(text, " with %s\"", shown != reply->body.data ? "the page " : "");
    buf_put_foreign(text, shown, len, SHOWN_MAX);
    buf_puts(text, "\"");
}

static char *describe(const struct probe *p, const struct http_reply *reply)
{
    AUTO_BUF struct buf text = BUF_INIT(4096);
    buf_printf(&text, "%s at %s port %u: expected our token, found HTTP status %ld", p->name->text,
            p->where, addr_port(&p->at), reply->status);
    put_body(&text, reply);
    if (was_redirected(p, reply)) {
        buf_puts(&text, " after a redirect to ");
        buf_put_foreign(&text, reply->effective_url, strlen(reply->effective_url), 200);
    }
    const char *meaning = explain(p, reply);
    if (meaning != NULL)
        buf_printf(&text, "; %s", meaning);
    return buf_steal(&text);
}

static void judge_reply(
        const struct probe *p, const struct http_reply *reply, struct http01_probe_result *ret)
{
    ret->status = reply->status;
    ret->peer = reply->peer;
    if (is_our_answer(p, reply)) {
        ret->verdict = HTTP01_PROBE_OK;
        ret->detail = str_printf("%s at %s port %u: our token came back%s", p->name->text, p->where,
                addr_port(&p->at), was_redirected(p, reply) ? " after a redirect" : "");
        return;
    }
    ret->verdict = HTTP01_PROBE_OTHER;
    ret->detail = describe(p, reply);
}

/* The sentence begins with the name; the client's text does so too. */
static const char *without_name(const struct probe *p, const char *text)
{
    size_t len = strlen(p->name->text);
    return strncmp(text, p->name->text, len) == 0 && strncmp(text + len, ": ", 2) == 0
                   ? text + len + 2
                   : text;
}

/* A transport error. Consumes e. Returned are only faults of our own and being canceled. */
static struct err *judge_error(
        const struct probe *p, struct err *e, struct http01_probe_result *ret)
{
    enum err_kind kind = err_kind(e);
    if (kind == ERR_LOCAL || kind == ERR_NOMEM || kind == ERR_CANCELED)
        return e;
    bool answered = kind == ERR_PROTOCOL || kind == ERR_CONFIG;
    ret->verdict = answered ? HTTP01_PROBE_OTHER : HTTP01_PROBE_UNREACHABLE;
    ret->detail = str_printf("%s at %s port %u: expected our token, %s: %s", p->name->text,
            p->where, addr_port(&p->at), answered ? "found something else" : "no answer",
            without_name(p, err_text(e)));
    err_free(e);
    return NULL;
}

/* ---- the flow ---- */

static struct err *fetch(const struct probe *p, struct http01_probe_result *ret) MAY_SUSPEND;
static struct err *fetch(const struct probe *p, struct http01_probe_result *ret)
{
    const struct http_request request = {.url = p->url,
            .max_body = BODY_MAX,
            .connect_ms = CONNECT_MS,
            .total_ms = TOTAL_MS,
            .redirects = HTTP_REDIRECT_LIKE_CA,
            .allow_http = true,
            .connect_to = &p->at};
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    struct err *e = world_http(p->h->world, NULL, &request, &reply);
    if (e == NULL) {
        judge_reply(p, &reply, ret);
        return NULL;
    }
    struct err *stop = fiber_check();
    if (stop != NULL) {
        err_free(e);
        return stop;
    }
    return judge_error(p, e, ret);
}

static struct err *withdraw(const struct probe *p) MAY_SUSPEND;
static struct err *withdraw(const struct probe *p)
{
    FIBER_SHIELD(REMOVE_MS);
    return http01_remove(p->h, p->token);
}

struct err *http01_probe(struct http01 *h, const struct name *name, const struct addr *at,
        struct http01_probe_result *ret)
{
    AUTO(probe_done) struct probe p;
    probe_init(&p, h, name, at);
    AUTO(http01_probe_result_done) struct http01_probe_result result = {0};
    struct err *e = http01_present(h, p.token, p.answer);
    if (e == NULL)
        e = fetch(&p, &result);
    e = err_first(e, withdraw(&p));
    if (e != NULL)
        return err_context(e, "the probe of %s", name->text);
    log_debug("http01_probe", result.detail, LOG_STR("name", name->text),
            LOG_STR("address", p.where), LOG_INT("status", result.status));
    *ret = result;
    result = (struct http01_probe_result){0};
    return NULL;
}
