/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The URLs a CA may send us to. Private to the client: a hostile or broken CA (or whoever answers
 * in its place) must not make us talk to other hosts, ports or schemes. Parsed by the library that
 * later makes the connection, so that both see the same host.
 */
#pragma once

#include "base/err.h"

#define ACME_URL_MAX ((size_t)2048)

/* "host:port" of an https URL without user information, lower case. what names the URL in messages:
 * "the directory URL: …". ERR_PROTOCOL. */
struct err *acme_url_authority(const char *what, const char *url, char **ret) NODISCARD;
