/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Same addresses" means: the chain of the name passes the mail host, or the union of its A and
 * AAAA equals that of the mail host. A family for which either side got no answer is left out of
 * the comparison. Anything else that has addresses "differs"; the http probe decides then (NAT, a
 * proxy in front).
 *
 * A wildcard is advised only below a prefix: "*.example.org" for a host without prefix would catch
 * every name of that domain. It is never advised for a name that exists, since a wildcard does not
 * cover that (RFC 4592 2.2.2).
 */
#include "dns/verdict.h"

#define RECORD_TTL 300
#define TEXT_MAX   4096

const char *dns_check_name(enum dns_check check)
{
    static const char *const names[DNS_CHECK_MAX] = {
            [DNS_CHECK_OK] = "ok",
            [DNS_CHECK_DIFFERS] = "differs",
            [DNS_CHECK_NXDOMAIN] = "nxdomain",
            [DNS_CHECK_NODATA] = "nodata",
            [DNS_CHECK_SERVFAIL] = "servfail",
            [DNS_CHECK_LOOP] = "loop",
            [DNS_CHECK_TIMEOUT] = "timeout",
            [DNS_CHECK_STALE] = "stale",
    };
    return (unsigned)check < DNS_CHECK_MAX ? names[check] : "?";
}

void dns_verdict_done(struct dns_verdict *verdict)
{
    mem_freep(&verdict->sentence);
    mem_freep(&verdict->record);
}

/* ---- what the resolver says ---- */

static enum dns_check check_of(enum dns_outcome outcome)
{
    switch (outcome) {
    case DNS_ANSWER:
        return DNS_CHECK_OK;
    case DNS_NODATA:
        return DNS_CHECK_NODATA;
    case DNS_NXDOMAIN:
        return DNS_CHECK_NXDOMAIN;
    case DNS_TIMEOUT:
    case DNS_UNREACHABLE:
        return DNS_CHECK_TIMEOUT;
    case DNS_LOOP:
        return DNS_CHECK_LOOP;
    default:
        return DNS_CHECK_SERVFAIL;
    }
}

enum dns_check dns_verdict_merge(
        const struct dns_answer *a, const struct dns_answer *aaaa, const struct dns_answer **ret)
{
    /* One address is enough; failing that, a failure outweighs a "no", which would hold for one
     * family only. */
    static const enum dns_check order[] = {DNS_CHECK_OK, DNS_CHECK_LOOP, DNS_CHECK_SERVFAIL,
            DNS_CHECK_TIMEOUT, DNS_CHECK_NXDOMAIN, DNS_CHECK_NODATA};
    for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
        if (check_of(a->outcome) == order[i] || check_of(aaaa->outcome) == order[i]) {
            *ret = check_of(a->outcome) == order[i] ? a : aaaa;
            return order[i];
        }
    }
    *ret = a;
    return DNS_CHECK_SERVFAIL;
}

const struct name *dns_verdict_subject(const struct name *name, const struct dns_answer *answer)
{
    return answer->n_chain > 0 ? &answer->chain[answer->n_chain - 1] : name;
}

/* ---- addresses ---- */

static size_t collect(const struct dns_answer *a, const struct dns_answer *aaaa,
        struct addr ret[DNS_ADDRESSES_MAX])
{
    size_t n = a == NULL ? 0 : dns_answer_addresses(a, ret, DNS_ADDRESSES_MAX);
    return aaaa == NULL ? n : n + dns_answer_addresses(aaaa, ret + n, DNS_ADDRESSES_MAX - n);
}

static bool is_known(const struct dns_answer *answer)
{
    return answer->outcome == DNS_ANSWER || answer->outcome == DNS_NODATA ||
           answer->outcome == DNS_NXDOMAIN;
}

/* Is every address of the family in a also in b? */
static bool contains(const struct addr *a, size_t n_a, const struct addr *b, size_t n_b, int family)
{
    for (size_t i = 0; i < n_a; i++) {
        bool found = addr_family(&a[i]) != family;
        for (size_t j = 0; j < n_b && !found; j++)
            found = addr_equal_ip(&a[i], &b[j]);
        if (!found)
            return false;
    }
    return true;
}

