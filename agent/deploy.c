/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes are served one after another, hosts of one node together: one reload makes all new files
 * live. Before anything is changed the handshakes that work now are noted (the baseline); only a
 * check that worked then and fails now takes a file back. A reload may answer before each port has
 * the new certificate (ejabberd issue 4102), so what is missing at the first look is looked for
 * again, after a second reload.
 */
#include "agent/deploy.h"

#include <assert.h>

#define PROOFS_AT_ONCE  ((size_t)8)
#define SETTLE_MS       ((int64_t)1000)
#define RELOADS_PER_TRY 3

/* One host on one node. */
struct proof_job {
    struct agent *agent;
    const struct config_node *node;
    struct deploy_item *item;
    struct fiber_sem *sem;
    struct proof_limits *limits;
    struct proof_result *result;
    bool any_certificate; /* the baseline: what is served now */
};

/* ---- proof of several hosts ---- */

static struct err *prove_one(void *arg) MAY_SUSPEND;
static struct err *prove_one(void *arg)
{
    struct proof_job *job = arg;
    const struct host_facts *facts = job->item->facts;
    struct name_list names = {0};
    struct proof_request request = {.node = job->node->name,
            .probe_host = job->node->probe_host,
            .host = &facts->host->host,
            .names = &names,
            .roots = job->agent->config->acme.roots,
            .limits = job->limits,
            .leaf_sha256 = job->any_certificate ? NULL : facts->generation.cert.leaf_sha256};

    memcpy(request.ports, job->node->probe_ports, sizeof(request.ports));
    for (size_t i = 0; i < facts->host->names.n; i++)
        if (cert_covers(&facts->generation.cert, &facts->host->names.v[i]))
            name_list_add(&names, &facts->host->names.v[i]);
    struct err *e = fiber_sem_acquire(job->sem);
    if (e == NULL) {
        e = proof_run(job->agent->world, &request, job->result);
        fiber_sem_release(job->sem);
    }
    name_list_done(&names);
    return e;
}

struct node_run {
    struct agent *agent;
    const struct config_node *node;
    struct deploy_item *items;
    size_t n;
    struct proof_result *before; /* baseline, one per item */
    struct proof_result *now;
    bool reloaded;
};

static struct err *prove_all(
        struct node_run *run, struct proof_result *results, bool any_certificate) MAY_SUSPEND;
static struct err *prove_all(
        struct node_run *run, struct proof_result *results, bool any_certificate)
{
    AUTO_FREE struct proof_job *jobs = mem_array(run->n, sizeof(*jobs));
    struct fiber_group group;
    struct fiber_sem sem;
    struct proof_limits limits;

    proof_limits_init(&limits);
    fiber_sem_init(&sem, PROOFS_AT_ONCE);
    fiber_group_init(&group);
    for (size_t i = 0; i < run->n; i++) {
        proof_result_done(&results[i]);
        results[i] = (struct proof_result){0};
        if (run->items[i].left_out != NULL)
            continue;
        jobs[i] = (struct proof_job){.agent = run->agent,
                .node = run->node,
                .item = &run->items[i],
                .sem = &sem,
                .limits = &limits,
                .result = &results[i],
                .any_certificate = any_certificate};
        report_host(run->agent->report, &run->items[i].facts->host->host,
                any_certificate ? "looking at what is served" : "proving on the wire");
        fiber_group_spawn(&group, run->items[i].facts->host->host.text, prove_one, &jobs[i]);
    }
    return fiber_group_wait(&group);
}

/* What a reload may mend: an earlier certificate, or (first: before a reload was made) no handshake
 * at all, since ejabberd drops what it could not read, and nothing that could show it. It does not
 * teach ejabberd a name, open a port, or make a chain trusted. */
static bool reload_may_help(const struct node_run *run, bool first)
{
    for (size_t i = 0; i < run->n; i++) {
        const uint8_t *newest = run->items[i].facts->generation.cert.leaf_sha256;
        const struct proof_result *now = &run->now[i];
        if (run->items[i].left_out != NULL)
            continue;
        if (first && now->n == 0)
            return true;
        for (size_t k = 0; k < now->n; k++) {
            const struct proof_check *c = &now->checks[k];
            if (first && c->state == PROOF_FAILED)
                return true;
            if ((c->state == PROOF_OTHER_CERTIFICATE || c->state == PROOF_NOT_VALID) &&
                    memcmp(c->leaf_sha256, newest, sizeof(c->leaf_sha256)) != 0)
                return true;
        }
    }
    return false;
}

/* ---- what works no longer ---- */

static bool handshake_worked(const struct proof_check *check)
{
    return check->state == PROOF_OK || check->state == PROOF_OTHER_CERTIFICATE ||
           check->state == PROOF_NOT_VALID;
}

