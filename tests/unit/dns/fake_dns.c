/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/dns/fake_dns.h"

#include <assert.h>

/* ---- building replies ---- */

static void push_lines(ldns_pkt *p, ldns_pkt_section section, const char *lines)
{
    while (lines != NULL && *lines != '\0') {
        size_t len = strcspn(lines, "\n");
        AUTO_FREE char *line = mem_dup(lines, len);
        ldns_rr *rr = NULL;
        ldns_status status = ldns_rr_new_frm_str(&rr, line, 300, NULL, NULL);
        assert(status == LDNS_STATUS_OK);
        (void)status;
        ldns_pkt_push_rr(p, section, rr);
        lines += len + (lines[len] == '\n');
    }
}

static ldns_pkt *start_reply(const ldns_pkt *query)
{
    ldns_pkt *p = ldns_pkt_new();
    ldns_pkt_set_id(p, ldns_pkt_id(query));
    ldns_pkt_set_qr(p, true);
    ldns_pkt_set_rd(p, ldns_pkt_rd(query));
    ldns_pkt_push_rr(
            p, LDNS_SECTION_QUESTION, ldns_rr_clone(ldns_rr_list_rr(ldns_pkt_question(query), 0)));
    return p;
}

static uint8_t *finish(ldns_pkt *p, size_t *ret_len)
{
    uint8_t *wire = NULL;
    ldns_status status = ldns_pkt2wire(&wire, p, ret_len);
    assert(status == LDNS_STATUS_OK);
    (void)status;
    ldns_pkt_free(p);
    return wire;
}

uint8_t *fake_dns_reply(const void *query, size_t len, int rcode, const char *answer,
        const char *authority, size_t *ret_len)
{
    ldns_pkt *q = NULL;
    ldns_status status = ldns_wire2pkt(&q, query, len);
    assert(status == LDNS_STATUS_OK);
    (void)status;
    ldns_pkt *p = start_reply(q);
    ldns_pkt_set_rcode(p, (uint8_t)rcode);
    push_lines(p, LDNS_SECTION_ANSWER, answer);
    push_lines(p, LDNS_SECTION_AUTHORITY, authority);
    ldns_pkt_free(q);
    return finish(p, ret_len);
}

/* ---- zones ---- */

static const ldns_rdf *apex_of(const ldns_rr_list *zone)
{
    return ldns_rr_owner(ldns_rr_list_rr(zone, 0));
}

static bool at_or_below(const ldns_rdf *name, const ldns_rdf *zone)
{
    return ldns_dname_compare(name, zone) == 0 || ldns_dname_is_subdomain(name, zone);
}

static ldns_rr_list *zone_of(struct fake_dns *d, const ldns_rdf *name, const struct addr *server);

static bool exists(const ldns_rr_list *zone, const ldns_rdf *name)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(zone); i++) {
        if (at_or_below(ldns_rr_owner(ldns_rr_list_rr(zone, i)), name))
            return true;
    }
    return false;
}

/* The owner whose records answer for name: itself, a wildcard, or NULL. Owned. */
static ldns_rdf *source_of_synthesis(const ldns_rr_list *zone, const ldns_rdf *name)
{
    if (exists(zone, name))
        return ldns_rdf_clone(name);
    ldns_rdf *encloser = ldns_dname_left_chop(name);
    while (!exists(zone, encloser)) {
        ldns_rdf *up = ldns_dname_left_chop(encloser);
        ldns_rdf_deep_free(encloser);
        encloser = up;
    }
    ldns_rdf *star = ldns_dname_new_frm_str("*");
    ldns_dname_cat(star, encloser);
    ldns_rdf_deep_free(encloser);
    if (exists(zone, star))
        return star;
    ldns_rdf_deep_free(star);
    return NULL;
}

static size_t push_records(ldns_pkt *p, const ldns_rr_list *zone, const ldns_rdf *source,
        const ldns_rdf *owner, ldns_rr_type type)
{
    size_t n = 0;
    for (size_t i = 0; i < ldns_rr_list_rr_count(zone); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(zone, i);
        if (ldns_rr_get_type(rr) != type || ldns_dname_compare(ldns_rr_owner(rr), source) != 0)
            continue;
        ldns_rr *copy = ldns_rr_clone(rr);
        ldns_rdf_deep_free(ldns_rr_owner(copy));
        ldns_rr_set_owner(copy, ldns_rdf_clone(owner));
        ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, copy);
        n++;
    }
    return n;
}

