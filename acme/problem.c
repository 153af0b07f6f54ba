/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table says for each registered type what is to be done about it; everything else here is
 * about not trusting the document: members may be missing or of the wrong type, texts are cut and
 * made safe to print, and a body that is no problem document at all (a load balancer's HTML) still
 * becomes an error that says what was received.
 */
#include "acme/problem.h"

#define TEXT_MAX        ((size_t)1024)
#define TYPE_MAX        ((size_t)128)
#define FIRST_LINE_MAX  ((size_t)160)
#define SHOWN_SUB       ((size_t)4) /* subproblems in the sentence; all are in the document */
#define SHOWN_SUB_BYTES 200
/* A rate limit may last a week (duplicate certificates at Let's Encrypt), an outage is looked at
 * again within a day whatever the load balancer says. */
#define RATE_LIMIT_MAX (7 * CLOCK_DAY)
#define OUTAGE_MAX     CLOCK_DAY

static const char urn[] = "urn:ietf:params:acme:error:";

struct row {
    const char *name;
    enum err_kind kind;
    const char *advice; /* where the type alone says what to do */
};

/* Kinds follow the question "what must change before the same request can succeed?". */
static const struct row rows[ACME_PROBLEM_MAX] = {
        [ACME_PROBLEM_UNKNOWN] = {"unknown", ERR_DENIED, NULL},
        [ACME_ACCOUNT_DOES_NOT_EXIST] = {"accountDoesNotExist", ERR_DENIED, NULL},
        [ACME_ALREADY_REPLACED] = {"alreadyReplaced", ERR_DENIED, NULL},
        [ACME_ALREADY_REVOKED] = {"alreadyRevoked", ERR_DENIED, NULL},
        [ACME_BAD_CSR] = {"badCSR", ERR_DENIED,
                "look whether the CA takes this key type and these names"},
        [ACME_BAD_NONCE] = {"badNonce", ERR_RETRY, NULL},
        [ACME_BAD_PUBLIC_KEY] = {"badPublicKey", ERR_CONFIG, "choose another key type"},
        [ACME_BAD_REVOCATION_REASON] = {"badRevocationReason", ERR_DENIED, NULL},
        [ACME_BAD_SIGNATURE_ALGORITHM] = {"badSignatureAlgorithm", ERR_CONFIG,
                "choose another key type for the account"},
        [ACME_CAA] = {"caa", ERR_CONFIG, "let the CAA records of the name allow this CA"},
        [ACME_COMPOUND] = {"compound", ERR_DENIED, NULL},
        [ACME_CONFLICT] = {"conflict", ERR_DENIED, NULL},
        [ACME_CONNECTION] = {"connection", ERR_RETRY,
                "look whether the name's address is reachable from the internet on the port named"},
        [ACME_DNS] = {"dns", ERR_CONFIG,
                "look whether every authoritative server of the zone answers for the name"},
        [ACME_EXTERNAL_ACCOUNT_REQUIRED] = {"externalAccountRequired", ERR_CONFIG,
                "this CA gives accounts only to its customers; use another directory"},
        [ACME_INCORRECT_RESPONSE] = {"incorrectResponse", ERR_CONFIG,
                "look whether the name leads to this machine and not to another one"},
        [ACME_INVALID_CONTACT] = {"invalidContact", ERR_CONFIG, "correct acme.email"},
        [ACME_INVALID_PROFILE] = {"invalidProfile", ERR_CONFIG,
                "choose a profile that the CA offers"},
        [ACME_MALFORMED] = {"malformed", ERR_DENIED, NULL},
        [ACME_ORDER_NOT_READY] = {"orderNotReady", ERR_RETRY, NULL},
        [ACME_RATE_LIMITED] = {"rateLimited", ERR_RETRY, NULL},
        [ACME_REJECTED_IDENTIFIER] = {"rejectedIdentifier", ERR_DENIED,
                "this CA does not issue for the name; use another CA or leave the name out"},
        [ACME_SERVER_INTERNAL] = {"serverInternal", ERR_RETRY, NULL},
        [ACME_TLS] = {"tls", ERR_RETRY, NULL},
        [ACME_UNAUTHORIZED] = {"unauthorized", ERR_CONFIG, NULL},
        [ACME_UNSUPPORTED_CONTACT] = {"unsupportedContact", ERR_CONFIG, "correct acme.email"},
        [ACME_UNSUPPORTED_IDENTIFIER] = {"unsupportedIdentifier", ERR_DENIED,
                "this CA does not issue for the name; use another CA or leave the name out"},
        [ACME_USER_ACTION_REQUIRED] = {"userActionRequired", ERR_CONFIG, NULL},
};

static void problem_free(void *detail)
{
    struct acme_problem *p = detail;
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->n_subproblems; i++) {
        free(p->subproblems[i].type_text);
        free(p->subproblems[i].detail);
        free(p->subproblems[i].identifier);
    }
    free(p->type_text);
    free(p->detail);
    free(p->instance);
    free(p);
}

