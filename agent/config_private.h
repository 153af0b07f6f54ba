/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the configuration share. A load goes through three stages: the file becomes a
 * tree with line and column of every node (config_yaml.c); tree, environment and defaults become
 * one value per key (config_collect.c); values become the typed snapshot (config.c and its helpers
 * config_convert.c, config_domains.c, config_nodes.c). Each stage reports all it finds.
 */
#pragma once

#include "agent/config.h"

/* One per row of the table, in its order. Those below "X[]." appear once per entry of a list. */
enum config_id {
    K_MAIL_HOST,
    K_DOMAINS,
    K_DOMAIN_DOMAIN,
    K_DOMAIN_PREFIX,
    K_DOMAIN_COMPONENTS,
    K_DOMAIN_CHALLENGE,
    K_DOMAIN_NAMES,
    K_COMPONENTS,
    K_STATE_DIR,
    K_CERT_DIR,
    K_ACME_EMAIL,
    K_ACME_KEY_TYPE,
    /* from here to K_ACME_EXTRA_HOSTS in the order of K_CA_… */
    K_ACME_DIRECTORY,
    K_ACME_STAGING_DIRECTORY,
    K_ACME_CA_BUNDLE,
    K_ACME_ROOTS,
    K_ACME_PROFILE,
    K_ACME_EXTRA_HOSTS,
    K_ACME_CAS,
    K_CA_DIRECTORY,
    K_CA_STAGING_DIRECTORY,
    K_CA_CA_BUNDLE,
    K_CA_ROOTS,
    K_CA_PROFILE,
    K_CA_EXTRA_HOSTS,
    K_CA_EAB_KID,
    K_CA_EAB_HMAC_KEY,
    K_CA_PREFERRED_CHAIN,
    K_CHALLENGE,
    K_NAMES,
    K_HTTP01_WEBROOT,
    K_HTTP01_TOKEN_DIR,
    K_HTTP01_LISTEN,
    K_DNS_RESOLVER,
    K_PARTIAL,
    K_PARTIAL_AFTER,
    K_PREFLIGHT_SKIP,
    /* the short form and an entry of ejabberd.nodes have the same rows from api to probe */
    K_EJABBERD_API,
    K_EJABBERD_USER,
    K_EJABBERD_PASSWORD,
    K_EJABBERD_PASSWORD_FILE,
    K_EJABBERD_TOKEN,
    K_EJABBERD_TOKEN_FILE,
    K_EJABBERD_PROBE_HOST,
    K_EJABBERD_PROBE_PORTS,
    K_EJABBERD_PROBE_PORTS_END = K_EJABBERD_PROBE_PORTS + PROOF_PORT_MAX - 1,
    K_EJABBERD_NODES,
    K_NODE_NAME,
    K_NODE_API,
    K_NODE_USER,
    K_NODE_PASSWORD,
    K_NODE_PASSWORD_FILE,
    K_NODE_TOKEN,
    K_NODE_TOKEN_FILE,
    K_NODE_PROBE_HOST,
    K_NODE_PROBE_PORTS,
    K_NODE_PROBE_PORTS_END = K_NODE_PROBE_PORTS + PROOF_PORT_MAX - 1,
    K_XMPP_PORTS,
    K_XMPP_PORTS_END = K_XMPP_PORTS + PROOF_PORT_MAX - 1,
    K_CONTROL_SOCKET,
    K_LOG_LEVEL,
    K_LOG_FORMAT,
    K_MAX
};

#define CONFIG_LE_DIRECTORY "https://acme-v02.api.letsencrypt.org/directory"
#define CONFIG_LE_STAGING   "https://acme-staging-v02.api.letsencrypt.org/directory"

#define CONFIG_FILE_MAX     ((size_t)1024 * 1024)
#define CONFIG_DEPTH_MAX    16
#define CONFIG_DOMAINS_MAX  ((size_t)10000)
#define CONFIG_LIST_MAX     ((size_t)100)
#define CONFIG_NODES_MAX    ((size_t)32)
#define CONFIG_TEXT_MAX     ((size_t)4096)
#define CONFIG_SECRET_MAX   ((size_t)4096)
#define CONFIG_PROBLEMS_MAX ((size_t)100)

/* ---- the file as a tree ---- */

enum config_node_kind { CONFIG_NODE_SCALAR, CONFIG_NODE_LIST, CONFIG_NODE_MAP };
struct config_tree {
    enum config_node_kind kind;
    unsigned line, column; /* from 1 */
    char *key;             /* of a member of a map */
    unsigned key_line, key_column;
    char *text; /* of a scalar */
    bool null;  /* a scalar with nothing in it: unquoted "", "~", "null" */
    struct config_tree **members;
    size_t n;
};
void config_tree_free(struct config_tree *tree);
DEFINE_FREEP(struct config_tree, config_tree_free)

/* ---- values ---- */

