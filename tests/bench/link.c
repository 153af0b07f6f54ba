// SPDX-License-Identifier: Apache-2.0
// A line of a given length between two network namespaces, for measuring what distance costs.
//
//     link NEAR FAR RTT_US        NEAR and FAR are network namespaces, as paths like
//     /proc/1234/ns/net
//
// Makes a TUN device "link0" in each and holds every packet for half of the round-trip time, in
// each direction, so that handshakes, slow start and retransmissions cost what they cost over a
// real line. No loss, no reordering, no limit of bandwidth. Prints "ready", then obeys lines on
// standard input: "rtt MICROSECONDS", "reset" (counters to zero), "stats" (one line of JSON). Ends
// with its input.
//
// A flight is a step of the longest chain of causes: a packet with content that leaves the near
// side is one flight later than the latest that had arrived there before. What is counted is what
// came back, so each flight has taken at least one round-trip time.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKET_MAX = 65536, READS_PER_TURN = 256 };

struct packet {
    struct packet *next;
    int64_t due; // nanoseconds of CLOCK_MONOTONIC
    uint32_t flight;
    bool content;
    size_t size;
    unsigned char data[];
};

struct side {
    int tun;
    struct packet *first, **last; // on their way from here, in the order of departure
    uint32_t flight;              // the latest that has arrived here
    uint64_t packets, bytes, connections, client_hellos;
};

static struct side near_side, far_side;
static int64_t delay;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void open_side(struct side *side, const char *namespace)
{
    int fd = open(namespace, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
        die(namespace);
    close(fd);
    side->tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (side->tun < 0)
        die("/dev/net/tun");
    struct ifreq request = {.ifr_name = "link0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (ioctl(side->tun, TUNSETIFF, &request) != 0)
        die("TUNSETIFF");
    side->last = &side->first;
}

// Where the TCP or UDP header begins and which of them it is; 0 for anything else. IPv6 extension
// headers don't occur here.
static size_t transport(const unsigned char *data, size_t size, int *protocol)
{
    if (size >= 20 && data[0] >> 4 == 4) {
        *protocol = data[9];
        return (size_t)(data[0] & 15) * 4;
    }
    if (size >= 40 && data[0] >> 4 == 6) {
        *protocol = data[6];
        return 40;
    }
    return 0;
}

// Counts what the packet is, and says whether it carries anything but acknowledgements.
static bool inspect(struct side *from, const unsigned char *data, size_t size)
{
    int protocol = 0;
    size_t at = transport(data, size, &protocol);
    if (at == 0 || protocol != IPPROTO_TCP)
        return protocol == IPPROTO_UDP;
    if (size < at + 20)
        return false;
    const unsigned char *tcp = data + at;
    size_t header = (size_t)(tcp[12] >> 4) * 4;
    bool syn = tcp[13] & 2, ack = tcp[13] & 16;
    size_t payload = size > at + header ? size - at - header : 0;
    from->connections += syn && !ack;
    from->client_hellos +=
            payload > 5 && tcp[header] == 22 && tcp[header + 1] == 3 && tcp[header + 5] == 1;
    return syn || payload > 0;
}

// Takes up what has left this side.
static void depart(struct side *side)
{
    static unsigned char buffer[PACKET_MAX];
    for (int n = 0; n < READS_PER_TURN; n++) {
        ssize_t size = read(side->tun, buffer, sizeof buffer);
        if (size <= 0) {
            if (size < 0 && errno != EAGAIN && errno != EINTR &&
                    errno != EIO) // EIO: the interface is still down
                die("read");
            return;
        }
        struct packet *packet = malloc(sizeof *packet + (size_t)size);
        if (!packet)
            die("malloc");
        *packet = (struct packet){.due = now() + delay, .size = (size_t)size};
        memcpy(packet->data, buffer, (size_t)size);
        packet->content = inspect(side, buffer, (size_t)size);
        packet->flight = side->flight + (side == &near_side);
        side->packets++;
        side->bytes += (uint64_t)size;
        *side->last = packet;
        side->last = &packet->next;
    }
}

// Delivers to the other side what has been on its way long enough.
static void arrive(struct side *from, struct side *to)
{
    while (from->first && from->first->due <= now()) {
        struct packet *packet = from->first;
        from->first = packet->next;
        if (!from->first)
            from->last = &from->first;
        if (write(to->tun, packet->data, packet->size) < 0 && errno != EAGAIN && errno != EIO &&
                errno != EINVAL)
            die("write");
        if (packet->content && packet->flight > to->flight)
            to->flight = packet->flight;
        free(packet);
    }
}

static void reset(struct side *side)
{
    *side = (struct side){.tun = side->tun,
            .first = side->first,
            .last = side->first ? side->last : &side->first};
    for (struct packet *packet = side->first; packet; packet = packet->next)
        packet->flight = 0;
}

static void obey(char *line)
{
    if (strncmp(line, "rtt ", 4) == 0) {
        delay = strtoll(line + 4, NULL, 10) * 500;
    } else if (strcmp(line, "reset") == 0) {
        reset(&near_side);
        reset(&far_side);
    } else if (strcmp(line, "stats") == 0) {
        printf("{\"connections\": %ju, \"client_hellos\": %ju, \"flights\": %u, \"packets_out\": "
               "%ju, \"packets_in\": %ju, "
               "\"bytes_out\": %ju, \"bytes_in\": %ju}\n",
                (uintmax_t)near_side.connections, (uintmax_t)near_side.client_hellos,
                near_side.flight, (uintmax_t)near_side.packets, (uintmax_t)far_side.packets,
                (uintmax_t)near_side.bytes, (uintmax_t)far_side.bytes);
    } else {
        fprintf(stderr, "link: unknown command: %s\n", line);
        exit(2);
    }
    fflush(stdout);
}

// Commands are short and come one at a time, each in one write.
static bool commands(void)
{
    char buffer[256];
    ssize_t size = read(STDIN_FILENO, buffer, sizeof buffer - 1);
    if (size <= 0)
        return size < 0 && errno == EINTR;
    buffer[size] = 0;
    char *rest = buffer;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line)
            obey(line);
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: link NEAR FAR RTT_US\n");
        return 2;
    }
    open_side(&near_side, argv[1]);
    open_side(&far_side, argv[2]);
    delay = strtoll(argv[3], NULL, 10) * 500;
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO,
            &(struct sched_param){.sched_priority = 1}); // if we may; it matters on a busy machine
    puts("ready");
    fflush(stdout);
    struct pollfd fds[] = {
            {near_side.tun, POLLIN, 0}, {far_side.tun, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    for (;;) {
        arrive(&near_side, &far_side);
        arrive(&far_side, &near_side);
        int64_t next = INT64_MAX;
        if (near_side.first)
            next = near_side.first->due;
        if (far_side.first && far_side.first->due < next)
            next = far_side.first->due;
        int64_t wait = next - now();
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (wait < 0)
            timeout = (struct timespec){0};
        if (ppoll(fds, 3, next == INT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            die("poll");
        depart(&near_side);
        depart(&far_side);
        if (fds[2].revents && !commands())
            return 0;
    }
}
