/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client meets: for each service the SRV record says host and port (RFC 6120 3.2.1; without
 * one the XMPP host itself on the configured public port), the public DNS says the address, and a
 * handshake shows the certificate.
 */
#include "agent/command.h"

#include <stdio.h>

struct service {
    enum proof_port port;
    const char *srv; /* NULL: none, the XMPP host itself */
};

static const struct service services[] = {
        {PROOF_C2S, "_xmpp-client._tcp"},
        {PROOF_S2S, "_xmpp-server._tcp"},
        {PROOF_HTTPS, NULL},
        {PROOF_C2S_TLS, "_xmpps-client._tcp"},
        {PROOF_S2S_TLS, "_xmpps-server._tcp"},
};
#define N_SERVICES ARRAY_SIZE(services)

struct service_result {
    const struct service *service;
    char *target;  /* host of the SRV record or the XMPP host */
    uint16_t port; /* 0: the service is not offered */
    bool has_srv;
    char *problem; /* before a handshake could be tried, or NULL */
    struct proof_result proof;
};

struct verify_job {
    struct agent *agent;
    const struct host *host;
    struct fiber_sem *sem;
    struct proof_limits *limits;
    struct service_result results[N_SERVICES];
};

struct service_job {
    struct verify_job *verify;
    struct service_result *result;
};

static void verify_job_done(struct verify_job *job)
{
    for (size_t i = 0; i < N_SERVICES; i++) {
        free(job->results[i].target);
        free(job->results[i].problem);
        proof_result_done(&job->results[i].proof);
    }
}

/* ---- where ---- */

static void take_srv(const struct dns_answer *answer, struct service_result *r)
{
    unsigned best = UINT32_MAX;

    for (size_t i = 0; i < ldns_rr_list_rr_count(answer->records); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(answer->records, i);
        if (ldns_rr_rd_count(rr) != 4)
            continue;
        unsigned priority = ldns_rdf2native_int16(ldns_rr_rdf(rr, 0));
        if (priority >= best)
            continue;
        best = priority;
        r->port = ldns_rdf2native_int16(ldns_rr_rdf(rr, 2));
        free(r->target);
        r->target = ldns_rdf2str(ldns_rr_rdf(rr, 3));
        if (r->target != NULL && strlen(r->target) > 1 && str_ends(r->target, "."))
            r->target[strlen(r->target) - 1] = '\0';
    }
    r->has_srv = best != UINT32_MAX;
    if (r->target != NULL && strcmp(r->target, ".") == 0)
        r->port = 0; /* "not available at this domain" (RFC 2782) */
}

static struct err *find_service(struct service_job *job) MAY_SUSPEND;
static struct err *find_service(struct service_job *job)
{
    struct agent *agent = job->verify->agent;
    struct service_result *r = job->result;
    AUTO_DNS_ANSWER struct dns_answer answer = {0};

    r->port = agent->config->xmpp_ports[r->service->port];
    if (r->service->srv != NULL) {
        AUTO_FREE char *owner = str_printf("%s.%s", r->service->srv, job->verify->host->host.text);
        TRY(dns_query(agent->resolver, owner, LDNS_RR_TYPE_SRV, &answer));
        if (answer.outcome == DNS_ANSWER)
            take_srv(&answer, r);
    }
    if (r->target == NULL)
        r->target = str_dup(job->verify->host->host.text);
    return NULL;
}

static struct err *find_address(struct service_job *job, struct addr *ret, bool *ret_found)
        MAY_SUSPEND;
static struct err *find_address(struct service_job *job, struct addr *ret, bool *ret_found)
{
    static const ldns_rr_type types[] = {LDNS_RR_TYPE_A, LDNS_RR_TYPE_AAAA};

    *ret_found = false;
    for (size_t i = 0; i < ARRAY_SIZE(types) && !*ret_found; i++) {
        AUTO_DNS_ANSWER struct dns_answer answer = {0};
        TRY(dns_query(job->verify->agent->resolver, job->result->target, types[i], &answer));
        *ret_found = answer.outcome == DNS_ANSWER && dns_answer_addresses(&answer, ret, 1) == 1;
        if (answer.outcome != DNS_ANSWER && job->result->problem == NULL)
            job->result->problem = str_printf("%s has no address (%s)", job->result->target,
                    dns_outcome_name(answer.outcome));
    }
    if (*ret_found)
        free(STEAL(job->result->problem));
    return NULL;
}

