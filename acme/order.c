/* SPDX-License-Identifier: Apache-2.0 */
#include "acme/order.h"

#include "acme/base64url.h"
#include "acme/cert.h"
#include "base/json.h"

#define CHALLENGES_MAX 32
#define TYPE_MAX       ((size_t)64)
#define TOKEN_MIN      22 /* 128 bits of entropy (RFC 8555 8.1) */
#define TOKEN_MAX      128
/* A CA that says "in a day" is believed as far as an hour: then it is asked again. */
#define RETRY_AFTER_MAX CLOCK_HOUR

static const char *const status_names[ACME_STATUS_MAX] = {
        [ACME_PENDING] = "pending",
        [ACME_READY] = "ready",
        [ACME_PROCESSING] = "processing",
        [ACME_VALID] = "valid",
        [ACME_INVALID] = "invalid",
        [ACME_DEACTIVATED] = "deactivated",
        [ACME_EXPIRED] = "expired",
        [ACME_REVOKED] = "revoked",
};

const char *acme_status_name(enum acme_status status)
{
    return (unsigned)status < ACME_STATUS_MAX ? status_names[status] : "?";
}

void acme_order_done(struct acme_order *o)
{
    free(o->url);
    name_list_done(&o->identifiers);
    strv_done(&o->authorizations);
    free(o->finalize);
    free(o->certificate);
    err_free(o->error);
    *o = (struct acme_order){0};
}

void acme_authorization_done(struct acme_authorization *a)
{
    free(a->url);
    free(a->challenge_url);
    err_free(a->error);
    strv_done(&a->types);
    *a = (struct acme_authorization){0};
}

/* ---- shared by the codecs ---- */

/* RFC 8555 7.1.6: which of the names a resource may have. */
#define ORDER_STATUSES                                                                             \
    (1u << ACME_PENDING | 1u << ACME_READY | 1u << ACME_PROCESSING | 1u << ACME_VALID |            \
            1u << ACME_INVALID)
#define AUTHORIZATION_STATUSES                                                                     \
    (1u << ACME_PENDING | 1u << ACME_VALID | 1u << ACME_INVALID | 1u << ACME_DEACTIVATED |         \
            1u << ACME_EXPIRED | 1u << ACME_REVOKED)
#define CHALLENGE_STATUSES                                                                         \
    (1u << ACME_PENDING | 1u << ACME_PROCESSING | 1u << ACME_VALID | 1u << ACME_INVALID)

static struct err *read_status(const json_t *object, unsigned allowed, enum acme_status *ret)
{
    const char *text = NULL;

    TRY(json_get_str(object, "status", TYPE_MAX, &text));
    for (size_t i = 0; i < ACME_STATUS_MAX; i++) {
        if ((allowed & 1u << i) == 0 || strcmp(status_names[i], text) != 0)
            continue;
        *ret = (enum acme_status)i;
        return NULL;
    }
    AUTO_FREE char *shown = str_foreign(text, TYPE_MAX);
    return ERR(ERR_PROTOCOL, "'%s' is no status that it may have", shown);
}

static struct err *check_url(const struct acme_client *client, const char *what, const char *url)
{
    return client == NULL ? NULL : acme_client_check_url(client, what, url);
}

static struct err *read_url(
        const struct acme_client *client, const json_t *object, const char *key, char **ret)
{
    const char *url = NULL;

    TRY(json_get_str(object, key, 2048, &url));
    TRY(check_url(client, key, url));
    *ret = str_dup(url);
    return NULL;
}

static struct err *read_expires(const json_t *object, struct wall *ret)
{
    const char *text = NULL;

    TRY(json_opt_str(object, "expires", 64, &text));
    if (text == NULL || wall_parse(text, ret))
        return NULL;
    AUTO_FREE char *shown = str_foreign(text, 64);
    return ERR(ERR_PROTOCOL, "'expires' is '%s', which is no RFC 3339 date", shown);
}

static struct err *read_error(const json_t *object, struct err **ret)
{
    const json_t *error = json_object_get(object, "error");

