/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing runs in the background: the state of an order follows from instants (when was it
 * answered, when finalized) at the moment somebody asks.
 */
#include "tests/lib/fake_ca.h"

#include <stdio.h>

#include "acme/base64url.h"
#include "base/json.h"

#define BASE    "https://ca.test:14000"
#define URN     "urn:ietf:params:acme:error:"
#define JWS_MAX ((size_t)64 * 1024)

void fake_ca_init(struct fake_ca *ca, struct fake_world *fw)
{
    *ca = (struct fake_ca){.fw = fw};
    /* The world's clock is not the system's: dates of certificates follow it. */
    struct wall from = wall_add(FAKE_WORLD_START, -CLOCK_DAY);
    struct wall to = wall_add(FAKE_WORLD_START, 3650 * CLOCK_DAY);
    ca->root = test_cert_new(&(struct test_cert_spec){
            .cn = "Fake Root", .ca = true, .not_before = from, .not_after = to});
    ca->intermediate = test_cert_new(&(struct test_cert_spec){.cn = "Fake Intermediate",
            .ca = true,
            .issuer = ca->root,
            .not_before = from,
            .not_after = to});
}

static void forget_orders(struct fake_ca *ca)
{
    for (size_t i = 0; i < ca->n_orders; i++) {
        for (size_t k = 0; k < ca->orders[i].n; k++)
            free(ca->orders[i].authz[k].name);
        free(ca->orders[i].chain);
    }
    memset(ca->orders, 0, sizeof(ca->orders));
    ca->n_orders = 0;
}

void fake_ca_done(struct fake_ca *ca)
{
    forget_orders(ca);
    strv_done(&ca->nonces);
    test_cert_free(ca->intermediate);
    test_cert_free(ca->root);
}

void fake_ca_forget(struct fake_ca *ca)
{
    forget_orders(ca);
    ca->account_known = false;
}

void fake_ca_clear_counters(struct fake_ca *ca)
{
    ca->requests = 0;
    memset(ca->of, 0, sizeof(ca->of));
    ca->new_orders_most = ca->nonces_most = 0;
    ca->accounts_made = ca->deactivated = 0;
}

/* ---- replies ---- */

static void violate(struct fake_ca *ca, const char *what, const char *url)
{
    ca->violations++;
    snprintf(ca->violation, sizeof(ca->violation), "%s (%s)", what, url);
}

static void reply_json(struct http_reply *reply, long status, const json_t *body)
{
    AUTO_FREE char *text = json_text(body);

    reply->status = status;
    fake_reply_header(reply, "content-type", "application/json; charset=utf-8");
    fake_reply_body(reply, text);
}

static void reply_problem(
        struct http_reply *reply, long status, const char *type, const char *detail)
{
    AUTO_JSON json_t *body = json_object();
    AUTO_FREE char *urn = str_printf(URN "%s", type);

    json_put_str(body, "type", urn);
    json_put_str(body, "detail", detail);
    json_put_int(body, "status", status);
    AUTO_FREE char *text = json_text(body);
    reply->status = status;
    fake_reply_header(reply, "content-type", "application/problem+json; charset=utf-8");
    fake_reply_body(reply, text);
}

static void add_nonce(struct fake_ca *ca, struct http_reply *reply)
{
    unsigned n = ++ca->serial;
    AUTO_FREE char *nonce = str_printf("nonce-%u_%u", n, n * 7919u);

    strv_add(&ca->nonces, nonce);
    fake_reply_header(reply, "replay-nonce", nonce);
}

static bool spend_nonce(struct fake_ca *ca, const char *nonce)
{
    for (size_t i = 0; i < ca->nonces.n; i++) {
        if (strcmp(ca->nonces.v[i], nonce) != 0)
            continue;
        free(ca->nonces.v[i]);
        ca->nonces.v[i] = ca->nonces.v[--ca->nonces.n];
        return true;
    }
    return false;
}

