/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that looks at the bytes of a DNS reply: the scan, ldns, and the reading of an answer,
 * for a question that matches the message so that the reading gets somewhere.
 */
#include <assert.h>

#include "dns/answer.h"
#include "dns/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_answer(ldns_pkt *owned, const ldns_rr *question, bool authoritative)
{
    AUTO_DNS_ANSWER struct dns_answer answer = {.packet = owned, .ttl = UINT32_MAX};
    struct dns_reading reading = {.authoritative = authoritative,
            .name = ldns_rdf_clone(ldns_rr_owner(question)),
            .type = ldns_rr_get_type(question),
            .answer = &answer};
    struct addr addrs[16];
    bool ask_on;
    answer.rcode = dns_message_rcode(owned);
    answer.aa = ldns_pkt_aa(owned);
    dns_answer_read(&reading, &ask_on);
    assert(answer.n_chain <= DNS_CHAIN_MAX);
    assert((answer.outcome == DNS_ANSWER) == (answer.records != NULL));
    assert(dns_answer_addresses(&answer, addrs, ARRAY_SIZE(addrs)) <= ARRAY_SIZE(addrs));
    ldns_rdf_deep_free(reading.name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    ldns_pkt *packet = NULL;
    AUTO_ERR struct err *e = dns_message_decode(data, len, &packet);
    if (e != NULL) {
        assert(err_is(e, ERR_PROTOCOL) && packet == NULL);
        return 0;
    }
    if (ldns_rr_list_rr_count(ldns_pkt_question(packet)) == 0) {
        ldns_pkt_free(packet);
        return 0;
    }
    const ldns_rr *question = ldns_rr_list_rr(ldns_pkt_question(packet), 0);
    struct dns_question q = {.id = ldns_pkt_id(packet),
            .owner = ldns_rr_owner(question),
            .type = ldns_rr_get_type(question),
            .edns = true};
    dns_message_is_reply(&q, data, len);
    dns_message_is_truncated(data, len);
    AUTO_BUF struct buf wire = BUF_INIT(1024);
    AUTO_ERR struct err *encoded = dns_message_encode(&q, &wire);
    assert(encoded == NULL);
    ldns_pkt *second = ldns_pkt_clone(packet);
    const ldns_rr *second_question = ldns_rr_list_rr(ldns_pkt_question(second), 0);
    read_answer(packet, question, false);
    read_answer(second, second_question, true);
    return 0;
}
