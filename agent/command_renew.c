/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"
#include "agent/reconcile.h"

#include <stdio.h>

#define TICK_MS ((int64_t)500)
/* `run` looks at a host again at least so often, and never in a tighter loop than this. */
#define LOOK_MAX (12 * CLOCK_HOUR)
#define LOOK_MIN (10 * CLOCK_SEC)
/* After a failure that concerns no host. */
#define LOOK_AGAIN (1 * CLOCK_MIN)

static struct err *tick(void *arg) MAY_SUSPEND;
static struct err *tick(void *arg)
{
    struct report *report = arg;

    for (;;) {
        TRY(fiber_sleep(TICK_MS));
        report_tick(report);
    }
}

struct flow {
    struct command_agent *open;
    const struct reconcile_options *options;
    struct host_result *results;
    struct fiber_group *group;
};

static struct err *reconcile_then_stop_ticking(void *arg) MAY_SUSPEND;
static struct err *reconcile_then_stop_ticking(void *arg)
{
    struct flow *flow = arg;
    struct err *e = reconcile(flow->open->agent, flow->open->hosts, flow->open->n_hosts,
            flow->options, flow->results);

    fiber_group_cancel(flow->group);
    return e;
}

/* The flow, with the display's clock running beside it. */
static struct err *reconcile_visibly(struct command_agent *open,
        const struct reconcile_options *options, struct host_result *results) MAY_SUSPEND;
static struct err *reconcile_visibly(struct command_agent *open,
        const struct reconcile_options *options, struct host_result *results)
{
    struct fiber_group group;
    struct flow flow = {.open = open, .options = options, .results = results, .group = &group};

    fiber_group_init(&group);
    group.keep_going = true;
    fiber_group_spawn(&group, "ticker", tick, open->report);
    fiber_group_spawn(&group, "reconcile", reconcile_then_stop_ticking, &flow);
    struct err *e = fiber_group_wait(&group);
    struct err *stop = fiber_check();
    if (stop == NULL && err_is(e, ERR_CANCELED)) {
        err_free(e); /* the ticker's */
        return NULL;
    }
    return err_first(stop, e);
}

static void free_results(struct host_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++)
        host_result_done(&results[i]);
    free(results);
}

static bool is_good(const struct host_result *r)
{
    return r->outcome == HOST_GOOD || r->outcome == HOST_DONE;
}

static void print_results(
        struct command_context *context, const struct host_result *results, size_t n)
{
    AUTO_BUF struct buf out = BUF_INIT((size_t)16 * 1024 * 1024);
    struct wall now = world_now(context->world);
    size_t quiet_ones = 0;

    for (size_t i = 0; i < n; i++) {
        /* A long list of hosts with nothing to say is summed up. */
        if (n > 20 && results[i].outcome == HOST_GOOD) {
            quiet_ones++;
            continue;
        }
        if (!context->line->quiet || !is_good(&results[i]))
            report_print_result(&out, &results[i], now, context->color);
    }
    if (quiet_ones > 0 && !context->line->quiet)
        buf_printf(&out, "%zu hosts: nothing due\n", quiet_ones);
    if (n == 0 && !context->line->quiet)
        buf_printf(&out, "no XMPP domains are configured\n  do:   set domains in the "
                         "configuration, or CERTHERD_DOMAINS\n");
    command_print(&out);
}

static void print_results_json(
        struct command_context *context, const struct host_result *results, size_t n)
{
    json_t *root = command_json("renew");
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_push(list, report_result_json(&results[i]));
    json_put_int(root, "exit_status", context->exit_status);
    json_put(root, "hosts", list);
    command_print_json(root);
}

static struct err *renew(struct command_context *context, struct command_agent *open) MAY_SUSPEND;
static struct err *renew(struct command_context *context, struct command_agent *open)
{
    struct reconcile_options options = {.plan = {.force = context->line->force,
                                                .named = context->line->n_hosts > 0,
                                                .one_shot = true}};
    size_t n = open->n_hosts;
    struct host_result *results = mem_array(n + 1, sizeof(*results));

    struct err *e = reconcile_visibly(open, &options, results);
    report_pause(open->report);
    if (e == NULL) {
        context->exit_status = report_exit_status(results, n);
        if (context->line->json)
            print_results_json(context, results, n);
        else
            print_results(context, results, n);
    }
    free_results(results, n);
    return e;
}

struct err *command_renew(struct command_context *context)
{
    AUTO_COMMAND_AGENT struct command_agent open = {0};
    bool locked = false;

    TRY(command_agent_open(context, false, &open));
    TRY(command_lock(context, open.agent, &locked));
    return locked ? renew(context, &open) : NULL;
}

/* ---- run ---- */

