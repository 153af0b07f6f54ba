/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands are POSTed as {} even though GET would do: a body is what ejabberd insists on when
 * it is a POST, and a proxy never caches one. Each answer that ejabberd was seen to give has its
 * own sentence here, because the fix is somewhere else each time: in ejabberd.yml, in its
 * api_permissions, in its listeners, or in certherd's configuration.
 */
#include "hooks/ejabberd.h"

#include <errno.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json.h"

#define UNIX_PREFIX "unix:"
#define RELOAD      "reload_config"
#define VHOSTS      "registered_vhosts"
#define CONNECT_MS  (5 * CLOCK_SEC)
/* ejabberd 24.12 opens a UNIX socket 5 s after its start, and again 5 s after each connection (its
 * listener crashes on the empty peer address, while the call itself is answered): a socket that is
 * not there may only be between two of its lives. */
#define SOCKET_GAP_MS  (12 * CLOCK_SEC)
#define SOCKET_STEP_MS ((int64_t)500)
/* A reload of 200 virtual hosts takes 3 s, and the time grows with the square of their number. */
#define RELOAD_MS  (120 * CLOCK_SEC)
#define VHOSTS_MS  (30 * CLOCK_SEC)
#define REPLY_MAX  ((size_t)1024 * 1024)
#define VHOSTS_MAX 5000
#define SHOWN_MAX  300

/* ---- the address of the API ---- */

static bool is_unix(const struct ejabberd_api *api)
{
    return str_starts(api->url, UNIX_PREFIX);
}

