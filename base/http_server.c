/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd has one epoll descriptor for everything; it is polled by the loop, and MHD_run()
 * does what is due. What the library lacks in public is here:
 *
 * - its time-out is for silence only, so a client that sends a byte now and then stays for ever. A
 *   sweep ends each connection by its phase: header, request, idle.
 * - it accepts two Content-Lengths, and Content-Length with Transfer-Encoding, which a proxy in
 *   front may read in another way (request smuggling). Such requests are refused before a handler
 *   sees them, and so is every Transfer-Encoding.
 * - the path is taken from the request line and not decoded.
 *
 * Connections are never suspended: that list is not sound in 0.9.75, and stopping with a suspended
 * connection aborts.
 */
#include "base/http_server.h"

#include <assert.h>
#include <microhttpd.h>
#include <strings.h>
#include <unistd.h>

#define CONNECTIONS     1024
#define CONNECTIONS_IP  32
#define HEADER_MS       (10 * CLOCK_SEC)
#define REQUEST_MS      (30 * CLOCK_SEC)
#define IDLE_MS         (15 * CLOCK_SEC)
#define SWEEP_MS        CLOCK_SEC
#define MEMORY_PER_CONN ((size_t)8 * 1024)
#define URI_MAX         512
#define HEADERS_MAX     64
#define BACKLOG         4096
#define REPLY_MAX       ((size_t)8 * 1024 * 1024)

enum phase { PHASE_IDLE, PHASE_HEADER, PHASE_REQUEST };

struct conn {
    int fd;
    enum phase phase;
    uint64_t since;
    struct conn *prev, *next;
};

struct http_server {
    struct loop *loop;
    struct http_server_options options;
    struct addr address;
    struct MHD_Daemon *daemon;
    uv_poll_t *poll;
    uv_timer_t *timer; /* what MHD asks for */
    uv_timer_t *sweep;
    struct conn *conns;
    bool running; /* inside MHD_run() */
};

/* One request; libmicrohttpd carries it from the request line to its completion. */
struct exchange {
    char *uri;  /* path and query; NULL: longer than URI_MAX */
    bool begun; /* the header was judged */
    struct buf body;
};

/* ---- phases and their time limits ---- */

static uint64_t now_ms(const struct http_server *server)
{
    return uv_now(loop_uv(server->loop));
}

static void enter(struct http_server *server, struct conn *conn, enum phase phase)
{
    conn->phase = phase;
    conn->since = now_ms(server);
}

static struct conn *conn_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info->socket_context;
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
        enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = arg;
    struct conn *conn = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn = MEM_NEW(struct conn);
        conn->fd =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        enter(server, conn, PHASE_HEADER);
        conn->next = server->conns;
        if (server->conns != NULL)
            server->conns->prev = conn;
        server->conns = conn;
        *context = conn;
        return;
    }
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        server->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    free(conn);
    *context = NULL;
}

static void on_sweep(uv_timer_t *timer)
{
    struct http_server *server = timer->data;
    const int64_t limits[] = {[PHASE_IDLE] = server->options.idle_ms,
            [PHASE_HEADER] = server->options.header_ms,
            [PHASE_REQUEST] = server->options.request_ms};

    /* MHD hears of the shutdown by epoll and closes. */
    for (const struct conn *c = server->conns; c != NULL; c = c->next)
        if (now_ms(server) - c->since >= (uint64_t)limits[c->phase])
            shutdown(c->fd, SHUT_RDWR);
}

/* ---- driving libmicrohttpd ---- */

static void on_timer(uv_timer_t *timer);

static void run(struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG ms;

    assert(!server->running);
    server->running = true;
    MHD_run(server->daemon);
    server->running = false;
    if (MHD_get_timeout(server->daemon, &ms) == MHD_YES)
        uv_timer_start(server->timer, on_timer, ms, 0);
    else
        uv_timer_stop(server->timer);
}

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    run(poll->data);
}

