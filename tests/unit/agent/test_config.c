/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "agent/config.h"
#include "base/file.h"
#include "tests/lib/test_err.h"

static char dir[64]; /* removed at the end */
static char file[96];
static char secret_file[96];
static char roots_file[96];

static void put(const char *path, const char *text, size_t len)
{
    const struct file_write_options options = {.mode = 0600};
    assert_ok(file_write(path, text, len, &options));
}

static int make_dir(void **state)
{
    snprintf(dir, sizeof(dir), "/tmp/certherd-config-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(file, sizeof(file), "%s/c.yml", dir);
    snprintf(secret_file, sizeof(secret_file), "%s/secret", dir);
    snprintf(roots_file, sizeof(roots_file), "%s/roots.pem", dir);
    put(roots_file, "roots", 5);
    return 0;
}

static int remove_dir(void **state)
{
    assert_ok(file_remove_tree(dir));
    return 0;
}

/* ---- loading ---- */

/* Variables one per line, "A=1\nB=2". text NULL: no file. len 0: strlen. */
static struct config *load(
        const char *text, size_t len, const char *variables, struct config_problems *problems)
{
    AUTO_FREE char *copy = str_dup(variables != NULL ? variables : "");
    char *environment[32] = {NULL};
    size_t n = 0;
    for (char *rest = copy, *line; n < 31 && (line = strsep(&rest, "\n")) != NULL;)
        environment[n++] = line;
    if (text != NULL)
        put(file, text, len != 0 ? len : strlen(text));
    const struct config_load options = {
            .path = text != NULL ? file : NULL, .environment = environment};
    struct config *config = NULL;
    assert_ok(config_load(&options, &config, problems));
    assert_int_equal(config == NULL, problems->lines.n > 0);
    return config;
}

static struct config *good(const char *text, const char *variables)
{
    AUTO(config_problems_done) struct config_problems problems = {0};
    struct config *config = load(text, 0, variables, &problems);
    for (size_t i = 0; i < problems.lines.n; i++)
        print_error("%s\n", problems.lines.v[i]);
    assert_non_null(config);
    return config;
}

/* The exact lines, with "F" for the file's path; by '\n'. */
static void bad_bytes(const char *text, size_t len, const char *variables, const char *expected)
{
    AUTO(config_problems_done) struct config_problems problems = {0};
    assert_null(load(text, len, variables, &problems));
    AUTO_STRV struct strv lines = {0};
    for (size_t i = 0; i < problems.lines.n; i++) {
        const char *line = problems.lines.v[i];
        if (str_starts(line, file))
            strv_take(&lines, str_printf("F%s", line + strlen(file)));
        else
            strv_add(&lines, line);
    }
    AUTO_FREE char *found = strv_join(&lines, "\n");
    assert_string_equal(found, expected);
}

static void bad(const char *text, const char *variables, const char *expected)
{
    bad_bytes(text, 0, variables, expected);
}

/* ---- what is good ---- */

static void defaults(void **state)
{
    AUTO(config_unrefp) struct config *c = good("", NULL);
    char text[ADDR_TEXT_MAX];
    assert_string_equal(c->path, file);
    assert_false(c->has_mail_host);
    assert_int_equal(c->n_domains, 0);
    assert_int_equal(c->components.n, 4);
    assert_string_equal(c->components.v[0], "conference");
    assert_string_equal(c->components.v[3], "upload");
    assert_string_equal(c->state_dir, "/var/lib/certherd");
    assert_string_equal(c->cert_dir, "/var/lib/certherd/live");
    assert_string_equal(c->acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_string_equal(
            c->acme.staging_directory, "https://acme-staging-v02.api.letsencrypt.org/directory");
    assert_null(c->acme.email);
    assert_int_equal(c->acme.key_type, KEY_P256);
    assert_null(c->http01.token_dir);
    assert_string_equal(addr_format(&c->http01.listen, text), "[::]:80");
    assert_int_equal(c->n_resolvers, 0);
    assert_true(c->partial_allow);
    assert_int_equal(c->partial_after_ms, 15 * CLOCK_MIN);
    assert_int_equal(c->preflight_skip, 0);
    assert_int_equal(c->n_nodes, 0);
    assert_int_equal(c->xmpp_ports[PROOF_C2S], 5222);
    assert_int_equal(c->xmpp_ports[PROOF_S2S], 5269);
    assert_int_equal(c->xmpp_ports[PROOF_HTTPS], 5443);
    assert_int_equal(c->xmpp_ports[PROOF_C2S_TLS], 0);
    assert_string_equal(c->control_socket, "/run/certherd/control.sock");
    assert_int_equal(c->log_level, LOG_INFO);
    assert_int_equal(c->log_format, LOG_LOGFMT);
}

static const char whole_file[] = "mail_host: Mail.Example.ORG.\n"
                                 "domains:\n"
                                 "  - domain: example.org\n"
                                 "    prefix: im\n"
                                 "  - {domain: bücher.example, prefix: Chat, components: [muc, "
                                 "deep.x.chat.bücher.example], challenge: http-01, names: exact}\n"
                                 "components: [conference, upload, conference]\n"
                                 "state_dir: /srv/certherd/\n"
                                 "cert_dir: /srv/certs\n"
                                 "acme:\n"
                                 "  directory: https://ca.test:14000/dir\n"
                                 "  email: admin@example.org\n"
                                 "  key_type: rsa3072\n"
                                 "  profile: shortlived\n"
                                 "  extra_hosts: [Other.test, third.test:8443]\n"
                                 "challenge: http-01\n"
                                 "http01: {webroot: /var/www/html}\n"
                                 "dns: {resolver: [127.0.0.1, '[::1]:5353']}\n"
                                 "partial: deny\n"
                                 "partial_after: 2 h\n"
                                 "preflight: {skip: [http, dns]}\n"
                                 "ejabberd:\n"
                                 "  api: http://127.0.0.1:5280/api\n"
                                 "  user: admin@im.example.org\n"
                                 "  password: 'hush hush'\n"
                                 "  probe: {host: ejabberd.test, c2s: 15222, https: off}\n"
                                 "xmpp: {ports: {c2s_tls: 5223}}\n"
                                 "control: {socket: /run/x.sock}\n"
                                 "log: {level: debug, format: json}\n";

static void a_whole_file(void **state)
{
    AUTO(config_unrefp) struct config *c = good(whole_file, NULL);
    char text[ADDR_TEXT_MAX];
    assert_string_equal(c->mail_host.text, "mail.example.org");
    assert_int_equal(c->n_domains, 2);
    assert_string_equal(c->domains[0].host.text, "im.example.org");
    assert_string_equal(c->domains[0].prefix, "im");
    assert_int_equal(c->domains[0].components.n, 2);
    assert_int_equal(c->domains[0].challenge, CHALLENGE_HTTP01);
    assert_string_equal(c->domains[1].host.text, "chat.xn--bcher-kva.example");
    assert_string_equal(c->domains[1].components.v[1], "deep.x.chat.xn--bcher-kva.example");
    assert_int_equal(c->domains[1].names, NAMES_EXACT);
    AUTO_FREE char *origin = str_printf("%s:5", file);
    assert_string_equal(c->domains[1].origin, origin);
    assert_string_equal(c->state_dir, "/srv/certherd");
    assert_string_equal(c->cert_dir, "/srv/certs");
    assert_string_equal(c->acme.directory, "https://ca.test:14000/dir");
    assert_null(c->acme.staging_directory);
    assert_string_equal(c->acme.email, "admin@example.org");
    assert_int_equal(c->acme.key_type, KEY_RSA3072);
    assert_string_equal(c->acme.extra_hosts.v[0], "other.test");
    assert_string_equal(c->acme.extra_hosts.v[1], "third.test:8443");
    assert_string_equal(c->http01.token_dir, "/var/www/html/.well-known/acme-challenge");
    assert_int_equal(c->n_resolvers, 2);
    assert_string_equal(addr_format(&c->resolvers[0], text), "127.0.0.1:53");
    assert_string_equal(addr_format(&c->resolvers[1], text), "[::1]:5353");
    assert_false(c->partial_allow);
    assert_int_equal(c->partial_after_ms, 2 * CLOCK_HOUR);
    assert_int_equal(c->preflight_skip, SKIP_HTTP | SKIP_DNS);
    assert_int_equal(c->n_nodes, 1);
    assert_string_equal(c->nodes[0].name, "ejabberd");
    assert_string_equal(c->nodes[0].api.user, "admin@im.example.org");
    assert_string_equal(secret_reveal(c->nodes[0].api.password, NULL), "hush hush");
    assert_string_equal(c->nodes[0].probe_host, "ejabberd.test");
    assert_int_equal(c->nodes[0].probe_ports[PROOF_C2S], 15222);
    assert_int_equal(c->nodes[0].probe_ports[PROOF_S2S], 5269);
    assert_int_equal(c->nodes[0].probe_ports[PROOF_HTTPS], 0);
    assert_int_equal(c->nodes[0].probe_ports[PROOF_C2S_TLS], 5223);
    assert_int_equal(c->log_level, LOG_DEBUG);
    assert_int_equal(c->log_format, LOG_JSON);
}

static void the_environment_alone(void **state)
{
    AUTO(config_unrefp)
    struct config *c = good(NULL, "CERTHERD_MAIL_HOST=mail.example.org\n"
                                  "CERTHERD_DOMAINS=example.org:im, example.net:chat\n"
                                  "CERTHERD_COMPONENTS=conference,upload\n"
                                  "CERTHERD_HTTP01_TOKEN_DIR=/var/www/acme\n"
                                  "CERTHERD_EJABBERD_API=unix:/run/ejabberd/api.sock\n"
                                  "CERTHERD_ACME_EMAIL=\n" /* empty: unset */
                                  "CERTHERD_NO_SUCH=\n"
                                  "PATH=/bin");
    assert_null(c->path);
    assert_int_equal(c->n_domains, 2);
    assert_string_equal(c->domains[1].host.text, "chat.example.net");
    assert_int_equal(c->domains[1].components.n, 2);
    assert_string_equal(c->domains[0].origin, "CERTHERD_DOMAINS");
    assert_string_equal(c->http01.token_dir, "/var/www/acme");
    assert_null(c->acme.email);
    assert_string_equal(c->nodes[0].api.url, "unix:/run/ejabberd/api.sock");
    assert_string_equal(c->nodes[0].probe_host, "127.0.0.1");
}

static void the_environment_is_stronger(void **state)
{
    AUTO(config_unrefp)
    struct config *c = good("partial: deny\nhttp01: {webroot: /var/www}\n"
                            "domains: [{domain: a.example, prefix: im}]\n"
                            "ejabberd: {api: 'http://127.0.0.1:5280/api', "
                            "user: a@b.example, password_file: /nowhere}\n",
            "CERTHERD_PARTIAL=allow\nCERTHERD_HTTP01_TOKEN_DIR=/var/www/acme\n"
            "CERTHERD_DOMAINS=b.example:im\nCERTHERD_EJABBERD_PASSWORD=env");
    assert_true(c->partial_allow);
    assert_string_equal(c->http01.token_dir, "/var/www/acme");
    assert_int_equal(c->n_domains, 1);
    assert_string_equal(c->domains[0].host.text, "im.b.example");
    assert_string_equal(secret_reveal(c->nodes[0].api.password, NULL), "env");
}

static void mailcow_s_names(void **state)
{
    AUTO(config_unrefp)
    struct config *c =
            good(NULL, "MAILCOW_HOSTNAME=mail.example.org\nXMPP_C2S_PORT=127.0.0.1:15222\n"
                       "XMPP_S2S_PORT=15269\nXMPP_HTTPS_PORT=[::1]:15443\nLE_STAGING=y\n"
                       "DIRECTORY_URL=https://other.test/dir\nACME_ACCOUNT_EMAIL=me@example.com\n"
                       "SKIP_HTTP_VERIFICATION=Yes\nSKIP_IP_CHECK=yesY\n"
                       "CERTHERD_EJABBERD_API=unix:/run/ejabberd/api.sock");
    assert_string_equal(c->mail_host.text, "mail.example.org");
    assert_int_equal(c->xmpp_ports[PROOF_C2S], 15222);
    assert_int_equal(c->xmpp_ports[PROOF_S2S], 15269);
    assert_int_equal(c->xmpp_ports[PROOF_HTTPS], 15443);
    assert_string_equal(
            c->acme.directory, "https://acme-staging-v02.api.letsencrypt.org/directory");
    assert_null(c->acme.email);
    assert_int_equal(c->preflight_skip, SKIP_HTTP | SKIP_ADDRESS);
    /* what mailcow publishes is not what runs inside */
    assert_int_equal(c->nodes[0].probe_ports[PROOF_C2S], 5222);
    assert_int_equal(c->nodes[0].probe_ports[PROOF_HTTPS], 5443);
}

static void mailcow_s_names_are_weaker(void **state)
{
    AUTO(config_unrefp)
    struct config *c = good("mail_host: a.example\nxmpp: {ports: {c2s: 1}}\n"
                            "preflight: {skip: dns}\n",
            "MAILCOW_HOSTNAME=b.example\nXMPP_C2S_PORT=2\nSKIP_IP_CHECK=y\nLE_STAGING=n\n"
            "DIRECTORY_URL=https://other.test/dir\nACME_ACCOUNT_EMAIL=you@example.com\n"
            "SKIP_HTTP_VERIFICATION=no");
    assert_string_equal(c->mail_host.text, "a.example");
    assert_int_equal(c->xmpp_ports[PROOF_C2S], 1);
    assert_int_equal(c->preflight_skip, SKIP_DNS);
    assert_string_equal(c->acme.directory, "https://other.test/dir");
    assert_null(c->acme.staging_directory);
    assert_string_equal(c->acme.email, "you@example.com");
}

static void mailcow_s_booleans(void **state)
{
    static const char *const yes[] = {"y", "Y", "yes", "YES", "yEs", "yy", "yesyes", "yyes"};
    static const char *const no[] = {"n", "no", "ye", "true", "1", "yes ", "yesn", "es"};
    for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
        AUTO_FREE char *set = str_printf("SKIP_IP_CHECK=%s", yes[i]);
        AUTO_FREE char *unset = str_printf("SKIP_IP_CHECK=%s", no[i]);
        AUTO(config_unrefp) struct config *a = good("", set);
        AUTO(config_unrefp) struct config *b = good("", unset);
        assert_int_equal(a->preflight_skip, SKIP_ADDRESS);
        assert_int_equal(b->preflight_skip, 0);
    }
}

static void secrets_from_files(void **state)
{
    put(secret_file, "from a file\n", 12);
    AUTO_FREE char *variables = str_printf("CERTHERD_EJABBERD_TOKEN_FILE=%s", secret_file);
    AUTO(config_unrefp)
    struct config *c = good("ejabberd: {api: 'http://127.0.0.1:5280/api'}\n", variables);
    assert_string_equal(secret_reveal(c->nodes[0].api.token, NULL), "from a file");
    assert_null(c->nodes[0].api.password);
}

static void several_nodes(void **state)
{
    put(secret_file, "hush", 4);
    AUTO_FREE char *text = str_printf("ejabberd:\n"
                                      "  nodes:\n"
                                      "    - {name: a, api: 'unix:/run/a.sock'}\n"
                                      "    - name: b\n"
                                      "      api: http://10.0.0.2:5280/api\n"
                                      "      user: admin@example.org\n"
                                      "      password_file: %s\n"
                                      "      probe: {host: 10.0.0.2, c2s: 1}\n"
                                      "    - {name: c}\n",
            secret_file);
    AUTO(config_unrefp) struct config *c = good(text, NULL);
    assert_int_equal(c->n_nodes, 3);
    assert_string_equal(c->nodes[0].name, "a");
    assert_string_equal(secret_reveal(c->nodes[1].api.password, NULL), "hush");
    assert_string_equal(c->nodes[1].probe_host, "10.0.0.2");
    assert_int_equal(c->nodes[1].probe_ports[PROOF_C2S], 1);
    assert_null(c->nodes[2].api.url);
}

static void one_ca_in_long_form(void **state)
{
    AUTO_FREE char *text = str_printf("acme:\n"
                                      "  email: a@example.org\n"
                                      "  cas:\n"
                                      "    - directory: https://ca.test/dir\n"
                                      "      roots: %s\n"
                                      "      ca_bundle: %s\n"
                                      "      profile: classic\n"
                                      "      staging_directory: https://ca.test/staging\n"
                                      "      extra_hosts: [other.test]\n",
            roots_file, roots_file);
    AUTO(config_unrefp) struct config *c = good(text, "LE_STAGING=y");
    assert_string_equal(c->acme.directory, "https://ca.test/dir");
    assert_string_equal(c->acme.staging_directory, "https://ca.test/staging");
    assert_string_equal(c->acme.roots, roots_file);
    assert_string_equal(c->acme.ca_bundle, roots_file);
    assert_string_equal(c->acme.profile, "classic");
    assert_string_equal(c->acme.extra_hosts.v[0], "other.test");
    assert_string_equal(c->acme.email, "a@example.org");
}

static void spans(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {{"0", 0}, {"90", 90000}, {"90 s", 90000}, {"15 min", 900000}, {"2h", 7200000},
            {"1 day", 86400000}, {"3650 days", 3650 * CLOCK_DAY}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_FREE char *text = str_printf("partial_after: %s\n", cases[i].text);
        AUTO(config_unrefp) struct config *c = good(text, NULL);
        assert_int_equal(c->partial_after_ms, cases[i].ms);
    }
}

static void empty_is_unset(void **state)
{
    AUTO(config_unrefp)
    struct config *c = good("mail_host:\nacme:\npartial: ~\nlog: {level: ''}\n"
                            "domains: null\n",
            NULL);
    assert_false(c->has_mail_host);
    assert_true(c->partial_allow);
    assert_int_equal(c->log_level, LOG_INFO);
}

static void said_twice_is_once(void **state)
{
    AUTO(config_unrefp)
    struct config *c =
            good(NULL, "CERTHERD_DOMAINS=a.example:im,b.example:im,A.example.:IM,a.example:im");
    assert_int_equal(c->n_domains, 2);
    assert_string_equal(c->domains[0].host.text, "im.a.example");
    assert_string_equal(c->domains[1].host.text, "im.b.example");
}

static void ten_thousand(void **state)
{
    AUTO_BUF struct buf text = BUF_INIT(4 * 1024 * 1024);
    buf_puts(&text, "domains:\n");
    for (int i = 0; i < 10000; i++)
        buf_printf(&text, "- {domain: d%d.example, prefix: im}\n", i);
    AUTO(config_unrefp) struct config *c = good(buf_str(&text), NULL);
    assert_int_equal(c->n_domains, 10000);
    buf_puts(&text, "- {domain: one.more.example, prefix: im}\n");
    bad(buf_str(&text), NULL, "F:2:1: domains: has 10001 entries; allowed: at most 10000");
}

static void references_are_counted(void **state)
{
    AUTO(config_unrefp) struct config *a = good("", NULL);
    AUTO(config_unrefp) struct config *b = config_ref(a);
    assert_ptr_equal(a, b);
}

/* ---- what is wrong with the file as a whole ---- */

static void no_such_file(void **state)
{
    AUTO(config_problems_done) struct config_problems problems = {0};
    struct config *config = NULL;
    const struct config_load options = {.path = "/nowhere/certherd.yml"};
    assert_err(config_load(&options, &config, &problems), ERR_CONFIG, "/nowhere/certherd.yml");
    assert_null(config);
    const struct config_load folder = {.path = dir};
    assert_err(config_load(&folder, &config, &problems), ERR_CONFIG, "not a regular file");
}

static void bytes(void **state)
{
    bad("\xef\xbb\xbfpartial: allow\n", NULL,
            "F:1:1: a byte order mark; save the file as UTF-8 without one");
    bad("\xff\xfepartial: allow\n", NULL, "F:1:1: UTF-16; save the file as UTF-8");
    bad_bytes("partial:\n al\0low\n", 17, NULL, "F:2:4: a NUL byte");
    bad("partial: \"al\\0low\"\n", NULL, "F:1:10: a NUL character in a value");
    bad("\"par\\0tial\": allow\n", NULL, "F:1:1: a NUL character in a key");
    bad("acme:\n\temail: a@example.org\n", NULL, "F:2:1: a tab in the indentation; use spaces");
    bad("partial: allow\nlog: \xc3\x28\n", NULL,
            "F:2:7: not UTF-8 text: invalid trailing UTF-8 octet");
}

static void syntax(void **state)
{
    bad("a: b: c\n", NULL, "F:1:5: not YAML: mapping values are not allowed in this context");
    bad("acme: {email: x\n", NULL,
            "F:2:1: not YAML: did not find expected ',' or '}' (while parsing a flow mapping that "
            "begins in line 1)");
    bad("- a\n- b\n", NULL,
            "F:1:1: the file must be a map of keys, for example \"mail_host: mail.example.org\"");
    bad("partial: allow\n---\npartial: deny\n", NULL,
            "F:2:1: a second document (---); the file must hold one");
    bad("partial: &a allow\nlog: {level: *a}\n", NULL,
            "F:1:10: anchors (&) are not allowed; write the value out\n"
            "F:2:14: aliases (*) are not allowed; write the value out");
    bad("acme: &x {email: a@example.org}\n", NULL,
            "F:1:7: anchors (&) are not allowed; write the value out");
    bad("partial: !!str allow\n", NULL, "F:1:10: tags (!) are not allowed");
    bad("? [a, b]\n: c\n", NULL, "F:1:3: a map or list as a key; keys are plain words");
    bad("a: [[[[[[[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]]]]]]]\n", NULL,
            "F:1:19: nested more than 16 deep");
    bad("partial: allow\npartial: deny\n", NULL,
            "F:2:1: partial: given twice in one map, first in line 1");
}

static void too_large(void **state)
{
    size_t len = 1024 * 1024 + 1;
    AUTO_FREE char *text = mem_alloc(len + 1);
    memset(text, '#', len);
    text[len] = '\0';
    bad(text, NULL, "F:1:1: the file is larger than 1 MiB");
    text[len - 1] = '\0';
    AUTO(config_unrefp) struct config *c = good(text, NULL);
    assert_non_null(c);
}

/* ---- keys ---- */

static void unknown_keys(void **state)
{
    bad("mail_hots: a.example\n", NULL, "F:1:1: mail_hots: unknown key; did you mean 'mail_host'?");
    bad("http01:\n  web_root: /var/www\n", NULL,
            "F:2:3: http01.web_root: unknown key; did you mean 'http01.webroot'?");
    bad("webroot: /var/www\n", NULL, "F:1:1: webroot: unknown key; did you mean 'http01.webroot'?");
    bad("log: {colour: red}\n", NULL,
            "F:1:7: log.colour: unknown key; allowed here: level, format");
    bad("domains: [{domain: a.example, prefix: im, prefx: x}]\n", NULL,
            "F:1:43: domains[].prefx: unknown key; did you mean 'domains[].prefix'?");
    bad("http01.webroot: /var/www\n", NULL,
            "F:1:1: http01.webroot: unknown key; what stands behind a dot is a key of its own, "
            "indented below \"http01:\"");
    bad("\"bad\\e[31m\": x\n", NULL,
            "F:1:1: bad?[31m: unknown key; allowed here: mail_host, domains, components, "
            "state_dir, cert_dir, acme, challenge, names, http01, dns, partial, partial_after, "
            "preflight, ejabberd, xmpp, control, log");
    bad("log: {\"level[]\": x}\n", NULL,
            "F:1:7: log.level[]: unknown key; did you mean 'log.level'?");
    bad("webhook: {listen: '0.0.0.0:1'}\n", NULL,
            "F:1:1: webhook: unknown key; allowed here: mail_host, domains, components, "
            "state_dir, cert_dir, acme, challenge, names, http01, dns, partial, partial_after, "
            "preflight, ejabberd, xmpp, control, log");
}

static void unknown_variables(void **state)
{
    bad("", "CERTHERD_MAILHOST=a.example",
            "environment: CERTHERD_MAILHOST: unknown variable; did you mean CERTHERD_MAIL_HOST?");
    bad("", "CERTHERD_COMPLETELY_DIFFERENT=1",
            "environment: CERTHERD_COMPLETELY_DIFFERENT: unknown variable; certherd.yml(5) lists "
            "what is allowed");
}

static void wrong_shapes(void **state)
{
    bad("partial: [allow]\n", NULL, "F:1:10: partial: is a list; allowed: one value");
    bad("partial: {a: b}\n", NULL, "F:1:10: partial: is a map; allowed: one value");
    bad("components: {a: b}\n", NULL, "F:1:13: components: is a map; allowed: a list");
    bad("components: [a, [b], ~]\n", NULL,
            "F:1:17: components: an entry that is a list or map; allowed: text\n"
            "F:1:22: components: an entry that is empty; allowed: text");
    bad("acme: https://ca.test/\n", NULL, "F:1:7: acme: is text; allowed: a map of keys");
    bad("acme: [a]\n", NULL, "F:1:7: acme: is a list; allowed: a map of keys");
    bad("domains: example.org:im\n", NULL, "F:1:10: domains: is text; allowed: a list of maps");
    bad("domains: {domain: a.example}\n", NULL, "F:1:10: domains: is a map; allowed: a list");
    bad("domains: [a.example]\n", NULL, "F:1:11: domains: an entry that is text; allowed: a map");
}

/* ---- values ---- */

static void words(void **state)
{
    bad("partial: maybe\n", NULL, "F:1:10: partial: 'maybe' is unknown; allowed: deny, allow");
    bad("partial: allo\n", NULL, "F:1:10: partial: 'allo' is unknown; allowed: deny, allow");
    bad("", "CERTHERD_PARTIAL=maybe",
            "environment: CERTHERD_PARTIAL: 'maybe' is unknown; allowed: deny, allow");
    bad("challenge: dns-01\n", NULL,
            "F:1:12: challenge: dns-01 comes in a later version; this one has http-01 only: "
            "allowed: auto, http-01");
    bad("challenge: http01\n", NULL,
            "F:1:12: challenge: 'http01' is unknown; allowed: auto, http-01");
    bad("names: wildcard\n", NULL,
            "F:1:8: names: wildcard needs dns-01, which comes in a later version; allowed: auto, "
            "exact");
    bad("acme: {key_type: ed25519}\n", NULL,
            "F:1:18: acme.key_type: 'ed25519' is unknown; allowed: p256, p384, rsa2048, rsa3072, "
            "rsa4096");
    bad("preflight: {skip: [dns, dnssec]}\n", NULL,
            "F:1:25: preflight.skip: 'dnssec' is unknown; allowed: dns, address, http");
    bad("log: {level: \"in\\nfo\"}\n", NULL, "F:1:14: log.level: holds a control character");
    bad("", "CERTHERD_ACME_PROFILE=\xd3", "environment: CERTHERD_ACME_PROFILE: is not UTF-8 text");
}

static void numbers(void **state)
{
    bad("xmpp: {ports: {c2s: 99999, s2s: -1, https: 0, c2s_tls: 5223x}}\n", NULL,
            "F:1:21: xmpp.ports.c2s: '99999' is not a port; allowed: 1 to 65535, or off\n"
            "F:1:33: xmpp.ports.s2s: '-1' is not a port; allowed: 1 to 65535, or off\n"
            "F:1:44: xmpp.ports.https: '0' is not a port; allowed: 1 to 65535, or off\n"
            "F:1:56: xmpp.ports.c2s_tls: '5223x' is not a port; allowed: 1 to 65535, or off");
    bad("", "XMPP_C2S_PORT=127.0.0.1:",
            "environment: XMPP_C2S_PORT: '' is not a port; allowed: 1 to 65535, or off");
    static const char *const spans[] = {
            "soon", "15 minutes", "-1", "1.5 h", "99999999999999999999 s", "3651 days", "min"};
    for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
        AUTO_FREE char *text = str_printf("partial_after: %s\n", spans[i]);
        AUTO_FREE char *line = str_printf(
                "F:1:16: partial_after: '%s' is not a span of time (of at most 10 years); "
                "allowed: 90 s, 15 min, 2 h, 1 day, or seconds",
                spans[i]);
        bad(text, NULL, line);
    }
}

