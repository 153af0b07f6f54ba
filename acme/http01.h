/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http-01 (RFC 8555 8.3): tokens as files in a directory that a web server serves, or from our own
 * responder; and the probe that fetches a token the way a validator does, before the CA is asked.
 *
 * In the web root another ACME client may work too (mailcow's empties the directory after each
 * run): verify() writes a lost token again. Foreign files are never touched; ours are journalled by
 * name in a file, so that what a crash left is removed.
 */
#pragma once

#include "acme/challenge.h"
#include "base/http_server.h"
#include "base/world.h"

struct http01;
struct http01_options {
    const char *token_dir; /* the challenge directory itself; NULL: own responder */
    struct addr listen;    /* of the responder */
    int listen_fd;         /* > 2: already bound (socket activation) */
    const char
            *journal_path; /* file with one token name a line; rewritten before a token is made */
};
/* Starts the responder, or checks that token_dir can be written; tokens named in the journal of a
 * killed run stay until they are presented again, or http01_settle(). ERR_CONFIG with the fix for a
 * directory that is missing or not writable, a port that is taken. Blocks on disk shortly. */
struct err *http01_open(struct world *world, const struct http01_options *options,
        struct http01 **ret) MAY_SUSPEND NODISCARD;
/* The end of a run: removes what an earlier one left and nobody has presented again. */
struct err *http01_settle(struct http01 *h) MAY_SUSPEND NODISCARD;
/* The same where http01_open() was not needed: does nothing if the journal is empty. */
struct err *http01_sweep(const struct http01_options *options) MAY_SUSPEND NODISCARD;
void http01_close(struct http01 *h);
DEFINE_FREEP(struct http01, http01_close)
/* Borrowed; lives as long as h. */
const struct acme_solver *http01_solver(struct http01 *h);
/* Where the responder listens (the port in use, if 0 was asked for); AF_UNSPEC with token_dir. */
struct addr http01_address(const struct http01 *h);

enum http01_probe_verdict {
    HTTP01_PROBE_OK,          /* our token came back */
    HTTP01_PROBE_OTHER,       /* something answered, with something else */
    HTTP01_PROBE_UNREACHABLE, /* refused, timed out, no route: may be hairpin NAT */
};
struct http01_probe_result {
    enum http01_probe_verdict verdict;
    struct addr peer; /* AF_UNSPEC where there was no connection */
    long status;      /* HTTP status, or 0 */
    char *detail;     /* sentence: what was found, where (with redirects followed) */
};
void http01_probe_result_done(struct http01_probe_result *result);
/* Publishes a random probe token, fetches http://<name>/.well-known/acme-challenge/<token> at the
 * address given (DNS was looked up before; its port, or 80 where that is 0), following redirects as
 * the CA does, and removes it. Errors are our own faults and cancellation only. */
struct err *http01_probe(struct http01 *h, const struct name *name, const struct addr *at,
        struct http01_probe_result *ret) MAY_SUSPEND NODISCARD;
