/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/acme/issue_scene.h"

#include <stdio.h>
#include <unistd.h>

#include "acme/cert.h"
#include "base/file.h"

/* ---- solver ---- */

static struct scene_answer *find_answer(struct scene *s, const char *name, const char *token)
{
    for (size_t i = 0; i < s->n_answers; i++)
        if (strcmp(s->answers[i].name, name) == 0 && strcmp(s->answers[i].token, token) == 0)
            return &s->answers[i];
    assert_true(s->n_answers < SCENE_ANSWERS_MAX);
    struct scene_answer *a = &s->answers[s->n_answers++];
    snprintf(a->name, sizeof(a->name), "%s", name);
    snprintf(a->token, sizeof(a->token), "%s", token);
    return a;
}

static struct err *present(void *arg, const struct acme_challenge *c) MAY_SUSPEND;
static struct err *present(void *arg, const struct acme_challenge *c)
{
    struct scene *s = arg;
    struct scene_answer *a = find_answer(s, c->name.text, c->token);

    assert_true(str_starts(c->key_authorization, c->token));
    assert_int_equal(strlen(c->key_authorization), strlen(c->token) + KEY_THUMBPRINT_MAX);
    a->presented++;
    TRY(fake_world_step(&s->fw, "present"));
    if (s->fail_present != NULL && strcmp(s->fail_present, c->name.text) == 0)
        return ERR(ERR_CONFIG, "the web root cannot be written");
    a->there = true;
    return NULL;
}

static struct err *wait_visible(void *arg, const struct acme_challenge *const *challenges, size_t n)
        MAY_SUSPEND;
static struct err *wait_visible(void *arg, const struct acme_challenge *const *challenges, size_t n)
{
    struct scene *s = arg;

    for (size_t i = 0; i < n; i++)
        assert_true(find_answer(s, challenges[i]->name.text, challenges[i]->token)->there);
    return fake_world_step(&s->fw, "wait_visible");
}

static struct err *verify(void *arg, const struct acme_challenge *c) MAY_SUSPEND;
static struct err *verify(void *arg, const struct acme_challenge *c)
{
    struct scene *s = arg;

    TRY(fake_world_step(&s->fw, "verify"));
    if (s->fail_verify != NULL && strcmp(s->fail_verify, c->name.text) == 0)
        return ERR(ERR_RETRY, "the token was lost");
    return NULL;
}

static struct err *remove_answer(void *arg, const struct acme_challenge *c) MAY_SUSPEND;
static struct err *remove_answer(void *arg, const struct acme_challenge *c)
{
    struct scene *s = arg;
    struct scene_answer *a = find_answer(s, c->name.text, c->token);

    a->removed++;
    a->there = false;
    return fake_world_step(&s->fw, "remove");
}

static bool visible(void *arg, const char *name, const char *token)
{
    return find_answer(arg, name, token)->there;
}

/* ---- hooks ---- */

static struct err *order_made(void *arg, const char *url) MAY_SUSPEND;
static struct err *order_made(void *arg, const char *url)
{
    struct scene *s = arg;

    TRY(fake_world_step(&s->fw, "order_made"));
    free(s->order_url);
    s->order_url = str_dup(url);
    s->made++;
    return NULL;
}

static struct err *order_dropped(void *arg) MAY_SUSPEND;
static struct err *order_dropped(void *arg)
{
    struct scene *s = arg;

    TRY(fake_world_step(&s->fw, "order_dropped"));
    free(STEAL(s->order_url));
    s->dropped++;
    return NULL;
}

static struct err *make_csr(void *arg, char **ret_csr) MAY_SUSPEND;
static struct err *make_csr(void *arg, char **ret_csr)
{
    struct scene *s = arg;

    TRY(fake_world_step(&s->fw, "make_csr"));
    s->csrs++;
    return key_make_csr(s->cert_key, &s->names, ret_csr);
}

static void progress(void *arg, const struct name *name, enum acme_step step, const char *detail)
{
    struct scene *s = arg;

    assert_non_null(acme_step_name(step));
    if (step == ACME_STEP_FAILED) {
        assert_non_null(detail);
        s->failed_steps++;
    }
}

/* ---- running ---- */

struct one {
    struct scene *s;
    struct acme_client *client;
    struct acme_account *account;
    struct acme_issue_result *result;
};

static struct err *issue_one(void *arg) MAY_SUSPEND;
static struct err *issue_one(void *arg)
{
    struct one *one = arg;
    struct scene *s = one->s;
    const struct acme_solver solver = {.type = s->challenge,
            .present = present,
            .wait_visible = wait_visible,
            .verify = verify,
            .remove = remove_answer,
            .arg = s};
    AUTO_FREE char *resume = s->flows > 1 ? NULL : str_dup_null(s->order_url);
    const struct acme_issue issue = {
            .client = one->client,
            .account = one->account,
            .names = &s->names,
            .solver = &solver,
            .order_url = resume,
            .validation_ms = s->validation_ms,
            .finalize_ms = s->finalize_ms,
            .order_made = order_made,
            .order_dropped = order_dropped,
            .make_csr = make_csr,
            .progress = progress,
            .arg = s,
    };

    return acme_issue(&issue, one->result);
}

static struct err *issue_many(struct one *one, size_t n) MAY_SUSPEND;
static struct err *issue_many(struct one *one, size_t n)
{
    struct fiber_group group;
    struct acme_issue_result *results = mem_array(n, sizeof(*results));
    struct one *ones = mem_array(n, sizeof(*ones));