static const struct proof_check *baseline_of(
        const struct proof_result *before, const struct proof_check *check)
{
    for (size_t i = 0; i < before->n; i++)
        if (before->checks[i].port == check->port && before->checks[i].sni == check->sni &&
                name_equal(&before->checks[i].name, &check->name))
            return &before->checks[i];
    return NULL;
}

/* A handshake that worked before we came and fails now; unless: but not if it worked with this
 * certificate (or NULL). */
static const struct proof_check *find_broken(
        const struct proof_result *before, const struct proof_result *now, const uint8_t *unless)
{
    for (size_t i = 0; i < now->n; i++) {
        const struct proof_check *was = baseline_of(before, &now->checks[i]);
        if (now->checks[i].state == PROOF_FAILED && was != NULL && handshake_worked(was) &&
                (unless == NULL || memcmp(was->leaf_sha256, unless, 32) != 0))
            return &now->checks[i];
    }
    return NULL;
}

static bool any_broken(const struct node_run *run)
{
    for (size_t i = 0; i < run->n; i++)
        if (find_broken(&run->before[i], &run->now[i], NULL) != NULL)
            return true;
    return false;
}

/* ---- reload ---- */

static struct err *reload(struct node_run *run) MAY_SUSPEND;
static struct err *reload(struct node_run *run)
{
    if (run->node->api.url == NULL)
        return err_advise(ERR(ERR_CONFIG, "nothing reloads the ejabberd node %s", run->node->name),
                "set ejabberd.api, or reload ejabberd yourself");
    for (size_t i = 0; i < run->n; i++)
        report_host(run->agent->report, &run->items[i].facts->host->host, "reloading ejabberd");
    TRY(ejabberd_reload(run->agent->world, &run->node->api));
    run->reloaded = true;
    return NULL;
}

/* Reload and look, again while some port still has another certificate or no longer answers: where
 * the options of a listener were changed too, ejabberd may fail to open it again, until the next
 * reload. *ret_reload is the last reload's error. */
static struct err *reload_and_prove(struct node_run *run, struct err **ret_reload) MAY_SUSPEND;
static struct err *reload_and_prove(struct node_run *run, struct err **ret_reload)
{
    for (int round = 0; round < RELOADS_PER_TRY; round++) {
        if (round > 0)
            TRY(fiber_sleep(SETTLE_MS));
        *ret_reload = reload(run);
        if (err_is(*ret_reload, ERR_CANCELED))
            return STEAL(*ret_reload);
        TRY(prove_all(run, run->now, false));
        if (*ret_reload != NULL || !(reload_may_help(run, false) || any_broken(run)))
            break;
    }
    return NULL;
}

/* ---- roll-back ---- */

static struct err *roll_back(struct node_run *run, size_t i, const struct proof_check *broken)
        MAY_SUSPEND;
static struct err *roll_back(struct node_run *run, size_t i, const struct proof_check *broken)
{
    struct deploy_item *item = &run->items[i];
    struct node_result *node = &item->result->nodes[item->result->n_nodes - 1];

    AUTO_ERR struct err *e = store_live_roll_back(run->agent->store, &item->facts->host->host);
    if (err_is(e, ERR_CANCELED))
        return STEAL(e);
    node->rolled_back = e == NULL;
    if (e == NULL)
        e = err_context(reload(run), "the old file was put back, but not reloaded");
    else
        e = err_context(STEAL(e), "the new file could not be taken back");
    err_free(STEAL(node->error));
    node->error = ERR(ERR_RETRY,
            "the handshake on %s for %s worked before and fails with the new certificate (%s); %s",
            proof_port_name(broken->port), broken->name.text,
            broken->detail != NULL ? broken->detail : "no reason given",
            e != NULL ? err_text(e) : "the old file was put back");
    return NULL;
}

/* ---- one node ---- */

static struct err *proof_error(const struct proof_result *proof)
{
    for (size_t i = 0; i < proof->n; i++) {
        const struct proof_check *c = &proof->checks[i];
        if (c->state == PROOF_OK || c->state == PROOF_REPORTED)
            continue;
        return ERR(ERR_RETRY, "%s%s for %s: %s", proof_port_name(c->port),
                c->sni ? "" : " (without SNI)", c->name.text,
                c->detail != NULL ? c->detail : proof_state_name(c->state));
    }
    return NULL;
}

static struct node_result *add_node_result(
        struct host_result *result, const struct config_node *node)
{
    result->nodes = mem_realloc_array(result->nodes, result->n_nodes + 1, sizeof(*result->nodes));
    result->nodes[result->n_nodes] = (struct node_result){.node = node->name};
    return &result->nodes[result->n_nodes++];
}

