/* SPDX-License-Identifier: Apache-2.0 */
#include "acme/url.h"

#include <ctype.h>
#include <curl/curl.h>

#include "base/buf.h"

static void curl_stringp(char **owned)
{
    curl_free(*owned);
}
#define AUTO_CURL_STR AUTO(curl_stringp)
DEFINE_FREEP(CURLU, curl_url_cleanup)

static struct err *refuse(const char *what, const char *url, const char *why)
{
    AUTO_FREE char *shown = str_foreign(url, 200);

    return ERR(ERR_PROTOCOL, "%s '%s' %s", what, shown, why);
}

/* libcurl tolerates some of this, and what it makes of it is not what a reader sees. */
static bool plain_text(const char *url)
{
    for (const char *p = url; *p != '\0'; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == '\\' || *p == '"' || *p == '<' || *p == '>')
            return false;
    return true;
}

static void lower(char *s)
{
    for (; *s != '\0'; s++)
        *s = (char)tolower((unsigned char)*s);
}

struct err *acme_url_authority(const char *what, const char *url, char **ret)
{
    AUTO(curl_url_cleanupp) CURLU *u = curl_url();
    AUTO_CURL_STR char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL, *password = NULL,
                       *fragment = NULL;

    if (u == NULL)
        mem_fail(0);
    if (strlen(url) > ACME_URL_MAX)
        return refuse(what, url, "is longer than 2048 characters");
    if (!plain_text(url))
        return refuse(what, url, "has characters that no URL has");
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK || host[0] == '\0')
        return refuse(what, url, "is not a URL");
    if (strcmp(scheme, "https") != 0 || strncasecmp(url, "https://", 8) != 0 || url[8] == '/')
        return refuse(what, url, "does not begin with https://");
    if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK ||
            curl_url_get(u, CURLUPART_PASSWORD, &password, 0) == CURLUE_OK)
        return refuse(what, url, "has a user name or password in it");
    if (curl_url_get(u, CURLUPART_FRAGMENT, &fragment, 0) == CURLUE_OK)
        return refuse(what, url, "has a fragment");
    if (curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
        return refuse(what, url, "is not a URL");
    lower(host);
    *ret = str_printf("%s:%s", host, port);
    return NULL;
}