static struct err *check_unix(const char *url)
{
    const char *path = url + strlen(UNIX_PREFIX);
    if (path[0] != '/')
        return ERR(ERR_CONFIG, "'%s': the path of a UNIX socket begins with /", url);
    if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return ERR(ERR_CONFIG, "'%s': the path of a UNIX socket has at most %zu characters", url,
                sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
    return NULL;
}

static struct err *check_http(const char *url)
{
    const char *host = strstr(url, "://") + 3;
    size_t host_len = strcspn(host, "/?#");
    if (host_len == 0)
        return ERR(ERR_CONFIG, "'%s': there is no host in it", url);
    if (memchr(host, '@', host_len) != NULL)
        return err_advise(ERR(ERR_CONFIG, "the URL of ejabberd's API holds credentials"),
                "set user and password as keys of their own");
    if (strpbrk(host, "?#") != NULL)
        return ERR(ERR_CONFIG, "'%s': ? and # have no meaning in the URL of ejabberd's API", url);
    if (host[host_len] == '\0' || host[host_len + 1] == '\0')
        return err_advise(ERR(ERR_CONFIG, "'%s': the path of the API is missing", url),
                "write the path of mod_http_api, usually %.*s/api", (int)(host + host_len - url),
                url);
    return NULL;
}

static struct err *check_credentials(const struct ejabberd_api *api)
{
    if (api->token != NULL && (api->user != NULL || api->password != NULL))
        return ERR(ERR_CONFIG, "ejabberd's API has both a token and a user: set one of them");
    if ((api->user != NULL) != (api->password != NULL))
        return ERR(ERR_CONFIG, "ejabberd's API needs user and password together, %s is not set",
                api->user != NULL ? "the password" : "the user");
    if (api->user == NULL)
        return NULL;
    const char *at = strchr(api->user, '@');
    if (at == NULL || at == api->user || at[1] == '\0')
        return ERR(ERR_CONFIG, "the user of ejabberd's API is '%s', expected name@virtual-host",
                api->user);
    return NULL;
}

struct err *ejabberd_api_check(const struct ejabberd_api *api)
{
    const char *url = api->url;
    for (const char *c = url; *c != '\0'; c++) {
        if (*c <= ' ' || *c == 0x7f)
            return ERR(ERR_CONFIG, "the URL of ejabberd's API holds a blank or control character");
    }
    if (is_unix(api))
        TRY(check_unix(url));
    else if (str_starts(url, "http://") || str_starts(url, "https://"))
        TRY(check_http(url));
    else
        return ERR(ERR_CONFIG,
                "'%s' is not an address of ejabberd's API: expected unix:/path or "
                "http://host:port/api",
                url);
    return check_credentials(api);
}

static char *command_url(const struct ejabberd_api *api, const char *command)
{
    if (is_unix(api))
        return str_printf("http://localhost/api/%s", command);
    return str_printf("%s%s%s", api->url, str_ends(api->url, "/") ? "" : "/", command);
}

/* ---- what went wrong ---- */

/* ejabberd's own words: a JSON string, the message of a JSON object, or anything else. */
static char *own_words(const struct http_reply *reply)
{
    const char *text = buf_str(&reply->body);
    if (text[0] == '\0')
        return str_dup("an empty answer");
    if (text[0] == '<')
        return str_dup("an HTML page");
    if (text[0] == '"') {
        AUTO_JSON json_t *value = json_loadb(text, reply->body.len, JSON_DECODE_ANY, NULL);
        if (json_is_string(value))
            return str_foreign(json_string_value(value), SHOWN_MAX);
    }
    if (text[0] == '{') {
        AUTO_JSON json_t *object = NULL;
        err_ignore(json_parse(text, reply->body.len, "reply", &object), "shown as it is");
        const char *message = json_string_value(json_object_get(object, "message"));
        if (message != NULL)
            return str_foreign(message, SHOWN_MAX);
    }
    return str_foreign(text, SHOWN_MAX);
}

static struct err *advise_permission(struct err *e, const struct ejabberd_api *api)
{
    if (api->user != NULL)
        return err_advise(e,
                "allow it in ejabberd.yml: api_permissions: {certherd: {from: [mod_http_api], who: "
                "{user: \"%s\"}, what: [reload_config, registered_vhosts]}}",
                api->user);
    return err_advise(e,
            "give the listener 'tag: certherd' and allow it in ejabberd.yml: api_permissions: "
            "{certherd: {from: [{tag: certherd}], who: all, what: [reload_config, "
            "registered_vhosts]}}");
}

static struct err *advise_login(struct err *e, const struct ejabberd_api *api)
{
    if (api->token != NULL)
        return err_advise(e, "make a new token: ejabberdctl oauth_issue_token JID TTL "
                             "'reload_config;registered_vhosts'");
    if (api->user != NULL)
        return err_advise(e, "check the password of %s (ejabberdctl check_password)", api->user);
    return err_advise(e, "set user and password, or a token, for ejabberd's API");
}

/* For the statuses that ejabberd answers with on purpose; NULL: another one. */
static struct err *known_status(
        const struct ejabberd_api *api, const char *command, long status, const char *words)
{
    switch (status) {
    case 400:
        if (strcmp(command, RELOAD) != 0)
            return NULL;
        return err_advise(ERR_FROM(ERR_CONFIG, ERR_FROM_HTTP, status,
                                  "%s is refused, ejabberd.yml is broken: %s", command, words),
                "correct ejabberd.yml; until then ejabberd goes on with its old configuration and "
                "certificates");
    case 401:
        return advise_login(ERR_FROM(ERR_CONFIG, ERR_FROM_HTTP, status,
                                    "%s: the login is refused (401): %s", command, words),
                api);
    case 403:
        return advise_permission(ERR_FROM(ERR_CONFIG, ERR_FROM_HTTP, status,
                                         "%s is not permitted (403): %s", command, words),
                api);
    case 404:
        return err_advise(ERR_FROM(ERR_CONFIG, ERR_FROM_HTTP, status, "%s is not there (404): %s",
                                  command, words),
                "check the path, and that the listener has 'request_handlers: {/api: "
                "mod_http_api}' and modules has mod_http_api");
    default:
        return NULL;
    }
}

static struct err *status_error(
        const struct ejabberd_api *api, const char *command, const struct http_reply *reply)
{
    AUTO_FREE char *words = own_words(reply);
    long status = reply->status;
    struct err *e = known_status(api, command, status, words);
    if (e != NULL)
        return e;
    if (status >= 500)
        return err_advise(ERR_FROM(ERR_RETRY, ERR_FROM_HTTP, status,
                                  "%s failed inside ejabberd (%ld): %s", command, status, words),
                "see ejabberd's log");
    return err_advise(ERR_FROM(ERR_CONFIG, ERR_FROM_HTTP, status,
                              "%s: expected status 200, found %ld: %s", command, status, words),
            "check that the address is ejabberd's API");
}

static struct err *advise_unreachable(struct err *e, const struct ejabberd_api *api)
{
    const char *path = api->url + strlen(UNIX_PREFIX);
    if (!is_unix(api))
        return err_advise(
                e, "check that ejabberd runs and has a listener with mod_http_api at %s", api->url);
    if (access(path, R_OK | W_OK) == 0 || errno != EACCES)
        return err_advise(e,
                "check that ejabberd runs and has a listener 'port: \"unix:%s\"' with "
                "'request_handlers: {/api: mod_http_api}'",
                path);
    return err_advise(e,
            "let uid %u gid %u open the socket: 'unix_socket: {mode: \"0660\", group: GROUP}' at "
            "the listener (ejabberd 24.02 or later), and access to the directories above %s",
            (unsigned)geteuid(), (unsigned)getegid(), path);
}

/* A deadline of the flow, or its being canceled, passes as it is. */
static struct err *transport_error(struct err *e, const struct ejabberd_api *api)
{
    AUTO_ERR struct err *stop = fiber_check();
    if (stop != NULL)
        return e;
    if (err_kind(e) == ERR_TIMEOUT)
        e = err_rekind(e, ERR_RETRY);
    return err_kind(e) == ERR_RETRY ? advise_unreachable(e, api) : e;
}

/* ---- commands ---- */

static struct err *send_request(struct world *world, const struct ejabberd_api *api,
        const struct http_request *request, struct http_reply *ret) MAY_SUSPEND;
static struct err *send_request(struct world *world, const struct ejabberd_api *api,
        const struct http_request *request, struct http_reply *ret)
{
    struct mono until = mono_add(world_mono(world), (uint64_t)SOCKET_GAP_MS);
    for (;;) {
        struct err *e = world_http(world, NULL, request, ret);
        bool gap = is_unix(api) && err_is(e, ERR_RETRY) && err_origin(e) == ERR_FROM_CURL &&
                   mono_diff(until, world_mono(world)) > 0;
        if (!gap)
            return e;
        err_ignore(e, "the socket may come back");
        TRY(fiber_sleep(SOCKET_STEP_MS));
    }
}

static struct err *call(struct world *world, const struct ejabberd_api *api, const char *command,
        int64_t total_ms, struct http_reply *ret) MAY_SUSPEND;
static struct err *call(struct world *world, const struct ejabberd_api *api, const char *command,
        int64_t total_ms, struct http_reply *ret)
{
    TRY(ejabberd_api_check(api));
    AUTO_FREE char *url = command_url(api, command);
    const struct http_request request = {.method = "POST",
            .url = url,
            .headers = {{"Content-Type", "application/json"}},
            .body = "{}",
            .body_len = 2,
            .max_body = REPLY_MAX,
            .connect_ms = CONNECT_MS,
            .stall_ms = total_ms,
            .total_ms = total_ms,
            .allow_http = true,
            .unix_socket = is_unix(api) ? api->url + strlen(UNIX_PREFIX) : NULL,
            .basic_user = api->user,
            .basic_password = api->password,
            .bearer = api->token};
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    struct err *e = send_request(world, api, &request, &reply);
    if (e != NULL)
        return err_context(transport_error(e, api), "ejabberd's API at %s", api->url);
    if (reply.status != 200)
        return err_context(status_error(api, command, &reply), "ejabberd's API at %s", api->url);
    *ret = reply;
    reply = (struct http_reply){0};
    return NULL;
}

/* The body is the number 0, with white space around it at most. */
static bool says_zero(const struct http_reply *reply)
{
    if (reply->body.len == 0)
        return false;
    const char *text = reply->body.data;
    text += strspn(text, " \t\r\n");
    return text[0] == '0' && text[1 + strspn(text + 1, " \t\r\n")] == '\0' &&
           memchr(reply->body.data, '\0', reply->body.len) == NULL;
}

struct err *ejabberd_reload(struct world *world, const struct ejabberd_api *api)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    TRY(call(world, api, RELOAD, RELOAD_MS, &reply));
    if (says_zero(&reply)) {
        log_debug("ejabberd_reloaded", "ejabberd has read its configuration again",
                LOG_STR("api", api->url));
        return NULL;
    }
    AUTO_FREE char *words = own_words(&reply);
    return err_advise(ERR_FROM(ERR_PROTOCOL, ERR_FROM_HTTP, reply.status,
                              "ejabberd's API at %s: reload_config: expected the answer 0, found "
                              "'%s'",
                              api->url, words),
            "see ejabberd's log, and check that the address is ejabberd's API");
}

