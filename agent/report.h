/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people see while something runs, and the result per host that both the text and the JSON at
 * the end are made of. On a terminal the progress is live: which name is at which step, for how
 * long; elsewhere one line per host at the end.
 */
#pragma once

#include "acme/issue.h"
#include "agent/plan.h"
#include "hooks/proof.h"

enum host_outcome {
    HOST_GOOD,       /* nothing to do: certificate good and deployed */
    HOST_DONE,       /* issued and/or deployed now, proved */
    HOST_UNDEPLOYED, /* issued, but not deployed or not proved */
    HOST_WAITING,    /* for DNS or a back-off; the live certificate (if any) is still good */
    HOST_FAILED,
    HOST_OUTCOME_MAX
};
const char *host_outcome_name(enum host_outcome outcome); /* "good", "done", …; stable, for JSON */

struct node_result {
    const char *node; /* borrowed from the configuration */
    bool reloaded;
    struct proof_result proof;
    struct err *error;
    bool rolled_back;
};

struct host_result {
    const struct host *host; /* borrowed from the host set */
    enum host_outcome outcome;
    struct plan plan;        /* as it was decided */
    struct host_check check; /* n == 0: none was made */
    uint64_t generation;     /* newest one, 0: none */
    struct cert_info cert;   /* of it */
    bool issued, installed;
    size_t n_nodes;
    struct node_result *nodes; /* of a deploy */
    struct err *error;         /* why it failed or is not deployed */
    size_t n_failed;
    struct acme_failed_name *failed; /* names that the CA could not validate */
    struct wall next;                /* next attempt; ms == 0: not known */
};
void host_result_done(struct host_result *result);

struct report;
enum report_style { REPORT_PLAIN, REPORT_LIVE, REPORT_SILENT };
struct report_options {
    enum report_style style;
    bool color;
    int fd; /* where the live display goes: stderr */
};
struct report *report_new(struct world *world, const struct report_options *options);
void report_free(struct report *report);
DEFINE_FREEP(struct report, report_free)

/* ---- while it runs; none of them suspends ---- */

void report_step(struct report *report, const struct name *host, const struct name *name,
        enum acme_step step, const char *detail);
/* A step of the whole host: "checking DNS", "reloading ejabberd", "proving". NULL: finished. */
void report_host(struct report *report, const struct name *host, const char *what);
/* Redraws the elapsed times; called about twice a second. */
void report_tick(struct report *report);
/* Clears the live display before something else is printed. */
void report_pause(struct report *report);

/* ---- at the end ---- */

/* Two lines at most per finding: what, and what to do (design 10). color as in report_options. */
void report_print_result(
        struct buf *out, const struct host_result *result, struct wall now, bool color);
json_t *report_result_json(const struct host_result *result);
json_t *report_check_json(const struct host_check *check);
json_t *report_cert_json(const struct cert_info *cert, uint64_t generation);
json_t *report_error_json(const struct err *e);
json_t *report_proof_json(const struct proof_result *proof);
void report_put_time(json_t *object, const char *key, struct wall t); /* null for ms == 0 */
/* The findings of a check, two lines each; *ret_n says how many. */
void report_print_check(
        struct buf *out, const struct name *host, const struct host_check *check, bool color);
void report_print_proof(struct buf *out, const struct proof_result *proof, const char *indent);

/* Exit status of design 5 from the outcomes: 0, 3 or 4. */
int report_exit_status(const struct host_result *results, size_t n);
