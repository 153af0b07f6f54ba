/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request: check the URL, set up the easy handle, wait, turn what happened into a reply or an
 * error. Redirects are followed here, hop by hop, and not by libcurl: so each target is judged
 * before a connection is opened to it, and credentials stay with the host they were given for.
 */
#include "base/http.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <strings.h>

#include "base/http_private.h"

#define MAX_BODY   ((size_t)64 * 1024)
#define CONNECT_MS (10 * CLOCK_SEC)
#define STALL_MS   (30 * CLOCK_SEC)
#define TOTAL_MS   (60 * CLOCK_SEC)

DEFINE_FREEP(CURLU, curl_url_cleanup)

/* Where one hop goes, taken apart. */
struct target {
    const char *url;
    char *scheme;
    char *host; /* IPv6 in brackets */
    uint16_t port;
};

static void target_done(struct target *t)
{
    free(t->scheme);
    free(t->host);
    *t = (struct target){0};
}

/* All of libcurl's objects that one transfer needs. */
struct setup {
    CURL *easy;
    struct curl_slist *headers;
    struct curl_slist *connect_to;
};

static void setup_done(struct setup *s)
{
    curl_easy_cleanup(s->easy);
    for (struct curl_slist *h = s->headers; h != NULL; h = h->next)
        OPENSSL_cleanse(h->data, strlen(h->data)); /* one of them may be the authorization */
    curl_slist_free_all(s->headers);
    curl_slist_free_all(s->connect_to);
}

/* ---- URL ---- */

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
    char *text = NULL;

    if (curl_url_get(u, part, &text, flags) != CURLUE_OK)
        return NULL;
    char *copy = str_dup(text);
    curl_free(text);
    return copy;
}

static struct err *target_parse(const char *url, struct target *ret)
{
    AUTO(curl_url_cleanupp) CURLU *u = curl_url();
    AUTO_FREE char *shown = str_foreign(url, 200);

    if (u == NULL)
        mem_fail(0);
    CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME);
    if (rc != CURLUE_OK)
        return ERR_FROM(
                ERR_CONFIG, ERR_FROM_CURL, (long)rc, "URL '%s': %s", shown, curl_url_strerror(rc));
    AUTO_FREE char *user = url_part(u, CURLUPART_USER, 0);
    AUTO_FREE char *host = url_part(u, CURLUPART_HOST, 0);
    AUTO_FREE char *port = url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    unsigned long long number = 0;
    if (user != NULL)
        return ERR(ERR_CONFIG, "URL of '%s': a user name in it is not allowed",
                host != NULL ? host : "?");
    if (host == NULL || port == NULL || !str_to_u64(port, 65535, &number))
        return ERR(ERR_CONFIG, "URL '%s': not https://host[:port]/…", shown);
    *ret = (struct target){.url = url,
            .scheme = url_part(u, CURLUPART_SCHEME, 0),
            .host = STEAL(host),
            .port = (uint16_t)number};
    return NULL;
}

static bool is_http(const struct target *t)
{
    return strcasecmp(t->scheme, "http") == 0;
}

static struct err *target_check(const struct target *t, const struct http_request *request)
{
    bool http_ok = request->allow_http || request->redirects == HTTP_REDIRECT_LIKE_CA;

    if (strcasecmp(t->scheme, "https") == 0 || (http_ok && is_http(t)))
        return NULL;
    return ERR(ERR_CONFIG, "%s: the URL begins with '%s://', allowed is %s", t->host, t->scheme,
            http_ok ? "https:// or http://" : "https:// alone");
}

/* What an ACME validator would not follow, we don't either: other schemes and ports, and addresses
 * in place of names (Let's Encrypt, va/http.go). */
static struct err *target_check_redirect(const struct target *t)
{
    struct in_addr in;

    if (strcasecmp(t->scheme, "https") != 0 && !is_http(t))
        return ERR(ERR_CONFIG, "redirect to %s://%s: only http and https are followed", t->scheme,
                t->host);
    if (t->port != 80 && t->port != 443)
        return ERR(ERR_CONFIG, "redirect to %s port %u: only ports 80 and 443 are followed",
                t->host, (unsigned)t->port);
    if (t->host[0] == '[' || inet_pton(AF_INET, t->host, &in) == 1)
        return ERR(ERR_CONFIG, "redirect to the address %s: only to names is followed", t->host);
    return NULL;
}

/* ---- headers of the request ---- */

static void slist_add(struct curl_slist **list, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*list, line);

    if (longer == NULL)
        mem_fail(strlen(line));
    *list = longer;
}

static struct err *header_add(struct setup *s, const char *name, const char *value)
{
    AUTO(buf_done) struct buf line = BUF_INIT_SECRET(HTTP_REPLY_HEADER_MAX);

