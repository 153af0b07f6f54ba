/* SPDX-License-Identifier: Apache-2.0 */
/* From the text of a value to its type; what does not fit is reported with what would. */
#include "agent/config_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define SPAN_MAX_MS (3650 * CLOCK_DAY)

static const char *allowed(const struct config_value *value)
{
    return config_key_of(value->id)->allowed;
}

static void wrong(struct config_loader *l, const struct config_value *value,
        const struct config_item *item, const char *what)
{
    AUTO_FREE char *shown = str_foreign(item->text, 100);
    config_problem(l, value, item, "'%s' is not %s; allowed: %s", shown, what, allowed(value));
}

const char *config_text(const struct config_value *value)
{
    return value->source != CONFIG_UNSET && value->n == 1 ? value->items[0].text : NULL;
}

/* What every scalar must be: not endless, nothing that a terminal or a header would act on, and
 * text that JSON can hold (libyaml refuses other bytes, the environment may have any). */
static bool plain(struct config_loader *l, const struct config_value *value)
{
    const char *text = config_text(value);
    if (text == NULL)
        return false;
    if (strlen(text) > CONFIG_TEXT_MAX) {
        config_problem(l, value, &value->items[0], "is longer than %zu bytes", CONFIG_TEXT_MAX);
        return false;
    }
    size_t len = strlen(text);
    for (size_t at = 0; at < len;) {
        uint32_t c = 0;
        size_t size = str_utf8_decode(text + at, len - at, &c);
        if (size == 0 || str_is_control(c)) {
            config_problem(l, value, &value->items[0],
                    size == 0 ? "is not UTF-8 text" : "holds a control character");
            return false;
        }
        at += size;
    }
    return true;
}

static void put(char **ret, const char *text)
{
    free(*ret);
    *ret = str_dup(text);
}

void config_get_text(struct config_loader *l, struct config_value *value, char **ret)
{
    if (plain(l, value))
        put(ret, config_text(value));
}

void config_get_path(struct config_loader *l, struct config_value *value, char **ret)
{
    if (!plain(l, value))
        return;
    const char *text = config_text(value);
    if (text[0] != '/') {
        wrong(l, value, &value->items[0], "an absolute path");
        return;
    }
    put(ret, text);
    for (size_t len = strlen(*ret); len > 1 && (*ret)[len - 1] == '/'; len--)
        (*ret)[len - 1] = '\0';
    put(&value->items[0].text, *ret);
}

void config_get_file(struct config_loader *l, struct config_value *value, char **ret)
{
    AUTO_FREE char *path = NULL;
    config_get_path(l, value, &path);
    if (path == NULL)
        return;
    struct stat st;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0)
        config_problem(l, value, &value->items[0], "%s can't be read: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        config_problem(l, value, &value->items[0], "%s is not a file", path);
    else
        put(ret, path);
}

void config_get_name(struct config_loader *l, struct config_value *value, struct name *ret)
{
    if (!plain(l, value))
        return;
    if (config_accept(l, value, &value->items[0], name_parse(config_text(value), ret)))
        put(&value->items[0].text, ret->text);
}

/* https://host[:port][/path], nothing that a log or another host should not see */
static bool is_https(const char *text)
{
    if (!str_starts(text, "https://"))
        return false;
    const char *host = text + strlen("https://");
    size_t host_len = strcspn(host, "/?#");
    if (host_len == 0 || host[0] == ':' || memchr(host, '@', host_len) != NULL)
        return false;
    for (const char *p = host; *p != '\0'; p++) {
        if (*p <= ' ' || *p >= 0x7f || strchr("\"<>\\^`{|}#", *p) != NULL)
            return false;
    }
    return true;
}

void config_get_url(struct config_loader *l, struct config_value *value, char **ret)
{
    if (!plain(l, value))
        return;
    if (is_https(config_text(value)))
        put(ret, config_text(value));
    else
        wrong(l, value, &value->items[0], "such a URL");
}

/* One address that can stand behind "mailto:" (RFC 8555 7.3: no header fields, no list). */
void config_get_email(struct config_loader *l, struct config_value *value, char **ret)
{
    if (!plain(l, value))
        return;
    const char *text = config_text(value);
    const char *at = strrchr(text, '@');
    struct name domain;
    bool ok = at != NULL && at != text && strlen(text) <= 254;
    for (const char *p = text; ok && p < at; p++)
        ok = isalnum((unsigned char)*p) || strchr("!#$&'*+-/=^_`{|}~.", *p) != NULL;
    if (!ok)
        wrong(l, value, &value->items[0], "a mail address");
    else if (config_accept(l, value, &value->items[0], name_parse(at + 1, &domain)))
        put(ret, text);
}

