/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the good case everything is known after one round trip: A and AAAA of the names and of the
 * mail host, and one question per name that shows a wildcard, all at once. Only a name that is not
 * fine costs more: a second batch (zone, what else the name owns, the question without validation)
 * and then the authoritative servers, all of them at once.
 *
 * Wildcard: "*.im.example.org" supplies names at any depth below im.example.org that do not exist
 * (RFC 4592 3.3.1). So for a name below the host a random label *below the name itself* is asked
 * for: it gets the same alias exactly if the name does not exist on its own, whereas a random
 * sibling gets the same alias also beside an explicit CNAME to the same target. For the host, whose
 * components are supplied by a wildcard of their own, it is the sibling.
 */
#include "dns/preflight.h"

#include <stdio.h>

#include "dns/ask.h"
#include "dns/message.h"
#include "dns/verdict.h"

#define LABEL_BYTES 8
#define LABEL_TEXT  14 /* 13 digits of base32 for 8 bytes */
#define OWNED       3

struct task {
    struct dns_finding finding;
    struct dns_ask *a, *aaaa, *wildcard; /* wildcard may be NULL */
    struct dns_ask *unchecked, *sibling; /* or NULL, as needed */
    struct dns_ask *owned[OWNED];        /* SOA, MX, TXT; or NULL */
    struct zone_entry *zone;             /* or NULL */
    struct dns_resolver *resolver;
    struct name subject;
};

/* A zone looked up once for all names in it. */
struct zone_entry {
    struct dns_resolver *resolver;
    struct name name;
    bool is_apex; /* else a name in a zone that is not known yet */
    struct dns_zone zone;
    bool found;
    char *why;
};

struct flow {
    const struct dns_preflight *preflight;
    size_t n;
    struct task *tasks;
    struct dns_asks asks;
    struct dns_ask *mail_a, *mail_aaaa; /* or NULL */
    size_t n_zones;
    struct zone_entry *zones; /* room for one per task */
};

static void flow_done(struct flow *flow)
{
    dns_asks_done(&flow->asks);
    for (size_t i = 0; i < flow->n_zones; i++)
        free(flow->zones[i].why);
    free(flow->zones);
    free(flow->tasks);
}

/* ---- first batch ---- */

static void random_label(struct dns_resolver *resolver, char ret[LABEL_TEXT])
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    uint64_t bits;
    world_random(dns_resolver_world(resolver), &bits, LABEL_BYTES);
    for (size_t i = 0; i < LABEL_TEXT - 1; i++, bits >>= 5)
        ret[i] = digits[bits & 31];
    ret[LABEL_TEXT - 1] = '\0';
}

/* NULL where the random name would be too long. */
static struct dns_ask *ask_random(struct flow *flow, const char *parent)
{
    char label[LABEL_TEXT], owner[NAME_MAX_TEXT + LABEL_TEXT];
    if (strlen(parent) + LABEL_TEXT >= NAME_MAX_TEXT)
        return NULL;
    random_label(flow->preflight->resolver, label);
    snprintf(owner, sizeof(owner), "%s.%s", label, parent);
    return dns_asks_add(&flow->asks, owner, LDNS_RR_TYPE_A);
}

static const char *parent_of(const struct name *name)
{
    const char *dot = strchr(name->text, '.');
    return dot != NULL ? dot + 1 : NULL;
}

static bool is_below_host(const struct flow *flow, const struct name *name)
{
    const struct name *host = flow->preflight->host;
    return host != NULL && !name_equal(name, host) && name_is_below(name, host);
}

static struct dns_ask *ask_wildcard(struct flow *flow, const struct name *name)
{
    if (is_below_host(flow, name))
        return ask_random(flow, name->text);
    const char *parent = parent_of(name);
    /* Nothing to learn from the servers of a top-level domain. */
    return parent != NULL && strchr(parent, '.') != NULL ? ask_random(flow, parent) : NULL;
}

