/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three layers. ask_once(): one question to one server, with what belongs to that server alone (TCP
 * after TC, once more without EDNS). ask_servers(): rounds over the servers with doubling patience;
 * a server that gave a useless answer (SERVFAIL, REFUSED, garbage) or can't be routed to is not
 * asked again, a silent one is. dns_query*(): reads the reply, follows the aliases, asks on.
 *
 * What is returned when nobody gave a usable answer is the last *reply* (SERVFAIL tells more than
 * somebody else's silence), else silence, else "unreachable".
 */
#include "dns/query.h"

#include "dns/answer.h"
#include "dns/message.h"
#include "dns/resolv_conf.h"

#define TRY_MS        (2 * CLOCK_SEC)
#define TRIES         3
#define MAX_IN_FLIGHT 100

struct dns_resolver {
    struct world *world;
    struct dns_resolver_options options;
    size_t first; /* the server that gave the last usable answer is asked first */
    struct fiber_sem in_flight;
};

/* ---- lifecycle ---- */

struct err *dns_resolver_new(
        struct world *world, const struct dns_resolver_options *options, struct dns_resolver **ret)
{
    struct dns_resolver_options o = *options;
    if (o.n_servers > DNS_SERVERS_MAX)
        return ERR(ERR_CONFIG, "%zu DNS servers are more than %d", o.n_servers, DNS_SERVERS_MAX);
    if (o.n_servers == 0) {
        const char *path = o.resolv_conf != NULL ? o.resolv_conf : "/etc/resolv.conf";
        TRY(dns_resolv_conf_read(path, o.servers, DNS_SERVERS_MAX, &o.n_servers));
    }
    o.resolv_conf = NULL; /* borrowed for this call only */
    o.try_ms = o.try_ms > 0 ? o.try_ms : TRY_MS;
    o.tries = o.tries > 0 ? o.tries : TRIES;
    o.max_in_flight = o.max_in_flight > 0 ? o.max_in_flight : MAX_IN_FLIGHT;
    o.authority_port = o.authority_port > 0 ? o.authority_port : 53;

    struct dns_resolver *resolver = MEM_NEW(struct dns_resolver);
    resolver->world = world;
    resolver->options = o;
    fiber_sem_init(&resolver->in_flight, o.max_in_flight);
    *ret = resolver;
    return NULL;
}

void dns_resolver_free(struct dns_resolver *resolver)
{
    free(resolver);
}

const struct dns_resolver_options *dns_resolver_options(const struct dns_resolver *resolver)
{
    return &resolver->options;
}

struct world *dns_resolver_world(const struct dns_resolver *resolver)
{
    return resolver->world;
}

/* ---- one question, one server ---- */

/* What became of one try; without packet the outcome is final for it. */
struct attempt {
    struct addr server;
    enum dns_outcome outcome; /* DNS_ANSWER: packet is NOERROR or NXDOMAIN */
    bool refused;             /* DNS_TIMEOUT, but known at once */
    int rcode;
    ldns_pkt *packet;
};

static void attempt_done(struct attempt *attempt)
{
    ldns_pkt_free(attempt->packet);
    attempt->packet = NULL;
}

static bool is_reply(void *arg, const uint8_t *data, size_t len)
{
    return dns_message_is_reply(arg, data, len);
}

/* No way to the server from this machine, as opposed to nobody being there. */
static bool is_unreachable(const struct err *e)
{
    if (err_origin(e) != ERR_FROM_UV)
        return false;
    switch (err_number(e)) {
    case UV_ENETUNREACH:
    case UV_EHOSTUNREACH:
    case UV_ENETDOWN:
    case UV_EADDRNOTAVAIL:
    case UV_EAFNOSUPPORT:
    case UV_EPERM: /* a packet filter of this machine */
    case UV_EACCES:
    case UV_EINVAL: /* a link-local address without its interface */
        return true;
    default:
        return false;
    }
}

/* Tells failures of the exchange (an outcome) from our own faults and requests to stop (an error).
 * Both our patience and the flow's deadline end a wait with ERR_TIMEOUT; fiber_check() knows which.
 */
static struct err *judge_failure(struct err *owned, struct attempt *ret)
{
    AUTO_ERR struct err *e = owned;
    TRY(fiber_check());
    if (is_unreachable(e)) {
        ret->outcome = DNS_UNREACHABLE;
        return NULL;
    }
    if (!err_is(e, ERR_TIMEOUT) && !err_is(e, ERR_RETRY) && !err_is(e, ERR_PROTOCOL))
        return STEAL(e);
    ret->outcome = DNS_TIMEOUT;
    ret->refused = !err_is(e, ERR_TIMEOUT);
    return NULL;
}

static struct err *exchange(struct dns_resolver *resolver, struct dns_wire_request *request,
        struct buf *reply) MAY_SUSPEND;
static struct err *exchange(
        struct dns_resolver *resolver, struct dns_wire_request *request, struct buf *reply)
{
    TRY(fiber_sem_acquire(&resolver->in_flight));
    struct err *e = world_dns_wire(resolver->world, request, reply);
    fiber_sem_release(&resolver->in_flight);
    return e;
}

/* UDP, and TCP if the reply was cut off. */
static struct err *fetch(struct dns_resolver *resolver, const struct dns_question *question,
        int64_t wait_ms, struct attempt *ret, struct buf *reply) MAY_SUSPEND;
static struct err *fetch(struct dns_resolver *resolver, const struct dns_question *question,
        int64_t wait_ms, struct attempt *ret, struct buf *reply)
{
    AUTO_BUF struct buf wire = BUF_INIT(1024);
    TRY(dns_message_encode(question, &wire));
    struct dns_question expected = *question;
    struct dns_wire_request request = {.to = ret->server,
            .data = wire.data,
            .len = wire.len,
            .wait_ms = wait_ms,
            .accept = is_reply,
            .arg = &expected};
    struct err *e = exchange(resolver, &request, reply);
    if (e == NULL && dns_message_is_truncated((const uint8_t *)reply->data, reply->len)) {
        buf_done(reply);
        request.tcp = true;
        e = exchange(resolver, &request, reply);
    }
    return e == NULL ? NULL : judge_failure(e, ret);
}

static enum dns_outcome outcome_of_rcode(int rcode)
{
    switch (rcode) {
    case LDNS_RCODE_NOERROR:
    case LDNS_RCODE_NXDOMAIN:
        return DNS_ANSWER;
    case LDNS_RCODE_SERVFAIL:
        return DNS_SERVFAIL;
    case LDNS_RCODE_REFUSED:
        return DNS_REFUSED;
    default:
        return DNS_BROKEN;
    }
}

static bool dislikes_edns(int rcode)
{
    return rcode == LDNS_RCODE_FORMERR || rcode == LDNS_RCODE_NOTIMPL || rcode == 16; /* BADVERS */
}

static struct err *ask_plain(struct dns_resolver *resolver, struct dns_question *question,
        int64_t wait_ms, struct attempt *ret) MAY_SUSPEND;
static struct err *ask_plain(struct dns_resolver *resolver, struct dns_question *question,
        int64_t wait_ms, struct attempt *ret)
{
    world_random(resolver->world, &question->id, sizeof(question->id));
    AUTO_BUF struct buf reply = BUF_INIT(DNS_MESSAGE_MAX);
    ret->outcome = DNS_ANSWER;
    ret->refused = false;
    TRY(fetch(resolver, question, wait_ms, ret, &reply));
    if (ret->outcome != DNS_ANSWER)
        return NULL;
    const uint8_t *data = (const uint8_t *)reply.data;
    /* TCP has no strangers to ignore: another reply than ours is a broken server. */
    AUTO_ERR struct err *e = dns_message_is_reply(question, data, reply.len)
                                     ? dns_message_decode(data, reply.len, &ret->packet)
                                     : ERR(ERR_PROTOCOL, "the reply to another question");
    if (e != NULL) {
        char text[ADDR_TEXT_MAX];
        log_debug("dns_broken", "a reply can't be read",
                LOG_STR("server", addr_format(&ret->server, text)), LOG_STR("error", err_text(e)));
        ret->outcome = DNS_BROKEN;
        return NULL;
    }
    ret->rcode = dns_message_rcode(ret->packet);
    ret->outcome = outcome_of_rcode(ret->rcode);
    return NULL;
}

static struct err *ask_once(struct dns_resolver *resolver, const struct dns_question *question,
        int64_t wait_ms, struct attempt *ret) MAY_SUSPEND;
static struct err *ask_once(struct dns_resolver *resolver, const struct dns_question *question,
        int64_t wait_ms, struct attempt *ret)
{
    struct dns_question q = *question;
    q.edns = true;
    TRY(ask_plain(resolver, &q, wait_ms, ret));
    if (ret->outcome != DNS_BROKEN || ret->packet == NULL || !dislikes_edns(ret->rcode))
        return NULL;
    attempt_done(ret);
    q.edns = false;
    return ask_plain(resolver, &q, wait_ms, ret);
}

/* ---- one question, several servers ---- */

struct round {
    const struct addr *servers;
    size_t n;
    size_t first;
    bool given_up[DNS_SERVERS_MAX];
};

/* Is b worth more to the reader than a? See the text on top. */
static bool tells_more(const struct attempt *a, const struct attempt *b)
{
    bool a_replied = a->outcome != DNS_TIMEOUT && a->outcome != DNS_UNREACHABLE;
    bool b_replied = b->outcome != DNS_TIMEOUT && b->outcome != DNS_UNREACHABLE;
    if (a_replied != b_replied)
        return b_replied;
    return b_replied || b->outcome == DNS_TIMEOUT;
}

/* One pass over the servers; *ret_waited: somebody made us wait. Ends early with a usable answer.
 */
static struct err *ask_round(struct dns_resolver *resolver, struct round *round,
        const struct dns_question *question, int64_t wait_ms, struct attempt *ret) MAY_SUSPEND;
static struct err *ask_round(struct dns_resolver *resolver, struct round *round,
        const struct dns_question *question, int64_t wait_ms, struct attempt *ret)
{
    bool silent = false, waited = false;
    for (size_t i = 0; i < round->n; i++) {
        size_t which = (round->first + i) % round->n;
        if (round->given_up[which])
            continue;
        AUTO(attempt_done) struct attempt now = {.server = round->servers[which]};
        TRY(ask_once(resolver, question, wait_ms, &now));
        if (tells_more(ret, &now) || now.outcome == DNS_ANSWER) {
            attempt_done(ret);
            *ret = now;
            now.packet = NULL;
        }
        if (ret->outcome == DNS_ANSWER) {
            round->first = which;
            return NULL;
        }
        round->given_up[which] = now.outcome != DNS_TIMEOUT;
        silent |= now.outcome == DNS_TIMEOUT;
        waited |= now.outcome == DNS_TIMEOUT && !now.refused;
    }
    /* All who may still answer refuse the connection: a resolver that is being restarted. */
    if (silent && !waited)
        return fiber_sleep(wait_ms / 4);
    return NULL;
}

static struct err *ask_servers(struct dns_resolver *resolver, struct round *round,
        const struct dns_question *question, struct attempt *ret) MAY_SUSPEND;
static struct err *ask_servers(struct dns_resolver *resolver, struct round *round,
        const struct dns_question *question, struct attempt *ret)
{
    int64_t wait_ms = resolver->options.try_ms;
    ret->outcome = DNS_UNREACHABLE;
    ret->server = round->servers[round->first];
    for (unsigned i = 0; i < resolver->options.tries; i++, wait_ms *= 2) {
        TRY(ask_round(resolver, round, question, wait_ms, ret));
        if (ret->outcome == DNS_ANSWER)
            return NULL;
    }
    return NULL;
}

/* ---- asking ---- */

struct query {
    const struct addr *only; /* this server with RD=0, else the resolvers */
    bool unchecked;
    const char *owner;
    ldns_rr_type type;
};

static struct err *ask(struct dns_resolver *resolver, const struct query *query,
        const ldns_rdf *owner, struct dns_answer *answer) MAY_SUSPEND;
static struct err *ask(struct dns_resolver *resolver, const struct query *query,
        const ldns_rdf *owner, struct dns_answer *answer)
{
    struct dns_question question = {.owner = owner,
            .type = query->type,
            .recurse = query->only == NULL,
            .unchecked = query->unchecked};
    struct round round = {.servers = query->only, .n = 1};
    if (query->only == NULL) {
        round.servers = resolver->options.servers;
        round.n = resolver->options.n_servers;
        round.first = resolver->first;
    }
    AUTO(attempt_done) struct attempt attempt = {0};
    TRY(ask_servers(resolver, &round, &question, &attempt));
    if (query->only == NULL && attempt.outcome == DNS_ANSWER)
        resolver->first = round.first;

    ldns_pkt_free(answer->packet);
    answer->packet = STEAL(attempt.packet);
    answer->outcome = attempt.outcome;
    answer->rcode = attempt.rcode;
    answer->server = attempt.server;
    bool usable = attempt.outcome == DNS_ANSWER;
    answer->aa = usable && ldns_pkt_aa(answer->packet);
    answer->ad = usable && ldns_pkt_ad(answer->packet) && answer->ad;
    return NULL;
}

static struct err *query_run(struct dns_resolver *resolver, const struct query *query,
        struct dns_answer *ret) MAY_SUSPEND;
static struct err *query_run(
        struct dns_resolver *resolver, const struct query *query, struct dns_answer *ret)
{
    AUTO_DNS_ANSWER struct dns_answer answer = {.ttl = UINT32_MAX, .ad = true};
    AUTO(dns_message_name_freep) ldns_rdf *name = NULL;
    TRY(dns_message_name(query->owner, &name));
    struct dns_reading reading = {
            .authoritative = query->only != NULL, .type = query->type, .answer = &answer};
    if (!dns_message_name_text(name, &reading.origin_text))
        reading.origin_text = (struct name){0};
    bool ask_on = false;
    do {
        TRY(ask(resolver, query, name, &answer));
        if (answer.outcome != DNS_ANSWER)
            break;
        reading.name = STEAL(name);
        dns_answer_read(&reading, &ask_on);
        name = STEAL(reading.name);
    } while (ask_on);
    if (answer.ttl == UINT32_MAX)
        answer.ttl = 0;
    char text[ADDR_TEXT_MAX];
    log_debug("dns_answer", dns_outcome_name(answer.outcome), LOG_STR("owner", query->owner),
            LOG_INT("type", query->type), LOG_STR("server", addr_format(&answer.server, text)),
            LOG_INT("hops", answer.n_chain));
    *ret = answer;
    answer.records = NULL;
    answer.packet = NULL;
    return NULL;
}

struct err *dns_query(
        struct dns_resolver *resolver, const char *owner, ldns_rr_type type, struct dns_answer *ret)
{
    return query_run(resolver, &(struct query){.owner = owner, .type = type}, ret);
}

struct err *dns_query_unchecked(
        struct dns_resolver *resolver, const char *owner, ldns_rr_type type, struct dns_answer *ret)
{
    return query_run(
            resolver, &(struct query){.unchecked = true, .owner = owner, .type = type}, ret);
}

struct err *dns_query_at(struct dns_resolver *resolver, const struct addr *server,
        const char *owner, ldns_rr_type type, struct dns_answer *ret)
{
    return query_run(resolver, &(struct query){.only = server, .owner = owner, .type = type}, ret);
}
