/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is printed at the end, for people: per host its certificate, where it is served, what stands
 * in the way and what to do about it.
 */
#include "agent/report.h"

const char *host_outcome_name(enum host_outcome outcome)
{
    static const char *const names[HOST_OUTCOME_MAX] = {
            "good", "done", "undeployed", "waiting", "failed"};

    return names[outcome];
}

static void node_result_done(struct node_result *node)
{
    proof_result_done(&node->proof);
    err_free(node->error);
}

void host_result_done(struct host_result *result)
{
    plan_done(&result->plan);
    host_check_done(&result->check);
    cert_info_done(&result->cert);
    for (size_t i = 0; i < result->n_nodes; i++)
        node_result_done(&result->nodes[i]);
    free(result->nodes);
    for (size_t i = 0; i < result->n_failed; i++)
        err_free(result->failed[i].error);
    free(result->failed);
    err_free(result->error);
    *result = (struct host_result){0};
}

/* ---- text ---- */

struct style {
    const char *good, *warn, *bad, *dim, *off;
};

static struct style style_of(bool color)
{
    return color ? (struct style){"\033[32m", "\033[33m", "\033[31m", "\033[2m", "\033[0m"}
                 : (struct style){"", "", "", "", ""};
}

/* One line per record; a host at a zone's apex needs several. What is there already has to go, and
 * the remark that says so is one that a zone file may contain. */
static void print_record(struct buf *out, const struct name_check *check)
{
    bool replaces =
            check->dns.n_chain > 0 || check->dns.n_addrs > 0 || check->dns.check == DNS_CHECK_LOOP;
    const char *record = check->record;

    while (record != NULL && *record != '\0') {
        size_t len = strcspn(record, "\n");
        buf_printf(out, "  %s  %.*s%s\n", replaces ? "set:" : "add:", (int)len, record,
                replaces ? " ; instead of what is there" : "");
        record += len + (record[len] == '\n');
    }
}

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* A sentence begins with its name; what follows is the cause. */
static const char *cause(const struct name_check *check)
{
    size_t len = strlen(check->dns.name.text);

    return strncmp(check->sentence, check->dns.name.text, len) == 0 ? check->sentence + len
                                                                    : check->sentence;
}

/* Names with the same cause and the same remedy are told in one line. */
static bool told_together(const struct name_check *a, const struct name_check *b)
{
    return a->sentence != NULL && b->sentence != NULL && a->verdict == b->verdict &&
           same_text(a->record, b->record) && strcmp(cause(a), cause(b)) == 0;
}

static bool told_before(const struct host_check *check, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (told_together(&check->v[j], &check->v[i]))
            return true;
    return false;
}

static bool record_printed(const struct host_check *check, size_t i)
{
    for (size_t j = 0; j < i; j++)
        if (check->v[j].verdict == NAME_BLOCKED && check->v[j].record != NULL &&
                same_text(check->v[j].record, check->v[i].record))
            return true;
    return false;
}

/* "; the same holds for proxy, pubsub, upload": below the host, labels are enough. */
static void print_others(
        struct buf *out, const struct name *host, const struct host_check *check, size_t i)
{
    size_t n = 0;

    for (size_t j = i + 1; j < check->n; j++) {
        const struct name *name = &check->v[j].dns.name;
        if (!told_together(&check->v[i], &check->v[j]))
            continue;
        size_t len = strlen(name->text);
        if (!name_equal(name, host) && name_is_below(name, host))
            len -= strlen(host->text) + 1;
        buf_printf(out, "%s%.*s", n++ == 0 ? "; the same holds for " : ", ", (int)len, name->text);
    }
}

void report_print_check(
        struct buf *out, const struct name *host, const struct host_check *check, bool color)
{
    struct style s = style_of(color);

    for (size_t i = 0; i < check->n; i++) {
        const struct name_check *c = &check->v[i];
        if (c->sentence == NULL || told_before(check, i))
            continue;
        bool blocked = c->verdict == NAME_BLOCKED;
        buf_printf(out, "%s%s: %s:%s %s", blocked ? s.bad : s.warn, host->text,
                !blocked                       ? "warning"
                : c->dns.check == DNS_CHECK_OK ? "waiting for the web server"
                                               : "waiting for DNS",
                s.off, c->sentence);
        print_others(out, host, check, i);
        buf_putc(out, '\n');
        if (blocked && !record_printed(check, i))
            print_record(out, c);
    }
}

static void print_error(struct buf *out, const struct name *host, const char *what,
        const struct err *e, const char *color, const char *off)
{
    buf_printf(out, "%s%s: %s:%s %s\n", color, host->text, what, off, err_text(e));
    if (err_advice(e) != NULL)
        buf_printf(out, "  do:   %s\n", err_advice(e));
}

void report_print_proof(struct buf *out, const struct proof_result *proof, const char *indent)
{
    for (size_t port = 0; port < PROOF_PORT_MAX; port++) {
        size_t asked = 0, good = 0;
        for (size_t i = 0; i < proof->n; i++) {
            if (proof->checks[i].port != port || proof->checks[i].state == PROOF_REPORTED)
                continue;
            asked++;
            good += proof->checks[i].state == PROOF_OK;
        }
        if (asked > 0)
            buf_printf(out, "%s%-8s %zu of %zu handshakes show it\n", indent,
                    proof_port_name((enum proof_port)port), good, asked);
    }
}

static void print_nodes(struct buf *out, const struct host_result *r, const struct style *s)
{
    for (size_t i = 0; i < r->n_nodes; i++) {
        const struct node_result *node = &r->nodes[i];
        if (node->error != NULL) {
            AUTO_FREE char *what = str_printf("issued, not deployed on %s", node->node);
            print_error(out, &r->host->host, what, node->error, s->bad, s->off);
        } else {
            buf_printf(out, "  %s on ejabberd node %s:\n",
                    node->reloaded ? "reloaded and proved" : "proved", node->node);
        }
        report_print_proof(out, &node->proof, "    ");
    }
}