static void ask_first(struct flow *flow, const struct name *names)
{
    const struct name *mail_host = flow->preflight->mail_host;
    if (mail_host != NULL) {
        flow->mail_a = dns_asks_add(&flow->asks, mail_host->text, LDNS_RR_TYPE_A);
        flow->mail_aaaa = dns_asks_add(&flow->asks, mail_host->text, LDNS_RR_TYPE_AAAA);
    }
    for (size_t i = 0; i < flow->n; i++) {
        struct task *t = &flow->tasks[i];
        t->resolver = flow->preflight->resolver;
        t->a = dns_asks_add(&flow->asks, names[i].text, LDNS_RR_TYPE_A);
        t->aaaa = dns_asks_add(&flow->asks, names[i].text, LDNS_RR_TYPE_AAAA);
        t->wildcard = ask_wildcard(flow, &names[i]);
        t->finding = (struct dns_finding){.preflight = flow->preflight,
                .name = &names[i],
                .a = &t->a->answer,
                .aaaa = &t->aaaa->answer,
                .mail_a = mail_host != NULL ? &flow->mail_a->answer : NULL,
                .mail_aaaa = mail_host != NULL ? &flow->mail_aaaa->answer : NULL};
    }
}

static bool same_set(const struct dns_answer *a, const struct dns_answer *b)
{
    struct addr x[DNS_ADDRESSES_MAX], y[DNS_ADDRESSES_MAX];
    size_t n = dns_answer_addresses(a, x, DNS_ADDRESSES_MAX);
    if (n == 0 || n != dns_answer_addresses(b, y, DNS_ADDRESSES_MAX))
        return false;
    size_t common = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            common += addr_equal_ip(&x[i], &y[j]);
    }
    return common == n;
}

/* Did whatever answered for the random name answer for this one too? */
static bool same_supply(const struct dns_answer *answer, const struct dns_answer *random)
{
    if (answer->n_chain > 0 && random->n_chain > 0)
        return name_equal(&answer->chain[0], &random->chain[0]);
    return answer->n_chain == 0 && random->n_chain == 0 && same_set(answer, random);
}

/* ---- second batch: for names that are not fine ---- */

static struct zone_entry *need_zone(
        struct flow *flow, const struct name *subject, const struct dns_answer *answer)
{
    bool is_apex = answer->soa_owner.text[0] != '\0';
    const struct name *name = is_apex ? &answer->soa_owner : subject;
    for (size_t i = 0; i < flow->n_zones; i++) {
        if (flow->zones[i].is_apex == is_apex && name_equal(&flow->zones[i].name, name))
            return &flow->zones[i];
    }
    struct zone_entry *entry = &flow->zones[flow->n_zones++];
    entry->resolver = flow->preflight->resolver;
    entry->name = *name;
    entry->is_apex = is_apex;
    return entry;
}

/* One sibling per parent is enough. */
static struct dns_ask *need_sibling(struct flow *flow, const struct name *name)
{
    const char *parent = parent_of(name);
    for (size_t i = 0; i < flow->n; i++) {
        const struct task *t = &flow->tasks[i];
        if (t->sibling != NULL && strcmp(parent_of(t->finding.name), parent) == 0)
            return t->sibling;
    }
    return ask_random(flow, parent);
}

static void need_owned(struct flow *flow, struct task *t)
{
    static const ldns_rr_type types[OWNED] = {LDNS_RR_TYPE_SOA, LDNS_RR_TYPE_MX, LDNS_RR_TYPE_TXT};
    for (size_t i = 0; i < OWNED; i++)
        t->owned[i] = dns_asks_add(&flow->asks, t->finding.name->text, types[i]);
}

