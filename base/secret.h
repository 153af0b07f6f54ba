/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets: keys, passwords, tokens of APIs. Own type, so that no printf takes them; kept in
 * OpenSSL's secure heap where there is one (locked, not dumped), wiped when freed. secret_reveal()
 * is the only way in, easy to grep for.
 */
#pragma once

#include "base/err.h"

struct secret;

/* Once at start, before threads; without it secrets live on the wiped ordinary heap. */
void secret_heap_init(void);
ATTR_MALLOC struct secret *secret_new(
        const void *data, size_t len); /* copies; the caller wipes its own */
/* Wipes and frees the string given. */
ATTR_MALLOC struct secret *secret_take_str(char *owned);
ATTR_MALLOC struct secret *secret_dup(const struct secret *s);
/* NUL-terminated behind len bytes; valid until freed. ret_len may be NULL. */
const char *secret_reveal(const struct secret *s, size_t *ret_len);
/* Constant time. */
bool secret_equal(const struct secret *a, const void *data, size_t len);
void secret_free(struct secret *s);
DEFINE_FREEP(struct secret, secret_free)