static void problem_freep(struct acme_problem **owned)
{
    problem_free(*owned);
    *owned = NULL;
}

const struct err_detail_type acme_problem_detail = {"ACME problem", problem_free};

const char *acme_problem_name(enum acme_problem_type type)
{
    return (unsigned)type < ACME_PROBLEM_MAX ? rows[type].name : rows[0].name;
}

static enum err_kind kind_by_status(long status)
{
    if (status == 408 || status == 429 || status >= 500)
        return ERR_RETRY;
    if (status >= 400 || status == 0)
        return ERR_DENIED;
    return ERR_PROTOCOL; /* a success or redirect where none is defined */
}

enum err_kind acme_problem_kind(enum acme_problem_type type, long http_status)
{
    if (type == ACME_PROBLEM_UNKNOWN || type == ACME_COMPOUND || (unsigned)type >= ACME_PROBLEM_MAX)
        return kind_by_status(http_status);
    return rows[type].kind;
}

static enum acme_problem_type parse_type(const char *text)
{
    if (!str_starts(text, urn))
        return ACME_PROBLEM_UNKNOWN;
    text += sizeof(urn) - 1;
    for (size_t i = 1; i < ACME_PROBLEM_MAX; i++)
        if (strcmp(rows[i].name, text) == 0)
            return (enum acme_problem_type)i;
    return ACME_PROBLEM_UNKNOWN;
}

/* A member that is no string counts as absent. */
static char *take_text(const json_t *object, const char *key, size_t max)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? NULL : str_foreign(text, max);
}

static void read_type(const json_t *object, enum acme_problem_type *ret, char **ret_text)
{
    const char *text = json_string_value(json_object_get(object, "type"));
    if (text == NULL)
        text = "about:blank"; /* RFC 7807 3.1 */
    *ret = parse_type(text);
    *ret_text = str_foreign(text, TYPE_MAX);
}

static void read_subproblems(const json_t *object, struct acme_problem *p)
{
    size_t i;
    json_t *sub;
    json_array_foreach (json_object_get(object, "subproblems"), i, sub) {
        if (p->n_subproblems == ACME_SUBPROBLEMS_MAX)
            break;
        if (!json_is_object(sub))
            continue;
        struct acme_subproblem *s = &p->subproblems[p->n_subproblems++];
        read_type(sub, &s->type, &s->type_text);
        s->detail = take_text(sub, "detail", TEXT_MAX);
        s->identifier =
                take_text(json_object_get(sub, "identifier"), "value", (size_t)NAME_MAX_TEXT);
    }
}

static struct acme_problem *read_problem(const json_t *object)
{
    struct acme_problem *p = MEM_NEW(struct acme_problem);
    read_type(object, &p->type, &p->type_text);
    p->detail = take_text(object, "detail", TEXT_MAX);
    p->instance = take_text(object, "instance", TEXT_MAX);
    json_t *status = json_object_get(object, "status");
    if (json_is_integer(status) && json_integer_value(status) >= 100 &&
            json_integer_value(status) <= 599)
        p->status = (long)json_integer_value(status);
    read_subproblems(object, p);
    return p;
}

/* "compound" only says that there are several: what needs a person's hand decides. */
static enum err_kind compound_kind(const struct acme_problem *p)
{
    static const enum err_kind order[] = {ERR_CONFIG, ERR_DENIED};
    if (p->n_subproblems == 0)
        return kind_by_status(p->status);
    for (size_t k = 0; k < ARRAY_SIZE(order); k++)
        for (size_t i = 0; i < p->n_subproblems; i++)
            if (acme_problem_kind(p->subproblems[i].type, p->status) == order[k])
                return order[k];
    return ERR_RETRY;
}

