/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcurl tells which sockets to watch and when to call again; we tell it what happened. Two things
 * that the usual examples get wrong: a transfer may finish inside *any* action, also one started by
 * the timer, so finished ones are reaped after each; and libcurl must not be called from inside its
 * own callbacks, so those only start or stop handles.
 */
#include "base/http.h"

#include <assert.h>
#include <openssl/err.h>
#include <unistd.h>

#include "base/http_private.h"
#include "base/tls.h"

struct http_watch {
    uv_poll_t poll; /* first: loop_close_free() frees the whole by this address */
    struct http_client *client;
    curl_socket_t fd;
    struct http_watch *prev, *next;
};

/* ---- finished transfers ---- */

static void reap(struct http_client *client)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        CURL *easy = message->easy_handle;
        CURLcode result = message->data.result; /* message dies with the removal */
        struct http_transfer *transfer = NULL;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&transfer);
        curl_multi_remove_handle(client->multi, easy);
        transfer->result = result;
        transfer->done = true;
        fiber_wait_wake(&transfer->wait);
    }
    ERR_clear_error(); /* the queue is shared by all who run on this thread */
}

static void act(struct http_client *client, curl_socket_t fd, int events)
{
    int running;
    CURLMcode rc = curl_multi_socket_action(client->multi, fd, events, &running);

    if (rc != CURLM_OK)
        log_debug("http", "libcurl's action failed", LOG_STR("reason", curl_multi_strerror(rc)));
    reap(client);
}

/* ---- sockets ---- */

static void watch_close(struct http_watch *watch)
{
    struct http_client *client = watch->client;

    if (watch->prev != NULL)
        watch->prev->next = watch->next;
    else
        client->watches = watch->next;
    if (watch->next != NULL)
        watch->next->prev = watch->prev;
    uv_poll_stop(&watch->poll);
    loop_close_free((uv_handle_t *)&watch->poll);
}

static struct http_watch *watch_new(struct http_client *client, curl_socket_t fd)
{
    struct http_watch *watch = MEM_NEW(struct http_watch);
    int rc = uv_poll_init(loop_uv(client->loop), &watch->poll, fd);

    if (rc != 0) {
        log_debug("http", "socket can't be watched", LOG_STR("reason", uv_strerror(rc)));
        free(watch);
        return NULL;
    }
    watch->client = client;
    watch->fd = fd;
    watch->next = client->watches;
    if (client->watches != NULL)
        client->watches->prev = watch;
    client->watches = watch;
    curl_multi_assign(client->multi, fd, watch);
    return watch;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct http_watch *watch = CONTAINER_OF(poll, struct http_watch, poll);
    int flags = 0;

    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    /* On an error libuv has stopped the handle. No flags: libcurl looks for itself, and finds what
     * had arrived before the error too; it removes the socket or we hear of the same error again.
     */
    if (status < 0)
        uv_poll_start(poll, UV_READABLE | UV_WRITABLE, on_poll);
    act(watch->client, watch->fd, flags);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
    struct http_client *client = arg;
    struct http_watch *watch = assigned;
    int events = 0;

    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL)
            watch_close(watch);
        curl_multi_assign(client->multi, fd, NULL);
        return 0;
    }
    if (watch == NULL)
        watch = watch_new(client, fd);
    if (watch == NULL)
        return 0; /* that transfer will run into its time limit */
    if (what & CURL_POLL_IN)
        events |= UV_READABLE;
    if (what & CURL_POLL_OUT)
        events |= UV_WRITABLE;
    uv_poll_start(&watch->poll, events, on_poll);
    return 0;
}

/* ---- timer ---- */

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct http_client *client = arg;

    if (timeout_ms < 0) {
        uv_timer_stop(client->timer);
        return 0;
    }
    /* libuv counts from the time it has cached, which is old after a long piece of work. */
    uv_update_time(loop_uv(client->loop));
    uv_timer_start(client->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

/* ---- one transfer ---- */

struct err *http_client_perform(struct http_client *client, struct http_transfer *transfer)
{
    TRY(fiber_check());
    fiber_wait_init(&transfer->wait, "HTTP reply", true);
    curl_easy_setopt(transfer->easy, CURLOPT_PRIVATE, transfer);
    CURLMcode rc = curl_multi_add_handle(client->multi, transfer->easy);
    if (rc != CURLM_OK)
        return ERR(ERR_LOCAL, "libcurl: %s", curl_multi_strerror(rc));
    client->running++;
    struct err *stop = fiber_wait_for(&transfer->wait);
    if (!transfer->done) {
        curl_multi_remove_handle(client->multi, transfer->easy);
        ERR_clear_error(); /* it may have closed a connection */
    }
    client->running--;
    return stop;
}

/* ---- lifecycle ---- */

static struct err *choose_bundle(const char *wanted, char **ret)
{
    if (wanted == NULL) {
        *ret = str_dup_null(tls_system_roots());
        return NULL;
    }
    if (access(wanted, R_OK) != 0)
        return err_advise(ERR_ERRNO(errno, "CA bundle %s", wanted),
                "check the CA bundle %s: a PEM file that certherd may read", wanted);
    *ret = str_dup(wanted);
    return NULL;
}

struct err *http_client_new(
        struct loop *loop, const struct http_client_options *options, struct http_client **ret)
{
    AUTO_FREE char *bundle = NULL;
    long per_host = options->max_connections_per_host;

    TRY(choose_bundle(options->ca_bundle, &bundle));
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return ERR(ERR_LOCAL, "libcurl can't be initialised");
    CURLM *multi = curl_multi_init();
    if (multi == NULL)
        mem_fail(0);

    struct http_client *client = MEM_NEW(struct http_client);
    client->loop = loop;
    client->multi = multi;
    client->user_agent = str_dup(options->user_agent != NULL ? options->user_agent : "certherd");
    client->ca_bundle = STEAL(bundle);
    client->timer = MEM_NEW(uv_timer_t);
    uv_timer_init(loop_uv(loop), client->timer);
    client->timer->data = client;
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
    curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, per_host == 0 ? 6L : per_host);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 32L); /* idle ones that are kept */
    *ret = client;
    return NULL;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    assert(client->running == 0);
    curl_multi_cleanup(client->multi); /* closes idle connections, which removes their watches */
    while (client->watches != NULL)
        watch_close(client->watches);
    uv_timer_stop(client->timer);
    loop_close_free((uv_handle_t *)client->timer);
    free(client->user_agent);
    free(client->ca_bundle);
    free(client);
    curl_global_cleanup();
    ERR_clear_error();
}