/* ---- states ---- */

static bool passed(const struct fake_ca *ca, struct mono since, int64_t ms)
{
    return fake_world_elapsed(ca->fw, since) >= ms;
}

static const char *authz_status(const struct fake_ca *ca, const struct fake_ca_order *o, size_t i)
{
    const struct fake_ca_authz *a = &o->authz[i];

    if (o->reused)
        return "valid";
    if (a->deactivated)
        return "deactivated";
    if (!a->answered || !passed(ca, a->answered_at, ca->validation_ms))
        return "pending";
    if (ca->silent_name != NULL && strcmp(ca->silent_name, a->name) == 0)
        return "pending";
    if (ca->failing_name != NULL && strcmp(ca->failing_name, a->name) == 0)
        return "invalid";
    return "valid";
}

static const char *order_status(struct fake_ca *ca, const struct fake_ca_order *o)
{
    bool pending = false;

    if (o->dead)
        return "invalid";
    if (o->finalized) {
        if (!passed(ca, o->finalized_at, ca->issuance_ms))
            return "processing";
        return ca->refuse != NULL ? "invalid" : "valid";
    }
    for (size_t i = 0; i < o->n; i++) {
        const char *status = authz_status(ca, o, i);
        if (strcmp(status, "invalid") == 0 || strcmp(status, "deactivated") == 0)
            return "invalid";
        pending = pending || strcmp(status, "pending") == 0;
    }
    return pending ? "pending" : "ready";
}

static json_t *identifier_json(const struct fake_ca_authz *a, bool with_wildcard)
{
    json_t *identifier = json_object();
    AUTO_FREE char *value = str_printf("%s%s", with_wildcard && a->wildcard ? "*." : "", a->name);

    json_put_str(identifier, "type", "dns");
    json_put_str(identifier, "value", value);
    return identifier;
}

static void put_error(json_t *object, const char *type)
{
    json_t *error = json_object();
    AUTO_FREE char *urn = str_printf(URN "%s", type);

    json_put_str(error, "type", urn);
    json_put_str(error, "detail", "so it was set up");
    json_put(object, "error", error);
}

static void reply_order(struct fake_ca *ca, size_t id, long status, struct http_reply *reply)
{
    const struct fake_ca_order *o = &ca->orders[id];
    AUTO_JSON json_t *body = json_object();
    json_t *identifiers = json_array(), *authorizations = json_array();
    const char *state = order_status(ca, o);

    for (size_t k = 0; k < o->n; k++) {
        size_t i = ca->reverse_order ? o->n - 1 - k : k;
        AUTO_FREE char *url = str_printf(BASE "/authz/%zu/%zu", id, k);
        json_push(identifiers, identifier_json(&o->authz[i], true));
        json_push(authorizations, json_string(url));
    }
    AUTO_FREE char *finalize = str_printf(BASE "/finalize/%zu", id);
    AUTO_FREE char *certificate = str_printf(BASE "/cert/%zu", id);
    json_put_str(body, "status", state);
    json_put_str(body, "expires", "2026-11-30T12:00:00Z");
    json_put(body, "identifiers", identifiers);
    json_put(body, "authorizations", authorizations);
    json_put_str(body, "finalize", finalize);
    if (strcmp(state, "valid") == 0)
        json_put_str(body, "certificate", certificate);
    if (strcmp(state, "invalid") == 0 && ca->refuse != NULL)
        put_error(body, ca->refuse);
    if (strcmp(state, "processing") == 0 && ca->order_retry_after != NULL)
        fake_reply_header(reply, "retry-after", ca->order_retry_after);
    reply_json(reply, status, body);
}

