/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reply is read from the name asked for along its aliases; whatever else a server put into it is
 * not looked at, so nothing can be slipped in. Only an SOA above the name where the chain ended
 * makes a NOERROR without data final: without it the server may have stopped at an alias.
 */
#include "dns/answer.h"

#include "dns/message.h"

const char *dns_outcome_name(enum dns_outcome outcome)
{
    static const char *const names[DNS_OUTCOME_MAX] = {
            [DNS_ANSWER] = "answer",
            [DNS_NODATA] = "no such data",
            [DNS_NXDOMAIN] = "NXDOMAIN",
            [DNS_SERVFAIL] = "SERVFAIL",
            [DNS_REFUSED] = "REFUSED",
            [DNS_LAME] = "not authoritative",
            [DNS_TIMEOUT] = "no answer",
            [DNS_UNREACHABLE] = "unreachable",
            [DNS_LOOP] = "CNAME loop",
            [DNS_BROKEN] = "broken answer",
    };
    return (unsigned)outcome < DNS_OUTCOME_MAX ? names[outcome] : "?";
}

void dns_answer_done(struct dns_answer *answer)
{
    ldns_rr_list_deep_free(answer->records);
    ldns_pkt_free(answer->packet);
    answer->records = NULL;
    answer->packet = NULL;
}

static const ldns_rr *find_rr(const ldns_rr_list *list, const ldns_rdf *owner, ldns_rr_type type)
{
    for (size_t i = 0; i < ldns_rr_list_rr_count(list); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(list, i);
        if (ldns_rr_get_type(rr) == type && ldns_rr_get_class(rr) == LDNS_RR_CLASS_IN &&
                ldns_rr_rd_count(rr) > 0 && ldns_dname_compare(ldns_rr_owner(rr), owner) == 0)
            return rr;
    }
    return NULL;
}

static void least_ttl(struct dns_answer *answer, const ldns_rr *rr)
{
    if (ldns_rr_ttl(rr) < answer->ttl)
        answer->ttl = ldns_rr_ttl(rr);
}

static bool seen_before(const struct dns_reading *r, const struct name *target)
{
    if (name_equal(&r->origin_text, target))
        return true;
    for (size_t i = 0; i < r->answer->n_chain; i++) {
        if (name_equal(&r->answer->chain[i], target))
            return true;
    }
    return false;
}

/* Walks the aliases that the reply holds. DNS_ANSWER: walked to their end. */
static enum dns_outcome follow(struct dns_reading *r)
{
    const ldns_rr_list *section = ldns_pkt_answer(r->answer->packet);
    const ldns_rr *alias = NULL;
    while (r->type != LDNS_RR_TYPE_CNAME &&
            (alias = find_rr(section, r->name, LDNS_RR_TYPE_CNAME)) != NULL) {
        struct name target;
        if (!dns_message_name_text(ldns_rr_rdf(alias, 0), &target))
            return DNS_BROKEN;
        if (seen_before(r, &target) || r->answer->n_chain == DNS_CHAIN_MAX)
            return DNS_LOOP;
        r->answer->chain[r->answer->n_chain++] = target;
        least_ttl(r->answer, alias);
        ldns_rdf_deep_free(r->name);
        r->name = ldns_rdf_clone(ldns_rr_rdf(alias, 0));
    }
    return DNS_ANSWER;
}

static void collect(struct dns_reading *r)
{
    const ldns_rr_list *section = ldns_pkt_answer(r->answer->packet);
    for (size_t i = 0; i < ldns_rr_list_rr_count(section); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(section, i);
        if (ldns_rr_get_type(rr) != r->type || ldns_rr_get_class(rr) != LDNS_RR_CLASS_IN ||
                ldns_rr_rd_count(rr) == 0 || ldns_dname_compare(ldns_rr_owner(rr), r->name) != 0)
            continue;
        if (r->answer->records == NULL)
            r->answer->records = ldns_rr_list_new();
        ldns_rr_list_push_rr(r->answer->records, ldns_rr_clone(rr));
        least_ttl(r->answer, rr);
    }
}

/* RFC 2308 5: the SOA of the zone that says no. */
static bool read_negative(struct dns_reading *r)
{
    const ldns_rr_list *section = ldns_pkt_authority(r->answer->packet);
    for (size_t i = 0; i < ldns_rr_list_rr_count(section); i++) {
        const ldns_rr *rr = ldns_rr_list_rr(section, i);
        const ldns_rdf *owner = ldns_rr_owner(rr);
        if (ldns_rr_get_type(rr) != LDNS_RR_TYPE_SOA || ldns_rr_rd_count(rr) < 7)
            continue;
        if (ldns_dname_compare(r->name, owner) != 0 && !ldns_dname_is_subdomain(r->name, owner))
            continue;
        uint32_t minimum = ldns_rdf2native_int32(ldns_rr_rdf(rr, 6));
        r->answer->negative_ttl = ldns_rr_ttl(rr) < minimum ? ldns_rr_ttl(rr) : minimum;
        struct name zone;
        if (dns_message_name_text(owner, &zone))
            r->answer->soa_owner = zone;
        return true;
    }
    return false;
}

static bool is_referral(const ldns_pkt *packet)
{
    const ldns_rr_list *section = ldns_pkt_authority(packet);
    for (size_t i = 0; i < ldns_rr_list_rr_count(section); i++) {
        if (ldns_rr_get_type(ldns_rr_list_rr(section, i)) == LDNS_RR_TYPE_NS)
            return !ldns_pkt_aa(packet) && ldns_pkt_ancount(packet) == 0;
    }
    return false;
}

void dns_answer_read(struct dns_reading *r, bool *ret_ask_on)
{
    struct dns_answer *a = r->answer;
    *ret_ask_on = false;
    if (r->authoritative && !a->aa) {
        a->outcome = DNS_LAME;
        return;
    }
    size_t hops = a->n_chain;
    a->outcome = follow(r);
    if (a->outcome != DNS_ANSWER)
        return;
    if (a->rcode == LDNS_RCODE_NXDOMAIN) {
        a->outcome = DNS_NXDOMAIN;
        read_negative(r);
        return;
    }
    collect(r);
    if (a->records != NULL)
        return;
    a->outcome = DNS_NODATA;
    if (read_negative(r))
        return;
    *ret_ask_on = !r->authoritative && a->n_chain > hops;
    if (a->n_chain == hops && is_referral(a->packet))
        a->outcome = DNS_LAME;
}

size_t dns_answer_addresses(const struct dns_answer *answer, struct addr *ret, size_t max)
{
    size_t n = 0;
    for (size_t i = 0; i < ldns_rr_list_rr_count(answer->records) && n < max; i++) {
        const ldns_rr *rr = ldns_rr_list_rr(answer->records, i);
        const ldns_rdf *rdf = ldns_rr_rdf(rr, 0);
        if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_A && ldns_rdf_size(rdf) == 4)
            ret[n++] = addr_from_ipv4(ldns_rdf_data(rdf), 0);
        else if (ldns_rr_get_type(rr) == LDNS_RR_TYPE_AAAA && ldns_rdf_size(rdf) == 16)
            ret[n++] = addr_from_ipv6(ldns_rdf_data(rdf), 0);
    }
    return n;
}