enum config_source {
    CONFIG_UNSET,
    CONFIG_DEFAULT,
    CONFIG_MAILCOW,
    CONFIG_FILE,
    CONFIG_ENVIRONMENT
};
struct config_item {
    char *text;
    unsigned line, column;
};
struct config_value {
    enum config_id id; /* as what it was written: for messages */
    enum config_source source;
    char *variable;                 /* of the environment */
    unsigned line, column;          /* in the file */
    const struct config_tree *tree; /* of a list of maps; borrowed, only while loading */
    struct config_item *items;
    size_t n;
};
void config_value_done(struct config_value *value);
/* Replaces what is there. */
void config_value_set(
        struct config_value *value, enum config_id id, enum config_source source, const char *text);
void config_value_add(
        struct config_value *value, const char *text, size_t len, unsigned line, unsigned column);
/* In place of what was written: what it came to, for `config show`. */
void config_value_items(struct config_value *value, const struct strv *texts);
/* "/etc/certherd/certherd.yml:12", "CERTHERD_PARTIAL", "MAILCOW_HOSTNAME", "default" */
ATTR_MALLOC char *config_value_origin(const struct config_value *value, const char *path);

/* The snapshot and where its values came from. */
struct config_full {
    struct config config;
    struct config_value values[K_MAX];
};

/* Where an entry stands, for what is found out only when all are known. */
struct config_place {
    unsigned line, column;
};

struct config_loader {
    const char *path; /* of the file; NULL: none */
    char *const *environment;
    struct config_tree *tree;
    struct config_full *full;
    struct config_value entry[K_MAX]; /* of one entry of a list of maps */
    struct config_problems *problems;
    size_t unreported;
    struct config_place *places; /* of config.domains, while they are loaded */
};
#define CONFIG_OF(loader) (&(loader)->full->config)

/* ---- problems ---- */

/* A mistake at a place of the file; key may be NULL. */
void config_problem_at(struct config_loader *l, unsigned line, unsigned column, const char *key,
        const char *fmt, ...) ATTR_PRINTF(5, 6);
/* A mistake in a value, item NULL: in the whole of it. */
void config_problem(struct config_loader *l, const struct config_value *value,
        const struct config_item *item, const char *fmt, ...) ATTR_PRINTF(4, 5);
/* The same with an error's text; frees it. false if there was one. */
bool config_accept(struct config_loader *l, const struct config_value *value,
        const struct config_item *item, struct err *e);
void config_problem_environment(struct config_loader *l, const char *variable, const char *fmt, ...)
        ATTR_PRINTF(3, 4);

/* ---- stages ---- */

/* config_yaml.c; false: a mistake was reported and there is no tree. An empty file is an empty map.
 */
bool config_yaml_parse(
        struct config_loader *l, const char *text, size_t len, struct config_tree **ret);
/* config_collect.c: fills full->values. */
void config_collect(struct config_loader *l);
/* One entry of a list of maps into l->entry; base is the id of the list. */
bool config_collect_entry(
        struct config_loader *l, const struct config_tree *entry, enum config_id base);
void config_entry_done(struct config_loader *l);
/* config_keys.c */
const struct config_key *config_key_of(enum config_id id);
/* May it be given by a variable? Not what stands in a list of maps. */
bool config_key_has_variable(enum config_id id);
/* The candidate that word is most likely meant to be, or NULL. */
const char *config_nearest(const char *word, const char *const *candidates, size_t n);

/* ---- config_convert.c: each leaves *ret alone where the value is unset or wrong ---- */

const char *config_text(const struct config_value *value); /* of a scalar, or NULL */
void config_get_text(struct config_loader *l, struct config_value *value, char **ret);
void config_get_path(struct config_loader *l, struct config_value *value, char **ret);
/* A path to a file that must be there and readable. */
void config_get_file(struct config_loader *l, struct config_value *value, char **ret);
void config_get_name(struct config_loader *l, struct config_value *value, struct name *ret);
void config_get_url(struct config_loader *l, struct config_value *value, char **ret);
void config_get_email(struct config_loader *l, struct config_value *value, char **ret);
void config_get_port(struct config_loader *l, struct config_value *value, uint16_t *ret);
void config_get_addr(
        struct config_loader *l, struct config_value *value, uint16_t port, struct addr *ret);
void config_get_span(struct config_loader *l, struct config_value *value, int64_t *ret_ms);
/* Index in the key's list of what is allowed; -1: unset or wrong. */
int config_get_enum(struct config_loader *l, struct config_value *value);
/* The secret itself or the file that holds it; at most one of the two may be set. Wipes the text.
 */
void config_get_secret(struct config_loader *l, struct config_value *value,
        struct config_value *file, struct secret **ret);
/* Of two that exclude each other keeps the one from the stronger source; reports a contradiction
 * within one source. */
void config_exclude(struct config_loader *l, struct config_value *a, struct config_value *b);

/* ---- config_domains.c, config_nodes.c ---- */

void config_get_components(struct config_loader *l, struct config_value *value,
        const struct name *host, struct strv *ret);
/* Says for words of later versions what is missing. */
void config_get_challenge(
        struct config_loader *l, struct config_value *value, enum config_challenge *ret);
void config_get_names(struct config_loader *l, struct config_value *value, enum config_names *ret);
void config_load_domains(struct config_loader *l);
void config_domain_done(struct config_domain *domain);
void config_load_nodes(struct config_loader *l);
void config_node_done(struct config_node *node);