static void paths_and_urls(void **state)
{
    bad("state_dir: var/lib\n", NULL,
            "F:1:12: state_dir: 'var/lib' is not an absolute path; allowed: absolute path");
    bad("acme: {ca_bundle: /nowhere.pem}\n", NULL,
            "F:1:19: acme.ca_bundle: /nowhere.pem can't be read: No such file or directory");
    static const char *const urls[] = {"http://ca.test/dir", "https://", "https://user@ca.test/dir",
            "ca.test", "https://ca.test/d r"};
    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        AUTO_FREE char *text = str_printf("acme: {directory: '%s'}\n", urls[i]);
        AUTO_FREE char *line = str_printf("F:1:19: acme.directory: '%s' is not such a URL; "
                                          "allowed: https://host[:port]/path",
                urls[i]);
        bad(text, NULL, line);
    }
    static const char *const mails[] = {"admin", "@example.org", "a b@example.org",
            "a@example.org,b@example.org", "a?b@example.org"};
    for (size_t i = 0; i < ARRAY_SIZE(mails); i++) {
        AUTO_FREE char *text = str_printf("acme: {email: '%s'}\n", mails[i]);
        AUTO_FREE char *line = str_printf(
                "F:1:15: acme.email: '%s' is not a mail address; allowed: user@host", mails[i]);
        bad(text, NULL, line);
    }
    AUTO_FREE char *socket = str_printf("control: {socket: /%0107d}\n", 0);
    bad(socket, NULL, "F:1:19: control.socket: is longer than 107 bytes");
    bad("acme: {extra_hosts: [ok.test, 'bad.test:x']}\n", NULL,
            "F:1:31: acme.extra_hosts: 'bad.test:x' is not a host; allowed: host[:port]");
    bad("dns: {resolver: [1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
        "1.1.1.1]}\n",
            NULL, "F:1:17: dns.resolver: has 9 entries; allowed: at most 8");
}

