/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reconcile.h"

#include <assert.h>
#include <errno.h>

/* Each holds a fiber's stack, and each check some sockets. */
#define HOSTS_AT_ONCE ((size_t)50)

/* One host on its way through the flow. */
struct job {
    struct agent *agent;
    const struct host *host;
    const struct reconcile_options *options;
    struct host_result *result;
    struct host_facts facts;
    struct key *key; /* of the pending order */
    bool has_facts;
    bool wants_deploy;
};

/* ---- facts ---- */

struct err *reconcile_load_facts(
        struct agent *agent, const struct host *host, struct host_facts *ret)
{
    AUTO_HOST_FACTS struct host_facts facts = {
            .config = agent->config, .host = host, .now = world_now(agent->world)};
    AUTO_FREE char *why = NULL;

    TRY(store_state_load(agent->store, &host->host, &facts.state));
    TRY(store_pending_load(agent->store, &host->host, &facts.pending));
    TRY(store_generation_newest(agent->store, &host->host, &facts.generation));
    TRY(store_live_load(agent->store, &host->host, &facts.live, &facts.live_cert, &why));
    if (facts.live == STORE_LIVE_DAMAGED)
        log_warning("live-damaged", "the live file is damaged and will be replaced",
                LOG_STR("host", host->host.text), LOG_STR("why", why));
    *ret = facts;
    facts = (struct host_facts){0};
    return NULL;
}

/* ---- state ---- */

static struct err *save_state(struct job *job) MAY_SUSPEND;
static struct err *save_state(struct job *job)
{
    bool stored = false;

    TRY(store_state_save(job->agent->store, &job->host->host, &job->facts.state, &stored));
    if (!stored)
        return ERR(
                ERR_LOCAL, "the state of %s was changed by another process", job->host->host.text);
    return NULL;
}

static void set_text(char **field, const char *text)
{
    char *copy = str_dup_null(text);

    free(*field);
    *field = copy;
}

/* Did this failure cost the CA something? Then the back-off of Let's Encrypt's guide holds; what
 * stayed on this machine or on the way to the CA may be tried again soon, and by an operator at
 * once. */
static bool cost_the_ca(const struct job *job, const struct err *e)
{
    return job->result->n_failed > 0 || err_origin(e) == ERR_FROM_ACME ||
           acme_problem_of(e) != NULL || err_is(e, ERR_RETRY_AT) || err_is(e, ERR_DENIED) ||
           err_is(e, ERR_PROTOCOL);
}

static void note_failure(struct job *job, const struct err *e)
{
    struct host_state *s = &job->facts.state;
    struct wall now = world_now(job->agent->world);
    uint64_t random;

    if (s->error_kind == NULL || strcmp(s->error_kind, err_kind_name(err_kind(e))) != 0)
        s->error_since = now;
    set_text(&s->error_kind, err_kind_name(err_kind(e)));
    set_text(&s->error_text, err_text(e));
    set_text(&s->error_advice, err_advice(e));
    world_random(job->agent->world, &random, sizeof(random));
    s->renew_from = (struct wall){0};
    s->not_before = err_is(e, ERR_RETRY_AT) ? err_retry_at(e) : (struct wall){0};
    if (cost_the_ca(job, e)) {
        s->next_try = wall_add(now, plan_back_off(++s->attempts, random));
        s->renew_from = s->next_try;
    } else {
        s->next_try = wall_add(now, plan_pause(wall_diff(now, s->error_since), random));
    }
    if (wall_before(s->next_try, s->not_before))
        s->next_try = s->not_before;
}

static void note_success(struct job *job)
{
    struct host_state *s = &job->facts.state;

    s->attempts = 0;
    s->next_try = s->renew_from = s->not_before = (struct wall){0};
    s->error_since = (struct wall){0};
    set_text(&s->error_kind, NULL);
    set_text(&s->error_text, NULL);
    set_text(&s->error_advice, NULL);
}

/* ---- what issue.c calls back for ---- */

static struct err *save_pending(struct job *job, const char *order_url) MAY_SUSPEND;
static struct err *save_pending(struct job *job, const char *order_url)
{
    struct store_pending *pending = &job->facts.pending;

    set_text(&pending->order_url, order_url);
    set_text(&pending->directory, job->agent->config->acme.directory);
    name_list_done(&pending->names);
    pending->names = (struct name_list){0};
    for (size_t i = 0; i < job->result->plan.names.n; i++)
        name_list_add(&pending->names, &job->result->plan.names.v[i]);
    pending->made = world_now(job->agent->world);
    pending->exists = true;
    return store_pending_save(job->agent->store, &job->host->host, pending);
}

