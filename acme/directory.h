/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory object (RFC 8555 7.1.1) as data, and its copy on disk. Private to client.c.
 */
#pragma once

#include "acme/client.h"

#define ACME_DIRECTORY_MAX ((size_t)64 * 1024)
#define ACME_DIRECTORY_AGE CLOCK_DAY

/* client checks the URLs. */
struct err *acme_directory_decode(const struct acme_client *client, const char *text, size_t len,
        struct acme_directory *ret) NODISCARD;
/* All but when they were fetched. */
bool acme_directory_same(const struct acme_directory *a, const struct acme_directory *b);
/* What path holds for this client's directory URL, if it is younger than a day; *ret_found says. A
 * file that is missing, damaged or another CA's is as good as none. */
struct err *acme_directory_load(struct acme_client *client, const char *path,
        struct acme_directory *ret, bool *ret_found) MAY_SUSPEND NODISCARD;
/* Writes the CA's text in the background: losing it costs one request at the next start. */
void acme_directory_save(struct acme_client *client, const char *path, const struct buf *text);
