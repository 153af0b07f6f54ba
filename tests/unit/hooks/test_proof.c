/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/tls_private.h"
#include "hooks/proof.h"
#include "tests/lib/fake_world.h"
#include "tests/lib/test_err.h"

/* ---- an ejabberd ---- */

enum behaviour {
    GOOD,
    OTHER_LEAF,
    NOT_VALID,
    HOST_UNKNOWN,
    REFUSED,
    NO_CERTIFICATE, /* <failure/> */
    NO_ROOTS,
    NO_MEMORY
};

struct node {
    /* By port; for one name alone if that is set. */
    enum behaviour by_port[PROOF_PORT_MAX];
    const char *only;
    enum behaviour without_sni;
    bool first_address_dead;
    bool no_address;
    long upload;

    size_t n_tls, now[PROOF_PORT_MAX], most, now_of_all, most_of_all;
    char seen[300][1024]; /* what was asked, sorted by nobody */
    size_t n_upload;
    bool upload_as_it_should;
};

static const uint16_t numbers[PROOF_PORT_MAX] = {5222, 5269, 5443, 5223, 5270};
static const uint8_t newest[32] = {1, 2, 3};

static struct err *resolve(
        void *arg, const char *host, uint16_t port, struct addr ret[NET_RESOLVE_MAX], size_t *ret_n)
{
    const struct node *node = arg;
    assert_string_equal(host, "ejabberd.test");
    if (node->no_address)
        return ERR_FROM(ERR_CONFIG, ERR_FROM_UV, -3008, "ejabberd.test: has no address");
    TRY(addr_parse("127.0.0.9", port, &ret[0]));
    TRY(addr_parse("127.0.0.10", port, &ret[1]));
    *ret_n = 2;
    return NULL;
}

static enum proof_port port_of(const struct addr *to)
{
    for (int i = 0; i < PROOF_PORT_MAX; i++) {
        if (numbers[i] == addr_port(to))
            return (enum proof_port)i;
    }
    fail_msg("port %u", addr_port(to));
    return PROOF_C2S;
}

static void fill(struct tls_probe_result *ret, uint8_t first_octet, enum tls_verdict verdict)
{
    ret->verdict = verdict;
    ret->detail = verdict == TLS_VALID ? NULL : str_dup("has expired at 2020-01-01T00:00:00Z");
    memcpy(ret->leaf_sha256, newest, sizeof(newest));
    ret->leaf_sha256[0] = first_octet;
    ret->not_after = (struct wall){1800000000000};
    ret->issuer = str_dup("Test CA");
}

static struct err *behave(enum behaviour behaviour, struct tls_probe_result *ret)
{
    switch (behaviour) {
    case GOOD:
        fill(ret, newest[0], TLS_VALID);
        return NULL;
    case OTHER_LEAF:
        fill(ret, 99, TLS_VALID);
        return NULL;
    case NOT_VALID:
        fill(ret, 99, TLS_EXPIRED);
        return NULL;
    case HOST_UNKNOWN:
        return tls_fail(
                ERR(ERR_CONFIG, "does not serve it (host-unknown)"), TLS_FAILURE_HOST_UNKNOWN);
    case REFUSED:
        return ERR_UV(UV_ECONNREFUSED, "127.0.0.9:1");
    case NO_CERTIFICATE:
        return tls_fail(ERR(ERR_RETRY, "no usable certificate"), TLS_FAILURE_REFUSED);
    case NO_ROOTS:
        return ERR(ERR_CONFIG, "root certificates /nonexistent");
    case NO_MEMORY:
        return err_nomem();
    }
    return NULL;
}

static struct err *handshake(void *arg, const struct tls_probe_request *request,
        struct tls_probe_result *ret) MAY_SUSPEND;
