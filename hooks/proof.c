/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks are listed first, in the order in which they are reported, then a few workers for each
 * port go through the list. ejabberd knows its hosts by U-label, so that is what a stream is
 * addressed to; SNI and certificate have the A-label.
 */
#include "hooks/proof.h"

#define CHECK_MS   (10 * CLOCK_SEC)
#define ADDRS_MAX  4 /* of probe_host that are tried: "localhost" has two */
#define UPLOAD_MAX ((size_t)64 * 1024)

static const struct port {
    const char *name;
    enum tls_start start;
    const char *alpn;
    bool every_name;  /* not the host alone */
    bool without_sni; /* each name is asked for without SNI too, and that counts */
} ports[PROOF_PORT_MAX] = {
        /* A component is host-unknown to a client's stream. */
        [PROOF_C2S] = {"c2s", TLS_STARTTLS_C2S, NULL, false, true},
        [PROOF_S2S] = {"s2s", TLS_STARTTLS_S2S, NULL, true, true},
        [PROOF_HTTPS] = {"https", TLS_DIRECT, NULL, true, false},
        [PROOF_C2S_TLS] = {"c2s_tls", TLS_DIRECT, "xmpp-client", true, false},
        [PROOF_S2S_TLS] = {"s2s_tls", TLS_DIRECT, "xmpp-server", true, false},
};

static const char *const state_names[] = {
        [PROOF_OK] = "ok",
        [PROOF_OTHER_CERTIFICATE] = "other_certificate",
        [PROOF_NOT_VALID] = "not_valid",
        [PROOF_NOT_SERVED] = "not_served",
        [PROOF_FAILED] = "failed",
        [PROOF_REPORTED] = "reported",
};

const char *proof_port_name(enum proof_port port)
{
    return ports[port].name;
}

const char *proof_state_name(enum proof_state state)
{
    return state_names[state];
}

void proof_result_done(struct proof_result *result)
{
    for (size_t i = 0; i < result->n; i++)
        free(result->checks[i].detail);
    free(result->checks);
    *result = (struct proof_result){0};
}

void proof_limits_init(struct proof_limits *limits)
{
    for (size_t i = 0; i < PROOF_PORT_MAX; i++)
        fiber_sem_init(&limits->port[i], PROOF_PORT_AT_ONCE);
}

struct proof {
    struct world *world;
    struct proof_limits *limits;
    const struct proof_request *request;
    struct addr addrs[NET_RESOLVE_MAX];
    size_t n_addrs;
    struct proof_result result;
};

/* The checks of one port, in their order; several workers share it. */
struct lane {
    struct proof *proof;
    enum proof_port port;
    size_t next; /* no check before this one is left to take */
};

/* ---- the list ---- */

static void add_check(struct proof *p, enum proof_port port, const struct name *name, bool sni)
{
    struct proof_result *r = &p->result;
    r->checks = mem_realloc_array(r->checks, r->n + 1, sizeof(*r->checks));
    r->checks[r->n++] =
            (struct proof_check){.port = port, .name = *name, .sni = sni, .state = PROOF_FAILED};
}

static void add_name(struct proof *p, enum proof_port port, const struct name *name)
{
    if (name_is_wildcard(name))
        return;
    add_check(p, port, name, true);
    if (ports[port].without_sni)
        add_check(p, port, name, false);
}

static void list_checks(struct proof *p)
{
    const struct proof_request *request = p->request;
    for (size_t i = 0; i < PROOF_PORT_MAX; i++) {
        enum proof_port port = (enum proof_port)i;
        if (request->ports[i] == 0)
            continue;
        if (!ports[i].every_name)
            add_name(p, port, request->host);
        for (size_t k = 0; ports[i].every_name && k < request->names->n; k++)
            add_name(p, port, &request->names->v[k]);
        if (!ports[i].without_sni)
            add_check(p, port, request->host, false);
    }
}

/* ---- one check ---- */

/* Without SNI, and without a stream that names the host, ejabberd serves an arbitrary one of its
 * certificates: nothing follows from what is seen. */
static bool counts(const struct proof_check *check)
{
    return check->sni || ports[check->port].without_sni;
}

static bool is_expected(const struct proof_request *request, const uint8_t leaf[32])
{
    return request->leaf_sha256 == NULL || memcmp(request->leaf_sha256, leaf, 32) == 0;
}

