/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child's input is a file in memory, so nothing has to be fed to it and nobody who stops
 * reading can raise SIGPIPE here; its output comes through two pipes (not libuv's socket pairs: a
 * script that opens /dev/stderr could not open a socket). Callbacks drain the pipes and note the
 * end; the fiber decides.
 *
 * The object lives until libuv has let go of the process handle, which can be later than the fiber:
 * a process that even SIGKILL does not end (stuck in the kernel) is left to libuv.
 */
#include "base/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_OUTPUT ((size_t)64 * 1024)
#define TOTAL_MS   (60 * CLOCK_SEC)
#define TERM_MS    (5 * CLOCK_SEC)
#define KILL_MS    (10 * CLOCK_SEC)
#define GROUP_MS   20
#define DRAIN_MAX  ((size_t)1024 * 1024) /* what a pipe can hold at most, by default of Linux */
#define PATH_CLEAN "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* One of the two pipes. */
struct drain {
    uv_poll_t poll; /* first: loop_close_free() frees the whole by this address */
    int fd;
    size_t max;
    struct buf *into;
    struct drain **self; /* where the owner keeps us */
};

struct child {
    uv_process_t process; /* first: loop_close_free() frees the whole by this address */
    struct drain *out, *err;
    int64_t exit_status;
    int term_signal;
    bool handle; /* process is libuv's now and has to be closed */
    bool ended;
    struct fiber_wait *waiter; /* NULL: the fiber has left */
};

/* Descriptors of ours and of our libraries: whatever was opened without O_CLOEXEC stays here. Marks
 * instead of closing, so it may be done in the parent, where it changes nothing. */
static struct err *mark_close_on_exec(void)
{
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return NULL;
    long max = sysconf(_SC_OPEN_MAX); /* before Linux 5.11 */
    for (int fd = 3; fd < max && fd < 65536; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0)
            return ERR_ERRNO(errno, "descriptor %d", fd);
    }
    return NULL;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
#define AUTO_FD AUTO(close_fd)

/* ---- pipes ---- */

static void drain_close(struct drain *d)
{
    if (d == NULL)
        return;
    *d->self = NULL;
    uv_poll_stop(&d->poll);
    loop_close_free((uv_handle_t *)&d->poll);
    close(d->fd);
}

/* Up to `most` bytes; false: nothing will come any more. What is beyond the maximum is dropped. */
static bool drain_read(struct drain *d, size_t most)
{
    char data[16 * 1024];

    for (size_t taken = 0; taken < most;) {
        ssize_t n = read(d->fd, data, sizeof(data));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        size_t room = d->max - d->into->len;
        buf_append(d->into, data, (size_t)n < room ? (size_t)n : room);
        taken += (size_t)n;
    }
    return true;
}

static void on_output(uv_poll_t *poll, int status, int events)
{
    struct drain *d = CONTAINER_OF(poll, struct drain, poll);

    if (!drain_read(d, 64 * 1024))
        drain_close(d);
}

/* *ret_write is the child's end. */
static struct err *drain_open(
        struct loop *loop, size_t max, struct buf *into, struct drain **ret, int *ret_write)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0)
        return ERR_ERRNO(errno, "pipe");
    AUTO_FD int read_end = fds[0];
    AUTO_FD int write_end = fds[1];
    if (fcntl(read_end, F_SETFL, O_NONBLOCK) != 0)
        return ERR_ERRNO(errno, "pipe");
    struct drain *d = MEM_NEW(struct drain);
    int rc = uv_poll_init(loop_uv(loop), &d->poll, read_end);
    if (rc != 0) {
        free(d);
        return ERR_UV(rc, "pipe");
    }
    d->fd = read_end;
    d->max = max;
    d->into = into;
    d->self = ret;
    read_end = -1;
    uv_poll_start(&d->poll, UV_READABLE, on_output);
    *ret = d;
    *ret_write = write_end;
    write_end = -1;
    return NULL;
}

/* The whole input as a file without a name; -1 for /dev/null. */
static struct err *make_input(const struct child_request *request, int *ret)
{
    AUTO_FD int fd = -1;
    const char *p = request->input;

    if (p == NULL)
        return NULL;
    fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0)
        return ERR_ERRNO(errno, "memory for the input");
    for (size_t left = request->input_len; left > 0;) {
        ssize_t n = write(fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_ERRNO(errno, "memory for the input");
        p += n;
        left -= (size_t)n;
    }
    if (lseek(fd, 0, SEEK_SET) != 0)
        return ERR_ERRNO(errno, "memory for the input");
    *ret = fd;
    fd = -1;
    return NULL;
}

/* ---- process ---- */

static void on_exit_(uv_process_t *process, int64_t exit_status, int term_signal)
{
    struct child *c = CONTAINER_OF(process, struct child, process);

    c->exit_status = exit_status;
    c->term_signal = term_signal;
    c->ended = true;
    if (c->waiter != NULL)
        fiber_wait_wake(c->waiter);
    else
        loop_close_free((uv_handle_t *)process);
}

