/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STARTTLS of XMPP (RFC 6120 5.4): stream header, <features/>, <starttls/>, <proceed/>.
 *
 * The scanner understands as much of XML as that dialogue may contain: tags, attributes and text;
 * no comments, no document types, no CDATA (RFC 6120 11.1 forbids the first two). Start and end
 * tags must match. Names are compared without their prefix and namespaces are not looked at: what
 * is told apart here (features, error, starttls, proceed, failure) differs by local name. All of
 * the server's bytes together are limited.
 */
#include <ctype.h>

#include "base/tls_private.h"

#define BYTES_MAX ((size_t)16 * 1024)
#define DEPTH_MAX 16
#define TAG_MAX   48

struct dialogue {
    struct net_stream *stream;
    const struct tls_probe_request *request;
    char peer[ADDR_TEXT_MAX];
    struct buf in; /* everything received */
    size_t at;     /* scanned up to here */
};

static void dialogue_done(struct dialogue *d)
{
    buf_done(&d->in);
}

enum tag_kind { TAG_START, TAG_END, TAG_EMPTY };

struct tag {
    enum tag_kind kind;
    char name[TAG_MAX]; /* without the prefix */
};

/* One child of the stream. */
struct element {
    char name[TAG_MAX];
    char first[TAG_MAX]; /* its first child, or "" */
    bool has_starttls;   /* among its children */
};

/* ---- scanner ---- */

enum scan { SCAN_TAG, SCAN_MORE, SCAN_BAD };

/* The '>' that ends a tag; those in quotes don't. */
static const char *tag_end(const char *p, const char *end)
{
    char quote = '\0';

    for (; p < end; p++) {
        if (quote != '\0')
            quote = *p == quote ? '\0' : quote;
        else if (*p == '"' || *p == '\'')
            quote = *p;
        else if (*p == '>')
            return p;
    }
    return NULL;
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.' || c == ':';
}

static bool parse_tag(const char *p, const char *close, struct tag *ret)
{
    bool ends = *p == '/';
    const char *name = ends ? ++p : p;

    while (p < close && is_name_char(*p)) {
        if (*p == ':')
            name = p + 1;
        p++;
    }
    size_t len = (size_t)(p - name);
    if (len == 0 || len >= TAG_MAX || (p < close && *p != '/' && !isspace((unsigned char)*p)))
        return false;
    memcpy(ret->name, name, len);
    ret->name[len] = '\0';
    ret->kind = ends ? TAG_END : close[-1] == '/' ? TAG_EMPTY : TAG_START;
    return true;
}

static enum scan scan_tag(const struct buf *in, size_t *at, struct tag *ret)
{
    const char *end = buf_str(in) + in->len; /* data is NULL before the first byte */

    for (;;) {
        const char *p = in->len > *at ? memchr(in->data + *at, '<', in->len - *at) : NULL;
        const char *close = p != NULL ? tag_end(p, end) : NULL;
        if (close == NULL)
            return SCAN_MORE;
        *at = (size_t)(close + 1 - in->data);
        p++;
        if (*p == '?')
            continue; /* the XML declaration */
        if (*p == '!' || !parse_tag(p, close, ret))
            return SCAN_BAD;
        return SCAN_TAG;
    }
}

/* ---- reading ---- */

static struct err *receive(struct dialogue *d) MAY_SUSPEND;
static struct err *next_tag(struct dialogue *d, struct tag *ret) MAY_SUSPEND;
static struct err *read_element(struct dialogue *d, struct element *ret) MAY_SUSPEND;

static struct err *receive(struct dialogue *d)
{
    char data[2048];
    size_t n = 0;

    TRY(net_read(d->stream, data, sizeof(data), &n));
    if (n == 0)
        return tls_fail(ERR_FROM(ERR_RETRY, ERR_FROM_UV, UV_EOF,
                                "%s: closed the connection before TLS", d->peer),
                TLS_FAILURE_CLOSED);
    buf_append(&d->in, data, n);
    return buf_check(&d->in, "%s: what it sends before TLS", d->peer);
}

static struct err *next_tag(struct dialogue *d, struct tag *ret)
{
    for (;;) {
        enum scan scan = scan_tag(&d->in, &d->at, ret);
        if (scan == SCAN_TAG)
            return NULL;
        if (scan == SCAN_BAD) {
            AUTO_FREE char *shown = str_foreign(buf_str(&d->in), 60);
            return ERR(ERR_PROTOCOL, "%s: does not speak XMPP: %s", d->peer, shown);
        }
        TRY(receive(d));
    }
}

static struct err *read_element(struct dialogue *d, struct element *ret)
{
    char open[DEPTH_MAX][TAG_MAX];
    size_t depth = 0;
    struct tag tag;