static void contradictions(void **state)
{
    bad("http01:\n  webroot: /a\n  token_dir: /b\n", NULL,
            "F:3:14: http01.token_dir: contradicts http01.webroot; set one of the two");
    bad("ejabberd:\n  api: unix:/a\n  user: a@b.example\n  password: x\n  password_file: /b\n",
            NULL,
            "F:5:18: ejabberd.password_file: contradicts ejabberd.password; set one of the two");
    bad("ejabberd:\n  api: unix:/a\n  nodes: [{name: a}]\n", NULL,
            "F:2:8: ejabberd.api: contradicts ejabberd.nodes; set one of the two");
    bad("acme:\n  directory: https://a.test/\n  cas: [{directory: 'https://b.test/'}]\n", NULL,
            "F:2:14: acme.directory: contradicts acme.cas; set one of the two");
    bad("acme: {cas: [{directory: 'https://b.test/'}, {directory: 'https://c.test/'}]}\n", NULL,
            "F:1:13: acme.cas: has 2 entries; allowed: one (fallback CAs come in a later version)");
    bad("acme: {cas: [{directory: 'https://b.test/', eab_kid: x, eab_hmac_key: hush}]}\n", NULL,
            "F:1:54: acme.cas[].eab_kid: external account binding comes in a later version\n"
            "F:1:71: acme.cas[].eab_hmac_key: external account binding comes in a later version");
    bad("acme: {cas: [{profile: x}]}\n", NULL,
            "F:1:13: acme.cas: no directory; give \"directory: https://…\"");
    AUTO_FREE char *twice = str_printf(
            "F:3:3: domains: im.a.example is given twice, first by %s:2, with other settings",
            file);
    bad("domains:\n- {domain: a.example, prefix: im}\n"
        "- {domain: a.example, prefix: im, components: [x]}\n",
            NULL, twice);
}