static struct err *spawn(
        struct loop *loop, const struct child_request *request, struct child *c, const int fds[3])
{
    static const char *const clean_env[] = {PATH_CLEAN, NULL};
    const char *const *env = request->env != NULL ? request->env : clean_env;
    uv_stdio_container_t stdio[3];
    uv_process_options_t options = {
            .exit_cb = on_exit_,
            .file = request->argv[0],
            /* libuv's type lacks a const; it doesn't write. */
            .args = (char **)(uintptr_t)request->argv,
            .env = (char **)(uintptr_t)env,
            .cwd = "/",
            .flags = UV_PROCESS_DETACHED, /* setsid(): its own group, no terminal */
            .stdio_count = 3,
            .stdio = stdio,
    };

    for (int i = 0; i < 3; i++) {
        stdio[i].flags = fds[i] >= 0 ? UV_INHERIT_FD : UV_IGNORE;
        stdio[i].data.fd = fds[i];
    }
    TRY(mark_close_on_exec());
    c->handle = true; /* also if it fails */
    int rc = uv_spawn(loop_uv(loop), &c->process, &options);
    return rc == 0 ? NULL : ERR_UV(rc, "can't be run");
}

static bool group_exists(pid_t group)
{
    return kill(-group, 0) == 0;
}

/* SIGTERM to the group; whoever is left 5 s later gets SIGKILL. Usually returns when the child has
 * ended; a child stuck in the kernel is not waited for longer than KILL_MS. */
static void end_group(struct child *c, struct fiber_wait *wait) MAY_SUSPEND;

static void end_group(struct child *c, struct fiber_wait *wait)
{
    pid_t group = c->process.pid;

    kill(-group, SIGTERM);
    {
        FIBER_SHIELD(TERM_MS);
        struct err *late = fiber_wait_for(wait);
        /* The first has ended, the others of its group may still be cleaning up. No event tells
         * their end. While one is left the number of the group is not given to anybody else. */
        while (late == NULL && group_exists(group))
            late = fiber_sleep(GROUP_MS);
        err_ignore(late, "those that are left are killed now");
    }
    if (c->ended && !group_exists(group))
        return;
    kill(-group, SIGKILL);
    FIBER_SHIELD(KILL_MS);
    if (!c->ended)
        err_ignore(fiber_wait_for(wait), "the process can't be killed and is left behind");
}

/* ---- one run ---- */

static void child_leave(struct child *c)
{
    drain_close(c->out);
    drain_close(c->err);
    c->waiter = NULL;
    if (!c->handle)
        free(c);
    else if (c->ended)
        loop_close_free((uv_handle_t *)&c->process);
}

/* The pipes may be held open by others: only what is in them now. */
static void take_rest(struct child *c)
{
    if (c->out != NULL)
        drain_read(c->out, DRAIN_MAX);
    if (c->err != NULL)
        drain_read(c->err, DRAIN_MAX);
}

static struct err *start(struct loop *loop, const struct child_request *request, struct child *c,
        struct child_result *result)
{
    size_t max = request->max_output > 0 ? request->max_output : MAX_OUTPUT;
    AUTO_FD int in = -1;
    AUTO_FD int out = -1;
    AUTO_FD int err = -1;

    result->output = BUF_INIT(max);
    result->errors = BUF_INIT(max);
    TRY(make_input(request, &in));
    TRY(drain_open(loop, max, &result->output, &c->out, &out));
    TRY(drain_open(loop, max, &result->errors, &c->err, &err));
    return spawn(loop, request, c, (const int[]){in, out, err});
}

static struct err *wait_for_exit(struct child *c, struct fiber_wait *wait, int64_t total_ms)
        MAY_SUSPEND;

static struct err *wait_for_exit(struct child *c, struct fiber_wait *wait, int64_t total_ms)
{
    FIBER_DEADLINE(total_ms > 0 ? total_ms : TOTAL_MS, "the process");
    return fiber_wait_for(wait);
}

struct err *child_run(
        struct loop *loop, const struct child_request *request, struct child_result *ret)
{
    AUTO_CHILD_RESULT struct child_result result = {.exit_status = -1};
    struct child *c;
    struct fiber_wait wait;
    const char *name = request->argv[0];

    if (name[0] != '/')
        return ERR(ERR_CONFIG, "%s: not an absolute path of a program", name);
    TRY(fiber_check());
    c = MEM_NEW(struct child);
    fiber_wait_init(&wait, "child process", true);
    c->waiter = &wait;
    struct err *e = start(loop, request, c, &result);
    if (e != NULL) {
        c->ended = true;
        child_leave(c);
        return err_context(e, "%s", name);
    }
    e = wait_for_exit(c, &wait, request->total_ms);
    if (e != NULL)
        end_group(c, &wait);
    else
        take_rest(c);
    result.exit_status = c->term_signal != 0 ? -1 : c->exit_status;
    result.term_signal = c->term_signal;
    child_leave(c);
    if (e != NULL)
        return err_context(e, "%s", name);
    *ret = result;
    result = (struct child_result){0};
    return NULL;
}

void child_result_done(struct child_result *result)
{
    buf_done(&result->output);
    buf_done(&result->errors);
    *result = (struct child_result){0};
}
