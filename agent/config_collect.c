/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From tree, environment and defaults to one value per key. The stronger source wins: CERTHERD_…,
 * then the file, then mailcow's own names, then the default. What no row of the table knows is a
 * mistake, and the nearest row is named.
 */
#include "agent/config_private.h"

#include <ctype.h>
#include <strings.h>

#define PREFIX "CERTHERD_"

/* ---- values ---- */

static void items_done(struct config_value *value)
{
    for (size_t i = 0; i < value->n; i++) {
        explicit_bzero(value->items[i].text, strlen(value->items[i].text));
        free(value->items[i].text);
    }
    free(value->items);
    value->items = NULL;
    value->n = 0;
}

void config_value_done(struct config_value *value)
{
    items_done(value);
    free(value->variable);
    *value = (struct config_value){0};
}

void config_value_add(
        struct config_value *value, const char *text, size_t len, unsigned line, unsigned column)
{
    value->items = mem_realloc_array(value->items, value->n + 1, sizeof(*value->items));
    value->items[value->n++] = (struct config_item){mem_dup(text, len), line, column};
}

void config_value_items(struct config_value *value, const struct strv *texts)
{
    items_done(value);
    for (size_t i = 0; i < texts->n; i++)
        config_value_add(value, texts->v[i], strlen(texts->v[i]), 0, 0);
}

void config_value_set(
        struct config_value *value, enum config_id id, enum config_source source, const char *text)
{
    config_value_done(value);
    value->id = id;
    value->source = source;
    if (text != NULL)
        config_value_add(value, text, strlen(text), 0, 0);
}

char *config_value_origin(const struct config_value *value, const char *path)
{
    switch (value->source) {
    case CONFIG_FILE:
        return str_printf("%s:%u", path, value->line);
    case CONFIG_ENVIRONMENT:
    case CONFIG_MAILCOW:
        return str_dup(value->variable);
    case CONFIG_DEFAULT:
        return str_dup("default");
    default:
        return str_dup("");
    }
}

/* By commas, without the blanks around them. */
static void add_split(struct config_value *value, const char *text, unsigned line, unsigned column)
{
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        const char *end = p + len;
        const char *from = p, *to = end;
        while (from < to && isspace((unsigned char)*from))
            from++;
        while (to > from && isspace((unsigned char)to[-1]))
            to--;
        config_value_add(value, from, (size_t)(to - from), line, column);
        p = end;
        if (*p == '\0')
            return;
    }
}

static bool is_list(enum config_id id)
{
    return config_key_of(id)->type == CONFIG_LIST || config_key_of(id)->type == CONFIG_MAPS;
}

/* ---- the file ---- */

static void take_scalar(
        struct config_loader *l, const struct config_tree *node, struct config_value *value)
{
    if (config_key_of(value->id)->type == CONFIG_MAPS) {
        config_problem(l, value, NULL, "is text; allowed: a list of maps");
        value->source = CONFIG_UNSET;
    } else if (config_key_of(value->id)->type == CONFIG_LIST) {
        add_split(value, node->text, node->line, node->column);
    } else {
        config_value_add(value, node->text, strlen(node->text), node->line, node->column);
    }
}

static void take_list(
        struct config_loader *l, const struct config_tree *node, struct config_value *value)
{
    if (config_key_of(value->id)->type == CONFIG_MAPS) {
        value->tree = node;
        return;
    }
    if (!is_list(value->id)) {
        config_problem(l, value, NULL, "is a list; allowed: one value");
        value->source = CONFIG_UNSET;
        return;
    }
    for (size_t i = 0; i < node->n; i++) {
        const struct config_tree *item = node->members[i];
        if (item->kind != CONFIG_NODE_SCALAR || item->null)
            config_problem_at(l, item->line, item->column, config_key_of(value->id)->path,
                    "an entry that is %s; allowed: text",
                    item->kind == CONFIG_NODE_SCALAR ? "empty" : "a list or map");
        else
            config_value_add(value, item->text, strlen(item->text), item->line, item->column);
    }
}

