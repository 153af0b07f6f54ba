/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading: file and environment are collected, every value is converted and reported on by itself,
 * and only a load without a single mistake gives a snapshot. So one run of `config check` shows all
 * that has to be corrected.
 */
#include "agent/config_private.h"

#include <assert.h>
#include <stdio.h>
#include <sys/un.h>

#include "base/file.h"

#define DEFAULT_PATH   "/etc/certherd/certherd.yml"
#define LINE_MAX_SHOWN ((size_t)8 * 1024)

/* ---- problems ---- */

/* The name of the file or of a variable may be any bytes, too. */
static void add_line(struct config_loader *l, char *owned)
{
    if (l->problems->lines.n < CONFIG_PROBLEMS_MAX)
        strv_take(&l->problems->lines, str_foreign(owned, LINE_MAX_SHOWN));
    else
        l->unreported++;
    free(owned);
}

void config_problem_at(struct config_loader *l, unsigned line, unsigned column, const char *key,
        const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *text = str_vprintf(fmt, ap);
    va_end(ap);
    add_line(l, str_printf("%s:%u:%u: %s%s%s", l->path, line, column, key != NULL ? key : "",
                        key != NULL ? ": " : "", text));
}

void config_problem_environment(struct config_loader *l, const char *variable, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *text = str_vprintf(fmt, ap);
    va_end(ap);
    add_line(l, str_printf("environment: %s: %s", variable, text));
}

void config_problem(struct config_loader *l, const struct config_value *value,
        const struct config_item *item, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    AUTO_FREE char *text = str_vprintf(fmt, ap);
    va_end(ap);
    const char *key = config_key_of(value->id)->path;
    if (value->variable != NULL)
        config_problem_environment(l, value->variable, "%s", text);
    else if (value->source != CONFIG_FILE)
        add_line(l, str_printf("default: %s: %s", key, text));
    else if (item != NULL && item->line != 0)
        config_problem_at(l, item->line, item->column, key, "%s", text);
    else
        config_problem_at(l, value->line, value->column, key, "%s", text);
}

bool config_accept(struct config_loader *l, const struct config_value *value,
        const struct config_item *item, struct err *e)
{
    if (e == NULL)
        return true;
    const char *advice = err_advice(e);
    config_problem(l, value, item, "%s%s%s", err_text(e), advice != NULL ? "; " : "",
            advice != NULL ? advice : "");
    err_free(e);
    return false;
}

void config_problems_done(struct config_problems *problems)
{
    strv_done(&problems->lines);
}

/* ---- the snapshot's life ---- */

static struct config_full *full_of(struct config *config)
{
    return CONTAINER_OF(config, struct config_full, config);
}

struct config *config_ref(struct config *config)
{
    config->refs++;
    return config;
}

static void free_texts(struct config *c)
{
    char *texts[] = {c->path, c->state_dir, c->cert_dir, c->acme.directory,
            c->acme.staging_directory, c->acme.email, c->acme.ca_bundle, c->acme.roots,
            c->acme.profile, c->http01.token_dir, c->control_socket};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        free(texts[i]);
    strv_done(&c->components);
    strv_done(&c->acme.extra_hosts);
}

void config_unref(struct config *config)
{
    if (config == NULL || --config->refs > 0)
        return;
    struct config_full *full = full_of(config);
    for (size_t i = 0; i < config->n_domains; i++)
        config_domain_done(&config->domains[i]);
    for (size_t i = 0; i < config->n_nodes; i++)
        config_node_done(&config->nodes[i]);
    free(config->domains);
    free(config->nodes);
    free_texts(config);
    for (enum config_id id = 0; id < K_MAX; id++)
        config_value_done(&full->values[id]);
    free(full);
}

/* ---- acme ---- */

static void refuse_later(struct config_loader *l, enum config_id id, const char *what)
{
    if (l->entry[id].source != CONFIG_UNSET)
        config_problem(l, &l->entry[id], NULL, "%s comes in a later version", what);
}

/* The one entry of acme.cas takes the place of the short form. */
static void take_ca(struct config_loader *l)
{
    struct config_value *values = l->full->values;
    const struct config_value *list = &values[K_ACME_CAS];
    if (list->tree == NULL)
        return;
    if (list->tree->n != 1) {
        config_problem(l, list, NULL,
                "has %zu entries; allowed: one (fallback CAs come in a later version)",
                list->tree->n);
        return;
    }
    if (!config_collect_entry(l, list->tree->members[0], K_ACME_CAS))
        return;
    refuse_later(l, K_CA_EAB_KID, "external account binding");
    refuse_later(l, K_CA_EAB_HMAC_KEY, "external account binding");
    refuse_later(l, K_CA_PREFERRED_CHAIN, "a choice among chains");
    if (l->entry[K_CA_DIRECTORY].source == CONFIG_UNSET)
        config_problem(l, list, NULL, "no directory; give \"directory: https://…\"");
    for (int i = 0; i <= K_ACME_EXTRA_HOSTS - K_ACME_DIRECTORY; i++) {
        struct config_value *to = &values[K_ACME_DIRECTORY + i];
        if (to->source > CONFIG_MAILCOW)
            config_problem(l, to, NULL, "contradicts acme.cas; set one of the two");
        config_value_done(to);
        *to = l->entry[K_CA_DIRECTORY + i];
        l->entry[K_CA_DIRECTORY + i] = (struct config_value){0};
        if (to->source == CONFIG_UNSET)
            to->id = K_ACME_DIRECTORY + i;
    }
    config_entry_done(l);
}