/* ---- what is there ---- */

static struct err *verify_service(void *arg) MAY_SUSPEND;
static struct err *verify_service(void *arg)
{
    struct service_job *job = arg;
    struct service_result *r = job->result;
    struct verify_job *verify = job->verify;
    char text[ADDR_TEXT_MAX];
    struct addr addr;
    bool found;

    TRY(find_service(job));
    if (r->port == 0)
        return NULL;
    TRY(find_address(job, &addr, &found));
    if (!found)
        return NULL;
    struct proof_request request = {.node = "public",
            .probe_host = addr_format_ip(&addr, text),
            .host = &verify->host->host,
            .names = &verify->host->names,
            .roots = verify->agent->config->acme.roots,
            .limits = verify->limits};
    request.ports[r->service->port] = r->port;
    return proof_run(verify->agent->world, &request, &r->proof);
}

static struct err *verify_services(struct verify_job *job) MAY_SUSPEND;
static struct err *verify_services(struct verify_job *job)
{
    struct service_job jobs[N_SERVICES];
    struct fiber_group group;

    fiber_group_init(&group);
    for (size_t i = 0; i < N_SERVICES; i++) {
        job->results[i].service = &services[i];
        jobs[i] = (struct service_job){.verify = job, .result = &job->results[i]};
        fiber_group_spawn(&group, proof_port_name(services[i].port), verify_service, &jobs[i]);
    }
    return fiber_group_wait(&group);
}

static struct err *verify_host(void *arg) MAY_SUSPEND;
static struct err *verify_host(void *arg)
{
    struct verify_job *job = arg;

    TRY(fiber_sem_acquire(job->sem));
    struct err *e = verify_services(job);
    fiber_sem_release(job->sem);
    return e;
}

/* ---- output ---- */

/* No handshake from here may be the firewall's or the NAT's doing: a warning. What was seen and is
 * wrong is not. */
static bool is_wrong(const struct proof_check *c)
{
    return c->state == PROOF_NOT_VALID || c->state == PROOF_NOT_SERVED ||
           c->state == PROOF_OTHER_CERTIFICATE;
}

static size_t count_wrong(const struct verify_job *job)
{
    size_t wrong = 0;

    for (size_t i = 0; i < N_SERVICES; i++) {
        wrong += job->results[i].problem != NULL;
        for (size_t k = 0; k < job->results[i].proof.n; k++)
            wrong += is_wrong(&job->results[i].proof.checks[k]);
    }
    return wrong;
}

static bool is_shown(const struct proof_check *c)
{
    return c->state != PROOF_OK && c->state != PROOF_REPORTED;
}

static const char *detail_of(const struct proof_check *c)
{
    return c->detail != NULL ? c->detail : proof_state_name(c->state);
}

static bool same_finding(const struct proof_check *a, const struct proof_check *b)
{
    return is_shown(a) && is_shown(b) && strcmp(detail_of(a), detail_of(b)) == 0;
}

/* One line per finding, however many handshakes met it. */
static void print_finding(struct buf *out, const struct proof_result *proof, size_t i)
{
    const struct proof_check *c = &proof->checks[i];
    size_t met = 0;

    for (size_t k = 0; k < i; k++)
        if (same_finding(&proof->checks[k], c))
            return; /* told already */
    for (size_t k = i; k < proof->n; k++)
        met += same_finding(&proof->checks[k], c);
    buf_printf(out, "    %s %s", is_wrong(c) ? "wrong:  " : "warning:", c->name.text);
    if (met > 1)
        buf_printf(out, " and others (%zu handshakes)", met);
    else if (!c->sni)
        buf_puts(out, " without SNI");
    buf_printf(out, ": %s\n", detail_of(c));
}