static bool unset_by_emptiness(const struct config_tree *node, enum config_id id)
{
    if (node->kind != CONFIG_NODE_SCALAR)
        return false;
    return node->null || (*node->text == '\0' && id != K_DOMAIN_PREFIX);
}

static void take_value(struct config_loader *l, const struct config_tree *node, enum config_id id,
        struct config_value *values)
{
    struct config_value *value = &values[id];
    if (unset_by_emptiness(node, id) || value->source != CONFIG_UNSET)
        return;
    *value = (struct config_value){
            .id = id, .source = CONFIG_FILE, .line = node->line, .column = node->column};
    switch (node->kind) {
    case CONFIG_NODE_SCALAR:
        take_scalar(l, node, value);
        break;
    case CONFIG_NODE_LIST:
        take_list(l, node, value);
        break;
    case CONFIG_NODE_MAP:
        config_problem(
                l, value, NULL, "is a map; allowed: %s", is_list(id) ? "a list" : "one value");
        value->source = CONFIG_UNSET;
        break;
    }
}

/* Rows directly below prefix: "acme." -> "acme.email" and the like. Borrowed, or a section's name
 * owned by *sections. */
static size_t level_words(const char *prefix, const char *ret[K_MAX], struct strv *sections)
{
    size_t n = 0, len = strlen(prefix);
    for (enum config_id id = 0; id < K_MAX; id++) {
        const char *path = config_key_of(id)->path;
        if (!str_starts(path, prefix) || strstr(path + len, "[]") != NULL)
            continue;
        const char *dot = strchr(path + len, '.');
        AUTO_FREE char *word = dot != NULL ? mem_dup(path, (size_t)(dot - path)) : str_dup(path);
        if (strv_has(sections, word))
            continue;
        strv_add(sections, word);
    }
    for (n = 0; n < sections->n && n < K_MAX; n++)
        ret[n] = sections->v[n];
    return n;
}

/* The row whose last part is this word, where it was put at the wrong level. */
static const char *same_word_elsewhere(const char *word)
{
    for (enum config_id id = 0; id < K_MAX; id++) {
        const char *path = config_key_of(id)->path;
        const char *dot = strrchr(path, '.');
        if (strstr(path, "[]") == NULL && dot != NULL && strcmp(dot + 1, word) == 0)
            return path;
    }
    return NULL;
}

static void unknown_key(struct config_loader *l, const struct config_tree *node, const char *prefix)
{
    AUTO_FREE char *word = str_foreign(node->key, 64);
    AUTO_FREE char *path = str_printf("%s%s", prefix, word);
    const char *words[K_MAX];
    AUTO_STRV struct strv here = {0};
    size_t n = level_words(prefix, words, &here);
    const char *near = config_nearest(path, words, n);
    if (near == NULL)
        near = same_word_elsewhere(node->key);
    if (near != NULL) {
        config_problem_at(
                l, node->key_line, node->key_column, path, "unknown key; did you mean '%s'?", near);
        return;
    }
    AUTO_STRV struct strv bare = {0};
    for (size_t i = 0; i < n; i++)
        strv_add(&bare, words[i] + strlen(prefix));
    AUTO_FREE char *all = strv_join(&bare, ", ");
    config_problem_at(
            l, node->key_line, node->key_column, path, "unknown key; allowed here: %s", all);
}

/* Paths with dots are how we name keys, not how YAML nests them. */
static bool refuse_dots(struct config_loader *l, const struct config_tree *node, const char *prefix)
{
    size_t len = strcspn(node->key, ".");
    if (node->key[len] == '\0')
        return false;
    AUTO_FREE char *word = str_foreign(node->key, 64);
    AUTO_FREE char *path = str_printf("%s%s", prefix, word);
    config_problem_at(l, node->key_line, node->key_column, path,
            "unknown key; what stands behind a dot is a key of its own, indented below \"%.*s:\"",
            (int)len, word);
    return true;
}

static bool find_row(const char *path, enum config_id *ret)
{
    for (enum config_id id = 0; id < K_MAX; id++) {
        if (strcmp(config_key_of(id)->path, path) == 0) {
            *ret = id;
            return true;
        }
    }
    return false;
}

