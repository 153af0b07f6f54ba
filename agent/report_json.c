/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same results for machines. The shapes are fixed by the schema files in agent/schema; members
 * are only added, and a member that has nothing to say is null, never absent.
 */
#include "agent/report.h"

void report_put_time(json_t *object, const char *key, struct wall t)
{
    char text[WALL_TEXT_MAX];

    json_put_str(object, key, t.ms == 0 ? NULL : wall_format(t, text));
}

static void put_hex(json_t *object, const char *key, const uint8_t digest[32])
{
    char hex[65];

    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    json_put_str(object, key, hex);
}

json_t *report_error_json(const struct err *e)
{
    if (e == NULL)
        return json_null();
    json_t *o = json_object();
    json_put_str(o, "kind", err_kind_name(err_kind(e)));
    json_put_str(o, "text", err_text(e));
    json_put_str(o, "advice", err_advice(e));
    const struct acme_problem *problem = acme_problem_of(e);
    json_put_str(o, "problem", problem != NULL ? problem->type_text : NULL);
    return o;
}

json_t *report_cert_json(const struct cert_info *cert, uint64_t generation)
{
    if (generation == 0)
        return json_null();
    json_t *o = json_object();
    json_t *names = json_array();
    for (size_t i = 0; i < cert->names.n; i++)
        json_push(names, json_string(cert->names.v[i]));
    json_put_int(o, "generation", (int64_t)generation);
    json_put(o, "names", names);
    json_put_str(o, "serial", cert->serial);
    json_put_str(o, "issuer", cert->issuer);
    report_put_time(o, "not_before", cert->not_before);
    report_put_time(o, "not_after", cert->not_after);
    put_hex(o, "leaf_sha256", cert->leaf_sha256);
    return o;
}

static json_t *addresses_json(const struct addr *addrs, size_t n)
{
    json_t *list = json_array();
    char text[ADDR_TEXT_MAX];

    for (size_t i = 0; i < n; i++)
        json_push(list, json_string(addr_format_ip(&addrs[i], text)));
    return list;
}

static json_t *name_check_json(const struct name_check *c)
{
    json_t *o = json_object();
    json_t *chain = json_array();

    for (size_t i = 0; i < c->dns.n_chain; i++)
        json_push(chain, json_string(c->dns.chain[i].text));
    json_put_str(o, "name", c->dns.name.text);
    json_put_str(o, "verdict", name_verdict_name(c->verdict));
    json_put_str(o, "dns", dns_check_name(c->dns.check));
    json_put_str(o, "sentence", c->sentence);
    json_put_str(o, "record", c->record);
    json_put(o, "cname_chain", chain);
    json_put_bool(o, "wildcard", c->dns.wildcard);
    json_put(o, "addresses", addresses_json(c->dns.addrs, c->dns.n_addrs));
    json_put(o, "expected", addresses_json(c->dns.expected, c->dns.n_expected));
    json_put_int(o, "probes", (int64_t)c->n_probed);
    json_put_int(o, "probes_came_back", (int64_t)c->n_came_back);
    return o;
}

json_t *report_check_json(const struct host_check *check)
{
    json_t *list = json_array();

    for (size_t i = 0; i < check->n; i++)
        json_push(list, name_check_json(&check->v[i]));
    return list;
}

json_t *report_proof_json(const struct proof_result *proof)
{
    json_t *list = json_array();

    for (size_t i = 0; i < proof->n; i++) {
        const struct proof_check *c = &proof->checks[i];
        json_t *o = json_object();
        json_put_str(o, "port", proof_port_name(c->port));
        json_put_str(o, "name", c->name.text);
        json_put_bool(o, "sni", c->sni);
        json_put_str(o, "state", proof_state_name(c->state));
        json_put_str(o, "detail", c->detail);
        report_put_time(o, "not_after", c->not_after);
        json_push(list, o);
    }
    return list;
}

static json_t *nodes_json(const struct host_result *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n_nodes; i++) {
        const struct node_result *node = &r->nodes[i];
        json_t *o = json_object();
        json_put_str(o, "node", node->node);
        json_put_bool(o, "reloaded", node->reloaded);
        json_put_bool(o, "rolled_back", node->rolled_back);
        json_put(o, "error", report_error_json(node->error));
        json_put(o, "proof", report_proof_json(&node->proof));
        json_push(list, o);
    }
    return list;
}

static json_t *failed_names_json(const struct host_result *r)
{
    json_t *list = json_array();

    for (size_t i = 0; i < r->n_failed; i++) {
        json_t *o = json_object();
        json_put_str(o, "name", r->failed[i].name.text);
        json_put(o, "error", report_error_json(r->failed[i].error));
        json_push(list, o);
    }
    return list;
}

static json_t *plan_json(const struct plan *plan)
{
    json_t *o = json_object();
    json_t *names = json_array();

    for (size_t i = 0; i < plan->names.n; i++)
        json_push(names, json_string(plan->names.v[i].text));
    json_put_str(o, "action", plan_action_name(plan->action));
    json_put_str(o, "want", plan_want_name(plan->want));
    json_put_str(o, "reason", plan->reason);
    json_put(o, "names", names);
    json_put_bool(o, "partial", plan->partial);
    report_put_time(o, "due", plan->due);
    return o;
}

json_t *report_result_json(const struct host_result *r)
{
    json_t *o = json_object();

    json_put_str(o, "host", r->host->host.text);
    json_put_str(o, "outcome", host_outcome_name(r->outcome));
    json_put(o, "plan", plan_json(&r->plan));
    json_put(o, "checks", report_check_json(&r->check));
    json_put(o, "certificate", report_cert_json(&r->cert, r->generation));
    json_put_bool(o, "issued", r->issued);
    json_put_bool(o, "installed", r->installed);
    json_put(o, "nodes", nodes_json(r));
    json_put(o, "error", report_error_json(r->error));
    json_put(o, "failed_names", failed_names_json(r));
    report_put_time(o, "next", r->next);
    return o;
}