static json_t *challenge_json(struct fake_ca *ca, size_t id, size_t i)
{
    const struct fake_ca_authz *a = &ca->orders[id].authz[i];
    const char *status = authz_status(ca, &ca->orders[id], i);
    json_t *challenge = json_object();
    AUTO_FREE char *url = str_printf(BASE "/challenge/%zu/%zu", id, i);

    if (strcmp(status, "pending") == 0 && a->answered)
        status = "processing";
    json_put_str(challenge, "type", ca->offered != NULL ? ca->offered : "http-01");
    json_put_str(challenge, "url", url);
    json_put_str(challenge, "token", ca->token != NULL ? ca->token : a->token);
    json_put_str(challenge, "status", strcmp(status, "deactivated") == 0 ? "pending" : status);
    if (strcmp(status, "invalid") == 0)
        put_error(challenge, ca->failing_type != NULL ? ca->failing_type : "connection");
    return challenge;
}

static void reply_authz(struct fake_ca *ca, size_t id, size_t i, struct http_reply *reply)
{
    const struct fake_ca_authz *a = &ca->orders[id].authz[i];
    AUTO_JSON json_t *body = json_object();
    json_t *challenges = json_array(), *odd = json_object();

    json_put_str(odd, "type", "smoke-signal-01"); /* no token, no url: none of our business */
    json_push(challenges, odd);
    json_push(challenges, challenge_json(ca, id, i));
    json_put_str(body, "status", authz_status(ca, &ca->orders[id], i));
    json_put(body, "identifier", identifier_json(a, false));
    json_put(body, "challenges", challenges);
    if (a->wildcard)
        json_put_bool(body, "wildcard", true);
    reply_json(reply, 200, body);
}

/* ---- requests ---- */

static void do_directory(struct fake_ca *ca, struct http_reply *reply)
{
    AUTO_JSON json_t *body = json_object();
    json_t *meta = json_object();
    AUTO_FREE char *nonce = str_printf(BASE "/nonce%u", ca->path_version);
    AUTO_FREE char *account = str_printf(BASE "/new-account%u", ca->path_version);
    AUTO_FREE char *order = str_printf(BASE "/new-order%u", ca->path_version);

    json_put_str(body, "newNonce", nonce);
    json_put_str(body, "newAccount", account);
    json_put_str(body, "newOrder", order);
    json_put_str(meta, "termsOfService", "https://ca.test/terms");
    json_put_bool(meta, "externalAccountRequired", ca->external_account);
    json_put(body, "meta", meta);
    reply_json(reply, 200, body);
}

static void do_new_account(struct fake_ca *ca, struct http_reply *reply)
{
    AUTO_JSON json_t *body = json_object();

    long status = ca->account_known ? 200 : 201;
    if (!ca->account_known) {
        ca->account_id++;
        ca->accounts_made++;
    }
    ca->account_known = true;
    AUTO_FREE char *url = str_printf(BASE "/account/%u", ca->account_id);
    if (!ca->no_location)
        fake_reply_header(reply, "location", url);
    json_put_str(body, "status", "valid");
    reply_json(reply, status, body);
}

static void add_authz(struct fake_ca *ca, struct fake_ca_order *o, const char *name)
{
    struct fake_ca_authz *a = &o->authz[o->n++];

    a->wildcard = str_starts(name, "*.");
    a->name = str_dup(a->wildcard ? name + 2 : name);
    snprintf(a->token, sizeof(a->token), "token-%08u-abcdefghijkl", ++ca->serial);
}

static void do_new_order(struct fake_ca *ca, const json_t *payload, struct http_reply *reply)
{
    size_t i, id = ca->n_orders;
    json_t *item;

    if (id == FAKE_CA_ORDERS_MAX) {
        reply_problem(reply, 500, "serverInternal", "the imitation is full");
        return;
    }
    struct fake_ca_order *o = &ca->orders[ca->n_orders++];
    o->reused = ca->reuse_authz;
    json_array_foreach (json_object_get(payload, "identifiers"), i, item) {
        const char *name = json_string_value(json_object_get(item, "value"));
        if (name != NULL && o->n < FAKE_CA_NAMES_MAX)
            add_authz(ca, o, name);
    }
    AUTO_FREE char *url = str_printf(BASE "/order/%zu", id);
    if (!ca->no_location)
        fake_reply_header(reply, "location", url);
    reply_order(ca, id, 201, reply);
}