    if (error == NULL || json_is_null(error))
        return NULL;
    if (!json_is_object(error))
        return ERR(ERR_PROTOCOL, "'error' is not an object");
    err_free(*ret);
    *ret = acme_problem_from_json(error);
    return NULL;
}

/* wildcard_ok: "*." is kept in front. */
static struct err *read_identifier(const json_t *identifier, bool wildcard_ok, struct name *ret)
{
    const char *type = NULL, *value = NULL;
    struct name base;

    if (!json_is_object(identifier))
        return ERR(ERR_PROTOCOL, "an identifier is not an object");
    TRY(json_get_str(identifier, "type", TYPE_MAX, &type));
    TRY(json_get_str(identifier, "value", NAME_MAX_TEXT, &value));
    if (strcmp(type, "dns") != 0)
        return ERR(ERR_PROTOCOL, "an identifier is not of type 'dns'");
    bool wildcard = wildcard_ok && str_starts(value, "*.");
    struct err *e = name_parse(wildcard ? value + 2 : value, &base);
    if (e != NULL)
        return err_rekind(e, ERR_PROTOCOL);
    if (wildcard && strlen(base.text) + 2 >= sizeof(ret->text))
        return ERR(ERR_PROTOCOL, "the identifier *.%s is too long", base.text);
    size_t at = wildcard ? 2 : 0;
    memcpy(ret->text, "*.", at);
    memcpy(ret->text + at, base.text, strlen(base.text) + 1);
    return NULL;
}

/* ---- order (RFC 8555 7.1.3) ---- */

static struct err *read_identifiers(const json_t *root, struct name_list *ret)
{
    const json_t *array = NULL;
    size_t i;
    json_t *item;

    TRY(json_get_array(root, "identifiers", ACME_ORDER_NAMES_MAX, &array));
    json_array_foreach (array, i, item) {
        struct name name;
        TRY(read_identifier(item, true, &name));
        name_list_add(ret, &name);
    }
    return ret->n > 0 ? NULL : ERR(ERR_PROTOCOL, "'identifiers' is empty");
}

static struct err *read_authorizations(
        const struct acme_client *client, const json_t *root, struct strv *ret)
{
    const json_t *array = NULL;
    size_t i;
    json_t *item;

    TRY(json_get_array(root, "authorizations", ACME_ORDER_NAMES_MAX, &array));
    json_array_foreach (array, i, item) {
        const char *url = json_string_value(item);
        if (url == NULL || strlen(url) != json_string_length(item))
            return ERR(ERR_PROTOCOL, "an authorization is not a URL");
        TRY(check_url(client, "an authorization", url));
        if (strv_has(ret, url))
            return ERR(ERR_PROTOCOL, "an authorization is listed twice");
        strv_add(ret, url);
    }
    return NULL;
}

static struct err *read_order(
        const struct acme_client *client, const json_t *root, struct acme_order *o)
{
    TRY(read_status(root, ORDER_STATUSES, &o->status));
    TRY(read_expires(root, &o->expires));
    TRY(read_identifiers(root, &o->identifiers));
    TRY(read_authorizations(client, root, &o->authorizations));
    if (o->status == ACME_PENDING && o->authorizations.n == 0)
        return ERR(ERR_PROTOCOL, "'authorizations' is empty");
    TRY(read_url(client, root, "finalize", &o->finalize));
    if (o->status == ACME_VALID)
        TRY(read_url(client, root, "certificate", &o->certificate));
    return read_error(root, &o->error);
}

struct err *acme_order_decode(const struct acme_client *client, const char *url, const char *text,
        size_t len, struct acme_order *ret)
{
    AUTO_ORDER struct acme_order o = {0};
    AUTO_JSON json_t *root = NULL;

    TRY_CTX(json_parse(text, len, "order", &root), "order %s", url);
    TRY_CTX(read_order(client, root, &o), "order %s", url);
    o.url = str_dup(url);
    *ret = o;
    o = (struct acme_order){0};
    return NULL;
}

/* ---- authorization (RFC 8555 7.1.4) ---- */

static struct err *read_token(const json_t *challenge, char ret[129])
{
    const char *token = NULL;

