/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of domains, as maps in the file or as text ("example.org:im,example.net:chat"). Both
 * become the same values before anything is checked. Saying the same thing twice is harmless and
 * dropped; saying two things about one XMPP host is a contradiction.
 */
#include "agent/config_private.h"

#include <stdio.h>

void config_domain_done(struct config_domain *domain)
{
    strv_done(&domain->components);
    free(domain->origin);
    *domain = (struct config_domain){0};
}

/* ---- words that this version knows only by name ---- */

static bool is_text(const struct config_value *value, const char *word)
{
    const char *text = config_text(value);
    return text != NULL && strcmp(text, word) == 0;
}

void config_get_challenge(
        struct config_loader *l, struct config_value *value, enum config_challenge *ret)
{
    if (is_text(value, "dns-01") || is_text(value, "tls-alpn-01")) {
        config_problem(l, value, &value->items[0],
                "%s comes in a later version; this one has http-01 only: allowed: auto, http-01",
                config_text(value));
        return;
    }
    int index = config_get_enum(l, value);
    if (index >= 0)
        *ret = (enum config_challenge)index;
}

void config_get_names(struct config_loader *l, struct config_value *value, enum config_names *ret)
{
    if (is_text(value, "wildcard")) {
        config_problem(l, value, &value->items[0],
                "wildcard needs dns-01, which comes in a later version; allowed: auto, exact");
        return;
    }
    int index = config_get_enum(l, value);
    if (index >= 0)
        *ret = (enum config_names)index;
}

/* ---- components ---- */

static struct err *component(const char *text, const struct name *host, struct name *ret)
{
    if (strchr(text, '.') == NULL)
        return name_parse_label(text, ret);
    AUTO_FREE char *shown = str_foreign(text, 100);
    if (host == NULL)
        return ERR(ERR_CONFIG, "'%s' has a dot; allowed: labels", shown);
    struct name name;
    TRY(name_parse(text, &name));
    if (!name_is_below(&name, host) || name_equal(&name, host))
        return ERR(ERR_CONFIG, "'%s' is not below %s; allowed: labels, or names below it", shown,
                host->text);
    *ret = name;
    return NULL;
}

void config_get_components(struct config_loader *l, struct config_value *value,
        const struct name *host, struct strv *ret)
{
    if (value->source == CONFIG_UNSET)
        return;
    if (value->n > CONFIG_LIST_MAX) {
        config_problem(
                l, value, NULL, "has %zu entries; allowed: at most %zu", value->n, CONFIG_LIST_MAX);
        return;
    }
    AUTO_STRV struct strv list = {0};
    for (size_t i = 0; i < value->n; i++) {
        struct name name;
        struct err *e = component(value->items[i].text, host, &name);
        if (config_accept(l, value, &value->items[i], e) && !strv_has(&list, name.text))
            strv_add(&list, name.text);
    }
    config_value_items(value, &list);
    strv_done(ret);
    *ret = list;
    list = (struct strv){0};
}

/* ---- one domain ---- */

static bool load_host(
        struct config_loader *l, const struct config_value *whole, struct config_domain *domain)
{
    struct config_value *name = &l->entry[K_DOMAIN_DOMAIN], *prefix = &l->entry[K_DOMAIN_PREFIX];
    struct name label = {0};
    if (name->source == CONFIG_UNSET) {
        config_problem(l, whole, NULL, "no domain; give \"domain: example.org\"");
        return false;
    }
    config_get_name(l, name, &domain->domain);
    if (domain->domain.text[0] == '\0')
        return false;
    if (prefix->source == CONFIG_UNSET) {
        config_problem(
                l, whole, NULL, "%s has no prefix; give \"prefix: im\"", domain->domain.text);
        return false;
    }
    if (config_text(prefix)[0] == '\0') {
        config_problem(l, prefix, NULL,
                "%s has an empty prefix, which needs dns-01 and so a later version; allowed: one "
                "label, for example im",
                domain->domain.text);
        return false;
    }
    struct config_item *item = &prefix->items[0];
    if (!config_accept(l, prefix, item, name_parse_label(item->text, &label)) ||
            !config_accept(l, prefix, item, name_join(label.text, &domain->domain, &domain->host)))
        return false;
    snprintf(domain->prefix, sizeof(domain->prefix), "%.63s", label.text);
    return true;
}

static void load_domain(struct config_loader *l, const struct config_value *whole)
{
    struct config *c = CONFIG_OF(l);
    AUTO(config_domain_done)
    struct config_domain domain = {.challenge = c->challenge, .names = c->names};
    if (!load_host(l, whole, &domain))
        return;
    domain.origin = config_value_origin(whole, l->path);
    if (l->entry[K_DOMAIN_COMPONENTS].source == CONFIG_UNSET)
        strv_copy(&domain.components, &c->components);
    config_get_components(l, &l->entry[K_DOMAIN_COMPONENTS], &domain.host, &domain.components);
    config_get_challenge(l, &l->entry[K_DOMAIN_CHALLENGE], &domain.challenge);
    config_get_names(l, &l->entry[K_DOMAIN_NAMES], &domain.names);

    c->domains = mem_realloc_array(c->domains, c->n_domains + 1, sizeof(*c->domains));
    l->places = mem_realloc_array(l->places, c->n_domains + 1, sizeof(*l->places));
    l->places[c->n_domains] = (struct config_place){whole->line, whole->column};
    c->domains[c->n_domains++] = domain;
    domain = (struct config_domain){0};
}

