/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrives, with its limits, and what callers read from it. A header is one allocation: the
 * name in lower case, NUL, the value; the pointer to the name owns it.
 */
#include <ctype.h>
#include <strings.h>

#include "base/http_private.h"

/* ---- what libcurl hands over ---- */

static void header_free(struct http_header *h)
{
    free((void *)(uintptr_t)h->name);
    *h = (struct http_header){0};
}

static void headers_free(struct http_reply *reply)
{
    for (size_t i = 0; i < reply->n_headers; i++)
        header_free(&reply->headers[i]);
    free(reply->headers);
    reply->headers = NULL;
    reply->n_headers = 0;
}

static struct http_header header_make(
        const char *name, size_t name_len, const char *value, size_t value_len)
{
    char *both = mem_zalloc(name_len + value_len + 2);

    for (size_t i = 0; i < name_len; i++)
        both[i] = (char)tolower((unsigned char)name[i]);
    memcpy(both + name_len + 1, value, value_len);
    return (struct http_header){.name = both, .value = both + name_len + 1};
}

static void trim(const char **text, size_t *len)
{
    while (*len > 0 && isspace((unsigned char)(*text)[*len - 1]))
        (*len)--;
    while (*len > 0 && isspace((unsigned char)**text)) {
        (*text)++;
        (*len)--;
    }
}

/* A line that begins with white space goes on with the value before it (RFC 9112 5.2: the fold
 * counts as a space). */
static void header_continue(struct http_reply *reply, const char *text, size_t len)
{
    if (reply->n_headers == 0)
        return;
    struct http_header *last = &reply->headers[reply->n_headers - 1];
    AUTO_FREE char *more = mem_dup(text, len);
    AUTO_FREE char *value = str_printf("%s %s", last->value, more);
    struct http_header longer = header_make(last->name, strlen(last->name), value, strlen(value));
    header_free(last);
    *last = longer;
}

static bool header_add(struct http_reply *reply, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);

    if (colon == NULL || colon == line)
        return true; /* not a header; libcurl has let it pass */
    if (reply->n_headers == HTTP_REPLY_HEADERS_MAX)
        return false;
    const char *value = colon + 1;
    size_t value_len = len - (size_t)(value - line);
    trim(&value, &value_len);
    reply->headers =
            mem_realloc_array(reply->headers, reply->n_headers + 1, sizeof(struct http_header));
    reply->headers[reply->n_headers++] =
            header_make(line, (size_t)(colon - line), value, value_len);
    return true;
}

/* "HTTP/1.1 301 …", "HTTP/2 200" */
static long status_of(const char *line, size_t len)
{
    const char *p = memchr(line, ' ', len);

    if (p == NULL || len - (size_t)(p - line) < 4)
        return 0;
    for (int i = 1; i <= 3; i++)
        if (!isdigit((unsigned char)p[i]))
            return 0;
    return (p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0');
}

/* One call per line. Each response begins anew (100-continue and the like come before the real
 * one); what comes after the empty line is a trailer and ignored. */
static bool take_line(struct http_transfer *t, const char *line, size_t len)
{
    bool folded = len > 0 && (line[0] == ' ' || line[0] == '\t');

    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        headers_free(t->reply);
        t->status = status_of(line, len);
        t->header_bytes = len;
        t->folded = 0;
        t->in_header = true;
        return true;
    }
    t->header_bytes += len;
    if (t->header_bytes > HTTP_REPLY_HEADER_MAX)
        return false;
    if (!t->in_header)
        return true;
    trim(&line, &len);
    if (len == 0) {
        t->in_header = false;
        return true;
    }
    if (folded) {
        /* Each copies the value so far, which adds up if there is no limit. */
        if (t->folded++ == HTTP_REPLY_HEADERS_MAX)
            return false;
        header_continue(t->reply, line, len);
        return true;
    }
    return header_add(t->reply, line, len);
}

size_t http_reply_on_header(char *data, size_t size, size_t n, void *arg)
{
    struct http_transfer *t = arg;

    if (take_line(t, data, size * n))
        return size * n;
    t->refused = HTTP_REFUSED_HEADER;
    return 0;
}

size_t http_reply_on_body(char *data, size_t size, size_t n, void *arg)
{
    struct http_transfer *t = arg;
    size_t len = size * n;

    if (t->follows && t->status / 100 == 3) {
        t->dropped += len;
        if (t->dropped <= HTTP_REDIRECT_BODY_MAX)
            return len;
        t->refused = HTTP_REFUSED_BODY;
        return 0;
    }
    if (len > t->max_body - t->reply->body.len) {
        t->refused = HTTP_REFUSED_BODY;
        return 0;
    }
    buf_append(&t->reply->body, data, len);
    return len;
}