    if (name[0] == '\0' || strpbrk(name, " \t\r\n:;") != NULL)
        return ERR(ERR_CONFIG, "'%s' is not the name of an HTTP header", name);
    if (strpbrk(value, "\r\n") != NULL)
        return ERR(ERR_CONFIG, "the value of the HTTP header %s has a line break", name);
    /* libcurl takes "Name:" for "leave it out" and "Name;" for an empty value. */
    if (value[0] == '\0')
        buf_printf(&line, "%s;", name);
    else
        buf_printf(&line, "%s: %s", name, value);
    TRY(buf_check(&line, "the HTTP header %s", name));
    slist_add(&s->headers, line.data);
    return NULL;
}

static struct err *add_basic(struct setup *s, const struct http_request *request)
{
    AUTO(buf_done) struct buf plain = BUF_INIT_SECRET(4096);
    AUTO(buf_done) struct buf value = BUF_INIT_SECRET(8192);
    unsigned char coded[4 * 4096 / 3 + 8];

    if (strchr(request->basic_user, ':') != NULL)
        return ERR(ERR_CONFIG, "a user name with ':' can't log in by HTTP: %s",
                request->basic_user); /* RFC 7617 2 */
    buf_printf(&plain, "%s:", request->basic_user);
    if (request->basic_password != NULL) {
        size_t len;
        const char *password = secret_reveal(request->basic_password, &len);
        buf_append(&plain, password, len);
    }
    TRY(buf_check(&plain, "user name and password"));
    EVP_EncodeBlock(coded, (const unsigned char *)plain.data, (int)plain.len);
    buf_printf(&value, "Basic %s", (const char *)coded);
    OPENSSL_cleanse(coded, sizeof(coded));
    return header_add(s, "Authorization", buf_str(&value));
}

static struct err *add_bearer(struct setup *s, const struct http_request *request)
{
    AUTO(buf_done) struct buf value = BUF_INIT_SECRET(HTTP_REPLY_HEADER_MAX);

    buf_printf(&value, "Bearer %s", secret_reveal(request->bearer, NULL));
    TRY(buf_check(&value, "the bearer token"));
    return header_add(s, "Authorization", buf_str(&value));
}

static struct err *add_headers(struct setup *s, const struct http_request *request, bool own_host)
{
    bool typed = false;

    for (size_t i = 0; i < HTTP_HEADERS_MAX && request->headers[i].name != NULL; i++) {
        const struct http_header *h = &request->headers[i];
        typed = typed || strcasecmp(h->name, "Content-Type") == 0;
        if (own_host || strcasecmp(h->name, "Authorization") != 0)
            TRY(header_add(s, h->name, h->value));
    }
    if (!typed)
        slist_add(&s->headers, "Content-Type:"); /* libcurl would call it a form */
    slist_add(&s->headers, "Expect:");
    if (own_host && request->basic_user != NULL)
        TRY(add_basic(s, request));
    if (own_host && request->bearer != NULL)
        TRY(add_bearer(s, request));
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->headers);
    return NULL;
}

/* ---- options of the transfer ---- */

static void set_method(CURL *easy, const struct http_request *request)
{
    bool body = request->body != NULL;
    const char *method = request->method != NULL ? request->method : body ? "POST" : "GET";

    if (strcmp(method, "GET") == 0 && !body) {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        return;
    }
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (body || strcmp(method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body ? request->body : "");
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    }
    if (strcmp(method, "POST") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

static void set_limits(CURL *easy, const struct http_request *request, int64_t left_ms)
{
    int64_t stall = request->stall_ms > 0 ? request->stall_ms : STALL_MS;
    int64_t connect = request->connect_ms > 0 ? request->connect_ms : CONNECT_MS;

    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(left_ms > 0 ? left_ms : 1));
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)((stall + CLOCK_SEC - 1) / CLOCK_SEC));
}

static void set_tls(
        CURL *easy, const struct http_client *client, const struct http_request *request)
{
    bool check = !request->insecure && request->redirects == HTTP_REDIRECT_NONE;

    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, check ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, check ? 2L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* libcurl keeps the parsed bundle in the multi handle only if there is no directory too:
     * without that each connection costs 20 ms of parsing. */
    if (client->ca_bundle != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_bundle);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 3600L);
    }
}

/* "::ADDRESS:PORT": whatever the host and port. Not CURLOPT_RESOLVE, whose entries stay in the DNS
 * cache that other requests use. */
static void set_connect_to(struct setup *s, const struct addr *to, uint16_t port)
{
    char ip[ADDR_TEXT_MAX];
    bool v6 = addr_family(to) == AF_INET6;

    addr_format_ip(to, ip);
    AUTO_FREE char *line =
            str_printf("::%s%s%s:%u", v6 ? "[" : "", ip, v6 ? "]" : "", (unsigned)port);
    slist_add(&s->connect_to, line);
    curl_easy_setopt(s->easy, CURLOPT_CONNECT_TO, s->connect_to);
}