static void load_extra_hosts(struct config_loader *l)
{
    struct config_value *value = &l->full->values[K_ACME_EXTRA_HOSTS];
    struct config *c = CONFIG_OF(l);
    for (size_t i = 0; i < value->n; i++) {
        const char *text = value->items[i].text;
        size_t host_len = strcspn(text, ":");
        unsigned long long port = 443;
        AUTO_FREE char *host = mem_dup(text, host_len);
        struct name name;
        bool ok = text[host_len] == '\0' ||
                  (str_to_u64(text + host_len + 1, 65535, &port) && port > 0);
        if (!ok) {
            AUTO_FREE char *shown = str_foreign(text, 100);
            config_problem(l, value, &value->items[i], "'%s' is not a host; allowed: %s", shown,
                    config_key_of(K_ACME_EXTRA_HOSTS)->allowed);
        } else if (config_accept(l, value, &value->items[i], name_parse(host, &name))) {
            strv_take(&c->acme.extra_hosts, str_printf("%s%s", name.text, text + host_len));
        }
    }
    config_value_items(value, &c->acme.extra_hosts);
}

static void load_acme(struct config_loader *l)
{
    struct config_value *v = l->full->values;
    struct config *c = CONFIG_OF(l);
    take_ca(l);
    config_get_url(l, &v[K_ACME_DIRECTORY], &c->acme.directory);
    bool known =
            c->acme.directory != NULL && (strcmp(c->acme.directory, CONFIG_LE_DIRECTORY) == 0 ||
                                                 strcmp(c->acme.directory, CONFIG_LE_STAGING) == 0);
    if (known && v[K_ACME_STAGING_DIRECTORY].source == CONFIG_UNSET)
        config_value_set(&v[K_ACME_STAGING_DIRECTORY], K_ACME_STAGING_DIRECTORY, CONFIG_DEFAULT,
                CONFIG_LE_STAGING);
    config_get_url(l, &v[K_ACME_STAGING_DIRECTORY], &c->acme.staging_directory);
    config_get_email(l, &v[K_ACME_EMAIL], &c->acme.email);
    config_get_file(l, &v[K_ACME_CA_BUNDLE], &c->acme.ca_bundle);
    config_get_file(l, &v[K_ACME_ROOTS], &c->acme.roots);
    config_get_text(l, &v[K_ACME_PROFILE], &c->acme.profile);
    load_extra_hosts(l);
    int type = config_get_enum(l, &v[K_ACME_KEY_TYPE]);
    if (type >= 0)
        c->acme.key_type = (enum key_type)type;
}

/* ---- the rest ---- */

static void load_http01(struct config_loader *l)
{
    struct config_value *v = l->full->values;
    struct config *c = CONFIG_OF(l);
    AUTO_FREE char *webroot = NULL;
    config_exclude(l, &v[K_HTTP01_WEBROOT], &v[K_HTTP01_TOKEN_DIR]);
    config_get_path(l, &v[K_HTTP01_WEBROOT], &webroot);
    config_get_path(l, &v[K_HTTP01_TOKEN_DIR], &c->http01.token_dir);
    config_get_addr(l, &v[K_HTTP01_LISTEN], 80, &c->http01.listen);
    if (webroot != NULL && c->http01.token_dir == NULL)
        c->http01.token_dir = str_printf("%s/.well-known/acme-challenge", webroot);
}

static void load_resolvers(struct config_loader *l)
{
    const struct config_value *value = &l->full->values[K_DNS_RESOLVER];
    struct config *c = CONFIG_OF(l);
    if (value->n > ARRAY_SIZE(c->resolvers)) {
        config_problem(l, value, NULL, "has %zu entries; allowed: at most %zu", value->n,
                ARRAY_SIZE(c->resolvers));
        return;
    }
    for (size_t i = 0; i < value->n; i++) {
        struct err *e = addr_parse(value->items[i].text, 53, &c->resolvers[c->n_resolvers]);
        c->n_resolvers += config_accept(l, value, &value->items[i], e);
    }
}

