/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "Worse" (design 7), as plain computation. Certificates are ranked by what a client makes of them:
 *
 *     0  nothing, damaged, expired: no client takes it
 *     1  self-signed and untrusted: the start certificate, however long it is valid
 *     2  untrusted, or of a staging directory
 *     3  trusted
 *
 * A higher rank replaces a lower one whatever its names and dates are, a lower one never replaces a
 * higher one, and between equals names and dates decide. An expired one ranks 0, so that a smaller
 * certificate still rescues a host whose live one has run out.
 */
#include "agent/store_private.h"

enum rank { RANK_USELESS, RANK_SELF_SIGNED, RANK_UNTRUSTED, RANK_TRUSTED };

static const char *const rank_names[] = {
        [RANK_USELESS] = "of no use",
        [RANK_SELF_SIGNED] = "self-signed",
        [RANK_UNTRUSTED] = "untrusted or of a staging directory",
        [RANK_TRUSTED] = "trusted",
};

static enum rank rank_of(const struct store_candidate *c, struct wall now)
{
    if (c == NULL || !wall_before(now, c->cert->not_after))
        return RANK_USELESS;
    if (c->trusted && !c->staging)
        return RANK_TRUSTED;
    if (c->cert->self_signed && !c->trusted)
        return RANK_SELF_SIGNED;
    return RANK_UNTRUSTED;
}

/* The first wanted name that the live one covers and the candidate doesn't. */
static const struct name *lost_name(const struct cert_info *live, const struct cert_info *candidate,
        const struct name_list *wanted)
{
    for (size_t i = 0; i < wanted->n; i++) {
        if (cert_covers(live, &wanted->v[i]) && !cert_covers(candidate, &wanted->v[i]))
            return &wanted->v[i];
    }
    return NULL;
}

bool store_may_replace(const struct store_candidate *live, const struct store_candidate *candidate,
        const struct store_install *install, char **ret_why)
{
    char a[WALL_TEXT_MAX], b[WALL_TEXT_MAX];
    const struct cert_info *cert = candidate->cert;
    if (!wall_before(install->now, cert->not_after)) {
        *ret_why = str_printf("it has expired at %s", wall_format(cert->not_after, a));
        return false;
    }
    enum rank old = rank_of(live, install->now), new = rank_of(candidate, install->now);
    if (old != RANK_USELESS && wall_before(install->now, cert->not_before)) {
        *ret_why = str_printf("it is not valid before %s", wall_format(cert->not_before, a));
        return false;
    }
    if (new != old) {
        if (new < old)
            *ret_why = str_printf("it is %s, the live one is %s", rank_names[new], rank_names[old]);
        return new > old;
    }
    const struct name *lost = lost_name(live->cert, cert, install->wanted);
    if (lost != NULL) {
        *ret_why = str_printf("it lacks %s, which the live one has", lost->text);
        return false;
    }
    if (wall_before(cert->not_after, live->cert->not_after) && !install->allow_earlier_expiry) {
        *ret_why = str_printf("it expires at %s, before the live one (%s)",
                wall_format(cert->not_after, a), wall_format(live->cert->not_after, b));
        return false;
    }
    return true;
}
