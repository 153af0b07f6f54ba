/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a solver is: something that makes a challenge's answer visible to the CA and takes it away
 * again. acme/ knows no more; the agent binds web root, responder or DNS to it. All calls come from
 * fibers, several at once for the names of one order.
 */
#pragma once

#include "base/fiber.h"
#include "base/name.h"

#define ACME_TOKEN_MAX 129
struct acme_challenge {
    struct name name; /* of the identifier, without "*." */
    bool wildcard;
    const char *type;           /* "http-01", "dns-01" */
    char token[ACME_TOKEN_MAX]; /* checked: base64url, 22 to 128 characters (RFC 8555 8.1) */
    char *key_authorization;    /* token "." thumbprint; secret towards logs */
};

struct acme_solver {
    const char *type; /* the one challenge type it solves */
    /* Journals, then publishes. Called again after a crash or when it was lost: idempotent. */
    struct err *(*present)(void *arg, const struct acme_challenge *challenge);
    /* All answers of the order together: returns when the CA may look. May be NULL. */
    struct err *(*wait_visible)(
            void *arg, const struct acme_challenge *const *challenges, size_t n);
    /* Is it still there, right before the CA is told and while it validates? Publishes again if
     * lost. May be NULL. */
    struct err *(*verify)(void *arg, const struct acme_challenge *challenge);
    /* Takes it away; called under a shield, on every path, also for one whose present() failed. */
    struct err *(*remove)(void *arg, const struct acme_challenge *challenge);
    void *arg;
};

/* Wrappers that carry MAY_SUSPEND. */
struct err *acme_solver_present(const struct acme_solver *s, const struct acme_challenge *c)
        MAY_SUSPEND NODISCARD;
struct err *acme_solver_wait_visible(const struct acme_solver *s,
        const struct acme_challenge *const *c, size_t n) MAY_SUSPEND NODISCARD;
struct err *acme_solver_verify(const struct acme_solver *s, const struct acme_challenge *c)
        MAY_SUSPEND NODISCARD;
struct err *acme_solver_remove(const struct acme_solver *s, const struct acme_challenge *c)
        MAY_SUSPEND NODISCARD;
