/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/check.h"

const char *name_verdict_name(enum name_verdict verdict)
{
    static const char *const names[NAME_VERDICT_MAX] = {"ready", "warning", "blocked"};

    return names[verdict];
}

static void name_check_done(struct name_check *check)
{
    dns_verdict_done(&check->dns);
    free(check->sentence);
    free(check->record);
}

void host_check_done(struct host_check *check)
{
    for (size_t i = 0; i < check->n; i++)
        name_check_done(&check->v[i]);
    free(check->v);
    *check = (struct host_check){0};
}

/* ---- the probe of one name, over each address family ---- */

struct probe {
    struct http01 *http01;
    struct name_check *check;
    size_t n_other, n_unreachable;
    char *other; /* first sentence of each sort */
    char *unreachable;
};

/* One address per family is what a validator tries; the first of each. */
static const struct addr *first_of_family(const struct dns_verdict *dns, int family)
{
    for (size_t i = 0; i < dns->n_addrs; i++)
        if (addr_family(&dns->addrs[i]) == family)
            return &dns->addrs[i];
    return NULL;
}

static void keep_first(char **kept, const char *sentence)
{
    if (*kept == NULL)
        *kept = str_dup_null(sentence);
}

/* A sentence about a name without the name, to be joined to another that begins with it. */
static const char *without_name(const struct name_check *check, const char *sentence)
{
    size_t len = strlen(check->dns.name.text);

    return strncmp(sentence, check->dns.name.text, len) == 0 && sentence[len] == ' '
                   ? sentence + len + 1
                   : sentence;
}

static void note_result(struct probe *p, const struct http01_probe_result *result)
{
    p->check->n_probed++;
    switch (result->verdict) {
    case HTTP01_PROBE_OK:
        p->check->n_came_back++;
        break;
    case HTTP01_PROBE_OTHER:
        p->n_other++;
        keep_first(&p->other, result->detail);
        break;
    case HTTP01_PROBE_UNREACHABLE:
        p->n_unreachable++;
        keep_first(&p->unreachable, result->detail);
        break;
    }
}

/* One address of the name. */
struct address_probe {
    struct http01 *http01;
    const struct name *name;
    const struct addr *at;
    struct http01_probe_result result;
};

static struct err *probe_address(void *arg) MAY_SUSPEND;
static struct err *probe_address(void *arg)
{
    struct address_probe *a = arg;

    return http01_probe(a->http01, a->name, a->at, &a->result);
}

static struct err *probe_families(struct probe *p) MAY_SUSPEND;
static struct err *probe_families(struct probe *p)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct address_probe probes[ARRAY_SIZE(families)];
    struct fiber_group group;
    size_t n = 0;

    fiber_group_init(&group);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        const struct addr *at = first_of_family(&p->check->dns, families[i]);
        if (at == NULL)
            continue;
        probes[n] =
                (struct address_probe){.http01 = p->http01, .name = &p->check->dns.name, .at = at};
        fiber_group_spawn(&group, "probe", probe_address, &probes[n++]);
    }
    struct err *e = fiber_group_wait(&group);
    for (size_t i = 0; i < n; i++) {
        if (e == NULL)
            note_result(p, &probes[i].result);
        http01_probe_result_done(&probes[i].result);
    }
    return e;
}

/* ---- the verdict of one name ---- */

static void decide(struct name_check *check, enum name_verdict verdict, char *sentence)
{
    check->verdict = verdict;
    free(check->sentence);
    check->sentence = sentence;
}

static void decide_by_probe(
        const struct config *config, struct name_check *check, const struct probe *p)
{
    bool differs =
            check->dns.check == DNS_CHECK_DIFFERS && (config->preflight_skip & SKIP_ADDRESS) == 0;
    const char *where = check->dns.sentence != NULL ? check->dns.sentence : "has another address";

    if (p->n_other > 0)
        decide(check, NAME_BLOCKED,
                differs ? str_printf("%s; %s", where, without_name(check, p->other))
                        : str_dup(p->other));
    else if (check->n_came_back > 0 && differs)
        decide(check, NAME_WARN,
                str_printf("%s, but the probe token came back (NAT, proxy or CDN)%s%s", where,
                        p->n_unreachable > 0 ? "; " : "",
                        p->n_unreachable > 0 ? without_name(check, p->unreachable) : ""));
    else if (check->n_came_back == 0 && p->n_unreachable > 0 && differs)
        decide(check, NAME_BLOCKED,
                str_printf("%s; %s", where, without_name(check, p->unreachable)));
    else if (check->n_came_back == 0 && p->n_unreachable > 0)
        decide(check, NAME_WARN,
                str_printf("%s; from here, which proves nothing behind NAT", p->unreachable));
    else if (p->n_unreachable > 0)
        decide(check, NAME_WARN, str_dup(p->unreachable));
    else if (check->dns.check == DNS_CHECK_STALE)
        decide(check, NAME_WARN, str_dup_null(check->dns.sentence));
}