static bool same_family(const struct dns_verdict *v, int family)
{
    return contains(v->addrs, v->n_addrs, v->expected, v->n_expected, family) &&
           contains(v->expected, v->n_expected, v->addrs, v->n_addrs, family);
}

static bool leads_to_mail_host(const struct dns_finding *f, const struct dns_answer *answer)
{
    const struct name *mail_host = f->preflight->mail_host;
    if (name_equal(f->name, mail_host))
        return true;
    for (size_t i = 0; i < answer->n_chain; i++) {
        if (name_equal(&answer->chain[i], mail_host))
            return true;
    }
    return false;
}

static bool same_addresses(
        const struct dns_finding *f, const struct dns_answer *answer, const struct dns_verdict *v)
{
    if (f->preflight->mail_host == NULL || leads_to_mail_host(f, answer))
        return true;
    if (v->n_expected == 0)
        return false;
    if (is_known(f->a) && is_known(f->mail_a) && !same_family(v, AF_INET))
        return false;
    return !is_known(f->aaaa) || !is_known(f->mail_aaaa) || same_family(v, AF_INET6);
}

/* ---- text ---- */

static void put_addrs(struct buf *b, const struct addr *addrs, size_t n)
{
    char text[ADDR_TEXT_MAX];
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%s%s",
                i == 0       ? ""
                : i + 1 == n ? " and "
                             : ", ",
                addr_format_ip(&addrs[i], text));
}

static void put_server(struct buf *b, const struct addr *server)
{
    char text[ADDR_TEXT_MAX];
    buf_puts(b, addr_port(server) == 53 ? addr_format_ip(server, text) : addr_format(server, text));
}

/* The names of the servers that say so, each once. Servers of one name stand side by side. */
static void put_servers(struct buf *b, const struct dns_finding *f, enum dns_saying says)
{
    const struct name *last = NULL;
    for (size_t i = 0; i < f->zone->n_servers; i++) {
        const struct name *server = &f->zone->servers[i].name;
        if (f->says[i] != says || (last != NULL && name_equal(last, server)))
            continue;
        buf_printf(b, "%s%s", last != NULL ? ", " : "", server->text);
        last = server;
    }
}

static size_t count(const struct dns_finding *f, enum dns_saying says)
{
    size_t n = 0;
    for (size_t i = 0; f->zone != NULL && i < f->zone->n_servers; i++)
        n += f->says[i] == says;
    return n;
}

static const char *denial_name(enum dns_outcome outcome)
{
    return outcome == DNS_NXDOMAIN ? "NXDOMAIN" : "no A or AAAA record";
}

/* "NXDOMAIN at ns1.example.net, ns2.example.net", or what is known instead. */
static void put_denial(struct buf *b, const struct dns_finding *f, const struct dns_answer *answer)
{
    size_t n_nxdomain = count(f, DNS_SAYS_NXDOMAIN), n_nodata = count(f, DNS_SAYS_NODATA);
    if (n_nxdomain > 0) {
        buf_puts(b, "NXDOMAIN at ");
        put_servers(b, f, DNS_SAYS_NXDOMAIN);
    }
    if (n_nodata > 0) {
        buf_printf(b, "%sno A or AAAA record at ", n_nxdomain > 0 ? "; " : "");
        put_servers(b, f, DNS_SAYS_NODATA);
    }
    if (n_nxdomain + n_nodata > 0)
        return;
    buf_printf(b, "%s from the resolver ", denial_name(answer->outcome));
    put_server(b, &answer->server);
    if (f->zone != NULL) {
        buf_puts(b, "; no answer from ");
        put_servers(b, f, DNS_SAYS_NOTHING);
    } else if (f->zone_why != NULL) {
        buf_printf(b, "; %s", f->zone_why);
    }
}

