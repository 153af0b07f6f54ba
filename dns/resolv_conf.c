/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/resolv_conf.h"

#include "base/file.h"
#include "base/log.h"

#define FILE_MAX ((size_t)64 * 1024)
#define BLANKS   " \t\r\v\f"

/* The first word of text, "" if there is none; false: longer than any address. */
static bool first_word(const char *text, size_t len, char word[ADDR_TEXT_MAX])
{
    size_t start = 0;
    while (start < len && strchr(BLANKS, text[start]) != NULL)
        start++;
    size_t end = start;
    while (end < len && strchr(BLANKS "#;", text[end]) == NULL)
        end++;
    if (end - start >= ADDR_TEXT_MAX)
        return false;
    memcpy(word, text + start, end - start);
    word[end - start] = '\0';
    return true;
}

static bool parse_server(const char *value, size_t len, struct addr *ret)
{
    char word[ADDR_TEXT_MAX];
    if (!first_word(value, len, word) || strchr(word, '%') != NULL) {
        log_debug(
                "dns_resolv_conf", "nameserver line left out: no address, or one with a scope id");
        return false;
    }
    AUTO_ERR struct err *e = addr_parse(word, 53, ret);
    if (e != NULL)
        log_debug("dns_resolv_conf", "nameserver line left out", LOG_STR("error", err_text(e)));
    return e == NULL;
}

size_t dns_resolv_conf_parse(const char *text, struct addr *ret, size_t max)
{
    static const char keyword[] = "nameserver";
    const size_t keyword_len = sizeof(keyword) - 1;
    size_t n = 0;
    while (*text != '\0' && n < max) {
        size_t len = strcspn(text, "\n");
        if (len > keyword_len && memcmp(text, keyword, keyword_len) == 0 &&
                strchr(BLANKS, text[keyword_len]) != NULL &&
                parse_server(text + keyword_len, len - keyword_len, &ret[n]))
            n++;
        text += len;
        if (*text == '\n')
            text++;
    }
    return n;
}

struct err *dns_resolv_conf_read(const char *path, struct addr *ret, size_t max, size_t *ret_n)
{
    AUTO_BUF struct buf text = BUF_INIT(FILE_MAX);
    TRY(file_read(path, FILE_MAX, &text, NULL));
    size_t n = dns_resolv_conf_parse(buf_str(&text), ret, max);
    if (n == 0)
        return err_advise(ERR(ERR_CONFIG, "%s names no name server that can be used", path),
                "set dns.resolver to the address of a recursive resolver");
    *ret_n = n;
    return NULL;
}