/* ---- replies ---- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value != NULL)
        MHD_add_response_header(response, name, value);
}

static enum MHD_Result send_reply(
        struct MHD_Connection *connection, struct http_server_reply *reply, bool close_after)
{
    size_t len = reply->body.len;
    char *data = buf_steal(&reply->body);
    struct MHD_Response *response =
            MHD_create_response_from_buffer(len, data, MHD_RESPMEM_MUST_FREE);

    if (response == NULL)
        mem_fail(len);
    add_header(response, "Content-Type", reply->content_type);
    add_header(response, "Cache-Control", "no-store");
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "Content-Security-Policy",
            reply->security_policy != NULL ? reply->security_policy : "default-src 'none'");
    for (size_t i = 0; i < HTTP_SERVER_REPLY_HEADERS_MAX && reply->headers[i].name != NULL; i++)
        add_header(response, reply->headers[i].name, reply->headers[i].value);
    if (close_after)
        add_header(response, "Connection", "close");
    enum MHD_Result result = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status, const char *why)
{
    struct http_server_reply reply = {
            .status = status, .content_type = "text/plain; charset=utf-8", .body = BUF_INIT(256)};

    buf_printf(&reply.body, "%s\n", why);
    return send_reply(connection, &reply, true);
}

/* ---- judging the header ---- */

struct header_counts {
    size_t all, host, length, encoding;
    const char *length_text;
};

static enum MHD_Result count_header(
        void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct header_counts *n = arg;

    n->all++;
    if (strcasecmp(key, "Host") == 0)
        n->host++;
    if (strcasecmp(key, "Transfer-Encoding") == 0)
        n->encoding++;
    if (strcasecmp(key, "Content-Length") == 0) {
        n->length++;
        n->length_text = value != NULL ? value : "";
    }
    return MHD_YES;
}

/* 0, or the status to refuse with. */
static unsigned judge(const struct http_server *server, struct MHD_Connection *connection,
        const struct exchange *x, const char **ret_why)
{
    struct header_counts n = {0};
    unsigned long long length = 0;

    MHD_get_connection_values(connection, MHD_HEADER_KIND, count_header, &n);
    *ret_why = "the request is malformed";
    if (n.encoding > 0 || n.length > 1 || n.host > 1 || n.all > HEADERS_MAX)
        return MHD_HTTP_BAD_REQUEST;
    if (n.length == 1 && !str_to_u64(n.length_text, UINT64_MAX, &length))
        return MHD_HTTP_BAD_REQUEST;
    if (x->uri == NULL) {
        *ret_why = "the URL is too long";
        return MHD_HTTP_URI_TOO_LONG;
    }
    if (x->uri[0] != '/')
        return MHD_HTTP_BAD_REQUEST;
    if (length > server->options.max_body) {
        *ret_why = "the request is too large";
        return MHD_HTTP_CONTENT_TOO_LARGE;
    }
    return 0;
}

/* ---- one request ---- */

/* The first that is heard of a request: its line, before the headers. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection)
{
    struct http_server *server = arg;
    struct conn *conn = conn_of(connection);
    struct exchange *x = MEM_NEW(struct exchange);

    if (strlen(uri) <= URI_MAX)
        x->uri = str_dup(uri);
    x->body = BUF_INIT(server->options.max_body);
    if (conn->phase == PHASE_IDLE)
        enter(server, conn, PHASE_HEADER);
    return x;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
        enum MHD_RequestTerminationCode code)
{
    struct exchange *x = *context;

    if (x == NULL)
        return;
    enter(arg, conn_of(connection), PHASE_IDLE);
    free(x->uri);
    buf_done(&x->body);
    free(x);
    *context = NULL;
}

/* IPv4 that came through the IPv6 socket is shown as what it is. */
static struct addr peer_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *sa = info->client_addr;
    struct addr a = {.sa.sa_family = AF_UNSPEC};

    if (sa->sa_family == AF_INET)
        memcpy(&a.in, sa, sizeof(a.in));
    else if (sa->sa_family == AF_INET6)
        memcpy(&a.in6, sa, sizeof(a.in6));
    if (sa->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a.in6.sin6_addr))
        a = addr_from_ipv4(&a.in6.sin6_addr.s6_addr[12], ntohs(a.in6.sin6_port));
    return a;
}

