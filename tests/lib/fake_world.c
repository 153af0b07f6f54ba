/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_world.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <strings.h>

static struct fake_world *self(struct world *world)
{
    return CONTAINER_OF(world, struct fake_world, world);
}

/* ---- the fault ---- */

/* *ret_after: the error comes after the call. */
static struct err *count(struct fake_world *fw, enum fake_call call, bool *ret_after,
        const char *fmt, ...) ATTR_PRINTF(4, 5);
static struct err *count(
        struct fake_world *fw, enum fake_call call, bool *ret_after, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(fw->last_call, sizeof(fw->last_call), fmt, ap);
    va_end(ap);
    fw->calls++;
    fw->calls_of[call]++;
    *ret_after = false;
    if (fw->fault == FAKE_FAULT_NONE || fw->calls != fw->fault_at)
        return NULL;
    memcpy(fw->fault_call, fw->last_call, sizeof(fw->fault_call));
    switch (fw->fault) {
    case FAKE_FAULT_ERROR:
        return ERR(fw->fault_kind, "made to fail: %s", fw->fault_call);
    case FAKE_FAULT_ERROR_AFTER:
        *ret_after = true;
        return NULL;
    case FAKE_FAULT_CANCEL:
        fiber_cancel(fw->flow != NULL ? fw->flow : fiber_self());
        return NULL;
    case FAKE_FAULT_NONE:
        break;
    }
    return NULL;
}

/* What the call returned, unless the reply is to get lost. */
static struct err *lose(struct fake_world *fw, bool after, struct err *e)
{
    if (!after || e != NULL)
        return e;
    return ERR(fw->fault_kind, "made to fail: the reply of %s", fw->fault_call);
}

static struct err *nothing_there(const char *what)
{
    return ERR(ERR_RETRY, "nothing there: %s", what);
}

/* ---- operations ---- */

static struct wall op_wall_now(struct world *world)
{
    return loop_wall(world->loop);
}

static struct mono op_mono_now(struct world *world)
{
    return loop_mono(world->loop);
}

/* splitmix64: the same numbers in each run. */
static void op_random(struct world *world, void *buf, size_t len)
{
    struct fake_world *fw = self(world);
    uint8_t *out = buf;

    for (size_t i = 0; i < len; i++) {
        uint64_t z = fw->random_state += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        out[i] = (uint8_t)(z >> 56);
    }
}

static const char *method_of(const struct http_request *request)
{
    if (request->method != NULL)
        return request->method;
    return request->body != NULL ? "POST" : "GET";
}

static struct err *op_http(struct world *world, const char *ca_bundle,
        const struct http_request *request, struct http_reply *ret)
{
    struct fake_world *fw = self(world);
    bool after;

    TRY(count(fw, FAKE_HTTP, &after, "http %s %s", method_of(request), request->url));
    if (fw->http == NULL)
        return nothing_there(request->url);
    struct http_reply reply = {.body = BUF_INIT((size_t)1024 * 1024)};
    struct err *e = lose(fw, after, fw->http(fw->http_arg, ca_bundle, request, &reply));
    size_t max = request->max_body > 0 ? request->max_body : (size_t)64 * 1024;
    if (e == NULL && reply.body.len > max)
        e = ERR(ERR_PROTOCOL, "the reply is larger than %zu bytes", max);
    if (e != NULL) {
        http_reply_done(&reply);
        return e;
    }
    if (reply.effective_url == NULL)
        reply.effective_url = str_dup(request->url);
    reply.http_version = 20;
    *ret = reply;
    return NULL;
}

static struct err *op_dns_wire(
        struct world *world, const struct dns_wire_request *request, struct buf *ret_reply)
{
    struct fake_world *fw = self(world);
    char to[ADDR_TEXT_MAX];
    bool after;

    TRY(count(fw, FAKE_DNS, &after, "dns %s", addr_format(&request->to, to)));
    if (fw->dns_wire == NULL)
        return nothing_there(to);
    return lose(fw, after, fw->dns_wire(fw->dns_arg, request, ret_reply));
}

static struct err *op_tls_probe(
        struct world *world, const struct tls_probe_request *request, struct tls_probe_result *ret)
{
    struct fake_world *fw = self(world);
    char to[ADDR_TEXT_MAX];
    bool after;

