/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of http-01 share: http01.c (solver and table of tokens), http01_webroot.c (files
 * and journal, blocking), http01_responder.c, http01_probe.c. Nobody else includes it.
 */
#pragma once

#include "acme/http01.h"

#define HTTP01_PATH "/.well-known/acme-challenge/"

struct http01_token {
    char token[ACME_TOKEN_MAX];
    char *answer; /* the key authorization */
};

struct http01 {
    struct world *world;
    char *token_dir; /* NULL: own responder */
    char *journal_path;
    struct http_server *server;
    struct acme_solver solver;

    /* Everything presented and not yet removed. The journal lists it: version counts changes of the
     * table, journal_version is the one on disk; one writer at a time. */
    struct http01_token *tokens;
    size_t n_tokens;
    uint64_t version;
    uint64_t journal_version;
    struct fiber_sem journal_sem;
};

/* ---- http01.c ---- */

/* NULL: no such token. */
const char *http01_answer(const struct http01 *h, const char *token);
struct err *http01_present(struct http01 *h, const char *token, const char *answer)
        MAY_SUSPEND NODISCARD;
struct err *http01_remove(struct http01 *h, const char *token) MAY_SUSPEND NODISCARD;

/* ---- http01_responder.c ---- */

struct err *http01_respond(struct http01 *h, const struct http01_options *options) NODISCARD;

/* ---- http01_webroot.c; all of it blocks ---- */

/* Writes the token's file so that no reader ever sees a part of it. */
struct err *http01_file_write(const char *dir, const char *token, const char *answer) NODISCARD;
/* Is the file there with this answer? */
struct err *http01_file_check(
        const char *dir, const char *token, const char *answer, bool *ret_good) NODISCARD;
struct err *http01_file_remove(const char *dir, const char *token) NODISCARD;
/* Can we write there? */
struct err *http01_dir_check(const char *dir) NODISCARD;
/* Makes its directory. */
struct err *http01_journal_prepare(const char *path) NODISCARD;
/* One name a line; NULL or "" removes the journal. */
struct err *http01_journal_write(const char *path, const char *names) NODISCARD;
/* The names in it; none if there is no journal. What is no token is left out. */
struct err *http01_journal_load(const char *path, struct strv *ret) NODISCARD;
/* Removes the files whose names are in the journal, then the journal. */
struct err *http01_journal_sweep(const char *path, const char *dir) NODISCARD;