/* ---- one entry as text: "example.org:im", an empty prefix after the colon ---- */

static bool split_entry(
        struct config_loader *l, const struct config_value *all, const struct config_item *item)
{
    const char *colon = strchr(item->text, ':');
    config_entry_done(l);
    if (colon == NULL || strchr(colon + 1, ':') != NULL) {
        AUTO_FREE char *shown = str_foreign(item->text, 100);
        config_problem(l, all, item,
                "'%s' is not a domain with its prefix; allowed: example.org:im,example.net:chat",
                shown);
        return false;
    }
    AUTO_FREE char *domain = mem_dup(item->text, (size_t)(colon - item->text));
    struct config_value *parts[] = {&l->entry[K_DOMAIN_DOMAIN], &l->entry[K_DOMAIN_PREFIX]};
    const char *texts[] = {domain, colon + 1};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        config_value_set(parts[i], K_DOMAINS, all->source, texts[i]);
        parts[i]->variable = str_dup_null(all->variable);
    }
    return true;
}

static void load_texts(struct config_loader *l, const struct config_value *all)
{
    for (size_t i = 0; i < all->n && i < CONFIG_DOMAINS_MAX; i++) {
        if (split_entry(l, all, &all->items[i]))
            load_domain(l, all);
    }
}

static void load_maps(struct config_loader *l, const struct config_value *all)
{
    for (size_t i = 0; i < all->tree->n && i < CONFIG_DOMAINS_MAX; i++) {
        const struct config_tree *entry = all->tree->members[i];
        struct config_value whole = {.id = K_DOMAINS,
                .source = CONFIG_FILE,
                .line = entry->line,
                .column = entry->column};
        if (config_collect_entry(l, entry, K_DOMAINS))
            load_domain(l, &whole);
    }
}

/* ---- the same host twice ---- */

static bool same_domain(const struct config_domain *a, const struct config_domain *b)
{
    if (a->challenge != b->challenge || a->names != b->names || a->components.n != b->components.n)
        return false;
    for (size_t i = 0; i < a->components.n; i++) {
        if (strcmp(a->components.v[i], b->components.v[i]) != 0)
            return false;
    }
    return true;
}

static int by_host(const void *a, const void *b)
{
    const struct config_domain *const *x = a, *const *y = b;
    int order = strcmp((*x)->host.text, (*y)->host.text);
    return order != 0 ? order : (*x > *y) - (*x < *y);
}

static void report_conflict(struct config_loader *l, const struct config_value *all,
        const struct config_domain *first, const struct config_domain *again)
{
    const struct config_place *place = &l->places[again - CONFIG_OF(l)->domains];
    struct config_value whole = *all;
    whole.line = place->line;
    whole.column = place->column;
    config_problem(l, &whole, NULL, "%s is given twice, first by %s, with other settings",
            again->host.text, first->origin);
}

static void drop_repeated(struct config_loader *l, const struct config_value *all)
{
    struct config *c = CONFIG_OF(l);
    AUTO_FREE struct config_domain **sorted = mem_array(c->n_domains + 1, sizeof(*sorted));
    for (size_t i = 0; i < c->n_domains; i++)
        sorted[i] = &c->domains[i];
    qsort(sorted, c->n_domains, sizeof(*sorted), by_host);
    for (size_t i = 1, first = 0; i < c->n_domains; i++) {
        if (!name_equal(&sorted[first]->host, &sorted[i]->host)) {
            first = i;
            continue;
        }
        if (!same_domain(sorted[first], sorted[i]))
            report_conflict(l, all, sorted[first], sorted[i]);
        else
            sorted[i]->host.text[0] = '\0';
    }
    size_t kept = 0;
    for (size_t i = 0; i < c->n_domains; i++) {
        if (c->domains[i].host.text[0] == '\0')
            config_domain_done(&c->domains[i]);
        else
            c->domains[kept++] = c->domains[i];
    }
    c->n_domains = kept;
}

void config_load_domains(struct config_loader *l)
{
    const struct config_value *all = &l->full->values[K_DOMAINS];
    size_t n = all->tree != NULL ? all->tree->n : all->n;
    if (n > CONFIG_DOMAINS_MAX)
        config_problem(
                l, all, NULL, "has %zu entries; allowed: at most %zu", n, CONFIG_DOMAINS_MAX);
    if (all->tree != NULL)
        load_maps(l, all);
    else
        load_texts(l, all);
    config_entry_done(l);
    drop_repeated(l, all);
    free(l->places);
    l->places = NULL;
}
