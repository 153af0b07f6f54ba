/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"
#include "agent/reconcile.h"

#include <stdio.h>

#define HOSTS_AT_ONCE ((size_t)20)

/* ---- hosts ---- */

static void print_host_names(struct buf *out, const struct host *host)
{
    for (size_t i = 0; i < host->names.n; i++)
        buf_printf(out, "%-40s %s\n", host->names.v[i].text, host->origin);
}

static json_t *host_json(const struct host *host)
{
    json_t *o = json_object();
    json_t *names = json_array();

    for (size_t i = 0; i < host->names.n; i++)
        json_push(names, json_string(host->names.v[i].text));
    json_put_str(o, "host", host->host.text);
    json_put_str(o, "domain", host->domain.text);
    json_put_str(o, "prefix", host->prefix);
    json_put(o, "names", names);
    json_put_str(o, "origin", host->origin);
    return o;
}

struct err *command_hosts(struct command_context *context)
{
    AUTO_HOST_SET struct host_set set = {0};
    AUTO_BUF struct buf out = BUF_INIT((size_t)16 * 1024 * 1024);

    TRY(host_set_make(context->config, &set));
    if (context->line->json) {
        json_t *root = command_json("hosts");
        json_t *list = json_array();
        for (size_t i = 0; i < set.n; i++)
            json_push(list, host_json(&set.v[i]));
        json_put(root, "hosts", list);
        command_print_json(root);
        return NULL;
    }
    for (size_t i = 0; i < set.n; i++)
        print_host_names(&out, &set.v[i]);
    command_print(&out);
    return NULL;
}

/* ---- plan ---- */

struct plan_job {
    struct agent *agent;
    const struct host *host;
    bool probe;
    bool named; /* on the command line: then our own back-off does not count */
    struct fiber_sem *sem;
    struct host_result result;
};

static struct err *plan_host(void *arg) MAY_SUSPEND;
static struct err *plan_host(void *arg)
{
    struct plan_job *job = arg;
    const struct plan_options options = {.named = job->named, .one_shot = true};

    TRY(fiber_sem_acquire(job->sem));
    struct err *e = reconcile_plan(job->agent, job->host, &options, job->probe, &job->result);
    fiber_sem_release(job->sem);
    return e;
}

static const char *target(const struct name_check *c)
{
    return c->dns.n_chain > 0 ? c->dns.chain[c->dns.n_chain - 1].text : NULL;
}

static void print_name(struct buf *out, const struct name_check *c)
{
    char addr[ADDR_TEXT_MAX];

    buf_printf(out, "  %-8s %s", name_verdict_name(c->verdict), c->dns.name.text);
    if (target(c) != NULL)
        buf_printf(out, " -> %s%s", target(c), c->dns.wildcard ? " (wildcard)" : "");
    for (size_t i = 0; i < c->dns.n_addrs; i++)
        buf_printf(out, "%s %s", i == 0 && target(c) == NULL ? " ->" : "",
                addr_format_ip(&c->dns.addrs[i], addr));
    buf_putc(out, '\n');
}

static void print_plan(struct buf *out, const struct host_result *r, bool color)
{
    buf_printf(out, "%s: %s\n", r->host->host.text, r->plan.reason);
    for (size_t i = 0; i < r->check.n; i++)
        print_name(out, &r->check.v[i]);
    report_print_check(out, &r->host->host, &r->check, color);
    switch (r->plan.action) {
    case PLAN_NOTHING:
        buf_printf(out, "  now:  nothing\n");
        break;
    case PLAN_DEPLOY:
        buf_printf(out, "  now:  make it live, reload ejabberd, prove it on every port\n");
        break;
    case PLAN_ORDER:
        buf_printf(out, "  now:  order one certificate for %zu of %zu names by http-01\n",
                r->plan.names.n, r->host->names.n);
        break;
    case PLAN_WAIT:
    case PLAN_ACTION_MAX:
        buf_printf(out, "  now:  wait\n");
        break;
    }
}

static json_t *plan_result_json(const struct host_result *r)
{
    json_t *o = report_result_json(r);

    json_put(o, "host_set", host_json(r->host));
    return o;
}

static void print_plans(struct command_context *context, const struct plan_job *jobs, size_t n)
{
    AUTO_BUF struct buf out = BUF_INIT((size_t)16 * 1024 * 1024);
    json_t *root = command_json("plan");
    json_t *list = json_array();
    size_t to_do = 0;

    for (size_t i = 0; i < n; i++) {
        const struct host_result *r = &jobs[i].result;
        bool blocked = r->check.n_ready < r->check.n;
        to_do += blocked || r->plan.action != PLAN_NOTHING;
        print_plan(&out, r, context->color);
        json_push(list, plan_result_json(r));
    }
    context->exit_status = to_do > 0 ? EXIT_SOME_NOT_GOOD : EXIT_GOOD;
    json_put_int(root, "exit_status", context->exit_status);
    json_put(root, "hosts", list);
    if (context->line->json) {
        command_print_json(root);
        return;
    }
    json_decref(root);
    command_print(&out);
}

static struct err *plan_all(struct command_context *context, struct command_agent *open)
        MAY_SUSPEND;
static struct err *plan_all(struct command_context *context, struct command_agent *open)
{
    struct fiber_group group;
    struct fiber_sem sem;
    struct plan_job *jobs = mem_array(open->n_hosts + 1, sizeof(*jobs));

    fiber_sem_init(&sem, HOSTS_AT_ONCE);
    fiber_group_init(&group);
    for (size_t i = 0; i < open->n_hosts; i++) {
        jobs[i] = (struct plan_job){.agent = open->agent,
                .host = open->hosts[i],
                .probe = context->line->probe,
                .named = context->line->n_hosts > 0,
                .sem = &sem};
        fiber_group_spawn(&group, open->hosts[i]->host.text, plan_host, &jobs[i]);
    }
    struct err *e = fiber_group_wait(&group);
    if (context->line->probe)
        agent_sweep(open->agent);
    report_pause(open->report);
    if (e == NULL)
        print_plans(context, jobs, open->n_hosts);
    for (size_t i = 0; i < open->n_hosts; i++)
        host_result_done(&jobs[i].result);
    free(jobs);
    return e;
}

/* Without the probe nothing is written. With it a token is, so nobody else may be at work: his
 * tokens would be taken for those of a crash. */
struct err *command_plan(struct command_context *context)
{
    AUTO_COMMAND_AGENT struct command_agent open = {0};
    bool probe = context->line->probe, go_on = true;

    TRY(command_agent_open(context, !probe, &open));
    if (probe)
        TRY(command_lock(context, open.agent, &go_on));
    return go_on ? plan_all(context, &open) : NULL;
}
