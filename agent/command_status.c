/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"
#include "agent/reconcile.h"

#include <stdio.h>

enum host_condition {
    CONDITION_GOOD,
    CONDITION_UNDEPLOYED,
    CONDITION_NONE, /* no certificate */
    CONDITION_FAILING,
    CONDITION_EXPIRED,
    CONDITION_MAX
};

static const char *condition_name(enum host_condition condition)
{
    static const char *const names[CONDITION_MAX] = {
            "good", "undeployed", "none", "failing", "expired"};

    return names[condition];
}

static enum host_condition condition_of(const struct host_facts *f, const struct plan *plan)
{
    if (f->generation.number == 0)
        return f->state.error_kind != NULL ? CONDITION_FAILING : CONDITION_NONE;
    if (!wall_before(f->now, f->generation.cert.not_after))
        return CONDITION_EXPIRED;
    if (f->state.error_kind != NULL)
        return CONDITION_FAILING;
    return plan->action == PLAN_NOTHING || plan->want != WANT_NONE ? CONDITION_GOOD
                                                                   : CONDITION_UNDEPLOYED;
}

static void print_status(struct buf *out, const struct host_facts *f, const struct plan *plan)
{
    char when[WALL_TEXT_MAX], span[WALL_TEXT_MAX];
    const struct host_state *s = &f->state;

    buf_printf(out, "%s: %s\n", f->host->host.text, condition_name(condition_of(f, plan)));
    if (f->generation.number != 0)
        buf_printf(out, "  certificate: generation %llu, %zu names, until %s (%s left), from %s\n",
                (unsigned long long)f->generation.number, f->generation.cert.names.n,
                wall_format(f->generation.cert.not_after, when),
                clock_span(wall_diff(f->generation.cert.not_after, f->now), span),
                f->generation.cert.issuer);
    for (size_t i = 0; i < s->n_deployed; i++)
        buf_printf(out, "  proved on %s: generation %llu at %s\n", s->deployed[i].node,
                (unsigned long long)s->deployed[i].generation,
                wall_format(s->deployed[i].since, when));
    buf_printf(out, "  next: %s%s%s\n", plan->reason, plan->at.ms != 0 ? ", at " : "",
            plan->at.ms != 0 ? wall_format(plan->at, when) : "");
    if (s->error_text != NULL)
        buf_printf(out, "  last failure (since %s): %s\n", wall_format(s->error_since, when),
                s->error_text);
    if (s->error_advice != NULL)
        buf_printf(out, "  do:   %s\n", s->error_advice);
    if (s->deploy_error != NULL)
        buf_printf(out, "  not deployed: %s\n", s->deploy_error);
}

static json_t *status_json(const struct host_facts *f, const struct plan *plan)
{
    const struct host_state *s = &f->state;
    json_t *o = json_object();
    json_t *deployed = json_array();

    for (size_t i = 0; i < s->n_deployed; i++) {
        json_t *d = json_object();
        json_put_str(d, "node", s->deployed[i].node);
        json_put_int(d, "generation", (int64_t)s->deployed[i].generation);
        report_put_time(d, "since", s->deployed[i].since);
        json_push(deployed, d);
    }
    json_put_str(o, "host", f->host->host.text);
    json_put_str(o, "condition", condition_name(condition_of(f, plan)));
    json_put(o, "certificate", report_cert_json(&f->generation.cert, f->generation.number));
    json_put(o, "deployed", deployed);
    json_put_str(o, "action", plan_action_name(plan->action));
    json_put_str(o, "reason", plan->reason);
    report_put_time(o, "next", plan->at);
    json_put_int(o, "attempts", s->attempts);
    json_put_str(o, "error_kind", s->error_kind);
    json_put_str(o, "error", s->error_text);
    json_put_str(o, "advice", s->error_advice);
    report_put_time(o, "error_since", s->error_since);
    json_put_str(o, "deploy_error", s->deploy_error);
    return o;
}

struct err *command_status(struct command_context *context)
{
    AUTO_COMMAND_AGENT struct command_agent open = {0};
    AUTO_BUF struct buf out = BUF_INIT((size_t)16 * 1024 * 1024);
    struct plan_options options = {0};
    size_t good = 0;

    TRY(command_agent_open(context, true, &open));
    AUTO_JSON json_t *list = json_array();
    for (size_t i = 0; i < open.n_hosts; i++) {
        AUTO_HOST_FACTS struct host_facts facts = {0};
        AUTO_PLAN struct plan plan = {0};
        TRY(reconcile_load_facts(open.agent, open.hosts[i], &facts));
        plan_first(&facts, &options, &plan);
        good += condition_of(&facts, &plan) == CONDITION_GOOD;
        print_status(&out, &facts, &plan);
        json_push(list, status_json(&facts, &plan));
    }
    context->exit_status = command_exit_status(good, open.n_hosts);
    if (!context->line->json) {
        command_print(&out);
        return NULL;
    }
    json_t *root = command_json("status");
    json_put_int(root, "exit_status", context->exit_status);
    json_put(root, "hosts", json_incref(list));
    command_print_json(root);
    return NULL;
}