    fiber_group_init(&group);
    group.keep_going = true;
    for (size_t i = 0; i < n; i++) {
        ones[i] = *one;
        ones[i].result = &results[i];
        fiber_group_spawn(&group, "one", issue_one, &ones[i]);
    }
    struct err *e = fiber_group_wait(&group);
    for (size_t i = 0; i < n; i++)
        acme_issue_result_done(&results[i]);
    free(results);
    free(ones);
    return e;
}

static struct err *issue_with(struct scene *s, struct acme_client *client) MAY_SUSPEND;
static struct err *issue_with(struct scene *s, struct acme_client *client)
{
    AUTO_FREE char *dir = str_printf("%s/account", s->dir);
    const struct acme_account_options options = {.dir = dir, .email = "admin@example.org"};
    AUTO(acme_account_freep) struct acme_account *account = NULL;

    TRY(acme_account_open(client, &options, &account));
    if (s->before_issue != NULL)
        TRY(s->before_issue(s));
    struct one one = {s, client, account, &s->result};
    if (s->flows > 1)
        return issue_many(&one, s->flows);
    TRY(issue_one(&one));
    if (!s->twice)
        return NULL;
    acme_issue_result_done(&s->result);
    free(STEAL(s->order_url));
    struct mono start = loop_mono(s->fw.loop);
    TRY(issue_one(&one));
    s->elapsed_ms = fake_world_elapsed(&s->fw, start);
    return NULL;
}

static struct err *flow(void *arg) MAY_SUSPEND;
static struct err *flow(void *arg)
{
    struct scene *s = arg;
    AUTO_FREE char *cache = s->use_cache ? str_printf("%s/directory.json", s->dir) : NULL;
    const struct acme_client_options options = {.directory_url = FAKE_CA_DIRECTORY,
            .cache_path = cache,
            .max_new_orders = s->max_new_orders,
            .nonces_per_second = s->nonces_per_second};
    AUTO(acme_client_freep) struct acme_client *client = NULL;

    struct mono start = loop_mono(s->fw.loop);
    s->elapsed_ms = -1;
    TRY(acme_client_new(&s->fw.world, &options, &client));
    struct err *e = issue_with(s, client);
    s->requests = acme_client_requests(client);
    if (s->elapsed_ms < 0)
        s->elapsed_ms = fake_world_elapsed(&s->fw, start);
    return e;
}

struct err *scene_run(struct scene *s)
{
    acme_issue_result_done(&s->result);
    struct err *e = fake_world_run(&s->fw, flow, s);
    scene_check_invariants(s);
    return e;
}

void scene_check_invariants(struct scene *s)
{
    if (s->ca.violations > 0)
        fail_msg("the CA objects: %s", s->ca.violation);
    for (size_t i = 0; i < s->n_answers; i++) {
        const struct scene_answer *a = &s->answers[i];
        if (a->there)
            fail_msg("the answer for %s was not removed", a->name);
        if (a->presented > 0 && a->removed == 0)
            fail_msg("remove() was not called for %s", a->name);
    }
}

void scene_expect_issued(struct scene *s)
{
    AUTO(cert_info_done) struct cert_info info = {0};

    assert_ok(scene_run(s));
    if (s->flows > 1)
        return;
    assert_ok(cert_parse(buf_str(&s->result.chain_pem), s->result.chain_pem.len, false, &info));
    assert_int_equal(info.chain_len, 2);
    assert_ok(cert_check_issued(&info, &s->names, loop_wall(s->fw.loop)));
    assert_ok(
            key_check_matches(s->cert_key, buf_str(&s->result.chain_pem), s->result.chain_pem.len));
}

void scene_init(struct scene *s, const char *names)
{
    AUTO_FREE char *copy = str_dup(names);
    char *rest = NULL;

    *s = (struct scene){.challenge = "http-01"};
    fake_world_init(&s->fw);
    fake_ca_init(&s->ca, &s->fw);
    s->fw.http = fake_ca_http;
    s->fw.http_arg = &s->ca;
    s->ca.visible = visible;
    s->ca.visible_arg = s;
    s->ca.validation_ms = s->ca.issuance_ms = 20;
    snprintf(s->dir, sizeof(s->dir), "/tmp/certherd-issue-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    for (char *text = strtok_r(copy, ",", &rest); text != NULL; text = strtok_r(NULL, ",", &rest)) {
        struct name name = {0};
        snprintf(name.text, sizeof(name.text), "%s", text);
        name_list_add(&s->names, &name);
    }
    AUTO_FREE char *key = str_printf("%s/cert.pem", s->dir);
    assert_ok(key_create(key, KEY_P256, &s->cert_key));
}

void scene_clear(struct scene *s)
{
    s->n_answers = 0;
    s->made = s->dropped = s->csrs = s->failed_steps = 0;
    memset(s->answers, 0, sizeof(s->answers));
    fake_ca_clear_counters(&s->ca);
    fake_world_rewind(&s->fw);
}

void scene_done(struct scene *s)
{
    acme_issue_result_done(&s->result);
    free(s->order_url);
    key_free(s->cert_key);
    name_list_done(&s->names);
    assert_ok(file_remove_tree(s->dir));
    fake_ca_done(&s->ca);
    fake_world_done(&s->fw);
}