    TRY(json_get_str(challenge, "token", TOKEN_MAX, &token));
    if (!base64url_is_token(token, TOKEN_MIN, TOKEN_MAX))
        return ERR(ERR_PROTOCOL, "the token is not 22 to 128 characters of base64url");
    memcpy(ret, token, strlen(token) + 1);
    return NULL;
}

static struct err *read_challenge(
        const struct acme_client *client, const json_t *challenge, struct acme_authorization *a)
{
    TRY(read_status(challenge, CHALLENGE_STATUSES, &a->challenge_status));
    TRY(read_url(client, challenge, "url", &a->challenge_url));
    TRY(read_token(challenge, a->token));
    TRY(read_error(challenge, &a->error));
    a->offered = true;
    return NULL;
}

/* Of an authorization that is decided only the reason is of interest, whatever the challenge was.
 */
static struct err *read_reason(const json_t *challenge, struct acme_authorization *a)
{
    return a->error != NULL ? NULL : read_error(challenge, &a->error);
}

static struct err *read_challenges(const struct acme_client *client, const json_t *root,
        const char *wanted, struct acme_authorization *a)
{
    const json_t *array = NULL;
    size_t i;
    json_t *item;

    TRY(json_get_array(root, "challenges", CHALLENGES_MAX, &array));
    json_array_foreach (array, i, item) {
        const char *type = json_string_value(json_object_get(item, "type"));
        if (type == NULL)
            return ERR(ERR_PROTOCOL, "a challenge has no type");
        strv_take(&a->types, str_foreign(type, TYPE_MAX));
        if (a->status != ACME_PENDING)
            TRY(read_reason(item, a));
        else if (strcmp(type, wanted) == 0 && !a->offered)
            TRY_CTX(read_challenge(client, item, a), "challenge %s", wanted);
    }
    return NULL;
}

static struct err *read_authorization(const struct acme_client *client, const json_t *root,
        const char *wanted, struct acme_authorization *a)
{
    const json_t *identifier = NULL;

    TRY(read_status(root, AUTHORIZATION_STATUSES, &a->status));
    TRY(json_get_object(root, "identifier", &identifier));
    TRY(read_identifier(identifier, false, &a->name));
    TRY(json_opt_bool(root, "wildcard", &a->wildcard));
    return read_challenges(client, root, wanted, a);
}

struct err *acme_authorization_decode(const struct acme_client *client, const char *url,
        const char *challenge_type, const char *text, size_t len, struct acme_authorization *ret)
{
    AUTO(acme_authorization_done) struct acme_authorization a = {0};
    AUTO_JSON json_t *root = NULL;

    TRY_CTX(json_parse(text, len, "authorization", &root), "authorization %s", url);
    TRY_CTX(read_authorization(client, root, challenge_type, &a), "authorization %s", url);
    a.url = str_dup(url);
    *ret = a;
    a = (struct acme_authorization){0};
    return NULL;
}

/* ---- requests ---- */

static struct err *get(struct acme_client *client, const char *url, unsigned to_follow,
        struct http_reply *ret) MAY_SUSPEND;
static struct err *get(
        struct acme_client *client, const char *url, unsigned to_follow, struct http_reply *ret)
{
    const struct acme_request request = {
            .url = url, .retries = ACME_RETRIES, .to_follow = to_follow};

    return acme_client_send(client, &request, ret);
}

static struct wall read_retry_after(struct acme_client *client, const struct http_reply *reply)
{
    struct wall when = {0};

    http_retry_after(reply, world_now(acme_client_world(client)), RETRY_AFTER_MAX, &when);
    return when;
}

static struct err *decode_order(struct acme_client *client, const char *url,
        const struct http_reply *reply, struct acme_order *ret)
{
    TRY(acme_order_decode(client, url, buf_str(&reply->body), reply->body.len, ret));
    ret->retry_after = read_retry_after(client, reply);
    return NULL;
}