static void ask_second(struct flow *flow, struct task *t)
{
    const struct dns_answer *answer;
    struct dns_finding *f = &t->finding;
    f->wildcard = t->wildcard != NULL && (same_supply(f->a, &t->wildcard->answer) ||
                                                 same_supply(f->aaaa, &t->wildcard->answer));
    dns_verdict_merge(f->a, f->aaaa, &answer);
    t->subject = *dns_verdict_subject(f->name, answer);
    enum dns_check check = dns_verdict_check(f);
    if (check == DNS_CHECK_NXDOMAIN || check == DNS_CHECK_NODATA)
        t->zone = need_zone(flow, &t->subject, answer);
    bool alias = answer->n_chain > 0;
    if (check == DNS_CHECK_NODATA && !alias && is_below_host(flow, f->name))
        t->sibling = need_sibling(flow, f->name);
    if ((check == DNS_CHECK_NODATA || check == DNS_CHECK_DIFFERS) && !alias && !f->wildcard)
        need_owned(flow, t);
    if (check == DNS_CHECK_SERVFAIL && answer->outcome == DNS_SERVFAIL) {
        t->unchecked = dns_asks_add(
                &flow->asks, f->name->text, answer == f->a ? LDNS_RR_TYPE_A : LDNS_RR_TYPE_AAAA);
        t->unchecked->unchecked = true;
    }
}

static struct err *find_zone(void *arg) MAY_SUSPEND;
static struct err *find_zone(void *arg)
{
    struct zone_entry *e = arg;
    /* A zone of one label says that the domain does not exist at all: nobody need confirm that, and
     * its servers are everybody's. */
    if (e->is_apex && strchr(e->name.text, '.') == NULL) {
        e->why = str_printf("the domain does not exist in the zone %s", e->name.text);
        return NULL;
    }
    if (e->is_apex)
        return dns_zone_servers(e->resolver, &e->name, &e->zone, &e->found, &e->why);
    return dns_zone_find(e->resolver, &e->name, &e->zone, &e->found, &e->why);
}

static struct err *run_asks(void *arg) MAY_SUSPEND;
static struct err *run_asks(void *arg)
{
    struct flow *flow = arg;
    return dns_asks_run(&flow->asks, flow->preflight->resolver);
}

static bool is_parent(const struct name *name, const struct name *child)
{
    const char *parent = parent_of(child);
    return parent != NULL && strcmp(parent, name->text) == 0;
}

static struct err *run_second(struct flow *flow) MAY_SUSPEND;
static struct err *run_second(struct flow *flow)
{
    struct fiber_group group;
    fiber_group_init(&group);
    fiber_group_spawn(&group, "DNS queries", run_asks, flow);
    for (size_t i = 0; i < flow->n_zones; i++)
        fiber_group_spawn(&group, "zone", find_zone, &flow->zones[i]);
    TRY(fiber_group_wait(&group));

    for (size_t i = 0; i < flow->n; i++) {
        struct task *t = &flow->tasks[i];
        struct dns_finding *f = &t->finding;
        if (t->zone != NULL) {
            f->zone = t->zone->found ? &t->zone->zone : NULL;
            f->zone_why = t->zone->why;
        }
        f->unchecked = t->unchecked != NULL ? &t->unchecked->answer : NULL;
        for (size_t k = 0; k < flow->n; k++)
            f->wildcard_below |= flow->tasks[k].finding.wildcard &&
                                 is_parent(f->name, flow->tasks[k].finding.name);
        f->sibling_resolves = t->sibling != NULL && (t->sibling->answer.outcome == DNS_ANSWER ||
                                                            t->sibling->answer.n_chain > 0);
        for (size_t k = 0; k < OWNED; k++)
            f->other_data |= t->owned[k] != NULL && t->owned[k]->answer.outcome == DNS_ANSWER &&
                             t->owned[k]->answer.n_chain == 0;
    }
    return NULL;
}

/* ---- third: the authoritative servers; loops that a resolver hides behind SERVFAIL ---- */

static enum dns_saying saying_of(const struct dns_answer *answer)
{
    switch (answer->outcome) {
    case DNS_ANSWER:
        return DNS_SAYS_YES;
    case DNS_NXDOMAIN:
        return DNS_SAYS_NXDOMAIN;
    case DNS_NODATA:
        /* An alias to somewhere else: a record that the resolver does not know yet. */
        return answer->n_chain > 0 && answer->soa_owner.text[0] == '\0' ? DNS_SAYS_YES
                                                                        : DNS_SAYS_NODATA;
    default:
        return DNS_SAYS_NOTHING;
    }
}