/* One step: answer, or negative, or an alias (returned, owned). */
static ldns_rdf *answer_step(
        ldns_pkt *p, const ldns_rr_list *zone, const ldns_rdf *name, ldns_rr_type type)
{
    ldns_rdf *next = NULL;
    ldns_rdf *source = source_of_synthesis(zone, name);
    if (source == NULL)
        ldns_pkt_set_rcode(p, LDNS_RCODE_NXDOMAIN);
    else if (push_records(p, zone, source, name, type) > 0)
        goto out;
    else if (push_records(p, zone, source, name, LDNS_RR_TYPE_CNAME) > 0) {
        const ldns_rr_list *section = ldns_pkt_answer(p);
        const ldns_rr *last = ldns_rr_list_rr(section, ldns_rr_list_rr_count(section) - 1);
        next = ldns_rdf_clone(ldns_rr_rdf(last, 0));
        goto out;
    }
    ldns_pkt_push_rr(p, LDNS_SECTION_AUTHORITY, ldns_rr_clone(ldns_rr_list_rr(zone, 0)));
out:
    ldns_rdf_deep_free(source);
    return next;
}

static bool is_resolver(const struct addr *server)
{
    char text[ADDR_TEXT_MAX];
    return str_starts(addr_format_ip(server, text), "192.0.2.5");
}

static bool serves(struct fake_dns *d, const ldns_rr_list *zone, const struct addr *server)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(zone); i++) {
        const ldns_rr *ns = ldns_rr_list_rr(zone, i);
        if (ldns_rr_get_type(ns) != LDNS_RR_TYPE_NS ||
                ldns_dname_compare(ldns_rr_owner(ns), apex_of(zone)) != 0)
            continue;
        const ldns_rr_list *home = zone_of(d, ldns_rr_rdf(ns, 0), NULL);
        for (size_t k = 0; k < ldns_rr_list_rr_count(home); k++) {
            const ldns_rr *rr = ldns_rr_list_rr(home, k);
            struct addr a = {0};
            if (ldns_dname_compare(ldns_rr_owner(rr), ldns_rr_rdf(ns, 0)) != 0)
                continue;
            if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_A)
                a = addr_from_ipv4(ldns_rdf_data(ldns_rr_rdf(rr, 0)), 0);
            else if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_AAAA)
                a = addr_from_ipv6(ldns_rdf_data(ldns_rr_rdf(rr, 0)), 0);
            else
                continue;
            if (addr_equal_ip(&a, server))
                return true;
        }
    }
    return false;
}

/* The closest zone; server NULL: whoever serves it. */
static ldns_rr_list *zone_of(struct fake_dns *d, const ldns_rdf *name, const struct addr *server)
{
    ldns_rr_list *best = NULL;
    for (size_t i = 0; i < FAKE_DNS_ZONES && d->parsed[i] != NULL; i++) {
        ldns_rr_list *zone = d->parsed[i];
        if (!at_or_below(name, apex_of(zone)) ||
                (server != NULL && !is_resolver(server) && !serves(d, zone, server)))
            continue;
        if (best == NULL || ldns_dname_is_subdomain(apex_of(zone), apex_of(best)))
            best = zone;
    }
    return best;
}

static void answer_from_zones(struct fake_dns *d, const struct addr *server, ldns_pkt *p)
{
    const ldns_rr *question = ldns_rr_list_rr(ldns_pkt_question(p), 0);
    ldns_rdf *name = ldns_rdf_clone(ldns_rr_owner(question));
    ldns_pkt_set_aa(p, !is_resolver(server));
    ldns_pkt_set_ra(p, is_resolver(server));
    for (int hops = 0; name != NULL; hops++) {
        const ldns_rr_list *zone = zone_of(d, name, server);
        ldns_rdf *next = NULL;
        if (zone != NULL && hops < 12)
            next = answer_step(p, zone, name, ldns_rr_get_type(question));
        else if (hops == 0)
            ldns_pkt_set_rcode(p, is_resolver(server) ? LDNS_RCODE_NXDOMAIN : LDNS_RCODE_REFUSED);
        ldns_rdf_deep_free(name);
        name = next;
    }
}

/* ---- rules ---- */

