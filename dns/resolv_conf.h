/* SPDX-License-Identifier: Apache-2.0 */
/* The nameserver lines of resolv.conf(5); everything else in it is for host names that people type.
 */
#pragma once

#include "base/addr.h"

/* At most max, in order, port 53; what can't be used (a link-local address with a scope id, no
 * address at all) is left out. Returns how many. */
size_t dns_resolv_conf_parse(const char *text, struct addr *ret, size_t max);
/* ERR_CONFIG if the file is missing, or names no server. */
struct err *dns_resolv_conf_read(const char *path, struct addr *ret, size_t max, size_t *ret_n)
        NODISCARD;