static void domains(void **state)
{
    bad("domains:\n- {prefix: im}\n- {domain: a.example}\n- {domain: b.example, prefix: ''}\n"
        "- {domain: a..b, prefix: im}\n- {domain: c.example, prefix: a.b}\n",
            NULL,
            "F:2:3: domains: no domain; give \"domain: example.org\"\n"
            "F:3:3: domains: a.example has no prefix; give \"prefix: im\"\n"
            "F:4:31: domains[].prefix: b.example has an empty prefix, which needs dns-01 and so a "
            "later version; allowed: one label, for example im\n"
            "F:5:12: domains[].domain: 'a..b' is not a host name: empty label\n"
            "F:6:31: domains[].prefix: 'a.b' is not a label of a host name: no dot is allowed in a "
            "label");
    bad("", "CERTHERD_DOMAINS=example.org,a:b:c,example.com:",
            "environment: CERTHERD_DOMAINS: 'example.org' is not a domain with its prefix; "
            "allowed: example.org:im,example.net:chat\n"
            "environment: CERTHERD_DOMAINS: 'a:b:c' is not a domain with its prefix; "
            "allowed: example.org:im,example.net:chat\n"
            "environment: CERTHERD_DOMAINS: example.com has an empty prefix, which needs dns-01 "
            "and so a later version; allowed: one label, for example im");
    bad("domains: [{domain: a.example, prefix: im, components: [x.b.example]}]\n"
        "components: [a.b]\n",
            NULL,
            "F:2:14: components: 'a.b' has a dot; allowed: labels\n"
            "F:1:56: domains[].components: 'x.b.example' is not below im.a.example; allowed: "
            "labels, or names below it");
    bad("domains: [{domain: a.example, prefix: im, challenge: dns-01, names: wildcard}]\n", NULL,
            "F:1:54: domains[].challenge: dns-01 comes in a later version; this one has http-01 "
            "only: allowed: auto, http-01\n"
            "F:1:69: domains[].names: wildcard needs dns-01, which comes in a later version; "
            "allowed: auto, exact");
}