static void load_skips(struct config_loader *l)
{
    static const char *const words[] = {"dns", "address", "http"};
    const struct config_value *value = &l->full->values[K_PREFLIGHT_SKIP];
    for (size_t i = 0; i < value->n; i++) {
        size_t word = 0;
        while (word < ARRAY_SIZE(words) && strcmp(words[word], value->items[i].text) != 0)
            word++;
        AUTO_FREE char *shown = str_foreign(value->items[i].text, 100);
        if (word == ARRAY_SIZE(words))
            config_problem(l, value, &value->items[i], "'%s' is unknown; allowed: %s", shown,
                    config_key_of(K_PREFLIGHT_SKIP)->allowed);
        else
            CONFIG_OF(l)->preflight_skip |= 1u << word;
    }
}

static void load_paths(struct config_loader *l)
{
    struct config_value *v = l->full->values;
    struct config *c = CONFIG_OF(l);
    config_get_path(l, &v[K_STATE_DIR], &c->state_dir);
    config_get_path(l, &v[K_CERT_DIR], &c->cert_dir);
    if (c->cert_dir == NULL && c->state_dir != NULL && v[K_CERT_DIR].source == CONFIG_UNSET) {
        c->cert_dir = str_printf("%s/live", c->state_dir);
        config_value_set(&v[K_CERT_DIR], K_CERT_DIR, CONFIG_DEFAULT, c->cert_dir);
    }
    config_get_path(l, &v[K_CONTROL_SOCKET], &c->control_socket);
    if (c->control_socket != NULL &&
            strlen(c->control_socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        config_problem(l, &v[K_CONTROL_SOCKET], NULL, "is longer than 107 bytes");
}

static void load_words(struct config_loader *l)
{
    struct config_value *v = l->full->values;
    struct config *c = CONFIG_OF(l);
    config_get_challenge(l, &v[K_CHALLENGE], &c->challenge);
    config_get_names(l, &v[K_NAMES], &c->names);
    c->partial_allow = config_get_enum(l, &v[K_PARTIAL]) == 1;
    config_get_span(l, &v[K_PARTIAL_AFTER], &c->partial_after_ms);
    int level = config_get_enum(l, &v[K_LOG_LEVEL]), format = config_get_enum(l, &v[K_LOG_FORMAT]);
    if (level >= 0)
        c->log_level = (enum log_level)level;
    if (format >= 0)
        c->log_format = (enum log_format)format;
}

static void convert(struct config_loader *l)
{
    struct config_value *v = l->full->values;
    struct config *c = CONFIG_OF(l);
    config_get_name(l, &v[K_MAIL_HOST], &c->mail_host);
    c->has_mail_host = c->mail_host.text[0] != '\0';
    load_paths(l);
    load_acme(l);
    load_words(l);
    load_http01(l);
    load_resolvers(l);
    load_skips(l);
    for (int i = 0; i < PROOF_PORT_MAX; i++)
        config_get_port(l, &v[K_XMPP_PORTS + i], &c->xmpp_ports[i]);
    config_get_components(l, &v[K_COMPONENTS], NULL, &c->components);
    config_load_domains(l);
    config_load_nodes(l);
}

/* ---- load ---- */

/* false: mistakes were reported. */
static struct err *read_tree(struct config_loader *l, const struct config_load *load, bool *ret_ok)
{
    AUTO_BUF struct buf text = BUF_INIT_SECRET(CONFIG_FILE_MAX + 1);
    bool found = true;
    l->path = load->path != NULL ? load->path : DEFAULT_PATH;
    *ret_ok = true;
    struct err *e =
            file_read(l->path, CONFIG_FILE_MAX + 1, &text, load->path == NULL ? &found : NULL);
    TRY_CTX(e, "configuration");
    if (!found) {
        l->path = NULL;
        return NULL;
    }
    *ret_ok = text.len <= CONFIG_FILE_MAX;
    if (!*ret_ok) {
        config_problem_at(l, 1, 1, NULL, "the file is larger than 1 MiB");
        return NULL;
    }
    CONFIG_OF(l)->path = str_dup(l->path);
    *ret_ok = config_yaml_parse(l, buf_str(&text), text.len, &l->tree);
    return NULL;
}

static void forget_trees(struct config_loader *l)
{
    for (enum config_id id = 0; id < K_MAX; id++)
        l->full->values[id].tree = NULL;
    config_tree_free(l->tree);
    l->tree = NULL;
}

struct err *config_load(
        const struct config_load *load, struct config **ret, struct config_problems *problems)
{
    struct config_full *full = MEM_NEW(struct config_full);
    AUTO(config_unrefp) struct config *config = config_ref(&full->config);
    AUTO_FREE struct config_loader *l = MEM_NEW(struct config_loader);
    l->environment = load->environment;
    l->full = full;
    l->problems = problems;
    bool ok = false;
    TRY(read_tree(l, load, &ok));
    /* A file that can't be parsed would make every key look unset. */
    if (ok) {
        config_collect(l);
        convert(l);
    }
    forget_trees(l);
    if (l->unreported > 0)
        strv_take(&problems->lines, str_printf("… and %zu more", l->unreported));
    if (problems->lines.n == 0)
        *ret = STEAL(config);
    return NULL;
}
