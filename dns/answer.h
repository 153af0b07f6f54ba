/* SPDX-License-Identifier: Apache-2.0 */
/* From a decoded reply to a struct dns_answer; inside of dns/ only. */
#pragma once

#include "dns/query.h"

struct dns_reading {
    struct name origin_text; /* as asked; "" if no CNAME could lead back to it */
    bool authoritative;      /* the reply must have AA; nobody will be asked on */
    ldns_rdf *name;          /* owned by the caller: where the chain has led so far; replaced */
    ldns_rr_type type;
    struct dns_answer *answer;
};

/* Reads answer->packet (NOERROR or NXDOMAIN) into the rest of answer, behind the hops that it has
 * already. *ret_ask_on: the chain led out of the reply. */
void dns_answer_read(struct dns_reading *r, bool *ret_ask_on);