static void set_route(struct setup *s, const struct http_request *request,
        const struct target *target, const struct target *first)
{
    CURL *easy = s->easy;
    bool probe = request->redirects == HTTP_REDIRECT_LIKE_CA || request->family != AF_UNSPEC;

    curl_easy_setopt(easy, CURLOPT_IPRESOLVE,
            request->family == AF_INET    ? (long)CURL_IPRESOLVE_V4
            : request->family == AF_INET6 ? (long)CURL_IPRESOLVE_V6
                                          : (long)CURL_IPRESOLVE_WHATEVER);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* nothing from the environment */
    if (request->unix_socket != NULL)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
    else if (request->connect_to != NULL && strcasecmp(target->host, first->host) == 0)
        set_connect_to(s, request->connect_to,
                target->port == first->port ? addr_port(request->connect_to) : target->port);
    /* A probe asks what is so now: no address and no connection from before. */
    if (probe) {
        curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }
}

static void set_protocol(CURL *easy, const struct target *target)
{
    curl_easy_setopt(easy, CURLOPT_URL, target->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, is_http(target) ? "http" : "https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Else taking a transfer away while its host is being resolved blocks the loop until
     * getaddrinfo() returns. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    if (is_http(target)) {
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    } else {
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); /* rather wait for a stream than connect */
    }
}

static void set_callbacks(CURL *easy, struct http_transfer *transfer)
{
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error_text);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, http_reply_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, http_reply_on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
}

/* ---- what went wrong ---- */

static enum err_kind kind_of(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERR_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_URL_MALFORMAT:
        return ERR_CONFIG;
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 is reported as this */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_WRITE_ERROR:
    case CURLE_FILESIZE_EXCEEDED:
        return ERR_PROTOCOL;
    case CURLE_FAILED_INIT:
        return ERR_LOCAL;
    default:
        return ERR_RETRY;
    }
}

static struct err *certificate_error(const struct http_client *client,
        const struct http_transfer *transfer, const char *peer, const char *reason)
{
    const char *bundle = client->ca_bundle != NULL ? client->ca_bundle : "the system's store";
    long verify = 0;

    curl_easy_getinfo(transfer->easy, CURLINFO_SSL_VERIFYRESULT, &verify);
    struct err *e = ERR_FROM(ERR_CONFIG, ERR_FROM_CURL, (long)transfer->result,
            "%s: its certificate is not accepted (CA bundle %s): %s", peer, bundle, reason);
    if (verify == X509_V_ERR_CERT_HAS_EXPIRED || verify == X509_V_ERR_CERT_NOT_YET_VALID)
        return err_advise(e, "check the clock of this machine and the certificate of %s", peer);
    /* The chain's own result is not filled in when it was the name that failed. */
    if ((verify == X509_V_OK || verify == X509_V_ERR_UNSPECIFIED) &&
            transfer->result == CURLE_PEER_FAILED_VERIFICATION)
        return err_advise(e, "check the host name in the URL and the certificate of %s", peer);
    return err_advise(e, "check the CA bundle %s: it must have the root of %s", bundle, peer);
}

static struct err *transfer_error(
        const struct http_client *client, const struct http_transfer *transfer, const char *peer)
{
    CURLcode code = transfer->result;
    const char *reason =
            transfer->error_text[0] != '\0' ? transfer->error_text : curl_easy_strerror(code);
    long os = 0;

    if (transfer->refused == HTTP_REFUSED_HEADER)
        return ERR_FROM(ERR_PROTOCOL, ERR_FROM_CURL, (long)code,
                "%s: the header of its reply is larger than %zu bytes or has more than %d lines",
                peer, HTTP_REPLY_HEADER_MAX, HTTP_REPLY_HEADERS_MAX);
    if (transfer->refused == HTTP_REFUSED_BODY)
        return ERR_FROM(ERR_PROTOCOL, ERR_FROM_CURL, (long)code,
                "%s: its reply is larger than %zu bytes", peer, transfer->max_body);
    if (code == CURLE_OUT_OF_MEMORY)
        return err_nomem();
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return certificate_error(client, transfer, peer, reason);
    curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &os);
    if (code == CURLE_COULDNT_CONNECT && os != 0)
        return ERR_FROM(ERR_RETRY, ERR_FROM_CURL, (long)code, "%s: can't connect: %s", peer,
                strerror((int)os));
    return ERR_FROM(kind_of(code), ERR_FROM_CURL, (long)code, "%s: %s", peer, reason);
}

/* ---- one hop ---- */

