/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan walks the whole message once in linear time before ldns decodes it: sections complete,
 * every name well-formed, compression pointers strictly backwards and few, at most one OPT and one
 * TSIG in their place. Names inside of RDATA are scanned for the types listed in name_places[]; any
 * other type with a name in it is refused, since nobody asked for one and ldns would follow its
 * pointers unbounded (a HIP record of 64 KiB keeps it busy for seconds).
 */
#include "dns/message.h"

#include <arpa/inet.h>
#include <ctype.h>

_Static_assert((bool)2 == 1, "ldns must not replace bool");

#define HEADER_SIZE  12
#define POINTERS_MAX 127 /* a name has no more labels than that */
#define NAME_WIRE    255 /* RFC 1035 3.1 */

/* ---- names ---- */

struct err *dns_message_name(const char *text, ldns_rdf **ret)
{
    ldns_rdf *dname = NULL;
    ldns_status status = ldns_str2rdf_dname(&dname, text);
    if (status != LDNS_STATUS_OK) {
        AUTO_FREE char *shown = str_foreign(text, NAME_MAX_TEXT);
        return ERR(ERR_CONFIG, "'%s' is not a domain name: %s", shown,
                ldns_get_errorstr_by_id(status));
    }
    *ret = dname;
    return NULL;
}

void dns_message_name_freep(ldns_rdf **owned)
{
    ldns_rdf_deep_free(*owned);
    *owned = NULL;
}

bool dns_message_name_text(const ldns_rdf *dname, struct name *ret)
{
    const uint8_t *data = ldns_rdf_data(dname);
    size_t size = ldns_rdf_size(dname);
    struct name name = {0};
    size_t at = 0, len = 0;
    while (at < size && data[at] != 0) {
        size_t label = data[at++];
        if (label > 63 || label > size - at || len + label + 1 >= sizeof(name.text))
            return false;
        if (len > 0)
            name.text[len++] = '.';
        for (size_t i = 0; i < label; i++, at++) {
            unsigned char c = data[at];
            if (c >= 0x80 || (!isalnum(c) && c != '-' && c != '_'))
                return false;
            name.text[len++] = (char)tolower(c);
        }
    }
    if (len == 0)
        return false;
    *ret = name;
    return true;
}

/* ---- questions ---- */

struct err *dns_message_encode(const struct dns_question *question, struct buf *ret)
{
    /* AD asks for the AD bit without the weight of DNSSEC records (RFC 6840 5.7). */
    uint16_t flags = question->recurse ? LDNS_RD | LDNS_AD : 0;
    if (question->unchecked)
        flags |= LDNS_CD;
    ldns_rdf *owner = ldns_rdf_clone(question->owner);
    if (owner == NULL)
        return err_nomem();
    ldns_pkt *packet = ldns_pkt_query_new(owner, question->type, LDNS_RR_CLASS_IN, flags);
    if (packet == NULL) {
        ldns_rdf_deep_free(owner);
        return err_nomem();
    }
    ldns_pkt_set_id(packet, question->id);
    if (question->edns)
        ldns_pkt_set_edns_udp_size(packet, DNS_MESSAGE_EDNS_SIZE);
    uint8_t *wire = NULL;
    size_t len = 0;
    ldns_status status = ldns_pkt2wire(&wire, packet, &len);
    ldns_pkt_free(packet);
    if (status != LDNS_STATUS_OK)
        return ERR(ERR_LOCAL, "can't encode a DNS question: %s", ldns_get_errorstr_by_id(status));
    buf_append(ret, wire, len);
    free(wire);
    return buf_check(ret, "a DNS question");
}

/* ---- replies: is it ours ---- */

static uint16_t get16(const uint8_t *data)
{
    return (uint16_t)(data[0] << 8 | data[1]);
}

/* The question section's name comes first, so nothing can be compressed in it. Length bytes are at
 * most 63, so lower-casing them with the rest changes nothing. */
