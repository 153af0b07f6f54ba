/* SPDX-License-Identifier: Apache-2.0 */
/* The host set from the configuration: names are joined, checked against each other and sorted. */
#include "agent/hosts.h"

#include <stdio.h>

#include "agent/config_private.h"

#define NAMES_PER_CERTIFICATE ((size_t)100) /* Let's Encrypt's limit */

static void host_done(struct host *host)
{
    name_list_done(&host->names);
    free(host->origin);
    *host = (struct host){0};
}

void host_set_done(struct host_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        host_done(&set->v[i]);
    free(set->v);
    *set = (struct host_set){0};
}

/* A component is a label below the host or, with a dot, a whole name. */
static struct err *add_component(
        const struct config_domain *domain, const char *component, struct name_list *names)
{
    struct name name;
    if (strchr(component, '.') != NULL)
        TRY(name_parse(component, &name));
    else
        TRY(name_join(component, &domain->host, &name));
    name_list_add(names, &name);
    return NULL;
}

static struct err *make_host(
        const struct config *config, const struct config_domain *domain, struct host *ret)
{
    if (config->has_mail_host && name_equal(&domain->host, &config->mail_host))
        return err_advise(ERR(ERR_CONFIG, "%s: %s is the mail host itself", domain->origin,
                                  domain->host.text),
                "choose another prefix for %s", domain->domain.text);
    AUTO(host_done)
    struct host host = {.host = domain->host,
            .domain = domain->domain,
            .challenge = domain->challenge,
            .shape = domain->names,
            .origin = str_dup(domain->origin)};
    snprintf(host.prefix, sizeof(host.prefix), "%s", domain->prefix);
    name_list_add(&host.names, &domain->host);
    for (size_t i = 0; i < domain->components.n; i++)
        TRY_CTX(add_component(domain, domain->components.v[i], &host.names), "%s: %s",
                domain->origin, domain->host.text);
    if (host.names.n > NAMES_PER_CERTIFICATE)
        return ERR(ERR_CONFIG, "%s: %s has %zu names; allowed: at most %zu in one certificate",
                domain->origin, domain->host.text, host.names.n, NAMES_PER_CERTIFICATE);
    *ret = host;
    host = (struct host){0};
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct host *x = a, *y = b;
    return strcmp(x->host.text, y->host.text);
}

static struct err *check_claims(const struct host_set *set)
{
    for (size_t i = 1; i < set->n; i++) {
        const struct host *a = &set->v[i - 1], *b = &set->v[i];
        if (name_equal(&a->host, &b->host))
            return err_advise(
                    ERR(ERR_CONFIG, "%s is claimed by two domains: %s (%s) and %s (%s)",
                            a->host.text, a->domain.text, a->origin, b->domain.text, b->origin),
                    "remove one of them or change its prefix");
    }
    return NULL;
}

struct err *host_set_make(const struct config *config, struct host_set *ret)
{
    AUTO_HOST_SET struct host_set set = {0};
    set.v = mem_array(config->n_domains + 1, sizeof(*set.v));
    for (size_t i = 0; i < config->n_domains; i++) {
        TRY(make_host(config, &config->domains[i], &set.v[i]));
        set.n++;
    }
    qsort(set.v, set.n, sizeof(*set.v), by_name);
    TRY(check_claims(&set));
    *ret = set;
    set = (struct host_set){0};
    return NULL;
}

/* ---- selection ---- */

static struct err *unknown(const struct host_set *set, const char *text)
{
    AUTO_FREE const char **words = mem_array(2 * set->n + 1, sizeof(*words));
    for (size_t i = 0; i < set->n; i++) {
        words[2 * i] = set->v[i].host.text;
        words[2 * i + 1] = set->v[i].domain.text;
    }
    AUTO_FREE char *shown = str_foreign(text, 100);
    const char *near = config_nearest(text, words, 2 * set->n);
    struct err *e = ERR(ERR_CONFIG, "%s is none of the configured XMPP hosts or domains", shown);
    if (near != NULL)
        return err_advise(e, "did you mean %s?", near);
    return err_advise(e, "`certherd hosts` lists them");
}

/* A mail domain stands for all of its XMPP hosts. */
static bool mark(const struct host_set *set, const struct name *name, bool *marked)
{
    bool found = false;
    for (size_t i = 0; i < set->n; i++) {
        const struct host *host = &set->v[i];
        if (!name_equal(&host->host, name) && !name_equal(&host->domain, name))
            continue;
        marked[i] = found = true;
    }
    return found;
}

struct err *host_set_select(const struct host_set *set, char *const *wanted, size_t n,
        const struct host ***ret, size_t *ret_n)
{
    AUTO_FREE bool *marked = mem_array(set->n + 1, sizeof(*marked));
    for (size_t i = 0; i < n; i++) {
        struct name name;
        TRY(name_parse(wanted[i], &name));
        if (!mark(set, &name, marked))
            return unknown(set, name.text);
    }
    const struct host **list = mem_array(set->n + 1, sizeof(*list));
    size_t count = 0;
    for (size_t i = 0; i < set->n; i++) {
        if (n == 0 || marked[i])
            list[count++] = &set->v[i];
    }
    *ret = list;
    *ret_n = count;
    return NULL;
}
