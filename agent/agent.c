/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <assert.h>
#include <ctype.h>
#include <strings.h>

/* Hosts being issued at once; the CA's limit on newOrder requests is kept by acme/client.c. */
#define SWEEP_MS          ((int64_t)3000)
#define ORDERS_AT_ONCE    ((size_t)20)
#define SHARED_FAILURE_MS (10 * CLOCK_SEC)

/* "https://acme-v02.api.letsencrypt.org/directory" -> "acme-v02.api.letsencrypt.org_directory": one
 * path component per CA. */
static char *ca_directory_name(const char *url)
{
    char *name = str_dup(str_starts(url, "https://") ? url + strlen("https://") : url);

    for (char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && *c != '.' && *c != '-')
            *c = '_';
    return name;
}

/* New nonces per second that the CA grants one address (https://letsencrypt.org/docs/rate-limits).
 * Others have no such limit; they are spared all the same. */
static size_t nonces_per_second(const char *url)
{
    static const char *const limited[] = {"https://acme-v02.api.letsencrypt.org/",
            "https://acme-staging-v02.api.letsencrypt.org/"};

    for (size_t i = 0; i < ARRAY_SIZE(limited); i++)
        if (strncasecmp(url, limited[i], strlen(limited[i])) == 0)
            return 20;
    return 200;
}

static struct err *open_resolver(struct agent *agent)
{
    struct dns_resolver_options options = {.n_servers = agent->config->n_resolvers};

    for (size_t i = 0; i < options.n_servers && i < DNS_SERVERS_MAX; i++)
        options.servers[i] = agent->config->resolvers[i];
    return dns_resolver_new(agent->world, &options, &agent->resolver);
}

struct err *agent_open(struct world *world, struct config *config,
        const struct agent_options *options, struct report *report, struct agent **ret)
{
    AUTO(agent_closep) struct agent *agent = MEM_NEW(struct agent);
    struct store_options store = {.state_dir = config->state_dir,
            .cert_dir = config->cert_dir,
            .read_only = options->read_only};

    agent->world = world;
    agent->config = config_ref(config);
    agent->report = report;
    fiber_sem_init(&agent->opening, 1);
    fiber_sem_init(&agent->orders, ORDERS_AT_ONCE);
    TRY(host_set_make(config, &agent->hosts));
    TRY(open_resolver(agent));
    TRY(agent_state_failed(store_open(world, &store, &agent->store)));
    *ret = STEAL(agent);
    return NULL;
}

struct err *agent_state_failed(struct err *e)
{
    return err_is(e, ERR_CANCELED) ? e : err_rekind(e, ERR_LOCAL);
}

void agent_close(struct agent *agent)
{
    if (agent == NULL)
        return;
    err_free(agent->ca_failed);
    acme_account_free(agent->account);
    acme_client_free(agent->client);
    http01_close(agent->http01);
    dns_resolver_free(agent->resolver);
    store_close(agent->store);
    host_set_done(&agent->hosts);
    config_unref(agent->config);
    free(agent);
}

void agent_sweep(struct agent *agent)
{
    AUTO_FREE char *journal = store_path(agent->store, "journal/http01");
    struct http01_options options = {
            .token_dir = agent->config->http01.token_dir, .journal_path = journal};
    FIBER_SHIELD(SWEEP_MS);
    AUTO_ERR struct err *e =
            agent->http01 != NULL ? http01_settle(agent->http01) : http01_sweep(&options);

    if (e != NULL && !err_is(e, ERR_CANCELED))
        log_warning("sweep", err_text(e), LOG_STR("do", err_advice(e)));
}

static struct err *open_http01(struct agent *agent) MAY_SUSPEND;
static struct err *open_http01(struct agent *agent)
{
    AUTO_FREE char *journal = store_path(agent->store, "journal/http01");
    struct http01_options options = {.token_dir = agent->config->http01.token_dir,
            .listen = agent->config->http01.listen,
            .journal_path = journal};

    if (agent->http01 != NULL)
        return NULL;
    return http01_open(agent->world, &options, &agent->http01);
}

struct err *agent_http01(struct agent *agent, struct http01 **ret)
{
    TRY(fiber_sem_acquire(&agent->opening));
    struct err *e = open_http01(agent);
    fiber_sem_release(&agent->opening);
    if (e == NULL)
        *ret = agent->http01;
    return e;
}

static struct err *open_account(struct agent *agent) MAY_SUSPEND;
static struct err *open_account(struct agent *agent)
{
    const struct config *config = agent->config;
    AUTO_FREE char *ca = ca_directory_name(config->acme.directory);
    AUTO_FREE char *relative = str_printf("accounts/%s", ca);
    AUTO_FREE char *dir = store_path(agent->store, relative);
    AUTO_FREE char *cache = str_printf("%s/directory.json", dir);
    struct acme_client_options client = {.directory_url = config->acme.directory,
            .ca_bundle = config->acme.ca_bundle,
            .extra_hosts = &config->acme.extra_hosts,
            .cache_path = cache,
            .nonces_per_second = nonces_per_second(config->acme.directory)};
    struct acme_account_options account = {.dir = dir, .email = config->acme.email};

    if (agent->client == NULL)
        TRY(acme_client_new(agent->world, &client, &agent->client));
    if (agent->account == NULL)
        TRY(acme_account_open(agent->client, &account, &agent->account));
    return NULL;
}

static struct err *copy_of(const struct err *e)
{
    struct err *copy = err_is(e, ERR_RETRY_AT) ? ERR_AT(err_retry_at(e), "%s", err_text(e))
                                               : ERR_FROM(err_kind(e), err_origin(e), err_number(e),
                                                         "%s", err_text(e));

    return err_advice(e) != NULL ? err_advise(copy, "%s", err_advice(e)) : copy;
}

static struct err *open_account_once(struct agent *agent) MAY_SUSPEND;
static struct err *open_account_once(struct agent *agent)
{
    bool fresh = agent->ca_failed != NULL &&
                 mono_diff(world_mono(agent->world), agent->ca_failed_at) < SHARED_FAILURE_MS;

    if (fresh)
        return copy_of(agent->ca_failed);
    err_free(STEAL(agent->ca_failed));
    struct err *e = open_account(agent);
    if (e != NULL && !err_is(e, ERR_CANCELED)) {
        agent->ca_failed = copy_of(e);
        agent->ca_failed_at = world_mono(agent->world);
    }
    return e;
}

struct err *agent_ca(
        struct agent *agent, struct acme_client **ret_client, struct acme_account **ret_account)
{
    TRY(fiber_sem_acquire(&agent->opening));
    struct err *e = open_account_once(agent);
    fiber_sem_release(&agent->opening);
    if (e == NULL) {
        *ret_client = agent->client;
        *ret_account = agent->account;
    }
    return err_context(e, "the CA %s", agent->config->acme.directory);
}

static struct err *check_writable(struct agent *agent) MAY_SUSPEND;
static struct err *check_writable(struct agent *agent)
{
    if (!agent->writable)
        TRY(agent_state_failed(store_check_writable(agent->store)));
    agent->writable = true;
    return NULL;
}

struct err *agent_check_writable(struct agent *agent)
{
    TRY(fiber_sem_acquire(&agent->opening));
    struct err *e = check_writable(agent);
    fiber_sem_release(&agent->opening);
    return e;
}
