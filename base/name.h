/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host names, normalised once at the border: lower-case A-labels (IDNA2008, UTS 46
 * non-transitional), LDH, at least two labels, no trailing dot, at most 253 octets and 63 per
 * label. A struct name that exists is valid and safe as one path component. Wildcards
 * ("*.im.example.org") are names too where a function says so.
 */
#pragma once

#include "base/err.h"

#define NAME_MAX_TEXT 254
struct name {
    char text[NAME_MAX_TEXT];
};

/* From outside: U-labels, upper case and a trailing dot are accepted; addresses, empty labels,
 * underscores, spaces, a leading or trailing hyphen are not. ERR_CONFIG with what is wrong: "'a..b'
 * is not a host name: empty label". */
struct err *name_parse(const char *text, struct name *ret) NODISCARD;
/* The same, or "*." before such a name (identifiers of ACME, names in certificates). */
struct err *name_parse_wildcard(const char *text, struct name *ret) NODISCARD;
/* One label (a prefix or component): same rules, no dot. */
struct err *name_parse_label(const char *text, struct name *ret) NODISCARD;
/* label "." parent, or parent where label is ""; the label may be "*". */
struct err *name_join(const char *label, const struct name *parent, struct name *ret) NODISCARD;
bool name_equal(const struct name *a, const struct name *b);
/* true: name is below (or equal to) zone. */
bool name_is_below(const struct name *name, const struct name *zone);
/* The name as people write it (U-labels), for display and for ejabberd's stream "to" (it wants
 * U-labels). Owned. */
ATTR_MALLOC char *name_to_unicode(const struct name *name);
bool name_is_wildcard(const struct name *name);
/* Does a certificate name (exact, or *.parent for exactly one label) cover this name? */
bool name_covers(const char *cert_name, const struct name *name);

struct name_list {
    struct name *v;
    size_t n;
};
void name_list_add(struct name_list *l, const struct name *name); /* duplicates are dropped */
bool name_list_has(const struct name_list *l, const struct name *name);
void name_list_done(struct name_list *l);
