/* SPDX-License-Identifier: Apache-2.0 */
#include "base/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <net/if.h>
#include <stdio.h>

static struct err *bad(const char *text, const char *why)
{
    return err_advise(ERR(ERR_CONFIG, "'%s' is not an address: %s", text, why),
            "write 192.0.2.1, 192.0.2.1:53, 2001:db8::1 or [2001:db8::1]:53");
}

static bool parse_ipv4(const char *ip, uint16_t port, struct addr *ret)
{
    uint8_t bytes[4];
    if (inet_pton(AF_INET, ip, bytes) != 1)
        return false;
    *ret = addr_from_ipv4(bytes, port);
    return true;
}

/* "fe80::1%eth0" or "fe80::1%2" */
static bool parse_ipv6(const char *ip, uint16_t port, struct addr *ret)
{
    uint8_t bytes[16];
    unsigned long long scope = 0;
    AUTO_FREE char *plain = str_dup(ip);
    char *zone = strchr(plain, '%');
    if (zone != NULL)
        *zone++ = '\0';
    if (inet_pton(AF_INET6, plain, bytes) != 1)
        return false;
    if (zone != NULL && !str_to_u64(zone, UINT32_MAX, &scope))
        scope = if_nametoindex(zone);
    if (zone != NULL && scope == 0)
        return false;
    *ret = addr_from_ipv6(bytes, port);
    ret->in6.sin6_scope_id = (uint32_t)scope;
    return true;
}

/* Cuts ":port" off; ip is left bare. Two colons without brackets are an IPv6 address alone. */
static const char *split(char *ip, uint16_t default_port, char **ret_ip, uint16_t *ret_port)
{
    char *port = NULL;
    unsigned long long number = default_port;
    if (*ip == '[') {
        char *end = strchr(ip, ']');
        if (end == NULL)
            return "']' is missing";
        if (end[1] != '\0' && end[1] != ':')
            return "nothing but a port may follow ']'";
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
        ip++;
    } else {
        char *colon = strchr(ip, ':');
        if (colon != NULL && strchr(colon + 1, ':') == NULL) {
            *colon = '\0';
            port = colon + 1;
        }
    }
    if (port != NULL && (!str_to_u64(port, UINT16_MAX, &number) || number == 0))
        return "the port must be a number from 1 to 65535";
    *ret_ip = ip;
    *ret_port = (uint16_t)number;
    return NULL;
}

struct err *addr_parse(const char *text, uint16_t default_port, struct addr *ret)
{
    AUTO_FREE char *copy = str_dup(text);
    char *ip;
    uint16_t port;
    const char *why = split(copy, default_port, &ip, &port);
    if (why != NULL)
        return bad(text, why);
    bool ok = *text == '[' ? parse_ipv6(ip, port, ret)
                           : parse_ipv4(ip, port, ret) || parse_ipv6(ip, port, ret);
    return ok ? NULL : bad(text, "expected an IPv4 or IPv6 address");
}

struct addr addr_from_ipv4(const uint8_t ip[4], uint16_t port)
{
    struct addr a = {0};
    a.in.sin_family = AF_INET;
    a.in.sin_port = htons(port);
    memcpy(&a.in.sin_addr, ip, 4);
    return a;
}

struct addr addr_from_ipv6(const uint8_t ip[16], uint16_t port)
{
    struct addr a = {0};
    a.in6.sin6_family = AF_INET6;
    a.in6.sin6_port = htons(port);
    memcpy(&a.in6.sin6_addr, ip, 16);
    return a;
}

const char *addr_format_ip(const struct addr *a, char text[ADDR_TEXT_MAX])
{
    if (a->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->in.sin_addr, text, ADDR_TEXT_MAX);
    } else if (a->sa.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->in6.sin6_addr, text, ADDR_TEXT_MAX);
        size_t len = strlen(text);
        if (a->in6.sin6_scope_id != 0)
            snprintf(text + len, ADDR_TEXT_MAX - len, "%%%u", a->in6.sin6_scope_id);
    } else {
        snprintf(text, ADDR_TEXT_MAX, "none");
    }
    return text;
}

const char *addr_format(const struct addr *a, char text[ADDR_TEXT_MAX])
{
    char ip[ADDR_TEXT_MAX];
    addr_format_ip(a, ip);
    bool brackets = a->sa.sa_family == AF_INET6;
    /* 45 + 11 for a zone + 8 for brackets and port is the longest; the precision tells gcc. */
    snprintf(text, ADDR_TEXT_MAX, "%s%.54s%s:%u", brackets ? "[" : "", ip, brackets ? "]" : "",
            (unsigned)addr_port(a));
    return text;
}

uint16_t addr_port(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohs(a->in.sin_port);
    return a->sa.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port) : 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    assert(a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6);
    if (a->sa.sa_family == AF_INET)
        a->in.sin_port = htons(port);
    else
        a->in6.sin6_port = htons(port);
}

int addr_family(const struct addr *a)
{
    return a->sa.sa_family;
}

socklen_t addr_len(const struct addr *a)
{
    return a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

bool addr_equal_ip(const struct addr *a, const struct addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr)) == 0 &&
           a->in6.sin6_scope_id == b->in6.sin6_scope_id;
}
