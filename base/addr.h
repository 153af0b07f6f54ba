/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket addresses as values: IPv4, IPv6 with port. (A UNIX socket is named by its path where it is
 * needed.)
 */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/err.h"

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
};

#define ADDR_TEXT_MAX 64
/* "192.0.2.1", "192.0.2.1:53", "2001:db8::1", "[2001:db8::1]:53"; default_port where none is
 * written. ERR_CONFIG with what was expected. */
struct err *addr_parse(const char *text, uint16_t default_port, struct addr *ret) NODISCARD;
struct addr addr_from_ipv4(const uint8_t ip[4], uint16_t port);
struct addr addr_from_ipv6(const uint8_t ip[16], uint16_t port);
/* With port as above; addr_format_ip leaves the port out. Both return text. */
const char *addr_format(const struct addr *a, char text[ADDR_TEXT_MAX]);
const char *addr_format_ip(const struct addr *a, char text[ADDR_TEXT_MAX]);
uint16_t addr_port(const struct addr *a);
void addr_set_port(struct addr *a, uint16_t port);
int addr_family(const struct addr *a); /* AF_INET, AF_INET6 */
socklen_t addr_len(const struct addr *a);
bool addr_equal_ip(const struct addr *a, const struct addr *b);