static struct err *order_made(void *arg, const char *order_url) MAY_SUSPEND;
static struct err *order_made(void *arg, const char *order_url)
{
    return save_pending(arg, order_url);
}

static struct err *order_dropped(void *arg) MAY_SUSPEND;
static struct err *order_dropped(void *arg)
{
    return save_pending(arg, NULL);
}

static struct err *make_csr(void *arg, char **ret_csr) MAY_SUSPEND;
static struct err *make_csr(void *arg, char **ret_csr)
{
    struct job *job = arg;

    if (job->key == NULL)
        TRY(store_pending_key(
                job->agent->store, &job->host->host, job->agent->config->acme.key_type, &job->key));
    return key_make_csr(job->key, &job->result->plan.names, ret_csr);
}

static void progress(void *arg, const struct name *name, enum acme_step step, const char *detail)
{
    struct job *job = arg;

    report_step(job->agent->report, &job->host->host, name, step, detail);
}

/* ---- issuing ---- */

static bool same_names(const struct name_list *a, const struct name_list *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (!name_list_has(b, &a->v[i]))
            return false;
    return a->n == b->n;
}

/* An order that was begun for the same names at the same CA is gone on with; any other is
 * forgotten. */
static struct err *settle_pending(struct job *job) MAY_SUSPEND;
static struct err *settle_pending(struct job *job)
{
    struct store_pending *pending = &job->facts.pending;
    bool usable = pending->exists && pending->directory != NULL &&
                  strcmp(pending->directory, job->agent->config->acme.directory) == 0 &&
                  same_names(&pending->names, &job->result->plan.names);

    if (usable)
        return NULL;
    if (pending->exists) {
        TRY(store_pending_drop(job->agent->store, &job->host->host));
        store_pending_done(pending);
        *pending = (struct store_pending){0};
    }
    return save_pending(job, NULL); /* durable before newOrder leaves */
}

static struct err *commit(struct job *job, const struct buf *chain) MAY_SUSPEND;
static struct err *commit(struct job *job, const struct buf *chain)
{
    struct agent *agent = job->agent;
    AUTO_CERT_INFO struct cert_info info = {0};
    struct store_generation generation = {0};

    TRY(cert_parse(chain->data, chain->len, false, &info));
    TRY(cert_check_issued(&info, &job->result->plan.names, world_now(agent->world)));
    TRY(store_generation_commit(agent->store, &job->host->host, chain->data, chain->len,
            agent->config->acme.directory, false, &generation));
    store_generation_done(&job->facts.generation);
    job->facts.generation = generation;
    store_pending_done(&job->facts.pending);
    job->facts.pending = (struct store_pending){0};
    return NULL;
}

/* A certificate that does not fit (to the names, to a key that is lost) will not fit the next time:
 * its order is of no use. What this machine could not do now it may do later. */
static struct err *commit_or_give_up(struct job *job, const struct buf *chain) MAY_SUSPEND;
static struct err *commit_or_give_up(struct job *job, const struct buf *chain)
{
    struct err *e = commit(job, chain);
    bool key_lost = e != NULL && err_origin(e) == ERR_FROM_ERRNO && err_number(e) == ENOENT;

    if (!err_is(e, ERR_PROTOCOL) && !key_lost)
        return e;
    store_pending_done(&job->facts.pending);
    job->facts.pending = (struct store_pending){0};
    return err_first(e, store_pending_drop(job->agent->store, &job->host->host));
}

static struct err *issue(struct job *job) MAY_SUSPEND;
static struct err *issue(struct job *job)
{
    struct agent *agent = job->agent;
    struct http01 *http01 = NULL;
    struct acme_issue_result issued = {0};
    struct acme_issue request = {.names = &job->result->plan.names,
            .profile = agent->config->acme.profile,
            .order_made = order_made,
            .order_dropped = order_dropped,
            .make_csr = make_csr,
            .progress = progress,
            .arg = job};

    TRY(agent_http01(agent, &http01));
    TRY(agent_ca(agent, &request.client, &request.account));
    TRY(settle_pending(job));
    request.solver = http01_solver(http01);
    AUTO_FREE char *order_url = str_dup_null(job->facts.pending.order_url);
    request.order_url = order_url;
    struct err *e = acme_issue(&request, &issued);
    if (e == NULL)
        e = commit_or_give_up(job, &issued.chain_pem);
    job->result->n_failed = issued.n_failed;
    job->result->failed = issued.failed;
    issued.failed = NULL;
    issued.n_failed = 0;
    acme_issue_result_done(&issued);
    return e;
}

