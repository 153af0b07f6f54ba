/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of acme_issue() against the imitation CA, with a solver, hooks and notes that remember
 * what was done to them. Private to the tests of issue.c.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "acme/issue.h"
#include "tests/lib/fake_ca.h"
#include "tests/lib/test_err.h"

#define SCENE_ANSWERS_MAX 128

struct scene_answer {
    char name[NAME_MAX_TEXT];
    char token[ACME_TOKEN_MAX];
    unsigned presented, removed;
    bool there;
};

struct scene {
    struct fake_world fw;
    struct fake_ca ca;
    char dir[64];
    struct name_list names;
    struct key *cert_key;

    /* How the next run goes. */
    const char *challenge; /* type of the solver */
    bool use_cache;        /* directory cache in dir */
    const char *fail_present, *fail_verify;
    struct err *(*before_issue)(struct scene *s); /* after the account was opened */
    void *before_arg;
    int64_t validation_ms, finalize_ms;
    size_t flows; /* so many certificates at once; 0: 1 */
    bool twice;   /* a second certificate after the first, on the same client */
    size_t max_new_orders, nonces_per_second;

    /* What it left. */
    char *order_url; /* the durable note */
    unsigned made, dropped, csrs, failed_steps;
    struct scene_answer answers[SCENE_ANSWERS_MAX];
    size_t n_answers;
    struct acme_issue_result result;
    int64_t elapsed_ms; /* of the last certificate */
    uint64_t requests;
};

void scene_init(struct scene *s, const char *names); /* by commas */
void scene_done(struct scene *s);
/* As a fresh process would do it: opens client and account, issues, closes. */
struct err *scene_run(struct scene *s) NODISCARD;
/* Runs and expects a certificate for all names. */
void scene_expect_issued(struct scene *s);
/* What must hold after every run, good or bad. */
void scene_check_invariants(struct scene *s);
/* Forgets answers and counters, keeps notes and the account. */
void scene_clear(struct scene *s);
