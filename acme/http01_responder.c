/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own answer on port 80. It knows the tokens that are presented at this moment and nothing
 * else; it never touches a file.
 */
#include "acme/http01_private.h"

static void reply_text(struct http_server_reply *reply, unsigned status, const char *text)
{
    reply->status = status;
    reply->content_type = "text/plain";
    reply->body = BUF_INIT(4096);
    buf_puts(&reply->body, text);
}

static void handle(
        void *arg, const struct http_server_request *request, struct http_server_reply *reply)
{
    const struct http01 *h = arg;
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
        reply_text(reply, 405, "only GET and HEAD\n");
        return;
    }
    const char *answer = NULL;
    if (str_starts(request->path, HTTP01_PATH))
        answer = http01_answer(h, request->path + strlen(HTTP01_PATH));
    if (answer == NULL) {
        reply_text(reply, 404, "no such token\n");
        return;
    }
    char peer[ADDR_TEXT_MAX];
    log_debug("http01_served", "a token was fetched",
            LOG_STR("peer", addr_format_ip(&request->peer, peer)), LOG_STR("host", request->host));
    /* RFC 8555 8.3 asks for this type where there is one. */
    reply_text(reply, 200, answer);
    reply->content_type = "application/octet-stream";
}

struct err *http01_respond(struct http01 *h, const struct http01_options *options)
{
    const struct http_server_options server = {
            .listen = options->listen, .listen_fd = options->listen_fd, .handle = handle, .arg = h};
    struct err *e = http_server_start(h->world->loop, &server, &h->server);
    if (e == NULL)
        return NULL;
    return err_advise(err_context(e, "the responder for http-01"),
            "let a web server that has the port serve the tokens: set http01.webroot or "
            "http01.token_dir");
}