/* "im.example.org ", or where its aliases lead. */
static void put_subject(struct buf *b, const struct dns_finding *f, const struct dns_answer *answer)
{
    const struct name *subject = dns_verdict_subject(f->name, answer);
    buf_printf(b, "%s ", f->name->text);
    if (subject != f->name)
        buf_printf(b, "leads to %s, which ", subject->text);
}

static void put_negative(struct buf *b, const struct dns_finding *f,
        const struct dns_answer *answer, const struct dns_verdict *v)
{
    put_subject(b, f, answer);
    if (count(f, DNS_SAYS_YES) > 0) {
        buf_puts(b, "has an address only at ");
        put_servers(b, f, DNS_SAYS_YES);
    } else if (v->check == DNS_CHECK_NODATA && f->sibling_resolves) {
        buf_printf(b,
                "exists without an address because of %s, so the wildcard beside it does not cover "
                "it",
                f->other_data ? "its other records" : "records below it");
    } else if (v->check == DNS_CHECK_NODATA && f->wildcard_below) {
        buf_printf(b, "has no address; the wildcard *.%s does not cover %s itself", f->name->text,
                f->name->text);
    } else {
        buf_puts(b, "has no address");
    }
    buf_puts(b, " (");
    put_denial(b, f, answer);
    buf_puts(b, ")");
    if (f->preflight->mail_host != NULL && count(f, DNS_SAYS_YES) == 0 &&
            name_equal(dns_verdict_subject(f->name, answer), f->preflight->mail_host))
        buf_puts(b, "; that is mail_host: give it an address, or correct mail_host");
}

static void put_stale(struct buf *b, const struct dns_finding *f, const struct dns_answer *answer)
{
    char span[WALL_TEXT_MAX];
    buf_printf(b, "%s has an address at ", dns_verdict_subject(f->name, answer)->text);
    put_servers(b, f, DNS_SAYS_YES);
    buf_puts(b, ", but the resolver ");
    put_server(b, &answer->server);
    buf_printf(b, " still says %s", denial_name(answer->outcome));
    if (answer->negative_ttl > 0)
        buf_printf(b, " (for up to %s)", clock_span(answer->negative_ttl * CLOCK_SEC, span));
}

static void put_servfail(
        struct buf *b, const struct dns_finding *f, const struct dns_answer *answer)
{
    put_subject(b, f, answer);
    buf_puts(b, "can't be resolved: ");
    if (f->unchecked != NULL && is_known(f->unchecked)) {
        buf_puts(b, "its DNSSEC is broken (bogus): ");
        put_server(b, &answer->server);
        buf_puts(b, " says SERVFAIL, and answers only without validation; a CA will refuse it too");
        return;
    }
    if (answer->outcome == DNS_BROKEN)
        buf_printf(b, "broken answer (rcode %d)", answer->rcode);
    else
        buf_puts(b, answer->outcome == DNS_LAME ? "a referral" : dns_outcome_name(answer->outcome));
    buf_puts(b, " from the resolver ");
    put_server(b, &answer->server);
    if (answer->outcome == DNS_SERVFAIL)
        buf_puts(b, ", which gets no usable answer from the name servers above it; check the "
                    "delegation and the servers of this zone");
}

static void put_loop(struct buf *b, const struct dns_finding *f, const struct dns_verdict *v)
{
    if (v->n_chain == DNS_CHAIN_MAX) {
        buf_printf(b, "%s can't be resolved: more than %d CNAMEs in a row, up to %s", f->name->text,
                DNS_CHAIN_MAX, v->chain[DNS_CHAIN_MAX - 1].text);
        return;
    }
    buf_printf(
            b, "%s can't be resolved: its CNAMEs lead in a loop (%s", f->name->text, f->name->text);
    for (size_t i = 0; i < v->n_chain; i++)
        buf_printf(b, " -> %s", v->chain[i].text);
    buf_puts(b, v->n_chain == 0 ? " -> itself)" : " -> …)");
}

