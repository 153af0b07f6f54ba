/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base64url without padding (RFC 4648 5, RFC 7515 2), the alphabet of everything binary in ACME.
 */
#pragma once

#include "base/buf.h"

ATTR_MALLOC char *base64url_encode(const void *data, size_t len);
/* Only characters of the alphabet, at least min and at most max of them (a token of RFC 8555 8.1,
 * which becomes a file name and part of a URL). */
bool base64url_is_token(const char *text, size_t min, size_t max);
/* Appends the decoded bytes to ret. ERR_PROTOCOL for foreign characters, padding, an impossible
 * length or bits set behind the last byte (one value has one spelling). */
struct err *base64url_decode(const char *text, size_t len, struct buf *ret) NODISCARD;