static void do_authz(
        struct fake_ca *ca, size_t id, size_t i, const json_t *payload, struct http_reply *reply)
{
    const char *status = json_string_value(json_object_get(payload, "status"));

    if (status != NULL && strcmp(status, "deactivated") == 0) {
        ca->orders[id].authz[i].deactivated = true;
        ca->deactivated++;
    }
    reply_authz(ca, id, i, reply);
}

static void do_challenge(
        struct fake_ca *ca, size_t id, size_t i, const json_t *payload, struct http_reply *reply)
{
    struct fake_ca_authz *a = &ca->orders[id].authz[i];

    if (payload == NULL || json_object_size(payload) != 0)
        violate(ca, "the body of a challenge is not {}", a->name);
    if (a->answered || a->deactivated) {
        reply_problem(reply, 400, "malformed", "the challenge is not pending");
        return;
    }
    if (ca->visible != NULL && !ca->visible(ca->visible_arg, a->name, a->token))
        violate(ca, "answered before it was visible", a->name);
    a->answered = true;
    a->answered_at = loop_mono(ca->fw->loop);
    AUTO_JSON json_t *body = challenge_json(ca, id, i);
    reply_json(reply, 200, body);
}

static void do_finalize(
        struct fake_ca *ca, size_t id, const json_t *payload, struct http_reply *reply)
{
    struct fake_ca_order *o = &ca->orders[id];
    AUTO_BUF struct buf der = BUF_INIT(JWS_MAX);
    const char *csr = json_string_value(json_object_get(payload, "csr"));

    if (strcmp(order_status(ca, o), "ready") != 0) {
        reply_problem(reply, 403, "orderNotReady", "the order is not ready");
        return;
    }
    struct err *e = csr == NULL ? NULL : base64url_decode(csr, strlen(csr), &der);
    if (csr == NULL || e != NULL) {
        err_free(e);
        reply_problem(reply, 400, "badCSR", "no CSR");
        return;
    }
    AUTO_TEST_CERT struct test_cert *leaf = test_cert_new(&(struct test_cert_spec){.csr = der.data,
            .csr_len = der.len,
            .issuer = ca->intermediate,
            .not_before = wall_add(loop_wall(ca->fw->loop), -CLOCK_HOUR),
            .not_after = wall_add(loop_wall(ca->fw->loop), 90 * CLOCK_DAY)});
    o->chain = test_cert_chain(leaf, false);
    o->finalized = true;
    o->finalized_at = loop_mono(ca->fw->loop);
    reply_order(ca, id, 200, reply);
}

static void do_cert(struct fake_ca *ca, size_t id, struct http_reply *reply)
{
    reply->status = 200;
    fake_reply_header(reply, "content-type",
            ca->content_type != NULL ? ca->content_type
                                     : "application/pem-certificate-chain; charset=utf-8");
    fake_reply_body(reply, ca->orders[id].chain);
}

/* ---- the envelope ---- */

static json_t *decode_part(const json_t *jws, const char *key)
{
    AUTO_BUF struct buf text = BUF_INIT(JWS_MAX);
    const char *part = json_string_value(json_object_get(jws, key));

    if (part == NULL || part[0] == '\0')
        return NULL;
    AUTO_ERR struct err *e = base64url_decode(part, strlen(part), &text);
    return e != NULL ? NULL : json_loadb(buf_str(&text), text.len, 0, NULL);
}

static const char *member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text != NULL ? text : "";
}

/* false: the reply is written. */
static bool check_envelope(struct fake_ca *ca, const struct http_request *request,
        enum fake_resource resource, const json_t *protected, struct http_reply *reply)
{
    const char *type = fake_request_header(request, "content-type");
    AUTO_FREE char *kid = str_printf(BASE "/account/%u", ca->account_id);
    bool has_jwk = json_is_object(json_object_get(protected, "jwk"));