static char *describe_other(const struct tls_probe_result *seen)
{
    char until[WALL_TEXT_MAX];
    return str_printf("serves another certificate than the newest: valid until %s, issued by %s",
            wall_format(seen->not_after, until), seen->issuer != NULL ? seen->issuer : "?");
}

static void judge_handshake(const struct proof_request *request, struct proof_check *check,
        const struct tls_probe_result *seen)
{
    memcpy(check->leaf_sha256, seen->leaf_sha256, sizeof(check->leaf_sha256));
    check->not_after = seen->not_after;
    if (seen->verdict != TLS_VALID) {
        check->state = PROOF_NOT_VALID;
        check->detail = str_dup(seen->detail != NULL ? seen->detail : "not valid");
    } else if (!is_expected(request, seen->leaf_sha256)) {
        check->state = PROOF_OTHER_CERTIFICATE;
        check->detail = describe_other(seen);
    } else {
        check->state = PROOF_OK;
    }
}

static char *describe_failure(
        const struct proof_request *request, const struct proof_check *check, const struct err *e)
{
    if (tls_failure(e) != TLS_FAILURE_HOST_UNKNOWN)
        return str_dup(err_text(e));
    if (name_equal(&check->name, request->host))
        return str_printf("%s; add it to hosts in ejabberd.yml", err_text(e));
    return str_printf(
            "%s; load the module that serves it, or remove it from components", err_text(e));
}

static void judge_failure(
        const struct proof_request *request, struct proof_check *check, const struct err *e)
{
    bool unknown = tls_failure(e) == TLS_FAILURE_HOST_UNKNOWN;
    check->state = unknown ? PROOF_NOT_SERVED : PROOF_FAILED;
    check->detail = describe_failure(request, check, e);
}

/* Our own fault, or the flow was asked to stop: no finding about the server. */
static bool is_own_fault(const struct err *e)
{
    if (err_is(e, ERR_CANCELED) || err_is(e, ERR_LOCAL) || err_is(e, ERR_NOMEM))
        return true;
    AUTO_ERR struct err *stop = fiber_check();
    return stop != NULL;
}

/* The roots cannot be read: a finding about our configuration, and taken for one about the server
 * it could roll a good certificate back. */
static bool is_config_fault(const struct err *e)
{
    return err_is(e, ERR_CONFIG) && err_origin(e) != ERR_FROM_UV &&
           tls_failure(e) == TLS_FAILURE_OTHER;
}

/* The next address is only tried where nothing of the server was met at the one before. */
static struct err *shake_hands(
        struct proof *p, const struct proof_check *check, struct tls_probe_result *ret) MAY_SUSPEND;
static struct err *shake_hands(
        struct proof *p, const struct proof_check *check, struct tls_probe_result *ret)
{
    const struct port *port = &ports[check->port];
    AUTO_FREE char *stream_to = name_to_unicode(&check->name);
    struct tls_probe_request request = {.start = port->start,
            .stream_to = stream_to,
            .sni = check->sni ? &check->name : NULL,
            .alpn = port->alpn,
            .expect = &check->name,
            .roots = p->request->roots,
            .total_ms = CHECK_MS};
    for (size_t i = 0;; i++) {
        request.to = p->addrs[i];
        addr_set_port(&request.to, p->request->ports[check->port]);
        struct err *e = world_tls_probe(p->world, &request, ret);
        if (e == NULL || i + 1 == p->n_addrs || tls_failure(e) != TLS_FAILURE_OTHER ||
                is_own_fault(e))
            return e;
        err_ignore(e, "the host has another address");
    }
}

static struct err *run_check(struct proof *p, struct proof_check *check) MAY_SUSPEND;
static struct err *run_check(struct proof *p, struct proof_check *check)
{
    AUTO_TLS_RESULT struct tls_probe_result seen = {0};
    TRY(fiber_sem_acquire(&p->limits->port[check->port]));
    AUTO_ERR struct err *e = shake_hands(p, check, &seen);
    fiber_sem_release(&p->limits->port[check->port]);
    if (e != NULL && (is_own_fault(e) || is_config_fault(e)))
        return STEAL(e);
    if (e == NULL)
        judge_handshake(p->request, check, &seen);
    else
        judge_failure(p->request, check, e);
    if (!counts(check))
        check->state = PROOF_REPORTED;
    return NULL;
}

