/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of what touches sockets: a test body that runs as a fiber on a real loop, a second
 * fiber that cancels the first at a chosen moment, and a peer of a few lines in a thread of its
 * own, which may misbehave as it likes. Each test also checks that no descriptor stays open.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "base/addr.h"
#include "base/fiber.h"
#include "tests/lib/test_err.h"

/* ---- fibers ---- */

static struct loop *rim_loop;
static struct fiber *rim_fiber;
static struct err *rim_result;

static inline ATTR_MAYBE_UNUSED size_t rim_open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static inline ATTR_MAYBE_UNUSED void rim_done(void *arg, struct err *result)
{
    rim_result = result;
    rim_fiber = NULL;
}

/* Runs fn to its end; what it returns is returned. */
static inline ATTR_MAYBE_UNUSED struct err *rim_run(fiber_fn *fn, void *arg)
{
    if (rim_loop == NULL)
        assert_ok(loop_new(&rim_loop));
    rim_result = NULL;
    rim_fiber = fiber_spawn(rim_loop, "test", fn, arg, rim_done);
    loop_run(rim_loop);
    assert_null(rim_fiber);
    return rim_result;
}

static struct err *rim_canceler(void *arg) MAY_SUSPEND;

/* Waits for the flag, lets the fiber get into its wait, cancels it. */
static ATTR_MAYBE_UNUSED struct err *rim_canceler(void *arg)
{
    atomic_bool *when = arg;

    while (!atomic_load(when))
        TRY(fiber_sleep(2));
    TRY(fiber_sleep(20));
    if (rim_fiber != NULL)
        fiber_cancel(rim_fiber);
    return NULL;
}

/* The same, canceled once *when is true. */
static inline ATTR_MAYBE_UNUSED struct err *rim_run_canceled(
        fiber_fn *fn, void *arg, atomic_bool *when)
{
    if (rim_loop == NULL)
        assert_ok(loop_new(&rim_loop));
    fiber_spawn(rim_loop, "canceler", rim_canceler, when, NULL);
    return rim_run(fn, arg);
}

static inline ATTR_MAYBE_UNUSED int rim_setup(void **state)
{
    static size_t before;

    /* What libuv opens once for the process. */
    assert_ok(loop_new(&rim_loop));
    loop_free(STEAL(rim_loop));
    before = rim_open_descriptors();
    *state = &before;
    return 0;
}

static inline ATTR_MAYBE_UNUSED int rim_teardown(void **state)
{
    const size_t *before = *state;

    loop_free(STEAL(rim_loop));
    if (rim_open_descriptors() == *before)
        return 0;
    print_error("descriptors: %zu before, %zu after\n", *before, rim_open_descriptors());
    return -1;
}
#define RIM_TEST(fn) cmocka_unit_test_setup_teardown(fn, rim_setup, rim_teardown)

/* Group set-up and teardown: half of a fiber's stack is enough for all of it. Sanitizers make
 * frames larger, so under them nothing is asserted. */
static inline ATTR_MAYBE_UNUSED int rim_paint(void **state)
{
    fiber_paint_stacks(!RUNNING_ON_VALGRIND); /* which takes the paint for a stray write */
    return 0;
}

static inline ATTR_MAYBE_UNUSED int rim_check_stacks(void **state)
{
    size_t deepest = fiber_stack_high_water();

    print_message("deepest stack: %zu of %zu bytes\n", deepest, FIBER_STACK_SIZE);
#if !defined(__SANITIZE_ADDRESS__)
    if (deepest > FIBER_STACK_SIZE / 2)
        return -1;
#endif
    return 0;
}

/* ---- a peer in a thread ---- */

struct peer {
    int fd; /* listens, or is the UDP socket */
    struct addr address;
    pthread_t thread;
    /* Serves one connection (UDP: the socket, once), which is closed afterwards. */
    void (*serve)(struct peer *peer, int fd);
    const void *arg;
    bool udp;
    atomic_bool reached;  /* set by serve(): now the client waits */
    atomic_bool stopping; /* for a serve() that loops on its own */
    atomic_int served;
};

static inline ATTR_MAYBE_UNUSED void *peer_thread(void *arg)
{
    struct peer *peer = arg;
    sigset_t pipe;

    sigemptyset(&pipe); /* OpenSSL writes without MSG_NOSIGNAL */
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    if (peer->udp) {
        peer->serve(peer, peer->fd);
        return NULL;
    }
    for (;;) {
        int fd = accept(peer->fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(&peer->served, 1);
        peer->serve(peer, fd);
        close(fd);
    }
}

/* Listens on a free port of 127.0.0.1, or at *at. */
static inline ATTR_MAYBE_UNUSED void peer_bind(
        struct peer *peer, int type, const struct sockaddr *at, socklen_t at_len)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(peer->address);

    if (at == NULL) {
        at = (const struct sockaddr *)&any;
        at_len = sizeof(any);
    }
    peer->fd = socket(at->sa_family, type, 0);
    assert_true(peer->fd >= 0);
    assert_int_equal(bind(peer->fd, at, at_len), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(peer->fd, 16), 0);
    if (at->sa_family == AF_INET)
        assert_int_equal(getsockname(peer->fd, &peer->address.sa, &len), 0);
}

static inline ATTR_MAYBE_UNUSED void peer_start(
        struct peer *peer, void (*serve)(struct peer *, int), const void *arg)
{
    *peer = (struct peer){.serve = serve, .arg = arg};
    peer_bind(peer, SOCK_STREAM, NULL, 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_thread, peer), 0);
}

static inline ATTR_MAYBE_UNUSED void peer_start_udp(
        struct peer *peer, void (*serve)(struct peer *, int), const void *arg)
{
    *peer = (struct peer){.serve = serve, .arg = arg, .udp = true};
    peer_bind(peer, SOCK_DGRAM, NULL, 0);
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_thread, peer), 0);
}

static inline ATTR_MAYBE_UNUSED void peer_stop(struct peer *peer)
{
    atomic_store(&peer->stopping, true);
    shutdown(peer->fd, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
}

/* ---- for serve() ---- */

static inline ATTR_MAYBE_UNUSED bool peer_send_bytes(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static inline ATTR_MAYBE_UNUSED bool peer_send(int fd, const char *text)
{
    return peer_send_bytes(fd, text, strlen(text));
}

/* Reads until the text has been seen; false: the client closed first. */
static inline ATTR_MAYBE_UNUSED bool peer_read_until(int fd, const char *text)
{
    char data[16384];
    size_t have = 0;

    while (have < sizeof(data) - 1) {
        ssize_t n = recv(fd, data + have, 1, 0);
        if (n <= 0)
            return false;
        data[++have] = '\0';
        if (strstr(data, text) != NULL)
            return true;
    }
    return false;
}

static inline ATTR_MAYBE_UNUSED bool peer_read_request(int fd)
{
    return peer_read_until(fd, "\r\n\r\n");
}

/* Says that the moment has come and waits until the client goes away. */
static inline ATTR_MAYBE_UNUSED void peer_hang(struct peer *peer, int fd)
{
    char data[4096];

    atomic_store(&peer->reached, true);
    while (recv(fd, data, sizeof(data), 0) > 0)
        continue;
}

/* The next close() sends RST. */
static inline ATTR_MAYBE_UNUSED void peer_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}
