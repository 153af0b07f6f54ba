/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ejabberd nodes: the short form is one node called "ejabberd", made only if one of its keys is
 * set. A node's inner ports are the public ones unless said otherwise; but what mailcow's variables
 * say about the public side is a mapping of its containers, and inside of it the standard ports
 * hold.
 */
#include "agent/config_private.h"

#include <ctype.h>

#define FIELDS     (K_EJABBERD_PROBE_PORTS_END - K_EJABBERD_API + 1)
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
#define NAME_LEN   ((size_t)64)

_Static_assert(K_NODE_PROBE_PORTS_END - K_NODE_API + 1 == FIELDS, "rows of nodes and short form");

/* The borrowed pointers of struct ejabberd_api are ours here. */
static void *owned(const void *pointer)
{
    return (void *)(uintptr_t)pointer;
}

void config_node_done(struct config_node *node)
{
    free(node->name);
    free(node->probe_host);
    free(owned(node->api.url));
    free(owned(node->api.user));
    secret_free(owned(node->api.password));
    secret_free(owned(node->api.token));
    *node = (struct config_node){0};
}

static uint16_t inner_port(const struct config_loader *l, enum proof_port port)
{
    const struct config_value *value = &l->full->values[K_XMPP_PORTS + (int)port];
    const char *standard = config_key_of(K_XMPP_PORTS + (int)port)->def;
    unsigned long long number = 0;
    if (value->source != CONFIG_MAILCOW)
        return l->full->config.xmpp_ports[port];
    return standard != NULL && str_to_u64(standard, 65535, &number) ? (uint16_t)number : 0;
}

static void check_api(
        struct config_loader *l, const struct config_value *whole, const struct ejabberd_api *api)
{
    bool credentials = api->user != NULL || api->password != NULL || api->token != NULL;
    if (api->url == NULL && credentials)
        config_problem(l, whole, NULL, "has credentials but no api");
    else if ((api->user == NULL) != (api->password == NULL))
        config_problem(l, whole, NULL, "has %s; allowed: both or neither",
                api->user != NULL ? "a user but no password" : "a password but no user");
    else if (api->token != NULL && api->user != NULL)
        config_problem(l, whole, NULL, "has both user and token; allowed: one of the two");
}

/* values: those of the short form or of one entry, from the row of "api" on. */
static void load_fields(struct config_loader *l, const struct config_value *whole,
        struct config_value *values, struct config_node *node)
{
    AUTO_FREE char *url = NULL;
    AUTO_FREE char *user = NULL;
    AUTO(secret_freep) struct secret *password = NULL;
    AUTO(secret_freep) struct secret *token = NULL;
    size_t before = l->problems->lines.n + l->unreported;
    config_get_text(l, &values[0], &url);
    config_get_text(l, &values[K_EJABBERD_USER - K_EJABBERD_API], &user);
    config_get_secret(l, &values[K_EJABBERD_PASSWORD - K_EJABBERD_API],
            &values[K_EJABBERD_PASSWORD_FILE - K_EJABBERD_API], &password);
    config_get_secret(l, &values[K_EJABBERD_TOKEN - K_EJABBERD_API],
            &values[K_EJABBERD_TOKEN_FILE - K_EJABBERD_API], &token);
    node->api = (struct ejabberd_api){STEAL(url), STEAL(user), STEAL(password), STEAL(token)};

    config_get_text(l, &values[K_EJABBERD_PROBE_HOST - K_EJABBERD_API], &node->probe_host);
    if (node->probe_host == NULL)
        node->probe_host = str_dup(config_key_of(K_EJABBERD_PROBE_HOST)->def);
    for (int i = 0; i < PROOF_PORT_MAX; i++) {
        node->probe_ports[i] = inner_port(l, (enum proof_port)i);
        config_get_port(
                l, &values[K_EJABBERD_PROBE_PORTS + i - K_EJABBERD_API], &node->probe_ports[i]);
    }
    if (l->problems->lines.n + l->unreported != before)
        return;
    check_api(l, whole, &node->api);
    if (node->api.url != NULL && l->problems->lines.n + l->unreported == before)
        config_accept(l, &values[0], &values[0].items[0], ejabberd_api_check(&node->api));
}

static void add_node(struct config_loader *l, struct config_node *node)
{
    struct config *c = CONFIG_OF(l);
    c->nodes = mem_realloc_array(c->nodes, c->n_nodes + 1, sizeof(*c->nodes));
    c->nodes[c->n_nodes++] = *node;
    *node = (struct config_node){0};
}

static void load_name(
        struct config_loader *l, const struct config_value *whole, struct config_node *node)
{
    struct config_value *value = &l->entry[K_NODE_NAME];
    const char *text = config_text(value);
    if (text == NULL) {
        config_problem(l, whole, NULL, "no name; give \"name: …\"");
        return;
    }
    if (strlen(text) > NAME_LEN || strspn(text, NAME_CHARS) != strlen(text)) {
        AUTO_FREE char *shown = str_foreign(text, NAME_LEN);
        config_problem(l, value, &value->items[0], "'%s' is not a node's name; allowed: %s", shown,
                config_key_of(K_NODE_NAME)->allowed);
        return;
    }
    for (size_t i = 0; i < CONFIG_OF(l)->n_nodes; i++) {
        if (strcmp(CONFIG_OF(l)->nodes[i].name, text) == 0)
            config_problem(l, value, &value->items[0], "'%s' is given twice", text);
    }
    node->name = str_dup(text);
}

static void load_list(struct config_loader *l, const struct config_value *list)
{
    if (list->tree->n > CONFIG_NODES_MAX)
        config_problem(l, list, NULL, "has %zu entries; allowed: at most %zu", list->tree->n,
                CONFIG_NODES_MAX);
    for (size_t i = 0; i < list->tree->n && i < CONFIG_NODES_MAX; i++) {
        const struct config_tree *entry = list->tree->members[i];
        AUTO(config_node_done) struct config_node node = {0};
        struct config_value whole = {.id = K_EJABBERD_NODES,
                .source = CONFIG_FILE,
                .line = entry->line,
                .column = entry->column};
        if (!config_collect_entry(l, entry, K_EJABBERD_NODES))
            continue;
        load_name(l, &whole, &node);
        load_fields(l, &whole, &l->entry[K_NODE_API], &node);
        if (node.name != NULL)
            add_node(l, &node);
    }
    config_entry_done(l);
}

/* The first key of the short form that somebody set. */
static struct config_value *short_form(struct config_value *values)
{
    for (int id = K_EJABBERD_API; id < K_EJABBERD_API + FIELDS; id++) {
        if (values[id].source > CONFIG_DEFAULT)
            return &values[id];
    }
    return NULL;
}

void config_load_nodes(struct config_loader *l)
{
    struct config_value *values = l->full->values;
    struct config_value *list = &values[K_EJABBERD_NODES], *first = short_form(values);
    if (list->source != CONFIG_UNSET && first != NULL)
        config_problem(l, first, NULL, "contradicts ejabberd.nodes; set one of the two");
    if (list->source != CONFIG_UNSET && list->tree != NULL) {
        load_list(l, list);
        return;
    }
    if (first == NULL)
        return;
    AUTO(config_node_done) struct config_node node = {.name = str_dup("ejabberd")};
    load_fields(l, first, &values[K_EJABBERD_API], &node);
    add_node(l, &node);
}