static struct err *issue_and_note(struct job *job) MAY_SUSPEND;
static struct err *issue_and_note(struct job *job)
{
    struct host_state *state = &job->facts.state;
    enum plan_want want = job->result->plan.want;
    bool partial = job->result->plan.partial;

    TRY(fiber_sem_acquire(&job->agent->orders));
    struct err *e = issue(job);
    fiber_sem_release(&job->agent->orders);
    key_free(STEAL(job->key));
    TRY(e);
    note_success(job);
    job->result->issued = true;
    state->last_issued = world_now(job->agent->world);
    if (partial || want == WANT_GROW)
        state->last_growth = state->last_issued;
    log_info("issued", "certificate issued", LOG_INT("names", job->result->plan.names.n),
            LOG_STR("serial", job->facts.generation.cert.serial),
            LOG_INT("generation", job->facts.generation.number));
    return save_state(job);
}

/* ---- checking ---- */

static struct err *check(struct job *job, bool probe) MAY_SUSPEND;
static struct err *check(struct job *job, bool probe)
{
    struct agent *agent = job->agent;
    struct host_check_request request = {
            .config = agent->config, .resolver = agent->resolver, .host = job->host};

    if (probe)
        TRY(agent_http01(agent, &request.http01));
    report_host(agent->report, &job->host->host, "checking DNS");
    TRY(host_check_run(&request, &job->result->check));
    return NULL;
}

/* Since when has some name not been ready? It decides when a partial order may be made. */
static struct err *note_completeness(struct job *job) MAY_SUSPEND;
static struct err *note_completeness(struct job *job)
{
    struct host_state *s = &job->facts.state;
    bool complete = job->result->check.n_ready == job->result->check.n;

    if (complete == (s->incomplete_since.ms == 0))
        return NULL;
    s->incomplete_since = complete ? (struct wall){0} : job->facts.now;
    return save_state(job);
}

/* ---- one host, up to the live file ---- */

static void describe(struct job *job)
{
    struct host_result *r = job->result;

    r->generation = job->facts.generation.number;
    cert_info_done(&r->cert);
    cert_info_copy(&r->cert, &job->facts.generation.cert);
    r->next = r->plan.at;
}

static struct err *check_and_issue(struct job *job) MAY_SUSPEND;
static struct err *check_and_issue(struct job *job)
{
    struct host_result *r = job->result;

    TRY(agent_check_writable(job->agent));
    TRY(check(job, true));
    TRY(note_completeness(job));
    plan_check(&job->facts, &job->options->plan, &r->check, &r->plan);
    return r->plan.action == PLAN_ORDER ? issue_and_note(job) : NULL;
}

/* With nothing wanted an earlier failure is history, also one whose success was not noted because
 * the process ended too early. */
static struct err *forget_failure(struct job *job) MAY_SUSPEND;
static struct err *forget_failure(struct job *job)
{
    if (job->facts.state.error_kind == NULL)
        return NULL;
    note_success(job);
    return save_state(job);
}

static struct err *advance(struct job *job) MAY_SUSPEND;
static struct err *advance(struct job *job)
{
    struct host_result *r = job->result;

    TRY(reconcile_load_facts(job->agent, job->host, &job->facts));
    job->has_facts = true;
    plan_first(&job->facts, &job->options->plan, &r->plan);
    if (r->plan.want == WANT_NONE)
        return forget_failure(job);
    if (r->plan.action != PLAN_ORDER)
        return NULL;
    struct err *e = check_and_issue(job);
    if (e == NULL || err_is(e, ERR_CANCELED))
        return e;
    note_failure(job, e);
    return err_first(e, save_state(job));
}

