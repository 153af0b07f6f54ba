/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world without an outside: virtual clocks, and network, DNS, TLS and children as functions of
 * the test. Each of them runs on the fiber of the caller and may fiber_sleep() to be slow.
 *
 * Every call is counted, and the n-th can be made to fail or to cancel the flow, so that a scenario
 * can be run again with a fault at each of its waits:
 *
 *     struct fake_world fw;
 *     fake_world_init(&fw);
 *     fw.http = my_server;
 *     fw.http_arg = &server;
 *     for (fw.fault_at = 1; ; fw.fault_at++) {
 *         fw.fault = FAKE_FAULT_ERROR;
 *         struct err *e = fake_world_run(&fw, flow, &arg);
 *         … check what must hold …; err_free(e);
 *         if (fw.calls < fw.fault_at)
 *             break;              // the fault lay behind the end
 *         fake_world_rewind(&fw);
 *     }
 *     fake_world_done(&fw);
 *
 * Callbacks of the test that the flow calls directly (a solver, a hook) become such waits too by
 * calling fake_world_step() first.
 */
#pragma once

#include "base/world.h"

enum fake_call {
    FAKE_HTTP,
    FAKE_DNS,
    FAKE_TLS,
    FAKE_CHILD,
    FAKE_RESOLVE,
    FAKE_STEP,
    FAKE_CALL_MAX
};
enum fake_fault {
    FAKE_FAULT_NONE,
    FAKE_FAULT_ERROR,       /* the call does not happen: an error of fault_kind instead */
    FAKE_FAULT_ERROR_AFTER, /* the call happens, then the error: a reply that got lost */
    FAKE_FAULT_CANCEL,      /* the flow is canceled, then the call goes on */
};

/* 2026-11-22T12:00:00Z */
#define FAKE_WORLD_START ((struct wall){1795348800000})

struct fake_world {
    struct world world; /* what is given to the code under test: &fw.world */
    struct loop *loop;
    uint64_t random_state;

    /* What the outside does; NULL: calls fail with ERR_RETRY "nothing there". */
    struct err *(*http)(void *arg, const char *ca_bundle, const struct http_request *request,
            struct http_reply *ret);
    void *http_arg;
    struct err *(*dns_wire)(
            void *arg, const struct dns_wire_request *request, struct buf *ret_reply);
    void *dns_arg;
    struct err *(*tls_probe)(
            void *arg, const struct tls_probe_request *request, struct tls_probe_result *ret);
    void *tls_arg;
    struct err *(*child)(void *arg, const struct child_request *request, struct child_result *ret);
    void *child_arg;
    struct err *(*resolve)(void *arg, const char *host, uint16_t port,
            struct addr ret[NET_RESOLVE_MAX], size_t *ret_n);
    void *resolve_arg;

    /* Counted since init or rewind. */
    size_t calls;
    size_t calls_of[FAKE_CALL_MAX];
    char last_call[200];  /* "http POST https://…" */
    char fault_call[200]; /* the one that got the fault */

    enum fake_fault fault;
    size_t fault_at;          /* 1: the first call */
    enum err_kind fault_kind; /* ERR_RETRY after init */
    struct fiber *flow;       /* what FAKE_FAULT_CANCEL cancels; set by fake_world_run() */
};

void fake_world_init(struct fake_world *fw);
void fake_world_done(struct fake_world *fw);
/* Counters to zero; clocks, randomness and fault settings stay. */
void fake_world_rewind(struct fake_world *fw);
/* Runs fn as a fiber to the end of it and of all others; its result. */
struct err *fake_world_run(struct fake_world *fw, fiber_fn *fn, void *arg) NODISCARD;
/* Counts a call of the test's own and applies the fault to it. */
struct err *fake_world_step(struct fake_world *fw, const char *what) MAY_SUSPEND NODISCARD;
int64_t fake_world_elapsed(const struct fake_world *fw, struct mono since);

/* For servers of tests. */
void fake_reply_header(struct http_reply *reply, const char *name, const char *value);
void fake_reply_body(struct http_reply *reply, const char *text);
/* The value of a request's header, or NULL. */
const char *fake_request_header(const struct http_request *request, const char *name);