static void put_timeout(struct buf *b, const struct dns_finding *f, const struct dns_answer *answer)
{
    const struct dns_resolver_options *o = dns_resolver_options(f->preflight->resolver);
    buf_printf(b, "%s: %s ", f->name->text,
            answer->outcome == DNS_UNREACHABLE ? "no route to the resolver"
                                               : "no answer from the resolver");
    for (size_t i = 0; i < o->n_servers; i++) {
        buf_puts(b, i > 0 ? ", " : "");
        put_server(b, &o->servers[i]);
    }
    if (f->mail_a != NULL && (is_known(f->mail_a) || is_known(f->mail_aaaa)))
        buf_printf(b, ", which answers for %s; check whether the name servers of this zone answer",
                f->preflight->mail_host->text);
}

static void put_differs(struct buf *b, const struct dns_finding *f, const struct dns_verdict *v)
{
    buf_printf(b, "%s has ", f->name->text);
    put_addrs(b, v->addrs, v->n_addrs);
    const char *mail_host = f->preflight->mail_host->text;
    if (v->n_expected > 0) {
        buf_printf(b, ", but %s has ", mail_host);
        put_addrs(b, v->expected, v->n_expected);
        return;
    }
    const struct dns_answer *answer;
    dns_verdict_merge(f->mail_a, f->mail_aaaa, &answer);
    buf_printf(b, ", and %s has no known address to compare with (%s)", mail_host,
            dns_outcome_name(answer->outcome));
}

static char *make_sentence(
        const struct dns_finding *f, const struct dns_answer *answer, const struct dns_verdict *v)
{
    AUTO_BUF struct buf b = BUF_INIT(TEXT_MAX);
    switch (v->check) {
    case DNS_CHECK_OK:
    case DNS_CHECK_MAX:
        return NULL;
    case DNS_CHECK_DIFFERS:
        put_differs(&b, f, v);
        break;
    case DNS_CHECK_NXDOMAIN:
    case DNS_CHECK_NODATA:
        put_negative(&b, f, answer, v);
        break;
    case DNS_CHECK_SERVFAIL:
        put_servfail(&b, f, answer);
        break;
    case DNS_CHECK_LOOP:
        put_loop(&b, f, v);
        break;
    case DNS_CHECK_TIMEOUT:
        put_timeout(&b, f, answer);
        break;
    case DNS_CHECK_STALE:
        put_stale(&b, f, answer);
        break;
    }
    return buf_steal(&b);
}

/* ---- the record that mends it ---- */

static bool is_directly_below(const struct name *name, const struct name *host)
{
    const char *parent = strchr(name->text, '.');
    return parent != NULL && strcmp(parent + 1, host->text) == 0;
}

static char *address_lines(const struct dns_finding *f, const struct dns_verdict *v)
{
    AUTO_BUF struct buf b = BUF_INIT(TEXT_MAX);
    char text[ADDR_TEXT_MAX];
    for (size_t i = 0; i < v->n_expected; i++)
        buf_printf(&b, "%s%s. %d IN %s %s", i > 0 ? "\n" : "", f->name->text, RECORD_TTL,
                addr_family(&v->expected[i]) == AF_INET ? "A" : "AAAA",
                addr_format_ip(&v->expected[i], text));
    return v->n_expected > 0 ? buf_steal(&b) : NULL;
}

/* Where the zone was not looked up (or is that of an alias's target), two labels are taken for an
 * apex. */
static bool is_apex(const struct dns_finding *f, const struct name *name)
{
    if (f->zone != NULL && name_is_below(name, &f->zone->apex))
        return name_equal(&f->zone->apex, name);
    const char *dot = strchr(name->text, '.');
    return dot == NULL || strchr(dot + 1, '.') == NULL;
}

static bool wants_wildcard(const struct dns_finding *f, const struct dns_verdict *v)
{
    const struct name *host = f->preflight->host;
    if (host == NULL || !is_directly_below(f->name, host))
        return false;
    if (is_apex(f, host))
        return false;
    return v->wildcard || (v->check == DNS_CHECK_NXDOMAIN && v->n_chain == 0);
}