static bool is_section(const char *path_with_dot)
{
    for (enum config_id id = 0; id < K_MAX; id++) {
        if (str_starts(config_key_of(id)->path, path_with_dot))
            return true;
    }
    return false;
}

/* At most as deep as the table's longest path. */
static void walk(struct config_loader *l, const struct config_tree *map, const char *prefix,
        struct config_value *values)
{
    for (size_t i = 0; i < map->n; i++) {
        const struct config_tree *node = map->members[i];
        AUTO_FREE char *path = str_printf("%s%s", prefix, node->key);
        AUTO_FREE char *section = str_printf("%s.", path);
        enum config_id id = 0;
        if (refuse_dots(l, node, prefix))
            continue;
        if (find_row(path, &id))
            take_value(l, node, id, values);
        else if (strchr(node->key, '[') != NULL || !is_section(section))
            unknown_key(l, node, prefix);
        else if (node->kind == CONFIG_NODE_MAP)
            walk(l, node, section, values);
        else if (node->kind == CONFIG_NODE_LIST || !node->null)
            config_problem_at(l, node->line, node->column, path, "is %s; allowed: a map of keys",
                    node->kind == CONFIG_NODE_LIST ? "a list" : "text");
    }
}

bool config_collect_entry(
        struct config_loader *l, const struct config_tree *entry, enum config_id base)
{
    const char *path = config_key_of(base)->path;
    config_entry_done(l);
    if (entry->kind != CONFIG_NODE_MAP) {
        config_problem_at(l, entry->line, entry->column, path,
                "an entry that is %s; allowed: a map",
                entry->kind == CONFIG_NODE_LIST ? "a list" : "text");
        return false;
    }
    AUTO_FREE char *prefix = str_printf("%s[].", path);
    size_t before = l->problems->lines.n + l->unreported;
    walk(l, entry, prefix, l->entry);
    return l->problems->lines.n + l->unreported == before;
}

void config_entry_done(struct config_loader *l)
{
    for (enum config_id id = 0; id < K_MAX; id++)
        config_value_done(&l->entry[id]);
}

/* ---- the environment ---- */

static const char *variable(const struct config_loader *l, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; l->environment != NULL && l->environment[i] != NULL; i++) {
        const char *entry = l->environment[i];
        if (strncmp(entry, name, len) == 0 && entry[len] == '=')
            return entry[len + 1] != '\0' ? entry + len + 1 : NULL;
    }
    return NULL;
}

static void set_from_variable(struct config_value *value, enum config_id id,
        enum config_source source, const char *name, const char *text)
{
    config_value_set(value, id, source, NULL);
    value->variable = str_dup(name);
    if (is_list(id))
        add_split(value, text, 0, 0);
    else
        config_value_add(value, text, strlen(text), 0, 0);
}

static void unknown_variable(struct config_loader *l, const char *name)
{
    const char *names[K_MAX];
    AUTO_STRV struct strv all = {0};
    AUTO_FREE char *shown = str_foreign(name, 80);
    for (enum config_id id = 0; id < K_MAX; id++) {
        if (config_key_has_variable(id))
            strv_take(&all, config_key_environment(config_key_of(id)));
    }
    for (size_t i = 0; i < all.n; i++)
        names[i] = all.v[i];
    const char *near = config_nearest(name, names, all.n);
    if (near != NULL)
        config_problem_environment(l, shown, "unknown variable; did you mean %s?", near);
    else
        config_problem_environment(
                l, shown, "unknown variable; certherd.yml(5) lists what is allowed");
}

static void take_variable(struct config_loader *l, const char *name, const char *text)
{
    for (enum config_id id = 0; id < K_MAX; id++) {
        AUTO_FREE char *own = config_key_environment(config_key_of(id));
        if (strcmp(own, name) != 0)
            continue;
        struct config_value *value = &l->full->values[id];
        if (value->source != CONFIG_ENVIRONMENT)
            set_from_variable(value, id, CONFIG_ENVIRONMENT, name, text);
        return;
    }
    unknown_variable(l, name);
}