/* ---- reading ---- */

void http_reply_done(struct http_reply *reply)
{
    headers_free(reply);
    free(reply->effective_url);
    buf_done(&reply->body);
    *reply = (struct http_reply){0};
}

const char *http_reply_header(const struct http_reply *reply, const char *name)
{
    for (size_t i = 0; i < reply->n_headers; i++)
        if (strcmp(reply->headers[i].name, name) == 0)
            return reply->headers[i].value;
    return NULL;
}

/* Digits alone; what is beyond any date counts as "very long". */
static bool parse_seconds(const char *text, int64_t *ret_ms)
{
    unsigned long long seconds = 0;

    if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
        return false;
    if (!str_to_u64(text, INT64_MAX / 1000, &seconds))
        seconds = INT64_MAX / 1000;
    *ret_ms = (int64_t)seconds * 1000;
    return true;
}

bool http_retry_after(
        const struct http_reply *reply, struct wall now, int64_t max_ms, struct wall *ret)
{
    const char *text = http_reply_header(reply, "retry-after");
    struct wall when;
    int64_t ms;

    if (text == NULL)
        return false;
    if (!parse_seconds(text, &ms)) {
        if (!wall_parse_http(text, &when))
            return false;
        ms = wall_diff(when, now);
    }
    if (ms > max_ms)
        ms = max_ms;
    if (ms < CLOCK_SEC)
        ms = CLOCK_SEC;
    *ret = wall_add(now, ms);
    return true;
}

/* ---- Link (RFC 8288 3) ---- */

/* A token or a quoted string; moves *p behind it. Owned. */
static char *parse_word(const char **p)
{
    AUTO_BUF struct buf word = BUF_INIT(HTTP_REPLY_HEADER_MAX);
    const char *s = *p;

    if (*s == '"') {
        for (s++; *s != '\0' && *s != '"'; s++) {
            if (*s == '\\' && s[1] != '\0')
                s++;
            buf_putc(&word, *s);
        }
        if (*s == '"')
            s++;
    } else {
        size_t len = strcspn(s, " \t,;=\"");
        buf_append(&word, s, len);
        s += len;
    }
    *p = s;
    return buf_steal(&word);
}

static bool words_have(const char *words, const char *wanted)
{
    size_t len = strlen(wanted);

    for (const char *p = words; *p != '\0';) {
        p += strspn(p, " \t");
        size_t n = strcspn(p, " \t");
        if (n == len && strncasecmp(p, wanted, len) == 0)
            return true;
        p += n;
    }
    return false;
}

/* The parameters of one link, up to its comma; is one of them this relation? */
static bool parse_params(const char **p, const char *rel)
{
    bool found = false;
    const char *s = *p;

    for (;;) {
        s += strspn(s, " \t");
        if (*s != ';')
            break;
        s++;
        s += strspn(s, " \t");
        AUTO_FREE char *name = parse_word(&s);
        s += strspn(s, " \t");
        if (*s != '=')
            continue;
        s++;
        s += strspn(s, " \t");
        AUTO_FREE char *value = parse_word(&s);
        found = found || (strcasecmp(name, "rel") == 0 && words_have(value, rel));
    }
    *p = s;
    return found;
}

static void parse_links(const char *s, const char *rel, struct strv *found)
{
    for (;;) {
        s += strspn(s, " \t,");
        const char *end = *s == '<' ? strchr(s, '>') : NULL;
        if (end == NULL)
            return;
        const char *target = s + 1;
        s = end + 1;
        if (parse_params(&s, rel))
            strv_take(found, mem_dup(target, (size_t)(end - target)));
        s += strspn(s, " \t");
        if (*s != ',')
            return;
    }
}

void http_reply_links(const struct http_reply *reply, const char *rel, struct strv *ret)
{
    for (size_t i = 0; i < reply->n_headers; i++)
        if (strcmp(reply->headers[i].name, "link") == 0)
            parse_links(reply->headers[i].value, rel, ret);
}

char *http_reply_link(const struct http_reply *reply, const char *rel)
{
    AUTO_STRV struct strv found = {0};

    http_reply_links(reply, rel, &found);
    return found.n > 0 ? STEAL(found.v[0]) : NULL;
}