    TRY(count(fw, FAKE_TLS, &after, "tls %s", addr_format(&request->to, to)));
    if (fw->tls_probe == NULL)
        return nothing_there(to);
    return lose(fw, after, fw->tls_probe(fw->tls_arg, request, ret));
}

static struct err *op_child(
        struct world *world, const struct child_request *request, struct child_result *ret)
{
    struct fake_world *fw = self(world);
    bool after;

    TRY(count(fw, FAKE_CHILD, &after, "child %s", request->argv[0]));
    if (fw->child == NULL)
        return nothing_there(request->argv[0]);
    return lose(fw, after, fw->child(fw->child_arg, request, ret));
}

static struct err *op_resolve(struct world *world, const char *host, uint16_t port,
        struct addr ret[NET_RESOLVE_MAX], size_t *ret_n)
{
    struct fake_world *fw = self(world);
    bool after;

    TRY(count(fw, FAKE_RESOLVE, &after, "resolve %s", host));
    if (fw->resolve == NULL)
        return nothing_there(host);
    return lose(fw, after, fw->resolve(fw->resolve_arg, host, port, ret, ret_n));
}

static const struct world_ops ops = {
        .wall_now = op_wall_now,
        .mono_now = op_mono_now,
        .random = op_random,
        .http = op_http,
        .dns_wire = op_dns_wire,
        .tls_probe = op_tls_probe,
        .child = op_child,
        .resolve = op_resolve,
};

/* ---- lifecycle ---- */

void fake_world_init(struct fake_world *fw)
{
    *fw = (struct fake_world){.random_state = 1, .fault_kind = ERR_RETRY};
    struct err *e = loop_new_virtual(FAKE_WORLD_START, &fw->loop);
    assert(e == NULL);
    (void)e;
    fw->world = (struct world){.ops = &ops, .loop = fw->loop};
}

void fake_world_done(struct fake_world *fw)
{
    loop_free(fw->loop);
}

void fake_world_rewind(struct fake_world *fw)
{
    fw->calls = 0;
    memset(fw->calls_of, 0, sizeof(fw->calls_of));
    fw->last_call[0] = fw->fault_call[0] = '\0';
}

struct run {
    struct fake_world *fw;
    fiber_fn *fn;
    void *arg;
    struct err *result;
};

static struct err *run_flow(void *arg) MAY_SUSPEND;
static struct err *run_flow(void *arg)
{
    struct run *r = arg;

    r->fw->flow = fiber_self();
    struct err *e = r->fn(r->arg);
    r->fw->flow = NULL;
    return e;
}

static void run_ended(void *arg, struct err *result)
{
    ((struct run *)arg)->result = result;
}

struct err *fake_world_run(struct fake_world *fw, fiber_fn *fn, void *arg)
{
    struct run r = {fw, fn, arg, NULL};

    fiber_spawn(fw->loop, "flow", run_flow, &r, run_ended);
    loop_run(fw->loop);
    return r.result;
}

struct err *fake_world_step(struct fake_world *fw, const char *what)
{
    bool after;

    TRY(count(fw, FAKE_STEP, &after, "step %s", what));
    return lose(fw, after, fiber_yield());
}

int64_t fake_world_elapsed(const struct fake_world *fw, struct mono since)
{
    return mono_diff(loop_mono(fw->loop), since);
}

/* ---- for servers of tests ---- */

void fake_reply_header(struct http_reply *reply, const char *name, const char *value)
{
    reply->headers =
            mem_realloc_array(reply->headers, reply->n_headers + 1, sizeof(reply->headers[0]));
    /* One allocation, as http_reply_done() wants it: the name, NUL, the value. */
    size_t at = strlen(name) + 1;
    char *both = mem_zalloc(at + strlen(value) + 1);
    for (size_t i = 0; i + 1 < at; i++)
        both[i] = (char)tolower((unsigned char)name[i]);
    memcpy(both + at, value, strlen(value));
    reply->headers[reply->n_headers++] = (struct http_header){both, both + at};
}

void fake_reply_body(struct http_reply *reply, const char *text)
{
    buf_puts(&reply->body, text);
}

const char *fake_request_header(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < HTTP_HEADERS_MAX && request->headers[i].name != NULL; i++)
        if (strcasecmp(request->headers[i].name, name) == 0)
            return request->headers[i].value;
    return NULL;
}
