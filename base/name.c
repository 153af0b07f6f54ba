/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libidn2 is asked only for what is not plain ASCII, and its answer is checked like any other text:
 * it lets empty labels through, and with IDN2_USE_STD3_ASCII_RULES it silently *removes* what the
 * rules forbid ("a_b", "*.a" and "a b" become other names), so that flag is not used. Labels in
 * ACE form are decoded and encoded again, because "xn--" plus anything is otherwise taken on trust.
 */
#include "base/name.h"

#include <arpa/inet.h>
#include <idn2.h>

#include "base/buf.h"

#define LABEL_MAX 63
/* More than any U-label form of 253 octets can need: what is longer is cut off unread. */
#define INPUT_MAX ((size_t)1024)

static struct err *bad(const char *text, const char *why)
{
    AUTO_FREE char *shown = str_foreign(text, 80);
    return ERR(ERR_CONFIG, "'%s' is not a host name: %s", shown, why);
}

static bool is_ldh(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

/* ---- one label, already in lower-case ASCII; NULL or what is wrong ---- */

static const char *check_ace(const char *label)
{
    AUTO_FREE char *unicode = NULL;
    AUTO_FREE char *again = NULL;
    static const char why[] = "a label that begins with 'xn--' is not a valid A-label";
    if (idn2_to_unicode_8z8z(label, &unicode, IDN2_NONTRANSITIONAL) != IDN2_OK)
        return why;
    if (idn2_to_ascii_8z(unicode, &again, IDN2_NONTRANSITIONAL) != IDN2_OK)
        return why;
    return strcmp(again, label) == 0 ? NULL : why;
}

static const char *why_not(char c)
{
    switch (c) {
    case '_':
        return "underscore";
    case ' ':
        return "space";
    case '*':
        return "wildcard";
    default:
        return "only letters, digits and hyphens are allowed";
    }
}

static const char *check_characters(const char *label, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_ldh(label[i]))
            return why_not(label[i]);
    return NULL;
}

static const char *check_label(const char *label, size_t len)
{
    if (len == 0)
        return "empty label";
    const char *why = check_characters(label, len);
    if (why != NULL)
        return why;
    if (len > LABEL_MAX)
        return "a label is longer than 63 octets";
    if (label[0] == '-' || label[len - 1] == '-')
        return "a label begins or ends with a hyphen";
    if (len < 4 || label[2] != '-' || label[3] != '-')
        return NULL;
    if (strncmp(label, "xn--", 4) != 0)
        return "hyphens in the third and fourth place of a label are reserved";
    AUTO_FREE char *copy = mem_dup(label, len);
    return check_ace(copy);
}

/* ---- whole names ---- */

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text >= 0x80)
            return false;
    return true;
}

/* Control characters are named before libidn2 can map them away. */
static const char *check_input(const char *text)
{
    size_t len = strnlen(text, INPUT_MAX + 1);
    if (len == 0)
        return "it is empty";
    if (len > INPUT_MAX)
        return "longer than 253 octets";
    for (size_t at = 0; at < len;) {
        uint32_t c;
        size_t size = str_utf8_decode(text + at, len - at, &c);
        if (size == 0)
            return "invalid UTF-8";
        if (str_is_control(c))
            return "control character";
        at += size;
    }
    return NULL;
}

/* What is wrong with the ASCII part is said in our words, before libidn2 says "roundtrip failed".
 */
static const char *check_ascii_part(const char *text)
{
    for (; *text != '\0'; text++) {
        bool upper = *text >= 'A' && *text <= 'Z';
        if ((unsigned char)*text < 0x80 && !upper && *text != '.' && !is_ldh(*text))
            return why_not(*text);
    }
    return NULL;
}

static const char *to_ascii(const char *text, char **ret)
{
    const char *why = check_ascii_part(text);
    if (why != NULL)
        return why;
    if (is_ascii(text)) {
        char *lower = str_dup(text);
        for (char *c = lower; *c != '\0'; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c - 'A' + 'a');
        *ret = lower;
        return NULL;
    }
    AUTO_FREE char *ascii = NULL;
    int rc = idn2_to_ascii_8z(text, &ascii, IDN2_NONTRANSITIONAL);
    if (rc == IDN2_MALLOC)
        mem_fail(strlen(text));
    if (rc != IDN2_OK)
        return idn2_strerror(rc);
    *ret = STEAL(ascii);
    return NULL;
}

static bool is_address(const char *text)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1 ||
           (text[0] == '[' && strchr(text, ':') != NULL);
}

static bool is_digits(const char *text)
{
    return text[strspn(text, "0123456789")] == '\0';
}

/* Also says "too long" first, since that is what the operator of a 300 character name wants to
 * read. */
static const char *check_labels(char *ascii, size_t *ret_labels)
{
    size_t labels = 0;
    size_t len = strlen(ascii);
    if (len > NAME_MAX_TEXT - 1)
        return "longer than 253 octets";
    for (const char *at = ascii;; labels++) {
        size_t label_len = strcspn(at, ".");
        const char *why = check_label(at, label_len);
        if (why != NULL)
            return why;
        if (at[label_len] == '\0')
            break;
        at += label_len + 1;
    }
    *ret_labels = labels + 1;
    return NULL;
}

