/* SPDX-License-Identifier: Apache-2.0 */
/* A client of a CA whose URLs lie on Let's Encrypt's host or on pebble's, for the codecs. */
#pragma once

#include "acme/client.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/fake_world.h"

#define CA_DIRECTORY "https://acme-v02.api.letsencrypt.org/directory"

/* Made once and kept until the process ends. */
static inline const struct acme_client *ca_client(void)
{
    static struct fake_world fw;
    static struct acme_client *client;
    static char pebble[] = "localhost:14000";
    static char *more[] = {pebble};
    const struct strv extra = {.v = more, .n = ARRAY_SIZE(more)};
    const struct acme_client_options options = {
            .directory_url = CA_DIRECTORY, .extra_hosts = &extra};
    if (client != NULL)
        return client;
    fake_world_init(&fw);
    bool refused = fuzz_refused(acme_client_new(&fw.world, &options, &client), ~0u);
    assert(!refused);
    return client;
}

static inline void ca_check_url(const char *url)
{
    bool refused = fuzz_refused(acme_client_check_url(ca_client(), "url", url), ~0u);
    assert(!refused && strlen(url) <= 2048);
}