static void set_deployed(struct host_facts *facts, const char *node, struct wall now)
{
    struct host_state *s = &facts->state;
    size_t i = 0;

    while (i < s->n_deployed && strcmp(s->deployed[i].node, node) != 0)
        i++;
    if (i == s->n_deployed) {
        if (i == STORE_NODES_MAX)
            return; /* config_load() allows no more nodes than that */
        s->deployed[i].node = str_dup(node);
        s->n_deployed++;
    }
    s->deployed[i].generation = facts->generation.number;
    s->deployed[i].since = now;
}

static struct err *settle_item(struct node_run *run, size_t i, const struct err *reload_error)
        MAY_SUSPEND;
static struct err *settle_item(struct node_run *run, size_t i, const struct err *reload_error)
{
    struct deploy_item *item = &run->items[i];
    struct node_result *node = add_node_result(item->result, run->node);
    const struct proof_check *broken = NULL;
    const struct proof_result *now = &run->now[i];

    node->reloaded = run->reloaded && reload_error == NULL;
    if (reload_error != NULL)
        node->error = err_advise(ERR(err_kind(reload_error), "%s", err_text(reload_error)), "%s",
                err_advice(reload_error) != NULL ? err_advice(reload_error) : "see ejabberd's log");
    /* What worked with the newest certificate and fails now is not broken by it. */
    else if ((broken = find_broken(
                      &run->before[i], now, item->facts->generation.cert.leaf_sha256)) != NULL)
        err_ignore(roll_back(run, i, broken), "rolling back"); /* node->error says what happened */
    if (node->error == NULL)
        node->error = proof_error(now);
    /* Served as it should be counts, whoever reloaded it; with all ports "off" a reload has to do.
     */
    if (now->n_failed == 0 && (now->n > 0 || node->reloaded) && !node->rolled_back) {
        err_free(STEAL(node->error));
        set_deployed(item->facts, run->node->name, world_now(run->agent->world));
    }
    node->proof = run->now[i];
    run->now[i] = (struct proof_result){0};
    return NULL;
}

static struct err *deploy_node(struct node_run *run, bool files_changed) MAY_SUSPEND;
static struct err *deploy_node(struct node_run *run, bool files_changed)
{
    AUTO_ERR struct err *reload_error = NULL;

    if (!files_changed)
        TRY(prove_all(run, run->now, false));
    if (files_changed || reload_may_help(run, true))
        TRY(reload_and_prove(run, &reload_error));
    for (size_t i = 0; i < run->n; i++)
        if (run->items[i].left_out == NULL)
            TRY(settle_item(run, i, reload_error));
    return NULL;
}

/* ---- live files ---- */

static struct err *install(struct agent *agent, struct deploy_item *item, bool *ret_changed)
        MAY_SUSPEND;
static struct err *install(struct agent *agent, struct deploy_item *item, bool *ret_changed)
{
    const struct host_facts *facts = item->facts;
    struct store_install request = {.wanted = &facts->host->names,
            .roots = agent->config->acme.roots,
            .allow_earlier_expiry = item->allow_earlier_expiry,
            .now = world_now(agent->world)};
    enum store_installed installed;
    AUTO_FREE char *why = NULL;

    *ret_changed = false;
    TRY(store_live_install(agent->store, &facts->host->host, facts->generation.number, &request,
            &installed, &why));
    if (installed == STORE_WORSE)
        return err_advise(
                ERR(ERR_CONFIG, "the live certificate is kept: the new one is worse (%s)", why),
                "check acme.directory and acme.roots");
    *ret_changed = installed == STORE_INSTALLED;
    item->result->installed = *ret_changed;
    return NULL;
}

/* One host. */
struct item_job {
    struct agent *agent;
    struct deploy_item *item;
    bool changed;
};

/* The work on files of all hosts at once: the disk's waits overlap. */
static struct err *for_each_item(struct item_job *jobs, size_t n, struct err *(*fn)(void *job))
        MAY_SUSPEND;
static struct err *for_each_item(struct item_job *jobs, size_t n, struct err *(*fn)(void *job))
{
    struct fiber_group group;

    fiber_group_init(&group);
    for (size_t i = 0; i < n; i++)
        fiber_group_spawn(&group, jobs[i].item->facts->host->host.text, fn, &jobs[i]);
    return fiber_group_wait(&group);
}

static struct err *install_one(void *arg) MAY_SUSPEND;
static struct err *install_one(void *arg)
{
    struct item_job *job = arg;

    struct err *e = install(job->agent, job->item, &job->changed);
    if (err_is(e, ERR_CANCELED))
        return e;
    job->item->left_out = e;
    return NULL;
}

/* ---- state ---- */

static const struct err *deploy_error(const struct deploy_item *item, bool *ret_taken_back)
{
    const struct host_result *r = item->result;
    const struct err *error = item->left_out;

    *ret_taken_back = false;
    for (size_t i = 0; i < r->n_nodes; i++) {
        *ret_taken_back |= r->nodes[i].rolled_back;
        if (error == NULL)
            error = r->nodes[i].error;
    }
    return error;
}