    if (type == NULL || strcmp(type, "application/jose+json") != 0)
        violate(ca, "wrong content type", request->url);
    if (strcmp(member(protected, "url"), request->url) != 0)
        violate(ca, "url of the JWS differs", request->url);
    if (has_jwk != (resource == FAKE_CA_NEW_ACCOUNT) ||
            has_jwk == (member(protected, "kid")[0] != '\0'))
        violate(ca, "kid and jwk are not as they must be", request->url);
    if (!spend_nonce(ca, member(protected, "nonce"))) {
        violate(ca, "nonce unknown or used before", request->url);
        reply_problem(reply, 400, "badNonce", "nonce unknown or used before");
        return false;
    }
    if (ca->bad_nonce_every > 0 && ++ca->good_nonces % ca->bad_nonce_every == 0) {
        reply_problem(reply, 400, "badNonce", "this one is refused on purpose");
        return false;
    }
    if (!has_jwk && (!ca->account_known || strcmp(member(protected, "kid"), kid) != 0)) {
        reply_problem(reply, 400, "accountDoesNotExist", "no such account");
        return false;
    }
    return true;
}

static bool inject(struct fake_ca *ca, enum fake_resource resource, struct http_reply *reply)
{
    for (size_t i = 0; i < FAKE_CA_FAULTS_MAX; i++) {
        const struct fake_ca_fault *f = &ca->faults[i];
        if (f->nth == 0 || f->resource != resource || ca->of[resource] < f->nth ||
                (f->times > 0 && ca->of[resource] >= f->nth + f->times))
            continue;
        if (f->retry_after != NULL)
            fake_reply_header(reply, "retry-after", f->retry_after);
        if (f->type != NULL) {
            reply_problem(reply, f->status, f->type, f->detail != NULL ? f->detail : "injected");
            return true;
        }
        reply->status = f->status;
        fake_reply_header(reply, "content-type", "text/html");
        fake_reply_body(reply, "<html><h1>Service Unavailable</h1>\n</html>");
        return true;
    }
    return false;
}

struct route {
    enum fake_resource resource;
    size_t id, i;
};

static bool find_route(struct fake_ca *ca, const char *url, struct route *ret)
{
    AUTO_FREE char *nonce = str_printf(BASE "/nonce%u", ca->path_version);
    AUTO_FREE char *account = str_printf(BASE "/new-account%u", ca->path_version);
    AUTO_FREE char *order = str_printf(BASE "/new-order%u", ca->path_version);
    struct route r = {0};

    if (strcmp(url, FAKE_CA_DIRECTORY) == 0)
        r.resource = FAKE_CA_DIR;
    else if (strcmp(url, nonce) == 0)
        r.resource = FAKE_CA_NONCE;
    else if (strcmp(url, account) == 0)
        r.resource = FAKE_CA_NEW_ACCOUNT;
    else if (strcmp(url, order) == 0)
        r.resource = FAKE_CA_NEW_ORDER;
    else if (sscanf(url, BASE "/authz/%zu/%zu", &r.id, &r.i) == 2)
        r.resource = FAKE_CA_AUTHZ;
    else if (sscanf(url, BASE "/challenge/%zu/%zu", &r.id, &r.i) == 2)
        r.resource = FAKE_CA_CHALLENGE;
    else if (sscanf(url, BASE "/order/%zu", &r.id) == 1)
        r.resource = FAKE_CA_ORDER;
    else if (sscanf(url, BASE "/finalize/%zu", &r.id) == 1)
        r.resource = FAKE_CA_FINALIZE;
    else if (sscanf(url, BASE "/cert/%zu", &r.id) == 1)
        r.resource = FAKE_CA_CERT;
    else
        return false;
    if (r.resource >= FAKE_CA_ORDER && (r.id >= ca->n_orders || r.i >= ca->orders[r.id].n))
        return false;
    *ret = r;
    return true;
}