static bool is_negative(enum dns_check check)
{
    return check == DNS_CHECK_NXDOMAIN || check == DNS_CHECK_NODATA;
}

/* Ready unless said otherwise; the probe has the last word where it is made. */
static void decide_by_dns(const struct config *config, struct name_check *check)
{
    switch (check->dns.check) {
    case DNS_CHECK_OK:
        decide(check, NAME_READY, NULL);
        break;
    case DNS_CHECK_DIFFERS:
        if ((config->preflight_skip & SKIP_ADDRESS) != 0)
            decide(check, NAME_READY, NULL);
        else
            decide(check, NAME_WARN, str_dup_null(check->dns.sentence));
        break;
    case DNS_CHECK_STALE:
        decide(check, NAME_WARN, str_dup_null(check->dns.sentence));
        break;
    default:
        decide(check, NAME_BLOCKED, str_dup_null(check->dns.sentence));
        break;
    }
    check->record = str_dup_null(check->dns.record);
    if (!config->has_mail_host && check->sentence != NULL && is_negative(check->dns.check))
        decide(check, check->verdict,
                str_printf(
                        "%s; set mail_host to read here which record to add", check->dns.sentence));
}

struct name_job {
    const struct host_check_request *request;
    struct name_check *check;
};

static struct err *check_by_probe(void *arg) MAY_SUSPEND;
static struct err *check_by_probe(void *arg)
{
    struct name_job *job = arg;
    struct probe p = {.http01 = job->request->http01, .check = job->check};
    struct err *e = probe_families(&p);

    if (e == NULL)
        decide_by_probe(job->request->config, job->check, &p);
    free(p.other);
    free(p.unreachable);
    return e;
}

/* ---- all names ---- */

static struct err *look_at_dns(const struct host_check_request *request, struct host_check *check)
        MAY_SUSPEND;
static struct err *look_at_dns(const struct host_check_request *request, struct host_check *check)
{
    const struct config *config = request->config;
    const struct name_list *names = &request->host->names;
    struct dns_preflight preflight = {.resolver = request->resolver,
            .host = &request->host->host,
            .mail_host = config->has_mail_host ? &config->mail_host : NULL};

    if ((config->preflight_skip & SKIP_DNS) != 0) {
        for (size_t i = 0; i < names->n; i++)
            check->v[i].dns = (struct dns_verdict){.name = names->v[i], .check = DNS_CHECK_OK};
        return NULL;
    }
    AUTO_FREE struct dns_verdict *verdicts = mem_array(names->n, sizeof(*verdicts));
    TRY(dns_preflight(&preflight, names->v, names->n, verdicts));
    for (size_t i = 0; i < names->n; i++) {
        check->v[i].dns = verdicts[i];
        decide_by_dns(config, &check->v[i]);
    }
    return NULL;
}

static struct err *probe_all(const struct host_check_request *request, struct host_check *check)
        MAY_SUSPEND;
static struct err *probe_all(const struct host_check_request *request, struct host_check *check)
{
    struct fiber_group group;
    AUTO_FREE struct name_job *jobs = mem_array(check->n, sizeof(*jobs));

    fiber_group_init(&group);
    for (size_t i = 0; i < check->n; i++) {
        if (check->v[i].verdict == NAME_BLOCKED)
            continue;
        jobs[i] = (struct name_job){.request = request, .check = &check->v[i]};
        fiber_group_spawn(&group, check->v[i].dns.name.text, check_by_probe, &jobs[i]);
    }
    return fiber_group_wait(&group);
}

static void sum_up(struct host_check *check)
{
    for (size_t i = 0; i < check->n; i++) {
        if (check->v[i].verdict != NAME_BLOCKED)
            check->n_ready++;
        else if (check->v[i].dns.retry_s > check->retry_s)
            check->retry_s = check->v[i].dns.retry_s;
    }
    check->host_ready = check->n > 0 && check->v[0].verdict != NAME_BLOCKED;
}

struct err *host_check_run(const struct host_check_request *request, struct host_check *ret)
{
    AUTO_HOST_CHECK struct host_check check = {0};

    check.n = request->host->names.n;
    check.v = mem_array(check.n, sizeof(*check.v));
    TRY(look_at_dns(request, &check));
    if (request->http01 != NULL && (request->config->preflight_skip & SKIP_HTTP) == 0)
        TRY(probe_all(request, &check));
    sum_up(&check);
    *ret = check;
    check = (struct host_check){0};
    return NULL;
}

void host_check_ready(
        const struct host_check *check, const struct host *host, struct name_list *ret)
{
    *ret = (struct name_list){0};
    for (size_t i = 0; i < check->n; i++)
        if (check->v[i].verdict != NAME_BLOCKED)
            name_list_add(ret, &host->names.v[i]);
}