static void collect_environment(struct config_loader *l)
{
    for (size_t i = 0; l->environment != NULL && l->environment[i] != NULL; i++) {
        const char *entry = l->environment[i];
        const char *equals = strchr(entry, '=');
        if (!str_starts(entry, PREFIX) || equals == NULL || equals[1] == '\0')
            continue;
        AUTO_FREE char *name = mem_dup(entry, (size_t)(equals - entry));
        take_variable(l, name, equals + 1);
    }
}

/* ---- mailcow's names ---- */

/* ^([yY][eE][sS]|[yY])+$ , as mailcow's scripts test it */
static bool mailcow_bool(const char *text)
{
    if (text == NULL)
        return false;
    for (const char *p = text; *p != '\0'; p += strncasecmp(p, "yes", 3) == 0 ? 3 : 1) {
        if (*p != 'y' && *p != 'Y')
            return false;
    }
    return true;
}

static void from_mailcow(
        struct config_loader *l, enum config_id id, const char *name, const char *text)
{
    struct config_value *value = &l->full->values[id];
    if (text != NULL && value->source == CONFIG_UNSET)
        set_from_variable(value, id, CONFIG_MAILCOW, name, text);
}

/* "5222" or "192.0.2.1:5222" */
static void port_from_mailcow(struct config_loader *l, enum proof_port port, const char *name)
{
    const char *text = variable(l, name);
    const char *colon = text != NULL ? strrchr(text, ':') : NULL;
    from_mailcow(l, K_XMPP_PORTS + (int)port, name, colon != NULL ? colon + 1 : text);
}

static void collect_mailcow(struct config_loader *l)
{
    from_mailcow(l, K_MAIL_HOST, "MAILCOW_HOSTNAME", variable(l, "MAILCOW_HOSTNAME"));
    port_from_mailcow(l, PROOF_C2S, "XMPP_C2S_PORT");
    port_from_mailcow(l, PROOF_S2S, "XMPP_S2S_PORT");
    port_from_mailcow(l, PROOF_HTTPS, "XMPP_HTTPS_PORT");

    const char *email = variable(l, "ACME_ACCOUNT_EMAIL");
    if (email != NULL && strcasecmp(email, "me@example.com") != 0) /* as shipped */
        from_mailcow(l, K_ACME_EMAIL, "ACME_ACCOUNT_EMAIL", email);
    if (l->full->values[K_ACME_CAS].source == CONFIG_UNSET) {
        if (mailcow_bool(variable(l, "LE_STAGING")))
            from_mailcow(l, K_ACME_DIRECTORY, "LE_STAGING", CONFIG_LE_STAGING);
        from_mailcow(l, K_ACME_DIRECTORY, "DIRECTORY_URL", variable(l, "DIRECTORY_URL"));
    }
    bool http = mailcow_bool(variable(l, "SKIP_HTTP_VERIFICATION"));
    bool address = mailcow_bool(variable(l, "SKIP_IP_CHECK"));
    if (http && address)
        from_mailcow(l, K_PREFLIGHT_SKIP, "SKIP_HTTP_VERIFICATION, SKIP_IP_CHECK", "address,http");
    else if (http)
        from_mailcow(l, K_PREFLIGHT_SKIP, "SKIP_HTTP_VERIFICATION", "http");
    else if (address)
        from_mailcow(l, K_PREFLIGHT_SKIP, "SKIP_IP_CHECK", "address");
}

static void collect_defaults(struct config_loader *l)
{
    for (enum config_id id = 0; id < K_MAX; id++) {
        struct config_value *value = &l->full->values[id];
        const char *text = config_key_of(id)->def;
        if (value->source != CONFIG_UNSET)
            continue;
        value->id = id;
        if (text == NULL || strstr(config_key_of(id)->path, "[]") != NULL)
            continue;
        config_value_set(value, id, CONFIG_DEFAULT, NULL);
        if (is_list(id))
            add_split(value, text, 0, 0);
        else
            config_value_add(value, text, strlen(text), 0, 0);
    }
}

void config_collect(struct config_loader *l)
{
    if (l->tree != NULL)
        walk(l, l->tree, "", l->full->values);
    collect_environment(l);
    collect_mailcow(l);
    collect_defaults(l);
}