struct header_list {
    struct http_header v[HEADERS_MAX];
    size_t n;
};

static enum MHD_Result collect_header(
        void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct header_list *list = arg;

    if (list->n < HEADERS_MAX)
        list->v[list->n++] = (struct http_header){key, value != NULL ? value : ""};
    return MHD_YES;
}

const char *http_server_header(const struct http_server_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_headers; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}

static enum MHD_Result dispatch(struct http_server *server, struct MHD_Connection *connection,
        const char *method, struct exchange *x)
{
    struct header_list headers = {.n = 0};
    struct http_server_reply reply = {.body = BUF_INIT(REPLY_MAX)};
    char *query = strchr(x->uri, '?');

    if (query != NULL)
        *query++ = '\0';
    MHD_get_connection_values(connection, MHD_HEADER_KIND, collect_header, &headers);
    struct http_server_request request = {.method = method,
            .path = x->uri,
            .query = query,
            .peer = peer_of(connection),
            .n_headers = headers.n,
            .headers = headers.v,
            .body = buf_str(&x->body),
            .body_len = x->body.len};
    request.host = http_server_header(&request, "Host");
    server->options.handle(server->options.arg, &request, &reply);
    if (reply.body.overflow || reply.status < 200 || reply.status > 599) {
        buf_done(&reply.body);
        return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "the reply could not be made");
    }
    return send_reply(connection, &reply, false);
}

/* Called with the header, then for each piece of the body, then once more at its end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
        const char *method, const char *version, const char *data, size_t *data_size,
        void **context)
{
    struct http_server *server = arg;
    struct exchange *x = *context;

    if (!x->begun) {
        const char *why;
        x->begun = true;
        enter(server, conn_of(connection), PHASE_REQUEST);
        unsigned status = judge(server, connection, x, &why);
        return status == 0 ? MHD_YES : refuse(connection, status, why);
    }
    if (*data_size > 0) {
        buf_append(&x->body, data, *data_size);
        *data_size = 0;
        return x->body.overflow ? MHD_NO : MHD_YES;
    }
    return dispatch(server, connection, method, x);
}

/* ---- listening ---- */

static struct err *listen_error(int code, const struct addr *a)
{
    char text[ADDR_TEXT_MAX];
    struct err *e = ERR_ERRNO(code, "listening on %s", addr_format(a, text));

    if (code == EADDRINUSE)
        return err_advise(err_rekind(e, ERR_CONFIG),
                "stop what listens there (ss -ltnp shows it) or choose another address");
    if (code == EADDRNOTAVAIL)
        return err_advise(err_rekind(e, ERR_CONFIG), "choose an address that this machine has");
    if (code == EACCES || code == EPERM)
        return err_advise(e, "ports below 1024 need the right CAP_NET_BIND_SERVICE");
    return e;
}

/* 0 or an errno. */
static int try_listen(const struct addr *a, int *ret_fd)
{
    int family = addr_family(a);
    int on = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    int only_v6 = family == AF_INET6 && !IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
    if ((family == AF_INET6 &&
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof(only_v6)) != 0) ||
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
            bind(fd, &a->sa, addr_len(a)) != 0 || listen(fd, BACKLOG) != 0) {
        int code = errno;
        close(fd);
        return code;
    }
    *ret_fd = fd;
    return 0;
}

static struct err *open_listener(const struct addr *wanted, int *ret_fd)
{
    static const uint8_t any[4] = {0};
    struct addr a = *wanted;
    int code = try_listen(&a, ret_fd);
    bool no_v6 = code == EAFNOSUPPORT || code == EADDRNOTAVAIL || code == EPROTONOSUPPORT;

    if (no_v6 && addr_family(&a) == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a.in6.sin6_addr)) {
        a = addr_from_ipv4(any, addr_port(wanted));
        code = try_listen(&a, ret_fd);
    }
    return code == 0 ? NULL : listen_error(code, &a);
}