static struct err *add_vhost(const json_t *item, struct name_list *list)
{
    if (!json_is_string(item))
        return ERR(ERR_PROTOCOL, "a virtual host that is not a string");
    struct name name;
    struct err *e = name_parse(json_string_value(item), &name);
    /* "localhost" is one by default: no name that a CA certifies. */
    if (e != NULL)
        err_ignore(e, "a virtual host that cannot have a certificate");
    else
        name_list_add(list, &name);
    return NULL;
}

static struct err *read_vhosts(const struct http_reply *reply, struct name_list *list)
{
    AUTO_JSON json_t *root = NULL;
    TRY(json_parse_any(buf_str(&reply->body), reply->body.len, "registered_vhosts", &root));
    if (!json_is_array(root))
        return ERR(ERR_PROTOCOL, "registered_vhosts: expected a list of names, found an object");
    if (json_array_size(root) > VHOSTS_MAX)
        return ERR(ERR_PROTOCOL, "registered_vhosts: %zu names are more than %d",
                json_array_size(root), VHOSTS_MAX);
    for (size_t i = 0; i < json_array_size(root); i++)
        TRY_CTX(add_vhost(json_array_get(root, i), list), "registered_vhosts");
    return NULL;
}

struct err *ejabberd_registered_vhosts(
        struct world *world, const struct ejabberd_api *api, struct name_list *ret)
{
    AUTO_HTTP_REPLY struct http_reply reply = {0};
    TRY(call(world, api, VHOSTS, VHOSTS_MS, &reply));
    struct name_list list = {0};
    struct err *e = read_vhosts(&reply, &list);
    if (e != NULL) {
        name_list_done(&list);
        return err_context(e, "ejabberd's API at %s", api->url);
    }
    *ret = list;
    return NULL;
}