static bool same_question(const struct dns_question *question, const uint8_t *data, size_t len)
{
    size_t size = ldns_rdf_size(question->owner);
    const uint8_t *owner = ldns_rdf_data(question->owner);
    if (len < HEADER_SIZE + size + 4)
        return false;
    const uint8_t *at = data + HEADER_SIZE;
    for (size_t i = 0; i < size; i++) {
        if (tolower(at[i]) != tolower(owner[i]))
            return false;
    }
    return get16(at + size) == question->type && get16(at + size + 2) == LDNS_RR_CLASS_IN;
}

bool dns_message_is_reply(const struct dns_question *question, const uint8_t *data, size_t len)
{
    if (len < HEADER_SIZE || get16(data) != question->id)
        return false;
    if ((data[2] & 0x80) == 0 || (data[2] & 0x78) != 0) /* QR, opcode QUERY */
        return false;
    uint16_t questions = get16(data + 4);
    int rcode = data[3] & 0x0f;
    /* Who can't read the question can't repeat it. */
    if (questions == 0)
        return rcode == LDNS_RCODE_FORMERR || rcode == LDNS_RCODE_NOTIMPL;
    return questions == 1 && same_question(question, data, len);
}

bool dns_message_is_truncated(const uint8_t *data, size_t len)
{
    return len >= HEADER_SIZE && (data[2] & 0x02) != 0;
}

/* ---- replies: the scan ---- */

struct scan {
    const uint8_t *data;
    size_t len;
    size_t at;
    const char *wrong; /* the first thing found */
    unsigned n_opt, n_tsig;
};

static bool scan_fail(struct scan *s, const char *wrong)
{
    if (s->wrong == NULL)
        s->wrong = wrong;
    return false;
}

static bool scan_skip(struct scan *s, size_t n)
{
    if (n > s->len - s->at)
        return scan_fail(s, "it ends within a record");
    s->at += n;
    return true;
}

/* Leaves at behind the name. Pointers must lead before everything that was read of this name so
 * far, which excludes loops (RFC 1035 4.1.4 "a prior occurrence"). */
static bool scan_name(struct scan *s)
{
    size_t at = s->at, limit = s->at, size = 1, end = 0;
    unsigned pointers = 0;
    for (;;) {
        if (at >= s->len)
            return scan_fail(s, "a name runs past the end");
        uint8_t label = s->data[at];
        if (label == 0)
            break;
        if ((label & 0xc0) == 0xc0) {
            if (s->len - at < 2)
                return scan_fail(s, "a name runs past the end");
            size_t target = get16(s->data + at) & 0x3fff;
            if (target >= limit || ++pointers > POINTERS_MAX)
                return scan_fail(s, "a compression pointer leads nowhere");
            end = end == 0 ? at + 2 : end;
            at = limit = target;
            continue;
        }
        if ((label & 0xc0) != 0)
            return scan_fail(s, "a label has an unknown type");
        size += label + 1u;
        if (size > NAME_WIRE)
            return scan_fail(s, "a name is longer than 255 octets");
        at += label + 1u;
    }
    s->at = end == 0 ? at + 1 : end;
    return true;
}

/* Where names are in the RDATA of the types that may come. */
static const struct {
    uint16_t type;
    uint8_t offset;
    uint8_t count;
} name_places[] = {
        {LDNS_RR_TYPE_NS, 0, 1},
        {LDNS_RR_TYPE_CNAME, 0, 1},
        {LDNS_RR_TYPE_SOA, 0, 2},
        {LDNS_RR_TYPE_PTR, 0, 1},
        {LDNS_RR_TYPE_MX, 2, 1},
        {LDNS_RR_TYPE_SRV, 6, 1},
        {LDNS_RR_TYPE_DNAME, 0, 1},
        {LDNS_RR_TYPE_RRSIG, 18, 1},
        {LDNS_RR_TYPE_NSEC, 0, 1},
        {LDNS_RR_TYPE_SVCB, 2, 1},
        {LDNS_RR_TYPE_HTTPS, 2, 1},
        {LDNS_RR_TYPE_TSIG, 0, 1},
};

