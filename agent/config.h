/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: an immutable snapshot, made from the file, the environment and the defaults by
 * one table of keys (config_keys.c: path, type, default, environment name, secret, help), which
 * also drives `config show`, "did you mean", the man page and the test that compares them. Every
 * mistake is an error with file, line, column, key and what is allowed; all mistakes are reported,
 * not just the first.
 */
#pragma once

#include "acme/keys.h"
#include "base/addr.h"
#include "base/json.h"
#include "base/log.h"
#include "base/name.h"
#include "base/secret.h"
#include "hooks/ejabberd.h"
#include "hooks/proof.h"

enum config_challenge { CHALLENGE_AUTO, CHALLENGE_HTTP01, CHALLENGE_DNS01, CHALLENGE_TLSALPN01 };
enum config_names { NAMES_AUTO, NAMES_EXACT, NAMES_WILDCARD };

/* preflight.skip */
enum config_skip {
    SKIP_DNS = 1 << 0, /* no DNS check at all */
    SKIP_ADDRESS =
            1 << 1,     /* an address that differs from the mail host's is fine (SKIP_IP_CHECK) */
    SKIP_HTTP = 1 << 2, /* no probe (SKIP_HTTP_VERIFICATION) */
};

struct config_domain {
    struct name domain;
    char prefix[64];        /* "" for no prefix; normalised */
    struct name host;       /* prefix.domain */
    struct strv components; /* labels, or names below host */
    enum config_challenge challenge;
    enum config_names names;
    char *origin; /* "/etc/certherd/certherd.yml:12", "CERTHERD_DOMAINS" */
};

struct config_node {
    char *name;
    struct ejabberd_api api; /* url NULL: no reload */
    char *probe_host;        /* where its ports are seen from here; default 127.0.0.1 */
    uint16_t probe_ports[PROOF_PORT_MAX];
};

struct config {
    char *path; /* of the file, NULL if there is none */
    bool has_mail_host;
    struct name mail_host;
    size_t n_domains;
    struct config_domain *domains;
    struct strv components;
    char *state_dir, *cert_dir;
    struct {
        char *directory;         /* LE_STAGING and DIRECTORY_URL are already taken into account */
        char *staging_directory; /* for --dry-run; NULL if none is known */
        char *email;
        enum key_type key_type;
        char *ca_bundle; /* for the directory's TLS */
        char *roots;     /* what its certificates chain to; NULL: system store */
        char *profile;
        struct strv extra_hosts;
    } acme;
    enum config_challenge challenge;
    enum config_names names;
    struct {
        char *token_dir; /* webroot + "/.well-known/acme-challenge", or token_dir; NULL: own
                            responder */
        struct addr listen;
    } http01;
    size_t n_resolvers;
    struct addr resolvers[8]; /* none: the system's */
    bool partial_allow;
    int64_t partial_after_ms;
    unsigned preflight_skip; /* enum config_skip */
    size_t n_nodes;
    struct config_node *nodes;
    uint16_t xmpp_ports[PROOF_PORT_MAX]; /* public ports */
    char *control_socket;
    enum log_level log_level;
    enum log_format log_format;
    unsigned refs;
};

/* Everything a load found wrong: lines "file:line:column: key: what was found, what is allowed". */
struct config_problems {
    struct strv lines;
};
void config_problems_done(struct config_problems *problems);

struct config_load {
    const char *path;         /* --config; NULL: /etc/certherd/certherd.yml if it exists */
    char *const *environment; /* environ */
};
/* NULL in *ret and lines in *problems if anything is wrong; an error only for our own faults (file
 * unreadable). */
struct err *config_load(const struct config_load *load, struct config **ret,
        struct config_problems *problems) NODISCARD;
struct config *config_ref(struct config *config);
void config_unref(struct config *config);
DEFINE_FREEP(struct config, config_unref)

/* The effective values with their origin, secrets hidden: for `config show`. */
json_t *config_to_json(const struct config *config);
/* The same for people. */
void config_print(const struct config *config, struct buf *out);

/* The table, for the man page, the completions and the test that compares them. */
enum config_type {
    CONFIG_STR,
    CONFIG_NAME,
    CONFIG_PATH,
    CONFIG_ENUM,
    CONFIG_PORT,
    CONFIG_ADDR,
    CONFIG_SPAN,
    CONFIG_BOOL,
    CONFIG_URL,
    CONFIG_SECRET,
    CONFIG_LIST,
    CONFIG_MAPS
};
struct config_key {
    const char *path; /* "http01.webroot" */
    enum config_type type;
    const char *def;     /* as text, or NULL */
    const char *allowed; /* for enums and for the message: "allow, deny" */
    const char *aliases; /* mailcow's own names, comma separated, or NULL */
    const char *help;    /* one sentence */
};
const struct config_key *config_keys(size_t *ret_n);
/* "http01.webroot" -> "CERTHERD_HTTP01_WEBROOT" */
ATTR_MALLOC char *config_key_environment(const struct config_key *key);