static void nodes(void **state)
{
    bad("ejabberd:\n  nodes:\n  - {api: 'unix:/a'}\n  - {name: 'a b'}\n  - {name: c}\n"
        "  - {name: c}\n  - {name: d, api: 'unix:/a', user: x@y.example}\n"
        "  - {name: e, token: x}\n",
            NULL,
            "F:3:5: ejabberd.nodes: no name; give \"name: …\"\n"
            "F:4:12: ejabberd.nodes[].name: 'a b' is not a node's name; allowed: letters, digits, "
            "'.', '_' and '-'\n"
            "F:6:12: ejabberd.nodes[].name: 'c' is given twice\n"
            "F:7:5: ejabberd.nodes: has a user but no password; allowed: both or neither\n"
            "F:8:5: ejabberd.nodes: has credentials but no api");
}

/* A secret is never part of a message. */
static void secrets_in_messages(void **state)
{
    AUTO(config_problems_done) struct config_problems problems = {0};
    AUTO(config_unrefp)
    struct config *c = load("ejabberd:\n  api: nonsense\n  user: a@b.example\n"
                            "  password: \"hu\\nsh-hush\"\n  token: hush-hush\n",
            0, "CERTHERD_EJABBERD_PASSWORD_FILE=/nowhere", &problems);
    assert_null(c);
    for (size_t i = 0; i < problems.lines.n; i++)
        assert_null(strstr(problems.lines.v[i], "sh-hush"));
}

