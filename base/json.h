/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from outside, strictly: size and depth are checked before jansson sees a byte (its parser
 * recurses, and nesting is the peer's choice), duplicate keys are refused. Typed getters name what
 * was expected and found.
 *
 *     AUTO_JSON json_t *root = NULL;
 *     TRY(json_parse(text, len, "order", &root));
 *     TRY(json_get_str(root, "status", 32, &status));
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"

#define JSON_DEPTH_MAX 32
#define JSON_SIZE_MAX  ((size_t)32 * 1024 * 1024)
/* For AUTO_JSON: jansson has json_decrefp() of its own. */
#define AUTO_JSON AUTO(json_decrefp)

/* ERR_PROTOCOL "what: …"; must be an object. */
struct err *json_parse(const char *text, size_t len, const char *what, json_t **ret) NODISCARD;
/* The same for an array or an object. */
struct err *json_parse_any(const char *text, size_t len, const char *what, json_t **ret) NODISCARD;
/* Required members; strings are borrowed from the object, at most max bytes, no control characters.
 */
struct err *json_get_str(const json_t *object, const char *key, size_t max, const char **ret)
        NODISCARD;
struct err *json_get_int(
        const json_t *object, const char *key, int64_t min, int64_t max, int64_t *ret) NODISCARD;
struct err *json_get_bool(const json_t *object, const char *key, bool *ret) NODISCARD;
struct err *json_get_array(const json_t *object, const char *key, size_t max, const json_t **ret)
        NODISCARD;
struct err *json_get_object(const json_t *object, const char *key, const json_t **ret) NODISCARD;
/* Optional members: absent or null leaves *ret at NULL / at what it was. */
struct err *json_opt_str(const json_t *object, const char *key, size_t max, const char **ret)
        NODISCARD;
struct err *json_opt_int(
        const json_t *object, const char *key, int64_t min, int64_t max, int64_t *ret) NODISCARD;
struct err *json_opt_bool(const json_t *object, const char *key, bool *ret) NODISCARD;
/* Compact text, owned; only for documents made by us. */
ATTR_MALLOC char *json_text(const json_t *value);
ATTR_MALLOC char *json_text_pretty(const json_t *value);
/* Setters that end the process on lack of memory, like mem.h. NULL strings become null. */
void json_put_str(json_t *object, const char *key, const char *value);
void json_put_int(json_t *object, const char *key, int64_t value);
void json_put_bool(json_t *object, const char *key, bool value);
void json_put(json_t *object, const char *key, json_t *owned);
void json_push(json_t *array, json_t *owned);