static const char *parse(const char *text, struct name *ret)
{
    AUTO_FREE char *ascii = NULL;
    size_t labels = 0;
    const char *why = check_input(text);
    if (why != NULL)
        return why;
    if (is_address(text))
        return "it is an address";
    why = to_ascii(text, &ascii);
    if (why != NULL)
        return why;
    size_t len = strlen(ascii);
    if (len > 1 && ascii[len - 1] == '.')
        ascii[len - 1] = '\0';
    why = check_labels(ascii, &labels);
    if (why != NULL)
        return why;
    if (labels < 2)
        return "at least two labels are needed";
    /* Resolvers and URL parsers take such a name for an IPv4 address. */
    if (is_digits(strrchr(ascii, '.') + 1))
        return "the last label consists of digits";
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->text, ascii, strlen(ascii) + 1);
    return NULL;
}

struct err *name_parse(const char *text, struct name *ret)
{
    const char *why = parse(text, ret);
    return why == NULL ? NULL : bad(text, why);
}

struct err *name_parse_wildcard(const char *text, struct name *ret)
{
    struct name below;
    struct name name = {0};
    if (!str_starts(text, "*."))
        return name_parse(text, ret);
    const char *why = parse(text + 2, &below);
    if (why != NULL)
        return bad(text, why);
    if (strlen(below.text) + 2 >= NAME_MAX_TEXT)
        return bad(text, "longer than 253 octets");
    memcpy(name.text, "*.", 2);
    memcpy(name.text + 2, below.text, strlen(below.text) + 1);
    *ret = name;
    return NULL;
}

struct err *name_parse_label(const char *text, struct name *ret)
{
    AUTO_FREE char *ascii = NULL;
    const char *why = check_input(text);
    if (why == NULL)
        why = to_ascii(text, &ascii);
    if (why == NULL && strchr(ascii, '.') != NULL)
        why = "no dot is allowed in a label";
    if (why == NULL)
        why = check_label(ascii, strlen(ascii));
    if (why != NULL) {
        AUTO_FREE char *shown = str_foreign(text, 80);
        return ERR(ERR_CONFIG, "'%s' is not a label of a host name: %s", shown, why);
    }
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->text, ascii, strlen(ascii) + 1);
    return NULL;
}

struct err *name_join(const char *label, const struct name *parent, struct name *ret)
{
    struct name first = {.text = "*"};
    struct name joined = {0};
    if (*label == '\0') {
        *ret = *parent;
        return NULL;
    }
    if (strcmp(label, "*") != 0)
        TRY(name_parse_label(label, &first));
    size_t label_len = strlen(first.text);
    size_t parent_len = strlen(parent->text);
    if (label_len + 1 + parent_len >= NAME_MAX_TEXT)
        return ERR(ERR_CONFIG, "'%s.%s' is not a host name: longer than 253 octets", first.text,
                parent->text);
    memcpy(joined.text, first.text, label_len);
    joined.text[label_len] = '.';
    memcpy(joined.text + label_len + 1, parent->text, parent_len + 1);
    *ret = joined;
    return NULL;
}

/* ---- questions ---- */

bool name_equal(const struct name *a, const struct name *b)
{
    return strcmp(a->text, b->text) == 0;
}

bool name_is_below(const struct name *name, const struct name *zone)
{
    size_t len = strlen(name->text);
    size_t zone_len = strlen(zone->text);
    if (len < zone_len || strcmp(name->text + len - zone_len, zone->text) != 0)
        return false;
    return len == zone_len || name->text[len - zone_len - 1] == '.';
}

char *name_to_unicode(const struct name *name)
{
    const char *rest = name_is_wildcard(name) ? name->text + 2 : name->text;
    AUTO_FREE char *unicode = NULL;
    if (idn2_to_unicode_8z8z(rest, &unicode, IDN2_NONTRANSITIONAL) != IDN2_OK)
        return str_dup(name->text);
    return str_printf("%s%s", rest == name->text ? "" : "*.", unicode);
}

bool name_is_wildcard(const struct name *name)
{
    return str_starts(name->text, "*.");
}

bool name_covers(const char *cert_name, const struct name *name)
{
    if (strcasecmp(cert_name, name->text) == 0)
        return true;
    if (!str_starts(cert_name, "*.") || name_is_wildcard(name))
        return false;
    const char *dot = strchr(name->text, '.');
    return dot != NULL && strcasecmp(cert_name + 1, dot) == 0;
}

/* ---- lists ---- */

void name_list_add(struct name_list *l, const struct name *name)
{
    if (name_list_has(l, name))
        return;
    /* Capacity is the next power of two, so it needs no field of its own. */
    if ((l->n & (l->n - 1)) == 0)
        l->v = mem_realloc_array(l->v, l->n == 0 ? 1 : 2 * l->n, sizeof(*l->v));
    l->v[l->n++] = *name;
}

bool name_list_has(const struct name_list *l, const struct name *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (name_equal(&l->v[i], name))
            return true;
    return false;
}

void name_list_done(struct name_list *l)
{
    free(l->v);
    *l = (struct name_list){0};
}