static struct err *handshake(
        void *arg, const struct tls_probe_request *request, struct tls_probe_result *ret)
{
    struct node *node = arg;
    enum proof_port port = port_of(&request->to);
    char ip[ADDR_TEXT_MAX];
    addr_format_ip(&request->to, ip);
    assert_true(node->n_tls < ARRAY_SIZE(node->seen));
    snprintf(node->seen[node->n_tls++], sizeof(node->seen[0]), "%s %d %s %s %s %s",
            proof_port_name(port), request->start, request->stream_to,
            request->sni != NULL ? request->sni->text : "-",
            request->alpn != NULL ? request->alpn : "-", request->expect->text);
    assert_int_equal(request->total_ms, 10 * CLOCK_SEC);
    assert_string_equal(request->roots, "/roots.pem");
    if (++node->now[port] > node->most)
        node->most = node->now[port];
    if (++node->now_of_all > node->most_of_all)
        node->most_of_all = node->now_of_all;
    struct err *e = fiber_sleep(20);
    node->now_of_all--;
    node->now[port]--;
    if (e != NULL)
        return e;
    if (node->first_address_dead && strcmp(ip, "127.0.0.9") == 0)
        return ERR_UV(UV_ECONNREFUSED, "%s", ip);
    enum behaviour behaviour = node->by_port[port];
    if (node->only != NULL && strcmp(node->only, request->expect->text) != 0)
        behaviour = GOOD;
    if (request->sni == NULL && node->without_sni != GOOD)
        behaviour = node->without_sni;
    return behave(behaviour, ret);
}

static struct err *upload(void *arg, const char *ca_bundle, const struct http_request *request,
        struct http_reply *ret)
{
    struct node *node = arg;
    node->n_upload++;
    node->upload_as_it_should = strcmp(request->url, "https://im.example.org/upload") == 0 &&
                                strcmp(ca_bundle, "/roots.pem") == 0 && !request->insecure &&
                                addr_port(request->connect_to) == 5443 &&
                                request->redirects == HTTP_REDIRECT_NONE;
    if (node->upload == 0)
        return ERR_FROM(ERR_CONFIG, ERR_FROM_CURL, 60, "certificate not trusted");
    ret->status = node->upload;
    return NULL;
}

/* ---- running ---- */

struct flow {
    struct world *world;
    struct proof_request request;
    struct proof_result result;
};

static struct err *flow(void *arg) MAY_SUSPEND;
static struct err *flow(void *arg)
{
    struct flow *f = arg;
    return proof_run(f->world, &f->request, &f->result);
}

static void add(struct name_list *list, const char *text)
{
    struct name name;
    assert_ok(name_parse(text, &name));
    name_list_add(list, &name);
}

struct setup {
    struct node node;
    struct flow flow;
    struct name_list names;
    enum fake_fault fault;
    size_t fault_at;
};

static struct setup *setup_new(const char *host, const char *component)
{
    struct setup *s = MEM_NEW(struct setup);
    s->node.upload = 404;
    add(&s->names, host);
    if (component != NULL)
        add(&s->names, component);
    s->flow.request = (struct proof_request){.node = "node1",
            .probe_host = "ejabberd.test",
            .names = &s->names,
            .roots = "/roots.pem",
            .leaf_sha256 = newest};
    memcpy(s->flow.request.ports, numbers, sizeof(numbers));
    return s;
}

static void setup_free(struct setup *s)
{
    proof_result_done(&s->flow.result);
    name_list_done(&s->names);
    free(s);
}
DEFINE_FREEP(struct setup, setup_free)
#define AUTO_SETUP AUTO(setup_freep)

static void world_of(struct setup *s, struct fake_world *fw)
{
    fake_world_init(fw);
    fw->tls_probe = handshake;
    fw->tls_arg = &s->node;
    fw->http = upload;
    fw->http_arg = &s->node;
    fw->resolve = resolve;
    fw->resolve_arg = &s->node;
    fw->fault = s->fault;
    fw->fault_at = s->fault_at;
    s->flow.world = &fw->world;
    s->flow.request.host = &s->names.v[0];
}

static struct err *run(struct setup *s)
{
    struct fake_world fw;
    world_of(s, &fw);
    struct err *e = fake_world_run(&fw, flow, &s->flow);
    for (size_t i = 0; i < PROOF_PORT_MAX; i++)
        assert_int_equal(s->node.now[i], 0);
    fake_world_done(&fw);
    return e;
}

static struct setup *standard(void)
{
    return setup_new("im.example.org", "upload.im.example.org");
}

