/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as fibers, for the two programs that test the HTTP client. */
#pragma once

#include "base/http.h"

#include "tests/unit/base/rim.h"

/* ---- one request, as a fiber ---- */

struct get {
    struct http_request request;
    const char *path; /* behind the base below, instead of request.url */
    const char *ca_bundle;
    size_t times; /* 0 counts as 1 */
    int64_t deadline_ms;
    char base[64];
    struct http_reply reply; /* the last */
};

static struct err *get_all(struct get *g, struct http_client *client) MAY_SUSPEND;
static struct err *get_fiber(void *arg) MAY_SUSPEND;

static struct err *get_all(struct get *g, struct http_client *client)
{
    FIBER_DEADLINE(g->deadline_ms > 0 ? g->deadline_ms : CLOCK_MIN, "the flow");

    for (size_t i = 0; i < (g->times > 0 ? g->times : 1); i++) {
        struct http_request request = g->request;
        AUTO_FREE char *url = g->path != NULL ? str_printf("%s%s", g->base, g->path) : NULL;
        if (url != NULL)
            request.url = url;
        http_reply_done(&g->reply);
        TRY(http_client_do(client, &request, &g->reply));
    }
    return NULL;
}

static ATTR_MAYBE_UNUSED struct err *get_fiber(void *arg)
{
    struct get *g = arg;
    struct http_client *client = NULL;
    struct http_client_options options = {.user_agent = "certherd/test", .ca_bundle = g->ca_bundle};

    TRY(http_client_new(rim_loop, &options, &client));
    struct err *e = get_all(g, client);
    http_client_free(client);
    return e;
}

static ATTR_MAYBE_UNUSED struct get get_at(const struct addr *to, const char *path)
{
    struct get g = {.path = path, .request.allow_http = true};

    snprintf(g.base, sizeof(g.base), "http://127.0.0.1:%u", (unsigned)addr_port(to));
    return g;
}

/* ---- many at once ---- */

struct many {
    struct http_client *client;
    struct get get;
    unsigned good;
};

static struct err *one_of_many(void *arg) MAY_SUSPEND;
static struct err *many_fiber(void *arg) MAY_SUSPEND;

static struct err *one_of_many(void *arg)
{
    struct many *m = arg;
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    AUTO_FREE char *url = str_printf("%s/x", m->get.base);
    struct http_request request = {.url = url, .allow_http = true};

    TRY(http_client_do(m->client, &request, &reply));
    m->good += reply.status == 200 && strcmp(buf_str(&reply.body), "hello") == 0;
    return NULL;
}

static ATTR_MAYBE_UNUSED struct err *many_fiber(void *arg)
{
    struct many *m = arg;
    struct http_client_options options = {.max_connections_per_host = 3};
    struct fiber_group group;

    TRY(http_client_new(rim_loop, &options, &m->client));
    fiber_group_init(&group);
    for (int i = 0; i < 50; i++)
        fiber_group_spawn(&group, "one", one_of_many, m);
    struct err *e = fiber_group_wait(&group);
    http_client_free(m->client);
    return e;
}
