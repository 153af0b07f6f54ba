/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dialogue before STARTTLS against a server that sends these bytes and then closes. How they
 * are cut into segments must make no difference.
 */
#include "base/net.h"
#include "base/tls_private.h"
#include "tests/fuzz/fuzz.h"

static struct {
    const uint8_t *data;
    size_t len, at, segment;
} server;

static struct err *server_read(void *data, size_t size, size_t *ret_len)
{
    size_t n = server.len - server.at;
    n = n < size ? n : size;
    n = n < server.segment ? n : server.segment;
    memcpy(data, server.data + server.at, n);
    server.at += n;
    *ret_len = n;
    return NULL;
}

static struct err *server_write(const void *data, size_t len)
{
    fuzz_check_text(data);
    return NULL;
}

#define net_read(stream, data, size, ret_len) server_read(data, size, ret_len)
#define net_write(stream, data, len)          server_write(data, len)
#define tls_fail(error, failure)              (error)
#include "base/tls_xmpp.c"

/* What came of it; NULL: TLS may begin. Called by pointer, as no fiber is needed here. */
static char *run(const uint8_t *data, size_t len, size_t segment)
{
    static struct err *(*const start)(struct net_stream *, const struct tls_probe_request *) =
            tls_xmpp_start;
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    const struct tls_probe_request request = {.to = addr_from_ipv4(loopback, 5222),
            .start = TLS_STARTTLS_C2S,
            .stream_to = "b\xc3\xbc"
                         "cher.example&'<>\""};
    server.data = data;
    server.len = len;
    server.at = 0;
    server.segment = segment;
    AUTO_ERR struct err *e = start(NULL, &request);
    assert(server.at <= BYTES_MAX + 2048);
    if (e == NULL)
        return NULL;
    char *text = str_dup(err_text(e));
    fuzz_refused(
            STEAL(e), 1u << ERR_RETRY | 1u << ERR_CONFIG | 1u << ERR_DENIED | 1u << ERR_PROTOCOL);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *whole = run(data, len, SIZE_MAX);
    /* Each byte makes the scanner begin the current tag again: bounded, but slow to look at. */
    if (len > 1024)
        return 0;
    AUTO_FREE char *bytes = run(data, len, 1);
    bool more_behind = whole != NULL && bytes == NULL && strstr(whole, "more in clear") != NULL;
    bool quoted = whole != NULL && bytes != NULL && strstr(whole, "does not speak XMPP") != NULL;
    if (more_behind || quoted)
        return 0; /* the one tells what has arrived, the other looks at it */
    assert((whole == NULL) == (bytes == NULL));
    assert(whole == NULL || strcmp(whole, bytes) == 0);
    return 0;
}