static void put_subproblems(struct buf *b, const struct acme_problem *p)
{
    for (size_t i = 0; i < p->n_subproblems && i < SHOWN_SUB; i++) {
        const struct acme_subproblem *s = &p->subproblems[i];
        const char *detail = s->detail != NULL ? s->detail : acme_problem_name(s->type);
        buf_puts(b, i == 0 ? " (" : "; ");
        if (s->identifier != NULL)
            buf_printf(b, "%s: ", s->identifier);
        buf_put_foreign(b, detail, strlen(detail), SHOWN_SUB_BYTES);
    }
    if (p->n_subproblems > SHOWN_SUB)
        buf_printf(b, "; and %zu more", p->n_subproblems - SHOWN_SUB);
    if (p->n_subproblems > 0)
        buf_putc(b, ')');
}

static struct err *advise(struct err *e, const struct acme_problem *p)
{
    if (p->type == ACME_USER_ACTION_REQUIRED)
        return err_advise(e, "read and accept what the CA asks for at %s",
                p->instance != NULL ? p->instance : "its web site");
    if (rows[p->type].advice != NULL)
        return err_advise(e, "%s", rows[p->type].advice);
    if (p->instance != NULL && str_starts(p->instance, "https://"))
        return err_advise(e, "the CA explains this at %s", p->instance);
    return e;
}

/* Takes over p. */
static struct err *make_error(struct acme_problem *p, const char *who)
{
    AUTO_BUF struct buf text = BUF_INIT((size_t)8 * 1024);
    enum err_kind kind =
            p->type == ACME_COMPOUND ? compound_kind(p) : acme_problem_kind(p->type, p->status);
    buf_puts(&text, who);
    if (p->type != ACME_PROBLEM_UNKNOWN)
        buf_printf(&text, "%s: ", acme_problem_name(p->type));
    else if (p->type_text != NULL && strcmp(p->type_text, "about:blank") != 0)
        buf_printf(&text, "%s: ", p->type_text);
    buf_puts(&text, p->detail != NULL ? p->detail : "no explanation given");
    put_subproblems(&text, p);
    struct err *e = ERR_FROM(kind, ERR_FROM_ACME, (long)p->type, "%s", buf_str(&text));
    e = advise(e, p);
    return err_set_detail(e, &acme_problem_detail, p);
}

/* The first line of a body that is no problem document. */
static struct acme_problem *guess_problem(const struct http_reply *reply)
{
    struct acme_problem *p = MEM_NEW(struct acme_problem);
    AUTO_BUF struct buf line = BUF_INIT(FIRST_LINE_MAX + 16);
    const char *body = buf_str(&reply->body);
    p->type_text = str_dup("about:blank");
    body += strspn(body, " \t\r\n");
    buf_put_foreign(&line, body, strcspn(body, "\r\n"), FIRST_LINE_MAX);
    p->detail = line.len > 0 ? buf_steal(&line) : NULL;
    return p;
}

static void add_links(struct acme_problem *p, const struct http_reply *reply)
{
    AUTO_FREE char *link = NULL;
    if (p->instance != NULL)
        return;
    if (p->type == ACME_USER_ACTION_REQUIRED)
        link = http_reply_link(reply, "terms-of-service");
    if (link == NULL)
        link = http_reply_link(reply, "help");
    if (link != NULL)
        p->instance = str_foreign(link, TEXT_MAX);
}

struct err *acme_problem_from_reply(const struct http_reply *reply, struct wall now)
{
    AUTO_JSON json_t *root = NULL;
    AUTO(problem_freep) struct acme_problem *p = NULL;
    AUTO_FREE char *who = str_printf("the CA answered %ld ", reply->status);
    AUTO_ERR struct err *not_json =
            json_parse(buf_str(&reply->body), reply->body.len, "problem document", &root);
    struct wall when;

    if (not_json == NULL &&
            (json_object_get(root, "type") != NULL || json_object_get(root, "detail") != NULL))
        p = read_problem(root);
    else
        p = guess_problem(reply);
    p->status = reply->status;
    add_links(p, reply);

    int64_t max =
            p->type == ACME_RATE_LIMITED || reply->status == 429 ? RATE_LIMIT_MAX : OUTAGE_MAX;
    bool nonce = p->type == ACME_BAD_NONCE;
    struct err *e = make_error(STEAL(p), who);
    if (!nonce && err_is(e, ERR_RETRY) && http_retry_after(reply, now, max, &when))
        e = err_set_retry_at(err_rekind(e, ERR_RETRY_AT), when);
    return e;
}

struct err *acme_problem_from_json(const json_t *problem)
{
    return make_error(read_problem(problem), "");
}

const struct acme_problem *acme_problem_of(const struct err *e)
{
    return e == NULL ? NULL : err_detail(e, &acme_problem_detail);
}