/* Deploying costs nobody anything: every minute at first, every 15 minutes in the end. But each try
 * of a certificate that was taken back interrupts the service. */
static void note_deploy(
        struct agent *agent, struct host_state *s, const struct err *error, bool taken_back)
{
    char *text = error != NULL ? str_dup(err_text(error)) : NULL;
    uint64_t random;

    free(s->deploy_error);
    s->deploy_error = text;
    s->deploy_attempts = error != NULL ? s->deploy_attempts + 1 : 0;
    s->next_deploy = (struct wall){0};
    if (error == NULL)
        return;
    world_random(agent->world, &random, sizeof(random));
    int64_t minutes = s->deploy_attempts < 15 ? s->deploy_attempts : 15;
    s->next_deploy = wall_add(world_now(agent->world),
            taken_back ? plan_back_off(s->deploy_attempts, random) : minutes * CLOCK_MIN);
}

static struct err *save(struct agent *agent, struct deploy_item *item) MAY_SUSPEND;
static struct err *save(struct agent *agent, struct deploy_item *item)
{
    struct host_state *s = &item->facts->state;
    struct host_result *r = item->result;
    bool taken_back, stored;
    const struct err *error = deploy_error(item, &taken_back);
    /* Served, but not all that is wanted: the rest is looked at again soon. */
    bool waits = r->plan.partial || (r->plan.action == PLAN_WAIT && r->plan.want != WANT_NONE);
    bool order_failed = r->error != NULL;

    note_deploy(agent, s, error, taken_back);
    r->outcome = order_failed    ? HOST_FAILED
                 : error != NULL ? HOST_UNDEPLOYED
                 : waits         ? HOST_WAITING
                                 : HOST_DONE;
    if (!order_failed && !waits)
        r->next = error != NULL ? s->next_deploy : plan_due(&item->facts->generation.cert);
    else if (error != NULL && wall_before(s->next_deploy, r->next))
        r->next = s->next_deploy;
    if (!order_failed)
        r->error = STEAL(item->left_out);
    TRY(store_state_save(agent->store, &item->facts->host->host, s, &stored));
    if (!stored)
        return ERR(ERR_LOCAL, "the state of %s was changed by another process",
                item->facts->host->host.text);
    return NULL;
}

static struct err *save_one(void *arg) MAY_SUSPEND;
static struct err *save_one(void *arg)
{
    const struct item_job *job = arg;

    return save(job->agent, job->item);
}

static void free_proofs(struct node_run *runs, size_t n_nodes, size_t n)
{
    for (size_t k = 0; k < n_nodes; k++) {
        for (size_t i = 0; i < n; i++) {
            proof_result_done(&runs[k].before[i]);
            proof_result_done(&runs[k].now[i]);
        }
        free(runs[k].before);
        free(runs[k].now);
    }
}

static struct err *deploy_nodes(struct agent *agent, struct node_run *runs,
        struct deploy_item *items, size_t n) MAY_SUSPEND;
static struct err *deploy_nodes(
        struct agent *agent, struct node_run *runs, struct deploy_item *items, size_t n)
{
    AUTO_FREE struct item_job *jobs = mem_array(n, sizeof(*jobs));
    bool changed = false;
    size_t n_nodes = agent->config->n_nodes;

    for (size_t i = 0; i < n; i++)
        jobs[i] = (struct item_job){.agent = agent, .item = &items[i]};
    for (size_t k = 0; k < n_nodes; k++)
        TRY(prove_all(&runs[k], runs[k].before, true));
    TRY(for_each_item(jobs, n, install_one));
    for (size_t i = 0; i < n; i++)
        changed |= jobs[i].changed;
    for (size_t k = 0; k < n_nodes; k++)
        TRY(deploy_node(&runs[k], changed));
    TRY(for_each_item(jobs, n, save_one));
    for (size_t i = 0; i < n; i++)
        report_host(agent->report, &items[i].facts->host->host, NULL);
    return NULL;
}

struct err *deploy(struct agent *agent, struct deploy_item *items, size_t n)
{
    size_t n_nodes = agent->config->n_nodes;
    AUTO_FREE struct node_run *runs = mem_array(n_nodes + 1, sizeof(*runs));

    for (size_t k = 0; k < n_nodes; k++)
        runs[k] = (struct node_run){.agent = agent,
                .node = &agent->config->nodes[k],
                .items = items,
                .n = n,
                .before = mem_array(n, sizeof(struct proof_result)),
                .now = mem_array(n, sizeof(struct proof_result))};
    struct err *e = deploy_nodes(agent, runs, items, n);
    free_proofs(runs, n_nodes, n);
    for (size_t i = 0; i < n; i++)
        err_free(STEAL(items[i].left_out));
    return e;
}