static bool type_has_names(uint16_t type)
{
    const ldns_rr_descriptor *known = ldns_rr_descript(type);
    return known != NULL && (known->_dname_count > 0 || known->_variable == LDNS_RDF_TYPE_DNAME);
}

static bool scan_rdata(struct scan *s, uint16_t type, size_t rdlen)
{
    size_t end = s->at + rdlen;
    for (size_t i = 0; i < ARRAY_SIZE(name_places); i++) {
        if (name_places[i].type != type)
            continue;
        /* Without RDATA (RFC 2136) ldns has nothing to follow. */
        if (rdlen == 0)
            return true;
        if (rdlen < name_places[i].offset)
            return scan_fail(s, "a record is too short");
        s->at += name_places[i].offset;
        for (unsigned n = 0; n < name_places[i].count; n++) {
            if (!scan_name(s))
                return false;
        }
        if (s->at > end)
            return scan_fail(s, "a name runs past its record");
        s->at = end;
        return true;
    }
    if (type_has_names(type))
        return scan_fail(s, "it holds a record of a type that nobody asked for");
    s->at = end;
    return true;
}

/* OPT (RFC 6891 6.1.1) and TSIG (RFC 8945 5.1): at most one, only in ADDITIONAL, TSIG last. */
static bool scan_pseudo(struct scan *s, uint16_t type, bool additional)
{
    if (s->n_tsig > 0)
        return scan_fail(s, "a record follows the TSIG");
    if (type != LDNS_RR_TYPE_OPT && type != LDNS_RR_TYPE_TSIG)
        return true;
    unsigned *count = type == LDNS_RR_TYPE_OPT ? &s->n_opt : &s->n_tsig;
    if (!additional || ++*count > 1)
        return scan_fail(s, "it has an OPT or TSIG record too many");
    return true;
}

static bool scan_record(struct scan *s, bool additional)
{
    if (!scan_name(s))
        return false;
    const uint8_t *fixed = s->data + s->at;
    if (!scan_skip(s, 10))
        return false;
    uint16_t type = get16(fixed), rdlen = get16(fixed + 8);
    if (rdlen > s->len - s->at)
        return scan_fail(s, "it ends within a record");
    return scan_pseudo(s, type, additional) && scan_rdata(s, type, rdlen);
}

static bool scan_message(struct scan *s)
{
    if (s->len < HEADER_SIZE)
        return scan_fail(s, "it is shorter than a header");
    if (s->len > DNS_MESSAGE_MAX)
        return scan_fail(s, "it is longer than 65535 octets");
    size_t questions = get16(s->data + 4), answers = get16(s->data + 6);
    size_t authority = get16(s->data + 8), additional = get16(s->data + 10);
    if (questions > 1)
        return scan_fail(s, "it has more than one question");
    if (answers + authority + additional > DNS_MESSAGE_RECORDS_MAX)
        return scan_fail(s, "it has more than 1024 records");
    s->at = HEADER_SIZE;
    if (questions == 1 && (!scan_name(s) || !scan_skip(s, 4)))
        return false;
    for (size_t i = 0; i < answers + authority + additional; i++) {
        if (!scan_record(s, i >= answers + authority))
            return false;
    }
    return true;
}

struct err *dns_message_decode(const uint8_t *data, size_t len, ldns_pkt **ret)
{
    struct scan scan = {.data = data, .len = len};
    if (!scan_message(&scan))
        return ERR(ERR_PROTOCOL, "not a DNS message: %s (%zu octets)", scan.wrong, len);
    ldns_pkt *packet = NULL;
    ldns_status status = ldns_wire2pkt(&packet, data, len);
    if (status != LDNS_STATUS_OK) {
        ldns_pkt_free(packet);
        return ERR(ERR_PROTOCOL, "not a DNS message: %s (%zu octets)",
                ldns_get_errorstr_by_id(status), len);
    }
    *ret = packet;
    return NULL;
}

int dns_message_rcode(const ldns_pkt *packet)
{
    return ldns_pkt_edns_extended_rcode(packet) << 4 | (int)ldns_pkt_get_rcode(packet);
}
