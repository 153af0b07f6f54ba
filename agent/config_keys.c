/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of keys. Everything that knows keys (file, environment, `config show`, messages,
 * man page) reads it from here; a row's place is its enum config_id. For an enum "allowed" is the
 * list of words in the order of the C enum's values.
 */
#include "agent/config_private.h"

#include <ctype.h>

#define PORT    "1 to 65535, or off"
#define SPAN    "90 s, 15 min, 2 h, 1 day, or seconds"
#define ADDRESS "address[:port]; an IPv6 address with a port in brackets"
#define HTTPS   "https://host[:port]/path"

/* Common to the short form and to an entry of ejabberd.nodes. */
#define NODE_ROWS(prefix, id)                                                                      \
    [id##_API] = {prefix "api", CONFIG_URL, NULL, "unix:/path or http://host:port/api", NULL,      \
            "ejabberd's HTTP API (mod_http_api) for the reload; without it nothing is reloaded."}, \
    [id##_USER] = {prefix "user", CONFIG_STR, NULL, "user@host", NULL,                             \
            "Account for HTTP Basic authentication at the API."},                                  \
    [id##_PASSWORD] = {prefix "password", CONFIG_SECRET, NULL, NULL, NULL,                         \
            "Password of that account."},                                                          \
    [id##_PASSWORD_FILE] = {prefix "password_file", CONFIG_PATH, NULL, "absolute path", NULL,      \
            "File that holds the password."},                                                      \
    [id##_TOKEN] = {prefix "token", CONFIG_SECRET, NULL, NULL, NULL, "OAuth token for the API."},  \
    [id##_TOKEN_FILE] = {prefix "token_file", CONFIG_PATH, NULL, "absolute path", NULL,            \
            "File that holds the token."},                                                         \
    [id##_PROBE_HOST] = {prefix "probe.host", CONFIG_STR, "127.0.0.1", "host name or address",     \
            NULL, "Where the ports of ejabberd are seen from here, for the proof."},               \
    [id##_PROBE_PORTS + PROOF_C2S] = {prefix "probe.c2s", CONFIG_PORT, NULL, PORT, NULL,           \
            "Inner port for clients with STARTTLS; as xmpp.ports.c2s unless set."},                \
    [id##_PROBE_PORTS + PROOF_S2S] = {prefix "probe.s2s", CONFIG_PORT, NULL, PORT, NULL,           \
            "Inner port for servers with STARTTLS; as xmpp.ports.s2s unless set."},                \
    [id##_PROBE_PORTS + PROOF_HTTPS] = {prefix "probe.https", CONFIG_PORT, NULL, PORT, NULL,       \
            "Inner HTTPS port; as xmpp.ports.https unless set."},                                  \
    [id##_PROBE_PORTS + PROOF_C2S_TLS] = {prefix "probe.c2s_tls", CONFIG_PORT, NULL, PORT, NULL,   \
            "Inner port for clients with direct TLS; as xmpp.ports.c2s_tls unless set."},          \
    [id##_PROBE_PORTS + PROOF_S2S_TLS] = {prefix "probe.s2s_tls", CONFIG_PORT, NULL, PORT, NULL,   \
            "Inner port for servers with direct TLS; as xmpp.ports.s2s_tls unless set."}

static const struct config_key keys[K_MAX] = {
        [K_MAIL_HOST] = {"mail_host", CONFIG_NAME, NULL, "host name", "MAILCOW_HOSTNAME",
                "Host that CNAME and SRV records of the XMPP hosts lead to."},
        [K_DOMAINS] = {"domains", CONFIG_MAPS, NULL,
                "in the file a list of maps; as text example.org:im,example.net:chat", NULL,
                "The mail domains with XMPP, each with its prefix."},
        [K_DOMAIN_DOMAIN] = {"domains[].domain", CONFIG_NAME, NULL, "host name", NULL,
                "The mail domain."},
        [K_DOMAIN_PREFIX] = {"domains[].prefix", CONFIG_STR, NULL, "one label", NULL,
                "The label in front of it that makes the XMPP host; an empty one needs dns-01, "
                "which "
                "this version does not have."},
        [K_DOMAIN_COMPONENTS] = {"domains[].components", CONFIG_LIST, NULL,
                "labels, or names below the XMPP host", NULL,
                "Components of this domain, instead of the default ones."},
        [K_DOMAIN_CHALLENGE] = {"domains[].challenge", CONFIG_ENUM, NULL, "auto, http-01", NULL,
                "As challenge, for this domain."},
        [K_DOMAIN_NAMES] = {"domains[].names", CONFIG_ENUM, NULL, "auto, exact", NULL,
                "As names, for this domain."},
        [K_COMPONENTS] = {"components", CONFIG_LIST, "conference, proxy, pubsub, upload", "labels",
                NULL, "Components below each XMPP host."},
        [K_STATE_DIR] = {"state_dir", CONFIG_PATH, "/var/lib/certherd", "absolute path", NULL,
                "Everything durable: accounts, keys, certificates, state."},
        [K_CERT_DIR] = {"cert_dir", CONFIG_PATH, NULL, "absolute path", NULL,
                "Where one combined file per XMPP host is written for ejabberd; live below "
                "state_dir unless set."},
        [K_ACME_EMAIL] = {"acme.email", CONFIG_STR, NULL, "user@host", "ACME_ACCOUNT_EMAIL",
                "Contact address of the account at the CA."},
        [K_ACME_KEY_TYPE] = {"acme.key_type", CONFIG_ENUM, "p256",
                "p256, p384, rsa2048, rsa3072, rsa4096", NULL, "Type of the certificates' keys."},
        [K_ACME_DIRECTORY] = {"acme.directory", CONFIG_URL, CONFIG_LE_DIRECTORY, HTTPS,
                "LE_STAGING,DIRECTORY_URL", "The CA's ACME directory."},
        [K_ACME_STAGING_DIRECTORY] = {"acme.staging_directory", CONFIG_URL, NULL, HTTPS, NULL,
                "The CA's directory for trials (--dry-run); known for Let's Encrypt."},
        [K_ACME_CA_BUNDLE] = {"acme.ca_bundle", CONFIG_PATH, NULL, "absolute path of a PEM file",
                NULL, "Roots for the TLS connection to the directory, instead of the system's."},
        [K_ACME_ROOTS] = {"acme.roots", CONFIG_PATH, NULL, "absolute path of a PEM file", NULL,
                "Roots that the CA's certificates chain to, instead of the system's."},
        [K_ACME_PROFILE] = {"acme.profile", CONFIG_STR, NULL, "a name that the CA offers", NULL,
                "Certificate profile to order."},
        [K_ACME_EXTRA_HOSTS] = {"acme.extra_hosts", CONFIG_LIST, NULL, "host[:port]", NULL,
                "Other hosts that the CA's URLs may have."},
        [K_ACME_CAS] = {"acme.cas", CONFIG_MAPS, NULL, "a list with one map", NULL,
                "Long form of the above; fallback CAs come in a later version."},
        [K_CA_DIRECTORY] = {"acme.cas[].directory", CONFIG_URL, NULL, HTTPS, NULL,
                "As acme.directory."},
        [K_CA_STAGING_DIRECTORY] = {"acme.cas[].staging_directory", CONFIG_URL, NULL, HTTPS, NULL,
                "As acme.staging_directory."},
        [K_CA_CA_BUNDLE] = {"acme.cas[].ca_bundle", CONFIG_PATH, NULL,
                "absolute path of a PEM file", NULL, "As acme.ca_bundle."},
        [K_CA_ROOTS] = {"acme.cas[].roots", CONFIG_PATH, NULL, "absolute path of a PEM file", NULL,
                "As acme.roots."},
        [K_CA_PROFILE] = {"acme.cas[].profile", CONFIG_STR, NULL, "a name that the CA offers", NULL,
                "As acme.profile."},
        [K_CA_EXTRA_HOSTS] = {"acme.cas[].extra_hosts", CONFIG_LIST, NULL, "host[:port]", NULL,
                "As acme.extra_hosts."},
        [K_CA_EAB_KID] = {"acme.cas[].eab_kid", CONFIG_STR, NULL, NULL, NULL,
                "Reserved: external account binding is not in this version."},
        [K_CA_EAB_HMAC_KEY] = {"acme.cas[].eab_hmac_key", CONFIG_SECRET, NULL, NULL, NULL,
                "Reserved: external account binding is not in this version."},
        [K_CA_PREFERRED_CHAIN] = {"acme.cas[].preferred_chain", CONFIG_STR, NULL, NULL, NULL,
                "Reserved: the choice among several chains is not in this version."},
        [K_CHALLENGE] = {"challenge", CONFIG_ENUM, "auto", "auto, http-01", NULL,
                "How control of a name is proved; dns-01 and tls-alpn-01 come in later versions."},
        [K_NAMES] = {"names", CONFIG_ENUM, "auto", "auto, exact", NULL,
                "Shape of the certificates; wildcard comes with dns-01."},
        [K_HTTP01_WEBROOT] = {"http01.webroot", CONFIG_PATH, NULL, "absolute path", NULL,
                "Document root that a web server serves; /.well-known/acme-challenge is appended."},
        [K_HTTP01_TOKEN_DIR] = {"http01.token_dir", CONFIG_PATH, NULL, "absolute path", NULL,
                "The challenge directory itself, as mailcow mounts it."},
        [K_HTTP01_LISTEN] = {"http01.listen", CONFIG_ADDR, "[::]:80", ADDRESS, NULL,
                "Where we answer ourselves; off when one of the two above is set."},
        [K_DNS_RESOLVER] = {"dns.resolver", CONFIG_LIST, NULL, ADDRESS, NULL,
                "Recursive resolvers, instead of the system's; at most 8."},
        [K_PARTIAL] = {"partial", CONFIG_ENUM, "allow", "deny, allow", NULL,
                "Whether a certificate may lack components whose DNS is not ready."},
        [K_PARTIAL_AFTER] = {"partial_after", CONFIG_SPAN, "15 min", SPAN, NULL,
                "How long the agent waits for the missing ones before that."},
        [K_PREFLIGHT_SKIP] = {"preflight.skip", CONFIG_LIST, NULL, "dns, address, http",
                "SKIP_HTTP_VERIFICATION,SKIP_IP_CHECK", "Checks to leave out before an order."},
        NODE_ROWS("ejabberd.", K_EJABBERD),
        [K_EJABBERD_NODES] = {"ejabberd.nodes", CONFIG_MAPS, NULL, "a list of maps", NULL,
                "Several ejabberd nodes, instead of the short form above."},
        [K_NODE_NAME] = {"ejabberd.nodes[].name", CONFIG_STR, NULL,
                "letters, digits, '.', '_' and '-'", NULL, "Name of the node, unique."},
        NODE_ROWS("ejabberd.nodes[].", K_NODE),
        [K_XMPP_PORTS + PROOF_C2S] = {"xmpp.ports.c2s", CONFIG_PORT, "5222", PORT, "XMPP_C2S_PORT",
                "Public port for clients with STARTTLS."},
        [K_XMPP_PORTS + PROOF_S2S] = {"xmpp.ports.s2s", CONFIG_PORT, "5269", PORT, "XMPP_S2S_PORT",
                "Public port for servers with STARTTLS."},
        [K_XMPP_PORTS + PROOF_HTTPS] = {"xmpp.ports.https", CONFIG_PORT, "5443", PORT,
                "XMPP_HTTPS_PORT", "Public HTTPS port (upload, BOSH, WebSocket)."},
        [K_XMPP_PORTS + PROOF_C2S_TLS] = {"xmpp.ports.c2s_tls", CONFIG_PORT, NULL, PORT, NULL,
                "Public port for clients with direct TLS."},
        [K_XMPP_PORTS + PROOF_S2S_TLS] = {"xmpp.ports.s2s_tls", CONFIG_PORT, NULL, PORT, NULL,
                "Public port for servers with direct TLS."},
        [K_CONTROL_SOCKET] = {"control.socket", CONFIG_PATH, "/run/certherd/control.sock",
                "absolute path, at most 107 bytes", NULL,
                "Socket on which the commands talk to a running agent."},
        [K_LOG_LEVEL] = {"log.level", CONFIG_ENUM, "info", "debug, info, warning, error", NULL,
                "Least level that is logged."},
        [K_LOG_FORMAT] = {"log.format", CONFIG_ENUM, "logfmt", "logfmt, json", NULL,
                "Form of the log's lines."},
};

const struct config_key *config_keys(size_t *ret_n)
{
    *ret_n = K_MAX;
    return keys;
}

const struct config_key *config_key_of(enum config_id id)
{
    return &keys[id];
}

static bool has_variable(const struct config_key *key)
{
    bool in_list = strstr(key->path, "[]") != NULL;
    return !in_list && (key->type != CONFIG_MAPS || key == &keys[K_DOMAINS]);
}

bool config_key_has_variable(enum config_id id)
{
    return has_variable(&keys[id]);
}

char *config_key_environment(const struct config_key *key)
{
    if (!has_variable(key))
        return str_dup("");
    char *name = str_printf("CERTHERD_%s", key->path);
    for (char *p = name; *p != '\0'; p++)
        *p = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
    return name;
}

/* ---- did you mean ---- */

#define WORD_MAX 80

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Changes, insertions, removals and swaps of neighbours (optimal string alignment). */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *now = rows[i % 3], *last = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = a[i - 1] != b[j - 1];
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + change);
            bool swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swap && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
    }
    return rows[a_len % 3][b_len];
}

const char *config_nearest(const char *word, const char *const *candidates, size_t n)
{
    size_t len = strlen(word);
    if (len == 0 || len > WORD_MAX)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = len < 6 ? 2 : 4; /* not reached: that far is another word */
    for (size_t i = 0; i < n; i++) {
        size_t other = strlen(candidates[i]);
        if (other > WORD_MAX)
            continue;
        unsigned d = distance(word, len, candidates[i], other);
        if (d < best_distance) {
            best_distance = d;
            best = candidates[i];
        }
    }
    return best;
}