    *ret = (struct element){0};
    do {
        TRY(next_tag(d, &tag));
        if (tag.kind == TAG_END && depth == 0)
            return tls_fail(ERR(ERR_RETRY, "%s: closed the stream before TLS", d->peer),
                    TLS_FAILURE_CLOSED);
        if (tag.kind == TAG_END) {
            depth--;
            if (strcmp(open[depth], tag.name) != 0)
                return ERR(ERR_PROTOCOL, "%s: sends XML that is not well-formed: <%s> … </%s>",
                        d->peer, open[depth], tag.name);
            continue;
        }
        if (depth == 0)
            memcpy(ret->name, tag.name, TAG_MAX);
        if (depth == 1 && ret->first[0] == '\0')
            memcpy(ret->first, tag.name, TAG_MAX);
        if (depth == 1 && strcmp(tag.name, "starttls") == 0)
            ret->has_starttls = true;
        if (tag.kind == TAG_START && depth == DEPTH_MAX)
            return ERR(ERR_PROTOCOL, "%s: sends XML nested deeper than %d", d->peer, DEPTH_MAX);
        if (tag.kind == TAG_START)
            memcpy(open[depth++], tag.name, TAG_MAX);
    } while (depth > 0);
    return NULL;
}

/* ---- the dialogue ---- */

static void put_escaped(struct buf *b, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            buf_puts(b, "&amp;");
            break;
        case '<':
            buf_puts(b, "&lt;");
            break;
        case '>':
            buf_puts(b, "&gt;");
            break;
        case '\'':
            buf_puts(b, "&apos;");
            break;
        case '"':
            buf_puts(b, "&quot;");
            break;
        default:
            buf_putc(b, *text);
        }
    }
}

static struct err *stream_error(const struct dialogue *d, const char *condition)
{
    const char *to = d->request->stream_to;

    if (strcmp(condition, "host-unknown") == 0)
        return tls_fail(
                err_advise(ERR(ERR_CONFIG, "%s: does not serve %s (host-unknown)", d->peer, to),
                        "add %s to the XMPP server's hosts, or take it out here", to),
                TLS_FAILURE_HOST_UNKNOWN);
    return tls_fail(ERR(ERR_PROTOCOL, "%s: answers the stream to %s with the error %s", d->peer, to,
                            condition[0] != '\0' ? condition : "without a name"),
            TLS_FAILURE_STREAM);
}

static struct err *send_header(struct dialogue *d) MAY_SUSPEND;
static struct err *await_features(struct dialogue *d) MAY_SUSPEND;
static struct err *await_proceed(struct dialogue *d) MAY_SUSPEND;

static struct err *send_header(struct dialogue *d)
{
    AUTO_BUF struct buf out = BUF_INIT(8192);

    buf_printf(&out,
            "<?xml version='1.0'?><stream:stream xmlns='%s' "
            "xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='",
            d->request->start == TLS_STARTTLS_C2S ? "jabber:client" : "jabber:server");
    put_escaped(&out, d->request->stream_to);
    buf_puts(&out, "'>");
    TRY(buf_check(&out, "the stream header"));
    return net_write(d->stream, out.data, out.len);
}

static struct err *await_features(struct dialogue *d)
{
    struct tag header;
    struct element element;

    TRY(next_tag(d, &header));
    if (header.kind != TAG_START || strcmp(header.name, "stream") != 0)
        return ERR(ERR_PROTOCOL, "%s: begins with <%s>, expected <stream:stream>", d->peer,
                header.name);
    TRY(read_element(d, &element));
    if (strcmp(element.name, "error") == 0)
        return stream_error(d, element.first);
    if (strcmp(element.name, "features") != 0)
        return ERR(
                ERR_PROTOCOL, "%s: sends <%s>, expected <stream:features>", d->peer, element.name);
    if (!element.has_starttls)
        return tls_fail(err_advise(ERR(ERR_CONFIG, "%s: offers no STARTTLS to %s", d->peer,
                                           d->request->stream_to),
                                "switch STARTTLS on for that port of the XMPP server"),
                TLS_FAILURE_NO_STARTTLS);
    return NULL;
}

static struct err *await_proceed(struct dialogue *d)
{
    static const char starttls[] = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    struct element element;

    TRY(net_write(d->stream, starttls, sizeof(starttls) - 1));
    TRY(read_element(d, &element));
    if (strcmp(element.name, "error") == 0)
        return stream_error(d, element.first);
    if (strcmp(element.name, "failure") == 0)
        return tls_fail(
                err_advise(ERR(ERR_DENIED, "%s: offers STARTTLS to %s and then refuses it", d->peer,
                                   d->request->stream_to),
                        "look into the XMPP server's log: it has no usable certificate for %s",
                        d->request->stream_to),
                TLS_FAILURE_REFUSED);
    if (strcmp(element.name, "proceed") != 0)
        return ERR(ERR_PROTOCOL, "%s: sends <%s>, expected <proceed>", d->peer, element.name);
    /* Whatever came along in clear would be taken for part of the protected stream. */
    if (d->at != d->in.len)
        return ERR(ERR_PROTOCOL, "%s: sends more in clear after <proceed>", d->peer);
    return NULL;
}

struct err *tls_xmpp_start(struct net_stream *stream, const struct tls_probe_request *request)
{
    AUTO(dialogue_done)
    struct dialogue d = {.stream = stream, .request = request, .in = BUF_INIT(BYTES_MAX)};

    addr_format(&request->to, d.peer);
    TRY(send_header(&d));
    TRY(await_features(&d));
    return await_proceed(&d);
}