static void act(
        struct fake_ca *ca, const struct route *r, const json_t *payload, struct http_reply *reply)
{
    switch (r->resource) {
    case FAKE_CA_NEW_ACCOUNT:
        do_new_account(ca, reply);
        break;
    case FAKE_CA_NEW_ORDER:
        do_new_order(ca, payload, reply);
        break;
    case FAKE_CA_ORDER:
        reply_order(ca, r->id, 200, reply);
        break;
    case FAKE_CA_AUTHZ:
        do_authz(ca, r->id, r->i, payload, reply);
        break;
    case FAKE_CA_CHALLENGE:
        do_challenge(ca, r->id, r->i, payload, reply);
        break;
    case FAKE_CA_FINALIZE:
        do_finalize(ca, r->id, payload, reply);
        break;
    case FAKE_CA_CERT:
        do_cert(ca, r->id, reply);
        break;
    case FAKE_CA_DIR:
    case FAKE_CA_NONCE:
    case FAKE_CA_RESOURCE_MAX:
        reply_problem(reply, 405, "malformed", "not by POST");
        break;
    }
}

static void do_post(struct fake_ca *ca, const struct http_request *request,
        const struct route *route, bool known, struct http_reply *reply)
{
    AUTO_JSON json_t *jws = json_loadb(request->body, request->body_len, 0, NULL);
    AUTO_JSON json_t *protected = decode_part(jws, "protected");
    AUTO_JSON json_t *payload = decode_part(jws, "payload");

    if (!ca->no_nonces)
        add_nonce(ca, reply);
    if (!check_envelope(ca, request, route->resource, protected, reply))
        return;
    if (!known)
        reply_problem(reply, 404, "malformed", "no such resource");
    else if (!inject(ca, route->resource, reply))
        act(ca, route, payload, reply);
}

static void serve(struct fake_ca *ca, const struct http_request *request, struct http_reply *reply)
{
    struct route route = {.resource = FAKE_CA_RESOURCE_MAX};
    bool known = find_route(ca, request->url, &route);

    ca->requests++;
    if (known)
        ca->of[route.resource]++;
    if (request->body != NULL) {
        do_post(ca, request, &route, known, reply);
    } else if (!known || (route.resource != FAKE_CA_DIR && route.resource != FAKE_CA_NONCE)) {
        reply_problem(reply, known ? 405 : 404, "malformed", "not by GET");
    } else if (!inject(ca, route.resource, reply)) {
        if (route.resource == FAKE_CA_DIR) {
            do_directory(ca, reply);
        } else {
            reply->status = 200;
            add_nonce(ca, reply);
        }
    }
    if (known && ca->tamper != NULL)
        ca->tamper(ca->tamper_arg, route.resource, reply);
}

static void count_at_once(struct fake_ca *ca, const char *url, int step)
{
    bool order = strstr(url, "/new-order") != NULL, nonce = strstr(url, "/nonce") != NULL;

    ca->new_orders_at_once += order ? (unsigned)step : 0;
    ca->nonces_at_once += nonce ? (unsigned)step : 0;
    if (ca->new_orders_at_once > ca->new_orders_most)
        ca->new_orders_most = ca->new_orders_at_once;
    if (ca->nonces_at_once > ca->nonces_most)
        ca->nonces_most = ca->nonces_at_once;
}

struct err *fake_ca_http(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret)
{
    struct fake_ca *ca = arg;

    count_at_once(ca, request->url, 1);
    struct err *e = fiber_sleep(ca->latency_ms / 2);
    if (e == NULL) {
        serve(ca, request, ret);
        e = fiber_sleep(ca->latency_ms - ca->latency_ms / 2);
    }
    count_at_once(ca, request->url, -1);
    return e;
}