static struct fake_dns_rule *find_rule(
        struct fake_dns *d, const struct dns_wire_request *request, const ldns_pkt *query)
{
    const ldns_rr *question = ldns_rr_list_rr(ldns_pkt_question(query), 0);
    char server[ADDR_TEXT_MAX];
    char *owner = ldns_rdf2str(ldns_rr_owner(question));
    owner[strlen(owner) - 1] = '\0';
    struct fake_dns_rule *found = NULL;
    addr_format_ip(&request->to, server);
    for (size_t i = 0; i < FAKE_DNS_RULES && found == NULL; i++) {
        struct fake_dns_rule *r = &d->rules[i];
        bool used = r->server != NULL || r->owner != NULL || r->type != 0 || r->times != 0;
        if (!used || r->times == UINT32_MAX ||
                (r->server != NULL && strcmp(r->server, server) != 0) ||
                (r->owner != NULL && strcmp(r->owner, owner) != 0) ||
                (r->type != 0 && r->type != ldns_rr_get_type(question)) ||
                (r->unless_checked && ldns_pkt_cd(query)) ||
                (r->action == FAKE_DNS_TRUNCATE && request->tcp) ||
                ((r->action == FAKE_DNS_NO_EDNS || r->action == FAKE_DNS_NO_EDNS_BARE) &&
                        !ldns_pkt_edns(query)))
            continue;
        found = r;
        if (r->times > 0 && --r->times == 0)
            r->times = UINT32_MAX; /* used up */
    }
    free(owner);
    return found;
}

static void send_strangers(const struct dns_wire_request *request, const uint8_t *wire, size_t len)
{
    AUTO_FREE uint8_t *forged = mem_dup(wire, len);
    forged[0] ^= 0xff;
    assert(!request->accept(request->arg, forged, len)); /* wrong id */
    memcpy(forged, wire, len);
    forged[13] ^= 0x01;
    assert(!request->accept(request->arg, forged, len)); /* wrong question */
    memcpy(forged, wire, len);
    forged[2] &= 0x7f;
    assert(!request->accept(request->arg, forged, len)); /* a query */
    memcpy(forged, wire, len);
    forged[2] |= 0x20;
    assert(!request->accept(request->arg, forged, len)); /* another opcode */
    assert(!request->accept(request->arg, wire, 11));    /* not even a header */
    (void)forged;
}

static void put_reply(const struct dns_wire_request *request, const struct fake_dns_rule *rule,
        ldns_pkt *reply, struct buf *ret)
{
    size_t len;
    uint8_t *wire = finish(reply, &len);
    if (rule != NULL && rule->action == FAKE_DNS_WRONG_FIRST && !request->tcp)
        send_strangers(request, wire, len);
    if (rule != NULL && rule->action == FAKE_DNS_OTHER)
        wire[13] ^= 0x01;
    if (rule != NULL && rule->action == FAKE_DNS_NO_EDNS_BARE) {
        len = 12;
        wire[5] = 0;
    }
    buf_append(ret, wire, len);
    if (rule != NULL && rule->action == FAKE_DNS_GARBAGE) {
        ret->data[7] = 3; /* three answers, of noise */
        buf_append(ret, "\xc0\xff\xee\xba\xad\xf0\x0d", 7);
    }
    free(wire);
}

static struct err *misbehave(
        const struct fake_dns_rule *rule, const struct dns_wire_request *request) MAY_SUSPEND;
static struct err *misbehave(
        const struct fake_dns_rule *rule, const struct dns_wire_request *request)
{
    switch (rule->action) {
    case FAKE_DNS_DROP:
        TRY(fiber_sleep(request->wait_ms));
        return ERR(ERR_TIMEOUT, "no reply");
    case FAKE_DNS_REFUSE:
        return ERR_FROM(ERR_RETRY, ERR_FROM_UV, UV_ECONNREFUSED, "refused");
    case FAKE_DNS_UNREACHABLE:
        return ERR_FROM(ERR_RETRY, ERR_FROM_UV, UV_ENETUNREACH, "no route");
    case FAKE_DNS_LOCAL:
        return ERR_FROM(ERR_LOCAL, ERR_FROM_UV, UV_EMFILE, "too many files");
    default:
        return NULL;
    }
}