static void settle_outcome(struct job *job, struct err *error)
{
    struct host_result *r = job->result;

    r->error = error;
    if (job->has_facts)
        describe(job);
    if (error != NULL) {
        struct wall soon = wall_add(world_now(job->agent->world), CLOCK_MIN);
        r->outcome = HOST_FAILED;
        r->next = job->facts.state.next_try.ms != 0 ? job->facts.state.next_try : soon;
    } else if (r->plan.action == PLAN_WAIT) {
        r->outcome = r->plan.want == WANT_NONE ? HOST_UNDEPLOYED : HOST_WAITING;
    } else {
        r->outcome = HOST_GOOD;
    }
    if (error == NULL && (r->plan.action == PLAN_ORDER || r->plan.action == PLAN_DEPLOY))
        job->wants_deploy = true;
    else if (r->plan.want != WANT_NONE) /* meanwhile what there is must be served */
        job->wants_deploy = plan_deploys_meanwhile(&job->facts, &job->options->plan);
}

static struct err *run_host(void *arg) MAY_SUSPEND;
static struct err *run_host(void *arg)
{
    struct job *job = arg;
    LOG_SCOPE(LOG_STR("host", job->host->host.text));

    struct err *e = advance(job);
    if (err_is(e, ERR_CANCELED))
        return e;
    settle_outcome(job, e);
    report_host(job->agent->report, &job->host->host, NULL);
    return NULL;
}

/* ---- all hosts ---- */

static struct err *deploy_ready(struct agent *agent, struct job *jobs, size_t n) MAY_SUSPEND;
static struct err *deploy_ready(struct agent *agent, struct job *jobs, size_t n)
{
    AUTO_FREE struct deploy_item *items = mem_array(n + 1, sizeof(*items));
    size_t n_items = 0;

    for (size_t i = 0; i < n; i++) {
        struct job *job = &jobs[i];
        if (!job->wants_deploy)
            continue;
        bool asked_for = job->result->plan.want == WANT_FORCED ||
                         job->result->plan.want == WANT_CA || job->result->plan.want == WANT_DUE;
        items[n_items++] = (struct deploy_item){
                .facts = &job->facts, .result = job->result, .allow_earlier_expiry = asked_for};
    }
    return n_items == 0 ? NULL : deploy(agent, items, n_items);
}

/* Hosts still to be taken, by several workers. */
struct queue {
    struct job *jobs;
    size_t n, next;
};

static struct err *work(void *arg) MAY_SUSPEND;
static struct err *work(void *arg)
{
    struct queue *queue = arg;

    while (queue->next < queue->n)
        TRY(run_host(&queue->jobs[queue->next++]));
    return NULL;
}

static struct err *run_jobs(struct agent *agent, struct job *jobs, size_t n) MAY_SUSPEND;
static struct err *run_jobs(struct agent *agent, struct job *jobs, size_t n)
{
    struct fiber_group group;
    struct queue queue = {.jobs = jobs, .n = n};

    agent->writable = false; /* it was, when this was last asked */
    fiber_group_init(&group);
    for (size_t i = 0; i < n && i < HOSTS_AT_ONCE; i++)
        fiber_group_spawn(&group, "host", work, &queue);
    TRY(fiber_group_wait(&group));
    return deploy_ready(agent, jobs, n);
}

struct err *reconcile(struct agent *agent, const struct host *const *hosts, size_t n,
        const struct reconcile_options *options, struct host_result *results)
{
    AUTO_FREE struct job *jobs = mem_array(n + 1, sizeof(*jobs));

    for (size_t i = 0; i < n; i++) {
        results[i].host = hosts[i];
        jobs[i] = (struct job){
                .agent = agent, .host = hosts[i], .options = options, .result = &results[i]};
    }
    struct err *e = run_jobs(agent, jobs, n);
    agent_sweep(agent);
    for (size_t i = 0; i < n; i++) {
        key_free(jobs[i].key);
        host_facts_done(&jobs[i].facts);
    }
    return e;
}

struct err *reconcile_plan(struct agent *agent, const struct host *host,
        const struct plan_options *options, bool probe, struct host_result *ret)
{
    const struct reconcile_options all = {.plan = *options};
    struct job job = {.agent = agent, .host = host, .options = &all, .result = ret};

    ret->host = host;
    struct err *e = reconcile_load_facts(agent, host, &job.facts);
    if (e == NULL) {
        job.has_facts = true;
        plan_first(&job.facts, options, &ret->plan);
        e = check(&job, probe);
    }
    if (e == NULL) {
        plan_check(&job.facts, options, &ret->check, &ret->plan);
        settle_outcome(&job, NULL);
        if (ret->plan.action == PLAN_ORDER)
            ret->outcome = HOST_WAITING;
        else if (ret->plan.action == PLAN_DEPLOY)
            ret->outcome = HOST_UNDEPLOYED;
    }
    host_facts_done(&job.facts);
    return e;
}