static void print_service(struct buf *out, const struct service_result *r, struct wall now)
{
    char span[WALL_TEXT_MAX];
    size_t good = 0, counted = 0;
    struct wall until = {0};

    if (r->port == 0)
        return;
    for (size_t i = 0; i < r->proof.n; i++) {
        counted += r->proof.checks[i].state != PROOF_REPORTED;
        good += r->proof.checks[i].state == PROOF_OK;
        if (r->proof.checks[i].state == PROOF_OK &&
                (until.ms == 0 || wall_before(r->proof.checks[i].not_after, until)))
            until = r->proof.checks[i].not_after;
    }
    buf_printf(out, "  %-8s %s:%u%s: ", proof_port_name(r->service->port), r->target, r->port,
            r->has_srv ? " (SRV)" : "");
    if (r->problem != NULL)
        buf_printf(out, "%s", r->problem);
    else
        buf_printf(out, "%zu of %zu handshakes good", good, counted);
    if (until.ms != 0)
        buf_printf(out, ", %s left", clock_span(wall_diff(until, now), span));
    buf_putc(out, '\n');
    for (size_t i = 0; i < r->proof.n; i++)
        if (is_shown(&r->proof.checks[i]))
            print_finding(out, &r->proof, i);
}

static json_t *verify_json(const struct verify_job *job)
{
    json_t *o = json_object();
    json_t *list = json_array();

    for (size_t i = 0; i < N_SERVICES; i++) {
        const struct service_result *r = &job->results[i];
        if (r->port == 0)
            continue;
        json_t *s = json_object();
        json_put_str(s, "service", proof_port_name(r->service->port));
        json_put_str(s, "target", r->target);
        json_put_int(s, "port", r->port);
        json_put_bool(s, "srv", r->has_srv);
        json_put_str(s, "problem", r->problem);
        json_put(s, "checks", report_proof_json(&r->proof));
        json_push(list, s);
    }
    json_put_str(o, "host", job->host->host.text);
    json_put_int(o, "wrong", (int64_t)count_wrong(job));
    json_put(o, "services", list);
    return o;
}

static void print_verified(struct command_context *context, const struct verify_job *jobs, size_t n)
{
    AUTO_BUF struct buf out = BUF_INIT((size_t)16 * 1024 * 1024);
    json_t *root = command_json("verify");
    json_t *list = json_array();
    size_t good = 0;

    for (size_t i = 0; i < n; i++) {
        good += count_wrong(&jobs[i]) == 0;
        buf_printf(&out, "%s:\n", jobs[i].host->host.text);
        for (size_t k = 0; k < N_SERVICES; k++)
            print_service(&out, &jobs[i].results[k], world_now(context->world));
        json_push(list, verify_json(&jobs[i]));
    }
    context->exit_status = command_exit_status(good, n);
    json_put_int(root, "exit_status", context->exit_status);
    json_put(root, "hosts", list);
    if (context->line->json) {
        command_print_json(root);
        return;
    }
    json_decref(root);
    command_print(&out);
}

struct err *command_verify(struct command_context *context)
{
    AUTO_COMMAND_AGENT struct command_agent open = {0};
    struct fiber_group group;
    struct fiber_sem sem;
    struct proof_limits limits;

    proof_limits_init(&limits);
    TRY(command_agent_open(context, true, &open));
    struct verify_job *jobs = mem_array(open.n_hosts + 1, sizeof(*jobs));
    fiber_sem_init(&sem, 8);
    fiber_group_init(&group);
    for (size_t i = 0; i < open.n_hosts; i++) {
        jobs[i] = (struct verify_job){
                .agent = open.agent, .host = open.hosts[i], .sem = &sem, .limits = &limits};
        fiber_group_spawn(&group, open.hosts[i]->host.text, verify_host, &jobs[i]);
    }
    struct err *e = fiber_group_wait(&group);
    if (e == NULL)
        print_verified(context, jobs, open.n_hosts);
    for (size_t i = 0; i < open.n_hosts; i++)
        verify_job_done(&jobs[i]);
    free(jobs);
    return e;
}