static void shape_reply(struct fake_dns *d, const struct fake_dns_rule *rule,
        const struct addr *server, ldns_pkt *reply)
{
    switch (rule != NULL ? (int)rule->action : -1) {
    case FAKE_DNS_RCODE:
    case FAKE_DNS_NO_EDNS:
    case FAKE_DNS_NO_EDNS_BARE:
        ldns_pkt_set_aa(reply, !is_resolver(server));
        ldns_pkt_set_rcode(reply, (uint8_t)(rule->rcode & 15));
        if (rule->rcode > 15) {
            ldns_pkt_set_edns_udp_size(reply, 1232);
            ldns_pkt_set_edns_extended_rcode(reply, (uint8_t)(rule->rcode >> 4));
        }
        push_lines(reply, LDNS_SECTION_AUTHORITY, rule->records);
        return;
    case FAKE_DNS_TRUNCATE:
        ldns_pkt_set_tc(reply, true);
        return;
    case FAKE_DNS_REFERRAL:
        push_lines(reply, LDNS_SECTION_AUTHORITY, "org. 300 IN NS a.nic.org.");
        return;
    case FAKE_DNS_RECORDS:
        ldns_pkt_set_aa(reply, !is_resolver(server));
        push_lines(reply, LDNS_SECTION_ANSWER, rule->records);
        return;
    case FAKE_DNS_GARBAGE:
        return;
    default:
        answer_from_zones(d, server, reply);
        if (rule != NULL && rule->action == FAKE_DNS_NOT_AA)
            ldns_pkt_set_aa(reply, false);
    }
}

static struct err *wire(void *arg, const struct dns_wire_request *request, struct buf *ret)
        MAY_SUSPEND;
static struct err *wire(void *arg, const struct dns_wire_request *request, struct buf *ret)
{
    struct fake_dns *d = arg;
    ldns_pkt *query = NULL;
    ldns_status status = ldns_wire2pkt(&query, request->data, request->len);
    assert(status == LDNS_STATUS_OK);
    (void)status;
    size_t nth = d->n_udp + d->n_tcp;
    if (nth < ARRAY_SIZE(d->ids))
        d->ids[nth] = ldns_pkt_id(query);
    *(request->tcp ? &d->n_tcp : &d->n_udp) += 1;
    d->n_edns += ldns_pkt_edns(query);
    d->last_to = request->to;
    d->last_wait_ms = request->wait_ms;
    const struct fake_dns_rule *rule = find_rule(d, request, query);
    struct err *e = fiber_sleep(10); /* so that what is asked at once overlaps */
    if (e == NULL && rule != NULL)
        e = misbehave(rule, request);
    if (e == NULL) {
        ldns_pkt *reply = start_reply(query);
        shape_reply(d, rule, &request->to, reply);
        struct buf b = BUF_INIT(65535);
        put_reply(request, rule, reply, &b);
        if (!request->tcp && request->accept != NULL &&
                !request->accept(request->arg, (const uint8_t *)b.data, b.len)) {
            buf_done(&b);
            e = fiber_sleep(request->wait_ms);
            e = e != NULL ? e : ERR(ERR_TIMEOUT, "no reply");
        } else {
            *ret = b;
        }
    }
    ldns_pkt_free(query);
    return e;
}

/* ---- lifecycle ---- */

void fake_dns_init(struct fake_dns *d)
{
    memset(d, 0, sizeof(*d));
    fake_world_init(&d->fw);
    d->fw.dns_wire = wire;
    d->fw.dns_arg = d;
}

void fake_dns_start(struct fake_dns *d, size_t n_servers)
{
    for (size_t i = 0; i < FAKE_DNS_ZONES && d->zones[i] != NULL; i++) {
        ldns_pkt *p = ldns_pkt_new();
        push_lines(p, LDNS_SECTION_ANSWER, d->zones[i]);
        d->parsed[i] = ldns_rr_list_clone(ldns_pkt_answer(p));
        ldns_pkt_free(p);
    }
    struct dns_resolver_options o = {.n_servers = n_servers};
    for (size_t i = 0; i < n_servers; i++) {
        struct err *e = addr_parse(i == 0 ? "192.0.2.53" : "192.0.2.54", 53, &o.servers[i]);
        assert(e == NULL);
        (void)e;
    }
    struct err *e = dns_resolver_new(&d->fw.world, &o, &d->resolver);
    assert(e == NULL);
    (void)e;
}

void fake_dns_done(struct fake_dns *d)
{
    for (size_t i = 0; i < FAKE_DNS_ZONES; i++)
        ldns_rr_list_deep_free(d->parsed[i]);
    dns_resolver_free(d->resolver);
    fake_world_done(&d->fw);
}
