/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages: a question to wire format, a reply from it. ldns is the codec (never its blocking
 * resolver); what it gets to see was scanned first, because it follows compression pointers for as
 * long as a sender likes and leaks on a second TSIG.
 */
#pragma once

/* Before ldns, which makes bool a signed char where nobody has defined it yet. */
#include <stdbool.h>

#include <ldns/ldns.h>

#include "base/buf.h"
#include "base/name.h"

#define DNS_MESSAGE_MAX         65535 /* what TCP can carry */
#define DNS_MESSAGE_RECORDS_MAX 1024  /* ours: no question of ours has a longer answer */
#define DNS_MESSAGE_EDNS_SIZE   1232  /* never fragmented on the way (DNS flag day 2020) */

struct dns_question {
    uint16_t id;
    const ldns_rdf *owner; /* borrowed */
    ldns_rr_type type;
    bool recurse;   /* RD */
    bool unchecked; /* CD, RFC 4035 3.2.2 */
    bool edns;
};

/* Presentation form to a domain name (owned: ldns_rdf_deep_free()); with or without final dot.
 * ERR_CONFIG with what is wrong. */
struct err *dns_message_name(const char *text, ldns_rdf **ret) NODISCARD;
/* The other way: lower case, no final dot. false for the root and for names with anything else than
 * letters, digits, "-" and "_" in them; unlike name_parse() it takes "_" and single labels, which
 * occur in CNAME targets and zones. */
bool dns_message_name_text(const ldns_rdf *dname, struct name *ret);
void dns_message_name_freep(ldns_rdf **owned);

struct err *dns_message_encode(const struct dns_question *question, struct buf *ret) NODISCARD;

/* Is this the reply to that question: id, QR, opcode, question (RFC 5452 9.1)? Looks at nothing
 * else. FORMERR and NOTIMP may come without the question. */
bool dns_message_is_reply(const struct dns_question *question, const uint8_t *data, size_t len);
/* TC of a message for which dns_message_is_reply() was true. */
bool dns_message_is_truncated(const uint8_t *data, size_t len);
/* Owned by the caller (ldns_pkt_free()). ERR_PROTOCOL with what is wrong with the bytes. */
struct err *dns_message_decode(const uint8_t *data, size_t len, ldns_pkt **ret) NODISCARD;
/* With the upper bits from the OPT record (RFC 6891 6.1.3). */
int dns_message_rcode(const ldns_pkt *packet);