static struct err *work(void *arg) MAY_SUSPEND;
static struct err *work(void *arg)
{
    struct lane *lane = arg;
    struct proof_result *result = &lane->proof->result;
    while (lane->next < result->n) {
        struct proof_check *check = &result->checks[lane->next++];
        if (check->port == lane->port)
            TRY(run_check(lane->proof, check));
    }
    return NULL;
}

/* ---- /upload ---- */

/* A connection of its own (family is set), since one from before a reload would be validated by the
 * certificate of then. What cannot be fetched or validated leaves the status at 0: the handshakes
 * on the same port say why. */
static struct err *ask_upload(void *arg) MAY_SUSPEND;
static struct err *ask_upload(void *arg)
{
    struct proof *p = arg;
    AUTO_FREE char *url = str_printf("https://%s/upload", p->request->host->text);
    struct addr to = p->addrs[0];
    addr_set_port(&to, p->request->ports[PROOF_HTTPS]);
    const struct http_request request = {.url = url,
            .max_body = UPLOAD_MAX,
            .total_ms = CHECK_MS,
            .family = addr_family(&to),
            .connect_to = &to};
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    TRY(fiber_sem_acquire(&p->limits->port[PROOF_HTTPS]));
    struct err *e = world_http(p->world, p->request->roots, &request, &reply);
    fiber_sem_release(&p->limits->port[PROOF_HTTPS]);
    if (e != NULL && is_own_fault(e))
        return e;
    err_ignore(e, "no validated answer of /upload");
    p->result.upload_status = reply.status;
    return NULL;
}

/* ---- all ---- */

static void fail_all(struct proof *p, const struct err *e)
{
    for (size_t i = 0; i < p->result.n; i++) {
        struct proof_check *check = &p->result.checks[i];
        check->detail = str_dup(err_text(e));
        if (!counts(check))
            check->state = PROOF_REPORTED;
    }
}

static struct err *find_addresses(struct proof *p) MAY_SUSPEND;
static struct err *find_addresses(struct proof *p)
{
    TRY(world_resolve(p->world, p->request->probe_host, 0, p->addrs, &p->n_addrs));
    if (p->n_addrs == 0)
        return ERR(ERR_RETRY, "%s has no address", p->request->probe_host);
    if (p->n_addrs > ADDRS_MAX)
        p->n_addrs = ADDRS_MAX;
    return NULL;
}

static struct err *run_all(struct proof *p) MAY_SUSPEND;
static struct err *run_all(struct proof *p)
{
    AUTO_ERR struct err *e = find_addresses(p);
    if (e != NULL && is_own_fault(e))
        return STEAL(e);
    if (e != NULL) {
        fail_all(p, e);
        return NULL;
    }
    struct lane lanes[PROOF_PORT_MAX];
    struct fiber_group group;
    fiber_group_init(&group);
    for (size_t port = 0; port < PROOF_PORT_MAX; port++) {
        lanes[port] = (struct lane){.proof = p, .port = (enum proof_port)port};
        for (size_t i = 0; i < PROOF_PORT_AT_ONCE && p->request->ports[port] != 0; i++)
            fiber_group_spawn(&group, "handshake", work, &lanes[port]);
    }
    if (p->request->ports[PROOF_HTTPS] != 0)
        fiber_group_spawn(&group, "upload", ask_upload, p);
    return fiber_group_wait(&group);
}

static void count_failed(const char *node, struct proof_result *result)
{
    for (size_t i = 0; i < result->n; i++) {
        const struct proof_check *c = &result->checks[i];
        bool failed = c->state != PROOF_OK && c->state != PROOF_REPORTED;
        result->n_failed += failed;
        if (failed)
            log_debug("proof_failed", c->detail, LOG_STR("node", node),
                    LOG_STR("port", ports[c->port].name), LOG_STR("name", c->name.text),
                    LOG_BOOL("sni", c->sni));
    }
}

struct err *proof_run(
        struct world *world, const struct proof_request *request, struct proof_result *ret)
{
    struct proof_limits own;
    struct proof p = {.world = world,
            .request = request,
            .limits = request->limits != NULL ? request->limits : &own};
    proof_limits_init(&own);
    list_checks(&p);
    struct err *e = p.result.n > 0 ? run_all(&p) : NULL;
    if (e != NULL) {
        proof_result_done(&p.result);
        return err_context(e, "looking at the ports of %s", request->node);
    }
    count_failed(request->node, &p.result);
    *ret = p.result;
    return NULL;
}
