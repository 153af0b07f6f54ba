/* SPDX-License-Identifier: Apache-2.0 */
/* The effective configuration, with the origin of each value. Secrets are "(set)". */
#include "agent/config_private.h"

static const struct config_full *full_of(const struct config *config)
{
    return (const struct config_full *)((const char *)config -
                                        offsetof(struct config_full, config));
}

/* What is printed row by row; entries of lists of maps follow on their own. */
static bool is_row(enum config_id id)
{
    return strstr(config_key_of(id)->path, "[]") == NULL && config_key_of(id)->type != CONFIG_MAPS;
}

static json_t *made(json_t *value)
{
    if (value == NULL)
        mem_fail(sizeof(*value));
    return value;
}

static json_t *texts(const struct strv *list)
{
    json_t *array = made(json_array());
    for (size_t i = 0; i < list->n; i++)
        json_push(array, made(json_string(list->v[i])));
    return array;
}

/* ---- JSON ---- */

static json_t *value_json(const struct config_value *value, enum config_id id)
{
    const struct config_key *key = config_key_of(id);
    unsigned long long number = 0;
    if (value->source == CONFIG_UNSET)
        return made(json_null());
    if (key->type == CONFIG_SECRET)
        return made(json_string("(set)"));
    if (key->type == CONFIG_PORT && str_to_u64(value->items[0].text, 65535, &number))
        return made(json_integer((json_int_t)number));
    if (key->type != CONFIG_LIST)
        return made(json_string(value->items[0].text));
    json_t *array = made(json_array());
    for (size_t i = 0; i < value->n; i++)
        json_push(array, made(json_string(value->items[i].text)));
    return array;
}

static const char *challenge_word(enum config_challenge challenge)
{
    static const char *const words[] = {"auto", "http-01", "dns-01", "tls-alpn-01"};
    return words[challenge];
}

static const char *names_word(enum config_names names)
{
    static const char *const words[] = {"auto", "exact", "wildcard"};
    return words[names];
}

static json_t *domain_json(const struct config_domain *domain)
{
    json_t *object = made(json_object());
    json_put_str(object, "domain", domain->domain.text);
    json_put_str(object, "prefix", domain->prefix);
    json_put_str(object, "host", domain->host.text);
    json_put(object, "components", texts(&domain->components));
    json_put_str(object, "challenge", challenge_word(domain->challenge));
    json_put_str(object, "names", names_word(domain->names));
    json_put_str(object, "origin", domain->origin);
    return object;
}

static json_t *node_json(const struct config_node *node)
{
    json_t *object = made(json_object()), *probe = made(json_object());
    json_put_str(object, "name", node->name);
    json_put_str(object, "api", node->api.url);
    json_put_str(object, "user", node->api.user);
    json_put_str(object, "password", node->api.password != NULL ? "(set)" : NULL);
    json_put_str(object, "token", node->api.token != NULL ? "(set)" : NULL);
    json_put_str(probe, "host", node->probe_host);
    for (int i = 0; i < PROOF_PORT_MAX; i++)
        json_put_int(probe, strrchr(config_key_of(K_XMPP_PORTS + i)->path, '.') + 1,
                node->probe_ports[i]);
    json_put(object, "probe", probe);
    return object;
}

json_t *config_to_json(const struct config *config)
{
    const struct config_full *full = full_of(config);
    json_t *root = made(json_object()), *values = made(json_object());
    json_t *domains = made(json_array()), *nodes = made(json_array());
    for (enum config_id id = 0; id < K_MAX; id++) {
        if (!is_row(id))
            continue;
        AUTO_FREE char *origin = config_value_origin(&full->values[id], config->path);
        json_t *row = made(json_object());
        json_put(row, "value", value_json(&full->values[id], id));
        json_put_str(row, "origin", *origin != '\0' ? origin : NULL);
        json_put(values, config_key_of(id)->path, row);
    }
    for (size_t i = 0; i < config->n_domains; i++)
        json_push(domains, domain_json(&config->domains[i]));
    for (size_t i = 0; i < config->n_nodes; i++)
        json_push(nodes, node_json(&config->nodes[i]));
    json_put_str(root, "file", config->path);
    json_put(root, "values", values);
    json_put(root, "domains", domains);
    json_put(root, "nodes", nodes);
    return root;
}

/* ---- for people ---- */

static void print_row(const struct config *config, enum config_id id, struct buf *out)
{
    const struct config_value *value = &full_of(config)->values[id];
    AUTO_BUF struct buf text = BUF_INIT(CONFIG_LIST_MAX * CONFIG_TEXT_MAX);
    AUTO_FREE char *origin = config_value_origin(value, config->path);
    for (size_t i = 0; i < value->n; i++)
        buf_printf(&text, "%s%s", i > 0 ? ", " : "", value->items[i].text);
    bool secret = config_key_of(id)->type == CONFIG_SECRET;
    const char *shown = value->source == CONFIG_UNSET ? "-" : secret ? "(set)" : buf_str(&text);
    buf_printf(out, "%-24s %s%s%s%s\n", config_key_of(id)->path, *shown != '\0' ? shown : "-",
            *origin != '\0' ? "  (" : "", origin, *origin != '\0' ? ")" : "");
}

static void print_domain(const struct config_domain *domain, struct buf *out)
{
    AUTO_FREE char *components = strv_join(&domain->components, ", ");
    buf_printf(out, "  %s: %s and prefix '%s'; components %s; challenge %s; names %s  (%s)\n",
            domain->host.text, domain->domain.text, domain->prefix,
            domain->components.n > 0 ? components : "none", challenge_word(domain->challenge),
            names_word(domain->names), domain->origin);
}

static void print_node(const struct config_node *node, struct buf *out)
{
    buf_printf(out, "  %s: api %s%s%s; probe %s", node->name,
            node->api.url != NULL ? node->api.url : "none (nothing is reloaded)",
            node->api.password != NULL ? ", password (set)" : "",
            node->api.token != NULL ? ", token (set)" : "", node->probe_host);
    for (int i = 0; i < PROOF_PORT_MAX; i++) {
        if (node->probe_ports[i] != 0)
            buf_printf(out, " %s %u", strrchr(config_key_of(K_XMPP_PORTS + i)->path, '.') + 1,
                    node->probe_ports[i]);
    }
    buf_puts(out, "\n");
}

void config_print(const struct config *config, struct buf *out)
{
    buf_printf(out, "# %s\n", config->path != NULL ? config->path : "no file; environment only");
    for (enum config_id id = 0; id < K_MAX; id++) {
        if (is_row(id))
            print_row(config, id, out);
    }
    buf_printf(out, "domains (%zu)\n", config->n_domains);
    for (size_t i = 0; i < config->n_domains; i++)
        print_domain(&config->domains[i], out);
    buf_printf(out, "ejabberd nodes (%zu)\n", config->n_nodes);
    for (size_t i = 0; i < config->n_nodes; i++)
        print_node(&config->nodes[i], out);
}