static void secret_files(void **state)
{
    AUTO_FREE char *text = str_printf("ejabberd: {api: 'unix:/a', token_file: %s}\n", secret_file);
    AUTO_FREE char *nothing = str_printf(
            "F:1:40: ejabberd.token_file: %s holds nothing; allowed: one line", secret_file);
    AUTO_FREE char *lines = str_printf("F:1:40: ejabberd.token_file: %s holds more than one "
                                       "line, or a NUL byte; allowed: one line",
            secret_file);
    put(secret_file, "\n", 1);
    bad(text, NULL, nothing);
    put(secret_file, "a\nb\n", 4);
    bad(text, NULL, lines);
    put(secret_file, "a\0b", 3);
    bad(text, NULL, lines);
}

static void all_mistakes_at_once(void **state)
{
    bad("mail_host: -bad-\npartial: x\nlog:\n  level: y\n", "CERTHERD_LOG_FORMAT=z",
            "F:1:12: mail_host: '-bad-' is not a host name: a label begins or ends with a hyphen\n"
            "F:2:10: partial: 'x' is unknown; allowed: deny, allow\n"
            "F:4:10: log.level: 'y' is unknown; allowed: debug, info, warning, error\n"
            "environment: CERTHERD_LOG_FORMAT: 'z' is unknown; allowed: logfmt, json");
}