static size_t n_covered(const struct host_result *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->host->names.n; i++)
        n += cert_covers(&r->cert, &r->host->names.v[i]);
    return n;
}

static void print_certificate(
        struct buf *out, const struct host_result *r, struct wall now, const struct style *s)
{
    char when[WALL_TEXT_MAX], span[WALL_TEXT_MAX];
    int64_t left = wall_diff(r->cert.not_after, now);
    size_t covered = n_covered(r);
    const char *verb = r->issued      ? "certificate issued"
                       : r->installed ? "certificate installed"
                       : left <= 0    ? "certificate expired"
                                      : "certificate good";

    buf_printf(
            out, "%s%s: %s%s for ", left > 0 ? s->good : s->bad, r->host->host.text, verb, s->off);
    if (covered < r->host->names.n)
        buf_printf(out, "%zu of %zu names", covered, r->host->names.n);
    else
        buf_printf(out, "%zu name%s", r->cert.names.n, r->cert.names.n == 1 ? "" : "s");
    buf_printf(out, ", valid until %s (%s%s)\n", wall_format(r->cert.not_after, when),
            clock_span(left > 0 ? left : -left, span), left > 0 ? "" : " ago");
}

/* What the operator can do besides waiting: after DNS the next run looks again by itself; a
 * back-off can be skipped. */
static void print_hint(struct buf *out, const struct host_result *r, struct wall now)
{
    char span[WALL_TEXT_MAX];

    if (r->check.n > 0)
        buf_printf(out, "  then: certherd renew %s\n", r->host->host.text);
    else if (r->next.ms != 0 && wall_before(now, r->next))
        buf_printf(out, "  tried again in %s\n", clock_span(wall_diff(r->next, now), span));
}

static void print_waiting(
        struct buf *out, const struct host_result *r, struct wall now, const struct style *s)
{
    size_t missing = r->host->names.n - n_covered(r);

    buf_printf(out, "%s%s: waiting:%s ", s->warn, r->host->host.text, s->off);
    if (r->plan.partial)
        buf_printf(out, "%zu name%s not in the certificate yet\n", missing,
                missing == 1 ? " is" : "s are");
    else
        buf_printf(out, "%s\n", r->plan.reason);
    print_hint(out, r, now);
}

/* Who names the host need not wait, unless it is the CA who said when. */
static void print_next_try(struct buf *out, const struct host_result *r, struct wall now)
{
    char span[WALL_TEXT_MAX];

    if (r->next.ms == 0 || !wall_before(now, r->next))
        return;
    buf_printf(out, "  then: tried again in %s", clock_span(wall_diff(r->next, now), span));
    if (!err_is(r->error, ERR_RETRY_AT))
        buf_printf(out, ", or at once by: certherd renew %s", r->host->host.text);
    buf_putc(out, '\n');
}

/* The error's own text has all of it in one line. */
static void print_failed_names(struct buf *out, const struct host_result *r, const struct style *s)
{
    buf_printf(out, "%s%s: failed:%s the CA could not validate %zu of %zu names:\n", s->bad,
            r->host->host.text, s->off, r->n_failed, r->plan.names.n);
    for (size_t i = 0; i < r->n_failed; i++)
        buf_printf(out, "    %s: %s\n", r->failed[i].name.text, err_text(r->failed[i].error));
    if (err_advice(r->error) != NULL)
        buf_printf(out, "  do:   %s\n", err_advice(r->error));
}

void report_print_result(struct buf *out, const struct host_result *r, struct wall now, bool color)
{
    struct style s = style_of(color);
    const struct name *host = &r->host->host;

    if (r->generation != 0 && r->outcome != HOST_FAILED)
        print_certificate(out, r, now, &s);
    print_nodes(out, r, &s);
    report_print_check(out, host, &r->check, color);
    switch (r->outcome) {
    case HOST_GOOD:
    case HOST_DONE:
        if (r->outcome == HOST_DONE && r->n_nodes == 0)
            buf_printf(out, "  nothing reloads ejabberd: ejabberd.api is not set\n");
        break;
    case HOST_WAITING:
        print_waiting(out, r, now, &s);
        break;
    case HOST_UNDEPLOYED:
    case HOST_FAILED:
        if (r->error != NULL && r->n_failed > 0)
            print_failed_names(out, r, &s);
        else if (r->error != NULL)
            print_error(out, host, r->outcome == HOST_FAILED ? "failed" : "issued, not deployed",
                    r->error, s.bad, s.off);
        else if (r->n_nodes == 0)
            buf_printf(out, "%s%s: issued, not deployed:%s %s\n", s.bad, host->text, s.off,
                    r->plan.reason);
        break;
    case HOST_OUTCOME_MAX:
        break;
    }
    if (r->outcome == HOST_FAILED || r->outcome == HOST_UNDEPLOYED)
        print_next_try(out, r, now);
}

/* ---- exit status ---- */

/* This machine's disk or limits: not the fault of a host. */
static bool own_failure(const struct host_result *results, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (err_is(results[i].error, ERR_LOCAL))
            return true;
    return false;
}

int report_exit_status(const struct host_result *results, size_t n)
{
    size_t good = 0;

    for (size_t i = 0; i < n; i++)
        good += results[i].outcome == HOST_GOOD || results[i].outcome == HOST_DONE;
    if (good == n)
        return 0;
    if (own_failure(results, n))
        return 1;
    return good > 0 ? 3 : 4;
}