static const struct proof_check *find(
        const struct setup *s, enum proof_port port, const char *name, bool sni)
{
    for (size_t i = 0; i < s->flow.result.n; i++) {
        const struct proof_check *c = &s->flow.result.checks[i];
        if (c->port == port && c->sni == sni && strcmp(c->name.text, name) == 0)
            return c;
    }
    return NULL;
}

/* ---- which checks ---- */

static void test_all_good(void **state)
{
    static const char *const expected[] = {"c2s im.example.org sni", "c2s im.example.org -",
            "s2s im.example.org sni", "s2s im.example.org -", "s2s upload.im.example.org sni",
            "s2s upload.im.example.org -", "https im.example.org sni",
            "https upload.im.example.org sni", "https im.example.org - reported",
            "c2s_tls im.example.org sni", "c2s_tls upload.im.example.org sni",
            "c2s_tls im.example.org - reported", "s2s_tls im.example.org sni",
            "s2s_tls upload.im.example.org sni", "s2s_tls im.example.org - reported"};
    AUTO_SETUP struct setup *s = standard();
    assert_ok(run(s));
    const struct proof_result *r = &s->flow.result;
    assert_int_equal(r->n, ARRAY_SIZE(expected));
    for (size_t i = 0; i < r->n; i++) {
        const struct proof_check *c = &r->checks[i];
        bool reported = c->state == PROOF_REPORTED;
        AUTO_FREE char *text = str_printf("%s %s %s%s", proof_port_name(c->port), c->name.text,
                c->sni ? "sni" : "-", reported ? " reported" : "");
        assert_string_equal(text, expected[i]);
        assert_true(reported || c->state == PROOF_OK);
        assert_memory_equal(c->leaf_sha256, newest, 32);
        assert_int_equal(c->not_after.ms, 1800000000000);
        assert_null(c->detail);
    }
    assert_int_equal(r->n_failed, 0);
    assert_int_equal(r->upload_status, 404);
    assert_true(s->node.upload_as_it_should);
    assert_int_equal(s->node.n_upload, 1);
}

static bool was_seen(const struct setup *s, const char *what)
{
    for (size_t i = 0; i < s->node.n_tls; i++) {
        if (strcmp(s->node.seen[i], what) == 0)
            return true;
    }
    return false;
}

/* The stream is addressed by U-label, SNI and certificate have the A-label. */
static void test_what_is_asked(void **state)
{
    AUTO_SETUP struct setup *s = setup_new("im.b\xc3\xbc"
                                           "cher.example",
            NULL);
    s->flow.request.ports[PROOF_HTTPS] = 0;
    assert_ok(run(s));
    assert_true(was_seen(s, "c2s 1 im.b\xc3\xbc"
                            "cher.example im.xn--bcher-kva.example - im.xn--bcher-kva.example"));
    assert_true(was_seen(s, "s2s 2 im.b\xc3\xbc"
                            "cher.example - - im.xn--bcher-kva.example"));
    assert_true(was_seen(s, "c2s_tls 0 im.b\xc3\xbc"
                            "cher.example im.xn--bcher-kva.example xmpp-client "
                            "im.xn--bcher-kva.example"));
    assert_true(was_seen(s, "s2s_tls 0 im.b\xc3\xbc"
                            "cher.example - xmpp-server im.xn--bcher-kva.example"));
    assert_int_equal(s->flow.result.upload_status, 0);
    assert_int_equal(s->node.n_upload, 0);
}

static void test_ports_left_out(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    memset(s->flow.request.ports, 0, sizeof(s->flow.request.ports));
    s->flow.request.ports[PROOF_C2S] = 5222;
    assert_ok(run(s));
    assert_int_equal(s->flow.result.n, 2);
    AUTO_SETUP struct setup *none = standard();
    memset(none->flow.request.ports, 0, sizeof(none->flow.request.ports));
    assert_ok(run(none));
    assert_int_equal(none->flow.result.n, 0);
    assert_int_equal(none->node.n_tls, 0);
}

