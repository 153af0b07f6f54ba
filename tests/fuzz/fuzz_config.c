/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole way of a configuration: the file, and variables of the environment, which are the lines
 * behind a line "#environment". The file is served from memory; the files it names are not there.
 */
#include "base/file.h"
#include "tests/fuzz/fuzz.h"

#define ENVIRONMENT_MAX 32

static struct {
    const char *text;
    size_t len;
} served;

static struct err *serve_file(const char *path, size_t max, struct buf *ret, bool *ret_exists)
{
    assert(strcmp(path, "certherd.yml") == 0);
    bool wipe = ret->wipe;
    buf_done(ret);
    *ret = wipe ? BUF_INIT_SECRET(max) : BUF_INIT(max);
    buf_append(ret, served.text, served.len);
    return buf_check(ret, "%s", path);
}

#define file_read serve_file
#include "agent/config.c"
#undef file_read

static void check_domains(const struct config *c)
{
    assert(c->n_domains <= CONFIG_DOMAINS_MAX);
    for (size_t i = 0; i < c->n_domains; i++) {
        const struct config_domain *d = &c->domains[i];
        struct name again;
        bool lost = fuzz_refused(name_parse(d->host.text, &again), ~0u);
        assert(!lost && name_equal(&again, &d->host));
        assert(name_is_below(&d->host, &d->domain));
        assert(name_equal(&d->host, &d->domain) == (d->prefix[0] == '\0'));
        fuzz_check_text(d->origin);
    }
}

static void check(const struct config *c)
{
    AUTO_BUF struct buf shown = BUF_INIT((size_t)8 * 1024 * 1024);
    AUTO_JSON json_t *json = config_to_json(c);
    AUTO_FREE char *text = json_text(json);
    AUTO_JSON json_t *again = NULL;
    config_print(c, &shown);
    assert(!shown.overflow);
    bool lost = fuzz_refused(json_parse(text, strlen(text), "config", &again), ~0u);
    assert(!lost && json_equal(json, again));
    check_domains(c);
    assert(c->n_nodes <= CONFIG_NODES_MAX && c->n_resolvers <= ARRAY_SIZE(c->resolvers));
    assert(c->state_dir != NULL && c->cert_dir != NULL && c->acme.directory != NULL);
    assert(!c->has_mail_host || c->mail_host.text[0] != '\0');
    assert(addr_port(&c->http01.listen) != 0);
    for (size_t i = 0; i < c->n_nodes; i++)
        if (c->nodes[i].api.url != NULL) {
            bool bad = fuzz_refused(ejabberd_api_check(&c->nodes[i].api), ~0u);
            assert(!bad);
        }
}

/* Cuts the variables off; the file's part is what remains of text. */
static void split(char *text, char *environment[ENVIRONMENT_MAX])
{
    static const char mark[] = "#environment\n";
    size_t n = 0;
    char *at = strstr(text, mark);
    if (at == NULL)
        return;
    *at = '\0';
    at += sizeof(mark) - 1;
    for (char *line; n + 1 < ENVIRONMENT_MAX && (line = strsep(&at, "\n")) != NULL;)
        environment[n++] = line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = mem_dup(data, len);
    char *environment[ENVIRONMENT_MAX] = {NULL};
    AUTO(config_problems_done) struct config_problems problems = {0};
    AUTO(config_unrefp) struct config *config = NULL;
    const struct config_load load = {.path = "certherd.yml", .environment = environment};
    split(text, environment);
    served.text = text;
    served.len = environment[0] != NULL ? strlen(text) : len;
    bool failed = fuzz_refused(config_load(&load, &config, &problems), ~0u);
    assert(!failed && (config == NULL) == (problems.lines.n > 0));
    assert(problems.lines.n <= CONFIG_PROBLEMS_MAX + 1);
    for (size_t i = 0; i < problems.lines.n; i++)
        fuzz_check_text(problems.lines.v[i]);
    if (config != NULL)
        check(config);
    return 0;
}