static void at_most_a_hundred_lines(void **state)
{
    AUTO(config_problems_done) struct config_problems problems = {0};
    AUTO_BUF struct buf text = BUF_INIT(1024 * 1024);
    buf_puts(&text, "domains:\n");
    for (int i = 0; i < 500; i++)
        buf_puts(&text, "- {domain: a_b, prefix: im}\n");
    AUTO(config_unrefp) struct config *c = load(buf_str(&text), 0, NULL, &problems);
    assert_null(c);
    assert_int_equal(problems.lines.n, 101);
    assert_string_equal(problems.lines.v[100], "… and 400 more");
}

/* ---- showing ---- */

static void shown_without_secrets(void **state)
{
    AUTO(config_unrefp)
    struct config *c = good(whole_file, "CERTHERD_PARTIAL=allow\nXMPP_S2S_PORT=1");
    AUTO_BUF struct buf out = BUF_INIT(1024 * 1024);
    AUTO_JSON json_t *json = config_to_json(c);
    AUTO_FREE char *text = json_text(json);
    config_print(c, &out);
    assert_ok(buf_check(&out, "output"));
    assert_null(strstr(buf_str(&out), "hush"));
    assert_null(strstr(text, "hush"));
    AUTO_FREE char *mail = str_printf("mail_host                mail.example.org  (%s:1)\n", file);
    assert_non_null(strstr(buf_str(&out), "partial                  allow  (CERTHERD_PARTIAL)\n"));
    assert_non_null(strstr(buf_str(&out), "xmpp.ports.s2s           1  (XMPP_S2S_PORT)\n"));
    assert_non_null(strstr(buf_str(&out), "ejabberd.password        (set)  ("));
    assert_non_null(strstr(buf_str(&out), "xmpp.ports.c2s           5222  (default)\n"));
    assert_non_null(strstr(buf_str(&out), mail));

    const json_t *values = json_object_get(json, "values");
    const json_t *password = json_object_get(values, "ejabberd.password");
    assert_string_equal(json_string_value(json_object_get(password, "value")), "(set)");
    const json_t *port = json_object_get(values, "xmpp.ports.s2s");
    assert_int_equal(json_integer_value(json_object_get(port, "value")), 1);
    assert_string_equal(json_string_value(json_object_get(port, "origin")), "XMPP_S2S_PORT");
    assert_int_equal(json_array_size(json_object_get(json, "domains")), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(defaults),
            cmocka_unit_test(a_whole_file),
            cmocka_unit_test(the_environment_alone),
            cmocka_unit_test(the_environment_is_stronger),
            cmocka_unit_test(mailcow_s_names),
            cmocka_unit_test(mailcow_s_names_are_weaker),
            cmocka_unit_test(mailcow_s_booleans),
            cmocka_unit_test(secrets_from_files),
            cmocka_unit_test(several_nodes),
            cmocka_unit_test(one_ca_in_long_form),
            cmocka_unit_test(spans),
            cmocka_unit_test(empty_is_unset),
            cmocka_unit_test(said_twice_is_once),
            cmocka_unit_test(ten_thousand),
            cmocka_unit_test(references_are_counted),
            cmocka_unit_test(no_such_file),
            cmocka_unit_test(bytes),
            cmocka_unit_test(syntax),
            cmocka_unit_test(too_large),
            cmocka_unit_test(unknown_keys),
            cmocka_unit_test(unknown_variables),
            cmocka_unit_test(wrong_shapes),
            cmocka_unit_test(words),
            cmocka_unit_test(numbers),
            cmocka_unit_test(paths_and_urls),
            cmocka_unit_test(contradictions),
            cmocka_unit_test(domains),
            cmocka_unit_test(nodes),
            cmocka_unit_test(secrets_in_messages),
            cmocka_unit_test(secret_files),
            cmocka_unit_test(all_mistakes_at_once),
            cmocka_unit_test(at_most_a_hundred_lines),
            cmocka_unit_test(shown_without_secrets),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