/* ---- lifecycle ---- */

static void set_defaults(struct http_server_options *o)
{
    if (o->max_connections == 0)
        o->max_connections = CONNECTIONS;
    if (o->max_connections_per_ip == 0)
        o->max_connections_per_ip = CONNECTIONS_IP;
    else if (o->max_connections_per_ip == SIZE_MAX)
        o->max_connections_per_ip = 0; /* MHD's word for it */
    o->header_ms = o->header_ms > 0 ? o->header_ms : HEADER_MS;
    o->request_ms = o->request_ms > 0 ? o->request_ms : REQUEST_MS;
    o->idle_ms = o->idle_ms > 0 ? o->idle_ms : IDLE_MS;
}

/* On success the descriptor is the daemon's. */
static struct MHD_Daemon *start_daemon(struct http_server *server, int fd)
{
    const struct http_server_options *o = &server->options;
    unsigned flags = MHD_USE_EPOLL | (addr_family(&server->address) == AF_INET6 ? MHD_USE_IPv6 : 0);

    /* clang-format off */
    return MHD_start_daemon(flags, 0, NULL, NULL, on_request, server,
            MHD_OPTION_LISTEN_SOCKET, fd,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY_PER_CONN,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections,
            MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)o->max_connections_per_ip,
            MHD_OPTION_STRICT_FOR_CLIENT, 1,
            MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,
            MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
            MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
            MHD_OPTION_END);
    /* clang-format on */
}

static void start_watching(struct http_server *server)
{
    const struct http_server_options *o = &server->options;
    int epoll_fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int64_t shortest = o->header_ms < o->request_ms ? o->header_ms : o->request_ms;

    shortest = o->idle_ms < shortest ? o->idle_ms : shortest;
    uint64_t every = shortest >= 4 * SWEEP_MS ? SWEEP_MS : (uint64_t)shortest / 4 + 1;
    server->poll = MEM_NEW(uv_poll_t);
    server->timer = MEM_NEW(uv_timer_t);
    server->sweep = MEM_NEW(uv_timer_t);
    int rc = uv_poll_init(loop_uv(server->loop), server->poll, epoll_fd);
    assert(rc == 0); /* a descriptor that was just made */
    (void)rc;
    uv_timer_init(loop_uv(server->loop), server->timer);
    uv_timer_init(loop_uv(server->loop), server->sweep);
    server->poll->data = server->timer->data = server->sweep->data = server;
    uv_poll_start(server->poll, UV_READABLE, on_poll);
    uv_timer_start(server->sweep, on_sweep, every, every);
}

struct err *http_server_start(
        struct loop *loop, const struct http_server_options *options, struct http_server **ret)
{
    struct http_server *server;
    int fd = options->listen_fd;
    socklen_t len = sizeof(struct addr);

    if (fd <= 2)
        TRY(open_listener(&options->listen, &fd));
    server = MEM_NEW(struct http_server);
    server->loop = loop;
    server->options = *options;
    set_defaults(&server->options);
    if (getsockname(fd, &server->address.sa, &len) == 0)
        server->daemon = start_daemon(server, fd);
    if (server->daemon == NULL) {
        close(fd);
        free(server);
        return ERR(ERR_LOCAL, "the HTTP server can't be started");
    }
    start_watching(server);
    *ret = server;
    return NULL;
}

struct addr http_server_address(const struct http_server *server)
{
    return server->address;
}

void http_server_stop(struct http_server *server)
{
    if (server == NULL)
        return;
    assert(!server->running); /* not from the handler */
    uv_poll_stop(server->poll);
    loop_close_free((uv_handle_t *)server->poll);
    uv_timer_stop(server->timer);
    loop_close_free((uv_handle_t *)server->timer);
    uv_timer_stop(server->sweep);
    loop_close_free((uv_handle_t *)server->sweep);
    MHD_stop_daemon(server->daemon);
    assert(server->conns == NULL);
    free(server);
}
