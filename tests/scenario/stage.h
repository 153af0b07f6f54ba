/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole installation in a fake world: real configuration, store, flows and files in a temporary
 * directory; an imitation CA, an imitation ejabberd (it loads the live file when it is told to
 * reload, and serves what it has loaded), virtual clocks.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/reconcile.h"
#include "tests/lib/fake_ca.h"
#include "tests/lib/test_err.h"

#define STAGE_HOSTS_MAX 4

/* What the imitation ejabberd has loaded for a host. */
struct stage_served {
    struct name host;
    uint8_t leaf_sha256[32];
    struct wall not_after;
    bool good; /* not the self-signed certificate of the beginning */
};

struct stage {
    struct fake_world fw;
    struct fake_ca ca;
    char dir[64];
    struct config *config;
    size_t n_served;
    struct stage_served served[STAGE_HOSTS_MAX];

    /* Knobs. */
    bool ejabberd_down;
    bool ca_down;
    const char *unserved; /* a name that ejabberd does not know */
    bool refuses_all;     /* from the next reload on handshakes fail, whatever is loaded */
    bool refusing;
    bool refuses_other; /* handshakes fail unless this certificate is loaded */
    uint8_t only[32];
    struct reconcile_options options;

    /* What the last run left. */
    unsigned reloads;
    size_t n_results;
    struct host_result results[STAGE_HOSTS_MAX];
    struct wall next; /* earliest next attempt of all hosts; ms == 0: none */
};

/* domains as in CERTHERD_DOMAINS: "example.org:im,example.net:chat". */
void stage_init(struct stage *s, const char *domains);
void stage_done(struct stage *s);
/* One run as of a fresh process; results stay until the next. */
struct err *stage_run(struct stage *s) NODISCARD;
/* Lets virtual time pass without a process. */
void stage_sleep(struct stage *s, int64_t ms);
/* What must hold at every instant between runs: the live file is absent or good, no token lies
 * about, the CA had nothing to object to. */
void stage_check_invariants(struct stage *s);
/* Good and served: the newest certificate of the host is live and on the wire. */
void stage_expect_served(struct stage *s, size_t i);