static char *order_payload(const struct name_list *names, const char *profile)
{
    AUTO_JSON json_t *root = json_object();
    json_t *identifiers = json_array();

    for (size_t i = 0; i < names->n; i++) {
        json_t *identifier = json_object();
        json_put_str(identifier, "type", "dns");
        json_put_str(identifier, "value", names->v[i].text);
        json_push(identifiers, identifier);
    }
    json_put(root, "identifiers", identifiers);
    if (profile != NULL)
        json_put_str(root, "profile", profile);
    return json_text(root);
}

struct err *acme_order_new(struct acme_client *client, const struct name_list *names,
        const char *profile, struct acme_order *ret)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    AUTO_FREE char *payload = order_payload(names, profile);
    /* Once more only: if the first try did reach the CA, that leaves one order too many. */
    const struct acme_request request = {.resource = ACME_NEW_ORDER,
            .payload = payload,
            .retries = 1,
            .to_follow = ACME_AFTER_ORDER};
    struct fiber_sem *slots = acme_client_order_slots(client);

    if (names->n == 0 || names->n > ACME_ORDER_NAMES_MAX)
        return ERR(ERR_CONFIG, "an order may have 1 to %d names, not %zu", ACME_ORDER_NAMES_MAX,
                names->n);
    TRY(fiber_sem_acquire(slots));
    struct err *e = acme_client_send(client, &request, &reply);
    fiber_sem_release(slots);
    TRY_CTX(e, "newOrder");
    const char *url = http_reply_header(&reply, "location");
    if (url == NULL)
        return ERR(ERR_PROTOCOL, "newOrder: the reply has no Location header");
    TRY_CTX(acme_client_check_url(client, "the order URL", url), "newOrder");
    return decode_order(client, url, &reply, ret);
}

struct err *acme_order_fetch(struct acme_client *client, const char *url, struct acme_order *ret)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};

    TRY_CTX(get(client, url, ACME_AFTER_POLL, &reply), "order %s", url);
    return decode_order(client, url, &reply, ret);
}

struct err *acme_order_finalize(struct acme_client *client, const struct acme_order *order,
        const char *csr, struct acme_order *ret)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    AUTO_JSON json_t *root = json_object();

    json_put_str(root, "csr", csr);
    AUTO_FREE char *payload = json_text(root);
    const struct acme_request request = {
            .url = order->finalize, .payload = payload, .to_follow = ACME_AFTER_FINALIZE};
    TRY_CTX(acme_client_send(client, &request, &reply), "finalize %s", order->url);
    /* Some CAs name the order in Location here, some don't: it is the one we know. */
    return decode_order(client, order->url, &reply, ret);
}

struct err *acme_order_download(
        struct acme_client *client, const struct acme_order *order, struct buf *ret_chain)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};

    TRY_CTX(acme_client_post(
                    client, order->certificate, NULL, "application/pem-certificate-chain", &reply),
            "certificate %s", order->certificate);
    if (reply.body.len > CERT_CHAIN_MAX)
        return ERR(ERR_PROTOCOL, "certificate %s: is larger than %zu bytes", order->certificate,
                CERT_CHAIN_MAX);
    *ret_chain = reply.body;
    reply.body = (struct buf){0};
    return NULL;
}

struct err *acme_authorization_fetch(struct acme_client *client, const char *url,
        const char *challenge_type, struct acme_authorization *ret)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};

    TRY_CTX(get(client, url, ACME_AFTER_AUTHORIZATION, &reply), "authorization %s", url);
    TRY(acme_authorization_decode(
            client, url, challenge_type, buf_str(&reply.body), reply.body.len, ret));
    ret->retry_after = read_retry_after(client, &reply);
    return NULL;
}

struct err *acme_authorization_deactivate(struct acme_client *client, const char *url)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};

    TRY_CTX(acme_client_post(client, url, "{\"status\":\"deactivated\"}", NULL, &reply),
            "deactivation of %s", url);
    return NULL;
}

struct err *acme_challenge_answer(struct acme_client *client, const char *challenge_url)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};

    const struct acme_request request = {
            .url = challenge_url, .payload = "{}", .to_follow = ACME_AFTER_CHALLENGE};
    TRY_CTX(acme_client_send(client, &request, &reply), "challenge %s", challenge_url);
    return NULL;
}
