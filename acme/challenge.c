/* SPDX-License-Identifier: Apache-2.0 */
#include "acme/challenge.h"

struct err *acme_solver_present(const struct acme_solver *s, const struct acme_challenge *c)
{
    return s->present(s->arg, c);
}

struct err *acme_solver_wait_visible(
        const struct acme_solver *s, const struct acme_challenge *const *c, size_t n)
{
    return s->wait_visible == NULL ? fiber_check() : s->wait_visible(s->arg, c, n);
}

struct err *acme_solver_verify(const struct acme_solver *s, const struct acme_challenge *c)
{
    return s->verify == NULL ? fiber_check() : s->verify(s->arg, c);
}

struct err *acme_solver_remove(const struct acme_solver *s, const struct acme_challenge *c)
{
    return s->remove(s->arg, c);
}
