/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include <curl/curl.h>
#include <ldns/ldns.h>
#include <microhttpd.h>
#include <openssl/crypto.h>
#include <stdio.h>

/* main() has loaded the configuration and reported what is wrong with it; being here means that it
 * is right. */
struct err *command_config_check(struct command_context *context)
{
    const struct config *config = context->config;
    AUTO_HOST_SET struct host_set set = {0};

    TRY(host_set_make(config, &set));
    if (context->line->json) {
        json_t *root = command_json("config-check");
        json_put_bool(root, "ok", true);
        json_put(root, "problems", json_array());
        command_print_json(root);
    } else {
        printf("%s is fine: %zu XMPP hosts\n",
                config->path != NULL ? config->path : "the environment", set.n);
    }
    return NULL;
}

struct err *command_config_show(struct command_context *context)
{
    AUTO_BUF struct buf out = BUF_INIT((size_t)16 * 1024 * 1024);

    if (context->line->json) {
        json_t *root = command_json("config-show");
        json_put(root, "config", config_to_json(context->config));
        command_print_json(root);
        return NULL;
    }
    config_print(context->config, &out);
    command_print(&out);
    return NULL;
}

struct err *command_version(struct command_context *context)
{
    const struct {
        const char *name, *version;
    } libraries[] = {
            {"libuv", uv_version_string()},
            {"libcurl", curl_version_info(CURLVERSION_NOW)->version},
            {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
            {"jansson", jansson_version_str()},
            {"ldns", ldns_version()},
            {"libmicrohttpd", MHD_get_version()},
    };

    if (context->line->json) {
        json_t *root = command_json("version");
        json_t *used = json_object();
        for (size_t i = 0; i < ARRAY_SIZE(libraries); i++)
            json_put_str(used, libraries[i].name, libraries[i].version);
        json_put_str(root, "version", CERTHERD_VERSION);
        json_put(root, "libraries", used);
        command_print_json(root);
        return NULL;
    }
    printf("certherd %s\n", CERTHERD_VERSION);
    for (size_t i = 0; i < ARRAY_SIZE(libraries); i++)
        printf("  %-14s %s\n", libraries[i].name, libraries[i].version);
    return NULL;
}