static char *make_record(
        const struct dns_finding *f, const struct dns_answer *answer, const struct dns_verdict *v)
{
    const struct name *mail_host = f->preflight->mail_host;
    bool negative = v->check == DNS_CHECK_NXDOMAIN || v->check == DNS_CHECK_NODATA;
    if (mail_host == NULL || name_equal(f->name, mail_host) ||
            (!negative && v->check != DNS_CHECK_DIFFERS && v->check != DNS_CHECK_LOOP))
        return NULL;
    if (v->check == DNS_CHECK_DIFFERS && v->n_expected == 0)
        return NULL;
    /* Nobody but the operator knows the address of the mail host; and a record that some servers
     * have already needs only time. */
    if (negative && (leads_to_mail_host(f, answer) || count(f, DNS_SAYS_YES) > 0))
        return NULL;
    if (f->other_data || is_apex(f, f->name))
        return address_lines(f, v);
    if (wants_wildcard(f, v))
        return str_printf(
                "*.%s. %d IN CNAME %s.", f->preflight->host->text, RECORD_TTL, mail_host->text);
    return str_printf("%s. %d IN CNAME %s.", f->name->text, RECORD_TTL, mail_host->text);
}

/* ---- the verdict ---- */

/* The authoritative servers outweigh the resolver's cache; if none of them answers, that holds. */
static enum dns_check confirm(const struct dns_finding *f, enum dns_check check)
{
    size_t n_no = count(f, DNS_SAYS_NXDOMAIN) + count(f, DNS_SAYS_NODATA);
    if (n_no == 0)
        return count(f, DNS_SAYS_YES) > 0 ? DNS_CHECK_STALE : check;
    return count(f, DNS_SAYS_NODATA) > 0 ? DNS_CHECK_NODATA : DNS_CHECK_NXDOMAIN;
}

static int64_t least_ttl(const struct dns_finding *f)
{
    if (f->a->outcome != DNS_ANSWER)
        return f->aaaa->ttl;
    if (f->aaaa->outcome != DNS_ANSWER)
        return f->a->ttl;
    return f->a->ttl < f->aaaa->ttl ? f->a->ttl : f->aaaa->ttl;
}

/* Everything but the text. */
static void fill(
        const struct dns_finding *f, const struct dns_answer **ret_answer, struct dns_verdict *v)
{
    const struct dns_answer *answer;
    v->check = dns_verdict_merge(f->a, f->aaaa, &answer);
    v->n_chain = answer->n_chain;
    memcpy(v->chain, answer->chain, sizeof(v->chain));
    v->n_addrs = collect(f->a, f->aaaa, v->addrs);
    v->n_expected = collect(f->mail_a, f->mail_aaaa, v->expected);
    if (v->check == DNS_CHECK_OK) {
        v->retry_s = least_ttl(f);
        if (!same_addresses(f, answer, v))
            v->check = DNS_CHECK_DIFFERS;
    } else if (v->check == DNS_CHECK_NXDOMAIN || v->check == DNS_CHECK_NODATA) {
        v->retry_s = answer->negative_ttl;
        v->check = confirm(f, v->check);
    } else if (v->check == DNS_CHECK_SERVFAIL && f->loop) {
        v->check = DNS_CHECK_LOOP;
        v->n_chain = f->n_walk;
        memcpy(v->chain, f->walk, sizeof(v->chain));
    }
    *ret_answer = answer;
}

enum dns_check dns_verdict_check(const struct dns_finding *f)
{
    const struct dns_answer *answer;
    struct dns_verdict v = {.name = *f->name};
    fill(f, &answer, &v);
    return v.check;
}

void dns_verdict_make(const struct dns_finding *f, struct dns_verdict *ret)
{
    const struct dns_answer *answer;
    struct dns_verdict v = {.name = *f->name, .wildcard = f->wildcard};
    fill(f, &answer, &v);
    v.sentence = make_sentence(f, answer, &v);
    v.record = make_record(f, answer, &v);
    *ret = v;
}