static void add_many(struct setup *s)
{
    for (int i = 0; i < 20; i++) {
        AUTO_FREE char *text = str_printf("c%d.im.example.org", i);
        add(&s->names, text);
    }
    /* A wildcard is no name to ask for. */
    struct name wildcard = {.text = "*.im.example.org"};
    name_list_add(&s->names, &wildcard);
}

static void test_at_most_four_per_port(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    add_many(s);
    assert_ok(run(s));
    assert_int_equal(s->flow.result.n, 2 + 22 * 2 + 3 * (22 + 1));
    assert_int_equal(s->node.n_tls, s->flow.result.n);
    assert_int_equal(s->node.most, PROOF_PORT_AT_ONCE);
    /* No port waits for another. */
    assert_int_equal(s->node.most_of_all, 2 + 4 * PROOF_PORT_AT_ONCE);
}

struct two {
    struct flow *flow[2];
};

static struct err *both(void *arg) MAY_SUSPEND;
static struct err *both(void *arg)
{
    struct two *two = arg;
    struct fiber_group group;
    fiber_group_init(&group);
    fiber_group_spawn(&group, "first", flow, two->flow[0]);
    fiber_group_spawn(&group, "second", flow, two->flow[1]);
    return fiber_group_wait(&group);
}

/* Two hosts of one node, proved together. */
static void test_limits_are_shared(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    AUTO_SETUP struct setup *t = standard();
    add_many(s);
    add_many(t);
    struct proof_limits limits;
    proof_limits_init(&limits);
    struct fake_world fw;
    world_of(s, &fw);
    t->flow.world = &fw.world;
    t->flow.request.host = &t->names.v[0];
    s->flow.request.limits = t->flow.request.limits = &limits;
    struct two two = {{&s->flow, &t->flow}};
    assert_ok(fake_world_run(&fw, both, &two));
    fake_world_done(&fw);
    assert_int_equal(s->node.n_tls, s->flow.result.n + t->flow.result.n);
    assert_int_equal(s->node.most, PROOF_PORT_AT_ONCE);
}

/* ---- what is found ---- */

static void test_states(void **state)
{
    static const struct {
        enum behaviour behaviour;
        enum proof_state state;
        const char *part;
    } cases[] = {
            {OTHER_LEAF, PROOF_OTHER_CERTIFICATE,
                    "another certificate than the newest: valid until 2027-01-15T08:00:00Z, issued "
                    "by Test CA"},
            {NOT_VALID, PROOF_NOT_VALID, "has expired at 2020"},
            {HOST_UNKNOWN, PROOF_NOT_SERVED,
                    "load the module that serves it, or remove it from components"},
            {REFUSED, PROOF_FAILED, "127.0.0.9:1"},
            {NO_CERTIFICATE, PROOF_FAILED, "no usable certificate"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_SETUP struct setup *s = standard();
        s->node.by_port[PROOF_S2S] = cases[i].behaviour;
        s->node.only = "upload.im.example.org";
        assert_ok(run(s));
        assert_int_equal(s->flow.result.n_failed, 2);
        for (int sni = 0; sni < 2; sni++) {
            const struct proof_check *c = find(s, PROOF_S2S, s->node.only, sni != 0);
            assert_int_equal(c->state, cases[i].state);
            if (strstr(c->detail, cases[i].part) == NULL)
                fail_msg("expected \"%s\" in \"%s\"", cases[i].part, c->detail);
        }
        assert_int_equal(find(s, PROOF_S2S, "im.example.org", true)->state, PROOF_OK);
    }
}

static void test_host_itself_unknown(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    s->node.by_port[PROOF_C2S] = HOST_UNKNOWN;
    assert_ok(run(s));
    const struct proof_check *c = find(s, PROOF_C2S, "im.example.org", true);
    assert_int_equal(c->state, PROOF_NOT_SERVED);
    assert_non_null(strstr(c->detail, "add it to hosts in ejabberd.yml"));
}

static void test_any_valid_one(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    s->node.by_port[PROOF_HTTPS] = OTHER_LEAF;
    s->flow.request.leaf_sha256 = NULL;
    assert_ok(run(s));
    assert_int_equal(s->flow.result.n_failed, 0);
}

/* On the direct ports what is served without SNI is looked at and counts for nothing. */
static void test_without_sni(void **state)
{
    static const enum behaviour all[] = {OTHER_LEAF, NOT_VALID, REFUSED};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        AUTO_SETUP struct setup *s = standard();
        s->node.without_sni = all[i];
        assert_ok(run(s));
        const struct proof_check *c = find(s, PROOF_HTTPS, "im.example.org", false);
        assert_int_equal(c->state, PROOF_REPORTED);
        assert_non_null(c->detail);
        assert_int_equal(s->flow.result.n_failed, 3); /* c2s and twice s2s */
    }
}

