/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ejabberd's HTTP API (mod_http_api), with the least rights that do: reload_config and
 * registered_vhosts. A reload reads the whole ejabberd.yml and all certificate files and answers
 * when the new ones are live; its "0" says nothing about certificates, so proof.h looks on the
 * wire.
 */
#pragma once

#include "base/world.h"

struct ejabberd_api {
    const char *url;  /* "unix:/path" or "http://host:port/api" */
    const char *user; /* "admin@im.example.org" or NULL */
    const struct secret *password;
    const struct secret *token; /* OAuth, or NULL */
};

/* Success is 200 with body "0". ERR_CONFIG: ejabberd.yml is broken (400; its own words are in the
 * text), no permission (401, 403), API not found (404); ERR_RETRY: not reachable. Each names api
 * and fix. */
struct err *ejabberd_reload(struct world *world, const struct ejabberd_api *api)
        MAY_SUSPEND NODISCARD;
/* Virtual hosts as ejabberd knows them, as A-labels. */
struct err *ejabberd_registered_vhosts(struct world *world, const struct ejabberd_api *api,
        struct name_list *ret) MAY_SUSPEND NODISCARD;
/* ERR_CONFIG with what is allowed. */
struct err *ejabberd_api_check(const struct ejabberd_api *api) NODISCARD;