void config_get_port(struct config_loader *l, struct config_value *value, uint16_t *ret)
{
    unsigned long long port = 0;
    if (!plain(l, value))
        return;
    const char *text = config_text(value);
    if (strcmp(text, "off") == 0 || (str_to_u64(text, 65535, &port) && port > 0))
        *ret = (uint16_t)port;
    else
        wrong(l, value, &value->items[0], "a port");
}

void config_get_addr(
        struct config_loader *l, struct config_value *value, uint16_t port, struct addr *ret)
{
    if (plain(l, value))
        config_accept(l, value, &value->items[0], addr_parse(config_text(value), port, ret));
}

void config_get_span(struct config_loader *l, struct config_value *value, int64_t *ret_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"", CLOCK_SEC}, {"s", CLOCK_SEC}, {"min", CLOCK_MIN}, {"h", CLOCK_HOUR},
            {"day", CLOCK_DAY}, {"days", CLOCK_DAY}};
    if (!plain(l, value))
        return;
    const char *text = config_text(value);
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits + strspn(text + digits, " ");
    AUTO_FREE char *number = mem_dup(text, digits);
    unsigned long long count = 0;
    bool ok = str_to_u64(number, SPAN_MAX_MS / CLOCK_SEC, &count);
    for (size_t i = 0; ok && i < ARRAY_SIZE(units); i++) {
        if (strcmp(unit, units[i].unit) != 0 || (int64_t)count > SPAN_MAX_MS / units[i].ms)
            continue;
        *ret_ms = (int64_t)count * units[i].ms;
        return;
    }
    wrong(l, value, &value->items[0], "a span of time (of at most 10 years)");
}

int config_get_enum(struct config_loader *l, struct config_value *value)
{
    if (!plain(l, value))
        return -1;
    size_t len = strlen(config_text(value));
    int index = 0;
    for (const char *word = allowed(value); *word != '\0'; index++) {
        size_t word_len = strcspn(word, ",");
        if (word_len == len && memcmp(word, config_text(value), len) == 0)
            return index;
        word += word_len;
        word += strspn(word, ", ");
    }
    AUTO_FREE char *shown = str_foreign(config_text(value), 100);
    config_problem(
            l, value, &value->items[0], "'%s' is unknown; allowed: %s", shown, allowed(value));
    return -1;
}

/* ---- secrets ---- */

static void read_secret_file(
        struct config_loader *l, struct config_value *value, struct secret **ret)
{
    AUTO_FREE char *path = NULL;
    AUTO_BUF struct buf text = BUF_INIT_SECRET(CONFIG_SECRET_MAX);
    config_get_file(l, value, &path);
    if (path == NULL)
        return;
    if (!config_accept(l, value, &value->items[0], file_read(path, CONFIG_SECRET_MAX, &text, NULL)))
        return;
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.len--;
    if (text.len == 0 || memchr(text.data, '\0', text.len) != NULL ||
            memchr(text.data, '\n', text.len) != NULL)
        config_problem(l, value, &value->items[0], "%s holds %s; allowed: one line", path,
                text.len == 0 ? "nothing" : "more than one line, or a NUL byte");
    else
        *ret = secret_new(text.data, text.len);
}

void config_get_secret(struct config_loader *l, struct config_value *value,
        struct config_value *file, struct secret **ret)
{
    config_exclude(l, value, file);
    const char *text = config_text(value);
    if (text == NULL) {
        read_secret_file(l, file, ret);
        return;
    }
    bool multi_line = strpbrk(text, "\r\n") != NULL;
    if (multi_line || strlen(text) > CONFIG_SECRET_MAX)
        config_problem(l, value, &value->items[0], "is %s; allowed: one line",
                multi_line ? "more than one line" : "too long");
    else
        *ret = secret_new(text, strlen(text));
    explicit_bzero(value->items[0].text, strlen(text));
}

void config_exclude(struct config_loader *l, struct config_value *a, struct config_value *b)
{
    if (a->source == CONFIG_UNSET || b->source == CONFIG_UNSET)
        return;
    enum config_id a_id = a->id, b_id = b->id;
    if (a->source == b->source) {
        config_problem(l, b, NULL, "contradicts %s; set one of the two", config_key_of(a_id)->path);
        return;
    }
    struct config_value *weaker = a->source < b->source ? a : b;
    config_value_done(weaker);
    weaker->id = weaker == a ? a_id : b_id;
}