static void test_upload_status(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    s->node.upload = 503;
    assert_ok(run(s));
    assert_int_equal(s->flow.result.upload_status, 503);
    AUTO_SETUP struct setup *untrusted = standard();
    untrusted->node.upload = 0;
    assert_ok(run(untrusted));
    assert_int_equal(untrusted->flow.result.upload_status, 0);
    assert_int_equal(untrusted->flow.result.n_failed, 0);
}

/* ---- addresses ---- */

static void test_second_address(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    s->node.first_address_dead = true;
    assert_ok(run(s));
    assert_int_equal(s->flow.result.n_failed, 0);
    assert_int_equal(s->node.n_tls, 2 * s->flow.result.n);
}

static void test_no_second_try_after_answer(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    for (int i = 0; i < PROOF_PORT_MAX; i++)
        s->node.by_port[i] = NO_CERTIFICATE;
    assert_ok(run(s));
    assert_int_equal(s->node.n_tls, s->flow.result.n);
}

static void test_no_address(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    s->node.no_address = true;
    assert_ok(run(s));
    assert_int_equal(s->flow.result.n, 15);
    assert_int_equal(s->flow.result.n_failed, 12);
    assert_int_equal(s->node.n_tls, 0);
    assert_string_equal(s->flow.result.checks[0].detail, "ejabberd.test: has no address");
}

/* ---- faults of our own ---- */

static void test_own_faults(void **state)
{
    AUTO_SETUP struct setup *s = standard();
    s->node.by_port[PROOF_HTTPS] = NO_ROOTS;
    assert_err(run(s), ERR_CONFIG, "ports of node1: root certificates");
    assert_int_equal(s->flow.result.n, 0);
    AUTO_SETUP struct setup *nomem = standard();
    nomem->node.by_port[PROOF_S2S] = NO_MEMORY;
    assert_err(run(nomem), ERR_NOMEM, "");
}

static void test_canceled_anywhere(void **state)
{
    for (size_t at = 1; at <= 17; at++) {
        AUTO_SETUP struct setup *s = standard();
        s->fault = FAKE_FAULT_CANCEL;
        s->fault_at = at;
        assert_err(run(s), ERR_CANCELED, "node1");
        assert_null(s->flow.result.checks);
    }
}

static void test_names_of_states(void **state)
{
    assert_string_equal(proof_state_name(PROOF_OK), "ok");
    assert_string_equal(proof_state_name(PROOF_OTHER_CERTIFICATE), "other_certificate");
    assert_string_equal(proof_state_name(PROOF_NOT_VALID), "not_valid");
    assert_string_equal(proof_state_name(PROOF_NOT_SERVED), "not_served");
    assert_string_equal(proof_state_name(PROOF_FAILED), "failed");
    assert_string_equal(proof_state_name(PROOF_REPORTED), "reported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_all_good),
            cmocka_unit_test(test_what_is_asked),
            cmocka_unit_test(test_ports_left_out),
            cmocka_unit_test(test_at_most_four_per_port),
            cmocka_unit_test(test_limits_are_shared),
            cmocka_unit_test(test_states),
            cmocka_unit_test(test_host_itself_unknown),
            cmocka_unit_test(test_any_valid_one),
            cmocka_unit_test(test_without_sni),
            cmocka_unit_test(test_upload_status),
            cmocka_unit_test(test_second_address),
            cmocka_unit_test(test_no_second_try_after_answer),
            cmocka_unit_test(test_no_address),
            cmocka_unit_test(test_own_faults),
            cmocka_unit_test(test_canceled_anywhere),
            cmocka_unit_test(test_names_of_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