static void read_info(CURL *easy, struct http_reply *reply)
{
    const char *text = NULL;
    long number = 0;

    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &reply->status);
    if (curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &text) == CURLE_OK && text != NULL)
        reply->effective_url = str_dup(text);
    curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &number);
    reply->http_version = number == CURL_HTTP_VERSION_1_0   ? 10
                          : number == CURL_HTTP_VERSION_1_1 ? 11
                          : number == CURL_HTTP_VERSION_2   ? 20
                                                            : 0;
    text = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &text);
    curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &number);
    reply->peer = (struct addr){.sa.sa_family = AF_UNSPEC};
    if (text != NULL && text[0] != '\0')
        err_ignore(addr_parse(text, (uint16_t)number, &reply->peer), "a socket without address");
}

struct hop {
    const struct http_request *request;
    const struct target *target;
    const struct target *first;
    int64_t left_ms;
};

/* Fills reply; *ret_next is the absolute target if this was a redirect that is to be followed. */
static struct err *perform_hop(struct http_client *client, const struct hop *hop,
        struct http_reply *reply, char **ret_next) MAY_SUSPEND;

static struct err *perform_hop(struct http_client *client, const struct hop *hop,
        struct http_reply *reply, char **ret_next)
{
    const struct http_request *request = hop->request;
    AUTO(setup_done) struct setup s = {.easy = curl_easy_init()};
    struct http_transfer transfer = {.easy = s.easy,
            .reply = reply,
            .follows = request->redirects == HTTP_REDIRECT_LIKE_CA,
            .max_body = request->max_body > 0 ? request->max_body : MAX_BODY};
    const char *next = NULL;

    if (s.easy == NULL)
        mem_fail(0);
    reply->body = BUF_INIT(transfer.max_body);
    set_protocol(s.easy, hop->target);
    set_method(s.easy, request);
    set_limits(s.easy, request, hop->left_ms);
    set_tls(s.easy, client, request);
    set_route(&s, request, hop->target, hop->first);
    set_callbacks(s.easy, &transfer);
    curl_easy_setopt(s.easy, CURLOPT_USERAGENT, client->user_agent);
    TRY(add_headers(&s, request, strcasecmp(hop->target->host, hop->first->host) == 0));
    TRY_CTX(http_client_perform(client, &transfer), "%s", hop->target->host);
    if (transfer.result != CURLE_OK)
        return transfer_error(client, &transfer,
                request->unix_socket != NULL ? request->unix_socket : hop->target->host);
    /* libcurl takes a connection that ends inside the header for a whole reply. */
    if (transfer.in_header)
        return ERR_FROM(ERR_RETRY, ERR_FROM_CURL, CURLE_PARTIAL_FILE,
                "%s: closed the connection within the header of its reply", hop->target->host);
    read_info(s.easy, reply);
    curl_easy_getinfo(s.easy, CURLINFO_REDIRECT_URL, &next);
    if (request->redirects == HTTP_REDIRECT_LIKE_CA && next != NULL)
        *ret_next = str_dup(next);
    return NULL;
}

static struct err *follow(struct http_client *client, const struct http_request *request,
        const struct target *first, struct http_reply *reply) MAY_SUSPEND;

static struct err *follow(struct http_client *client, const struct http_request *request,
        const struct target *first, struct http_reply *reply)
{
    int64_t total = request->total_ms > 0 ? request->total_ms : TOTAL_MS;
    struct mono start = loop_mono(client->loop);
    struct hop hop = {.request = request, .target = first, .first = first, .left_ms = total};
    AUTO_FREE char *url = NULL;
    AUTO(target_done) struct target target = {0};

    for (unsigned hops = 0;; hops++) {
        AUTO_FREE char *next = NULL;
        struct err *e = perform_hop(client, &hop, reply, &next);
        if (e != NULL)
            return hops == 0 ? e
                             : err_context(e, "%s: redirected to %s://%s port %u", first->host,
                                       target.scheme, target.host, target.port);
        if (next == NULL)
            return NULL;
        if (hops == HTTP_REDIRECTS_MAX)
            return ERR(ERR_PROTOCOL, "%s: more than %d redirects", first->host, HTTP_REDIRECTS_MAX);
        http_reply_done(reply);
        target_done(&target);
        free(url);
        url = STEAL(next);
        TRY_CTX(target_parse(url, &target), "%s: redirect", first->host);
        TRY_CTX(target_check_redirect(&target), "%s", first->host);
        hop.target = &target;
        hop.left_ms = total - mono_diff(loop_mono(client->loop), start);
        if (hop.left_ms <= 0)
            return ERR(ERR_TIMEOUT, "%s: its redirects took too long", first->host);
    }
}

struct err *http_client_do(
        struct http_client *client, const struct http_request *request, struct http_reply *ret)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    AUTO(target_done) struct target first = {0};

    TRY(target_parse(request->url, &first));
    TRY(target_check(&first, request));
    TRY(follow(client, request, &first, &reply));
    *ret = reply;
    reply = (struct http_reply){0};
    return NULL;
}