static void log_result(const struct host_result *r)
{
    LOG_SCOPE(LOG_STR("host", r->host->host.text));

    if (r->error != NULL)
        log_error("failed", err_text(r->error), LOG_STR("do", err_advice(r->error)));
    for (size_t i = 0; i < r->n_nodes; i++)
        if (r->nodes[i].error != NULL)
            log_error("not-deployed", err_text(r->nodes[i].error),
                    LOG_STR("node", r->nodes[i].node),
                    LOG_STR("do", err_advice(r->nodes[i].error)));
    for (size_t i = 0; i < r->check.n; i++)
        if (r->check.v[i].verdict == NAME_BLOCKED)
            log_warning("dns", r->check.v[i].sentence, LOG_STR("name", r->check.v[i].dns.name.text),
                    LOG_STR("add", r->check.v[i].record));
    if (r->outcome == HOST_DONE)
        log_info("deployed", "certificate deployed and proved",
                LOG_INT("generation", r->generation));
}

/* When each host is due; one that polls for a record makes nobody else be looked at. */
struct agenda {
    size_t n;
    const struct host **hosts; /* borrowed, as their elements are */
    struct wall *due;
    size_t *taken; /* indices of those that are looked at now */
    size_t n_taken;
};

static void agenda_done(struct agenda *a)
{
    free(a->due);
    free(a->taken);
}

/* The wall clock may have gone back since: nobody waits longer than LOOK_MAX. */
static void take_due(struct agenda *a, struct wall now)
{
    a->n_taken = 0;
    for (size_t i = 0; i < a->n; i++)
        if (!wall_before(now, a->due[i]) || wall_diff(a->due[i], now) > LOOK_MAX)
            a->taken[a->n_taken++] = i;
}

static struct wall within(struct wall now, struct wall when)
{
    struct wall first = wall_add(now, LOOK_MIN), last = wall_add(now, LOOK_MAX);

    return wall_before(when, first) ? first : wall_before(last, when) ? last : when;
}

static struct wall next_look(const struct agenda *a, struct wall now)
{
    struct wall next = wall_add(now, LOOK_MAX);

    for (size_t i = 0; i < a->n; i++)
        if (wall_before(a->due[i], next))
            next = a->due[i];
    return within(now, next);
}

static struct err *run_once(
        struct command_context *context, struct agent *agent, struct agenda *agenda) MAY_SUSPEND;
static struct err *run_once(
        struct command_context *context, struct agent *agent, struct agenda *agenda)
{
    struct reconcile_options options = {0};
    size_t n = agenda->n_taken;
    struct host_result *results = mem_array(n + 1, sizeof(*results));
    AUTO_FREE const struct host **hosts = mem_array(n + 1, sizeof(struct host *));

    for (size_t i = 0; i < n; i++)
        hosts[i] = agenda->hosts[agenda->taken[i]];
    struct err *e = reconcile(agent, hosts, n, &options, results);
    struct wall now = world_now(context->world);
    for (size_t i = 0; i < n; i++) {
        if (e == NULL)
            log_result(&results[i]);
        struct wall next = results[i].next.ms != 0 ? results[i].next : wall_add(now, LOOK_MAX);
        agenda->due[agenda->taken[i]] = within(now, e == NULL ? next : wall_add(now, LOOK_AGAIN));
    }
    free_results(results, n);
    return e;
}

/* The wall clock may jump and the machine may sleep, so a long wait is made of short ones, and is
 * never longer than LOOK_MAX on the other clock either. */
static struct err *wait_until(struct world *world, struct wall when) MAY_SUSPEND;
static struct err *wait_until(struct world *world, struct wall when)
{
    struct mono last = mono_add(world_mono(world), (uint64_t)LOOK_MAX);
    int64_t left;

    while ((left = wall_diff(when, world_now(world))) > 0 && mono_diff(last, world_mono(world)) > 0)
        TRY(fiber_sleep(left < CLOCK_MIN ? left : CLOCK_MIN));
    return NULL;
}

static struct err *run_for_ever(struct command_context *context, struct command_agent *open)
        MAY_SUSPEND;
static struct err *run_for_ever(struct command_context *context, struct command_agent *open)
{
    AUTO(agenda_done)
    struct agenda agenda = {.n = open->n_hosts,
            .hosts = open->hosts,
            .due = mem_array(open->n_hosts + 1, sizeof(struct wall)),
            .taken = mem_array(open->n_hosts + 1, sizeof(size_t))};

    log_info("start", "certherd is running", LOG_INT("hosts", open->n_hosts));
    for (;;) {
        char text[WALL_TEXT_MAX];
        take_due(&agenda, world_now(context->world));
        struct err *e = run_once(context, open->agent, &agenda);
        if (err_is(e, ERR_CANCELED))
            return e;
        if (e != NULL)
            log_error("failed", err_text(e), LOG_STR("do", err_advice(e)));
        err_free(e);
        struct wall next = next_look(&agenda, world_now(context->world));
        log_info("sleep", "nothing to do until then", LOG_STR("next", wall_format(next, text)));
        TRY(wait_until(context->world, next));
    }
}

struct err *command_run(struct command_context *context)
{
    AUTO_COMMAND_AGENT struct command_agent open = {0};
    bool locked = false;

    TRY(command_agent_open(context, false, &open));
    TRY(command_lock(context, open.agent, &locked));
    if (!locked)
        return NULL;
    struct err *e = run_for_ever(context, &open);
    if (err_is(e, ERR_CANCELED)) {
        log_info("stop", "certherd was asked to stop");
        err_free(e);
        return NULL;
    }
    return e;
}
