/* SPDX-License-Identifier: Apache-2.0 */
/* Which host a URL of the CA leads to, in the eyes of a reader and in those of libcurl. */
#include "acme/url.h"
#include "tests/fuzz/acme_ca.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *url = mem_dup(data, len);
    AUTO_FREE char *authority = NULL;
    if (fuzz_refused(acme_url_authority("the URL", url, &authority), 1u << ERR_PROTOCOL)) {
        assert(authority == NULL);
        return 0;
    }
    const char *host = url + strlen("https://");
    size_t host_len = strcspn(host, "/?#");
    assert(memchr(host, '@', host_len) == NULL && memchr(host, '\\', host_len) == NULL);
    assert(strpbrk(authority, "/?#@ ABCDEFGHIJKLMNOPQRSTUVWXYZ") == NULL);
    assert(strrchr(authority, ':') != NULL && strrchr(authority, ':') != authority);
    if (memchr(host, '%', host_len) != NULL)
        return 0; /* libcurl decodes it, here as when it connects */
    if (!fuzz_refused(acme_client_check_url(ca_client(), "the URL", url), 1u << ERR_PROTOCOL))
        assert(strncasecmp(host, "acme-v02.api.letsencrypt.org", 28) == 0 ||
                strncasecmp(host, "localhost:", 10) == 0);
    return 0;
}