static struct err *confirm_type(struct task *t, ldns_rr_type type) MAY_SUSPEND;
static struct err *confirm_type(struct task *t, ldns_rr_type type)
{
    struct dns_finding *f = &t->finding;
    AUTO(dns_asks_done) struct dns_asks asks = {0};
    size_t which[DNS_ZONE_SERVERS_MAX] = {0};
    for (size_t i = 0; i < f->zone->n_servers; i++) {
        /* NXDOMAIN and silence hold for AAAA as well. */
        if (type == LDNS_RR_TYPE_AAAA && f->says[i] != DNS_SAYS_NODATA)
            continue;
        which[asks.n] = i;
        struct dns_ask *ask = dns_asks_add(&asks, t->subject.text, type);
        ask->at_server = true;
        ask->server = f->zone->servers[i].addr;
    }
    TRY(dns_asks_run(&asks, t->resolver));
    for (size_t i = 0; i < asks.n; i++)
        f->says[which[i]] = saying_of(&asks.v[i]->answer);
    return NULL;
}

/* Asked for the CNAME itself, a resolver follows nothing. */
static struct err *walk_aliases(struct task *t) MAY_SUSPEND;
static struct err *walk_aliases(struct task *t)
{
    struct dns_finding *f = &t->finding;
    const struct name *at = f->name;
    for (;;) {
        AUTO_DNS_ANSWER struct dns_answer answer = {0};
        TRY(dns_query(t->resolver, at->text, LDNS_RR_TYPE_CNAME, &answer));
        struct name target;
        if (answer.outcome != DNS_ANSWER ||
                !dns_message_name_text(ldns_rr_rdf(ldns_rr_list_rr(answer.records, 0), 0), &target))
            return NULL;
        f->loop = f->n_walk == DNS_CHAIN_MAX || name_equal(&target, f->name);
        for (size_t i = 0; i < f->n_walk; i++)
            f->loop |= name_equal(&target, &f->walk[i]);
        if (f->loop)
            return NULL;
        f->walk[f->n_walk] = target;
        at = &f->walk[f->n_walk++];
    }
}

static struct err *settle(void *arg) MAY_SUSPEND;
static struct err *settle(void *arg)
{
    struct task *t = arg;
    const struct dns_finding *f = &t->finding;
    if (f->zone != NULL) {
        TRY(confirm_type(t, LDNS_RR_TYPE_A));
        TRY(confirm_type(t, LDNS_RR_TYPE_AAAA));
    }
    if (f->unchecked != NULL && f->unchecked->outcome == DNS_SERVFAIL)
        return walk_aliases(t);
    return NULL;
}

static struct err *run_third(struct flow *flow) MAY_SUSPEND;
static struct err *run_third(struct flow *flow)
{
    struct fiber_group group;
    fiber_group_init(&group);
    for (size_t i = 0; i < flow->n; i++) {
        if (flow->tasks[i].finding.zone != NULL || flow->tasks[i].finding.unchecked != NULL)
            fiber_group_spawn(&group, "DNS check", settle, &flow->tasks[i]);
    }
    return fiber_group_wait(&group);
}

/* ---- all of it ---- */

struct err *dns_preflight(const struct dns_preflight *preflight, const struct name *names, size_t n,
        struct dns_verdict *ret)
{
    AUTO(flow_done)
    struct flow flow = {.preflight = preflight,
            .n = n,
            .tasks = mem_array(n, sizeof(struct task)),
            .zones = mem_array(n, sizeof(struct zone_entry))};
    ask_first(&flow, names);
    TRY(run_asks(&flow));
    for (size_t i = 0; i < n; i++)
        ask_second(&flow, &flow.tasks[i]);
    TRY(run_second(&flow));
    TRY(run_third(&flow));
    for (size_t i = 0; i < n; i++)
        dns_verdict_make(&flow.tasks[i].finding, &ret[i]);
    return NULL;
}
