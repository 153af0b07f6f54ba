/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at every system call that changes a file, from opening the store to the live file: this
 * program runs itself under ptrace, kills it at the entry of the n-th such call, looks at what is
 * left, and runs it again to the end. For every n:
 *
 *   - the live file holds a pair that fits, the old one or the new one;
 *   - the next run finishes with exactly one more generation;
 *   - a key that was pending is the key of that generation (no second order).
 *
 * The same again with a call that fails (disk full, broken disk) instead of a kill.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "tests/unit/agent/store_fixture.h"

#define POINTS_MAX 500

/* ---- the program that is killed ---- */

static char *beside(const struct fixture *fx, const char *name)
{
    return str_printf("%s/%s", fx->top, name);
}

/* Every run has the same CA, by its key. */
static void make_root(struct fixture *fx)
{
    AUTO_FREE char *key_path = beside(fx, "root.key");
    AUTO_FREE char *key = exists(key_path) ? text_of(key_path) : NULL;
    fx->root =
            test_cert_new(&(struct test_cert_spec){.cn = "Test Root", .ca = true, .key_pem = key});
    if (key != NULL)
        return;
    AUTO_FREE char *new_key = test_cert_key_pem(fx->root);
    AUTO_FREE char *pem = test_cert_pem(fx->root);
    put(fx->roots, pem, 0644);
    put(key_path, new_key, 0600);
}

static void save_state(struct fixture *fx) MAY_SUSPEND;
static void save_state(struct fixture *fx)
{
    AUTO(host_state_done) struct host_state state = {0};
    bool stored = false;
    assert_ok(store_state_load(fx->store, &fx->host, &state));
    state.attempts++;
    assert_ok(store_state_save(fx->store, &fx->host, &state, &stored));
    assert_true(stored);
}

static void install_newest(struct fixture *fx, uint64_t number) MAY_SUSPEND;
static void install_newest(struct fixture *fx, uint64_t number)
{
    AUTO(name_list_done) struct name_list wanted = {0};
    AUTO_FREE char *why = NULL;
    enum store_installed result = STORE_WORSE;
    add_names(&wanted, HOST "," COMPONENT);
    const struct store_install options = {.wanted = &wanted, .roots = fx->roots, .now = now_of(fx)};
    assert_ok(store_live_install(fx->store, &fx->host, number, &options, &result, &why));
    assert_null(why);
    assert_true(result != STORE_WORSE);
}

/* The reconcile flow in small: what is missing for generation fx->target. */
static uint64_t target;
FIBER_TEST(next_step)
{
    AUTO(store_generation_done) struct store_generation g = {0};
    AUTO(store_pending_done) struct store_pending pending = {0};
    bool locked = false;
    pid_t holder = 0;
    assert_ok(reopen(fx, false));
    assert_ok(store_lock(fx->store, &locked, &holder));
    assert_true(locked);
    assert_ok(store_check_writable(fx->store));
    assert_ok(store_generation_newest(fx->store, &fx->host, &g));
    assert_ok(store_pending_load(fx->store, &fx->host, &pending));
    save_state(fx);
    uint64_t number = g.number;
    if (number < target)
        number = issue(fx, (struct cert_wish){.days = 90 + (int64_t)target});
    else if (pending.exists)
        assert_ok(store_pending_drop(fx->store, &fx->host));
    install_newest(fx, number);
    save_state(fx);
}

static int run_child(const char *top, const char *wanted)
{
    struct fixture *fx = MEM_NEW(struct fixture);
    void *state = fx;
    unsigned long long number = 0;
    fake_world_init(&fx->fw);
    snprintf(fx->top, sizeof(fx->top), "%s", top);
    fx->state_dir = beside(fx, "state");
    fx->cert_dir = beside(fx, "certs");
    fx->roots = beside(fx, "roots.pem");
    fx->host = name_of(HOST);
    make_root(fx);
    if (str_to_u64(wanted, 100, &number) == 0)
        return 2;
    target = number;
    if (raise(SIGCONT) != 0) /* the tracer counts from here on */
        return 2;
    next_step(&state);
    store_close(fx->store);
    fake_world_done(&fx->fw);
    test_cert_free(fx->root);
    free(fx->state_dir);
    free(fx->cert_dir);
    free(fx->roots);
    free(fx);
    return 0;
}

/* ---- the one that kills ---- */

static pid_t start(const char *top, const char *wanted, bool traced)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* LeakSanitizer can't share ptrace */
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (traced && quiet >= 0 && (dup2(quiet, 1) < 0 || dup2(quiet, 2) < 0))
        _exit(127);
    if (traced && ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
        _exit(77);
    execl("/proc/self/exe", "test_store_kill", "--child", top, wanted, (char *)NULL);
    _exit(127);
}

static void run_to_the_end(const char *top, const char *wanted)
{
    int status = 0;
    pid_t pid = start(top, wanted, false);
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static bool changes_a_file(const struct __ptrace_syscall_info *info)
{
    switch (info->entry.nr) {
    case SYS_openat:
        return (info->entry.args[2] & O_CREAT) != 0;
    case SYS_mkdirat:
    case SYS_renameat:
    case SYS_renameat2:
    case SYS_linkat:
    case SYS_unlinkat:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_fchmod:
    case SYS_fchmodat:
    case SYS_utimensat:
    case SYS_ftruncate:
        return true;
#ifdef SYS_open
    case SYS_open:
        return (info->entry.args[1] & O_CREAT) != 0;
    case SYS_mkdir:
    case SYS_rename:
    case SYS_unlink:
    case SYS_rmdir:
    case SYS_chmod:
        return true;
#endif
    default:
        return false;
    }
}

struct trace {
    pid_t pid;
    bool counting;
    size_t at;     /* here */
    int error;     /* errno of the call instead of a kill */
    pid_t failing; /* the thread whose call is made to fail */
    size_t seen;
};

/* At its entry the call becomes one that does not exist, at its exit its result is replaced. */
static void replace_call(const struct trace *t, pid_t thread, bool entry)
{
#ifdef __x86_64__
    struct user_regs_struct regs;
    assert_int_equal(ptrace(PTRACE_GETREGS, thread, NULL, &regs), 0);
    if (entry)
        regs.orig_rax = (unsigned long long)-1;
    else
        regs.rax = (unsigned long long)-t->error;
    assert_int_equal(ptrace(PTRACE_SETREGS, thread, NULL, &regs), 0);
#endif
}

static void take_call(struct trace *t, pid_t thread)
{
    struct __ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) <= 0)
        return; /* gone in the meantime */
    if (info.op == PTRACE_SYSCALL_INFO_EXIT && thread == t->failing) {
        replace_call(t, thread, false);
        t->failing = 0;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !t->counting || !changes_a_file(&info) ||
            ++t->seen != t->at)
        return;
    if (t->error == 0) {
        kill(t->pid, SIGKILL);
        return;
    }
    t->failing = thread;
    replace_call(t, thread, true);
}

/* One stop of one thread; the signal to go on with. */
static int take_stop(struct trace *t, pid_t thread, int status)
{
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
        take_call(t, thread);
        return 0;
    }
    if (signal == SIGCONT)
        t->counting = true;
    return signal == SIGTRAP || signal == SIGSTOP || signal == SIGCONT ? 0 : signal;
}

/* false: there are fewer such calls. */
static bool disturb(const char *top, size_t at, int error)
{
    struct trace t = {.at = at, .error = error};
    int status = 0;
    t.pid = start(top, "2", true);
    assert_true(t.pid > 0);
    assert_int_equal(waitpid(t.pid, &status, __WALL), t.pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip(); /* no ptrace in this place */
    assert_true(WIFSTOPPED(status));
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    assert_int_equal(ptrace(PTRACE_SETOPTIONS, t.pid, NULL, options), 0);
    ptrace(PTRACE_SYSCALL, t.pid, NULL, NULL);
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0 && errno == EINTR)
            continue;
        assert_true(thread > 0);
        if (WIFSTOPPED(status)) {
            ptrace(PTRACE_SYSCALL, thread, NULL, (long)take_stop(&t, thread, status));
        } else if (thread == t.pid) {
            assert_true(WIFEXITED(status) || WTERMSIG(status) == SIGKILL);
            return t.seen >= at;
        }
    }
}

/* ---- what must hold ---- */

static void look_at_live(const struct fixture *fx)
{
    AUTO_FREE char *path = live(fx);
    AUTO_FREE char *text = text_of(path);
    AUTO_CERT_INFO struct cert_info cert = {0};
    assert_ok(cert_parse(text, strlen(text), true, &cert));
    assert_ok(key_check_joined(text, strlen(text)));
    assert_true(cert_covers(&cert, &fx->host));
    assert_int_equal(mode_of(path), 0640);

    AUTO_STRV struct strv entries = {0};
    bool found = false;
    assert_ok(file_list(fx->cert_dir, 100, &entries, &found));
    for (size_t i = 0; i < entries.n; i++)
        assert_true(strcmp(entries.v[i], HOST ".pem") == 0 || !str_ends(entries.v[i], ".pem"));
}

static void look_at_the_end(const struct fixture *fx, const char *pending_key)
{
    AUTO_FREE char *dir = lineage(fx, "");
    AUTO_FREE char *key_path = lineage(fx, "2/key.pem");
    AUTO_FREE char *chain_path = lineage(fx, "2/chain.pem");
    AUTO_FREE char *live_path = live(fx);
    assert_entries(dir, "1,2,previous.pem,state.json");
    assert_entries(fx->cert_dir, HOST ".pem");
    assert_entries(fx->state_dir, "accounts,budget,journal,lineages,lock");
    AUTO_FREE char *key_text = text_of(key_path);
    if (pending_key != NULL)
        assert_string_equal(key_text, pending_key);

    AUTO(key_freep) struct key *key = NULL;
    AUTO_BUF struct buf joined = BUF_INIT(1024 * 1024);
    AUTO_FREE char *chain = text_of(chain_path);
    AUTO_FREE char *live_text = text_of(live_path);
    assert_ok(key_open(key_path, &key));
    assert_ok(key_join_chain(key, chain, strlen(chain), &joined));
    assert_string_equal(live_text, buf_str(&joined));
}

static bool one_point(size_t at, int error)
{
    struct fixture fx = {.host = name_of(HOST)};
    /* In memory where possible: thousands of fsyncs. */
    snprintf(fx.top, sizeof(fx.top), "%s/certherd-kill-XXXXXX",
            access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(fx.top));
    fx.state_dir = beside(&fx, "state");
    fx.cert_dir = beside(&fx, "certs");
    AUTO_FREE char *pending = lineage(&fx, "pending/key.pem");

    run_to_the_end(fx.top, "1");
    bool reached = disturb(fx.top, at, error);
    look_at_live(&fx);
    AUTO_FREE char *pending_key = exists(pending) ? text_of(pending) : NULL;
    run_to_the_end(fx.top, "2");
    look_at_live(&fx);
    look_at_the_end(&fx, pending_key);

    free(fx.state_dir);
    free(fx.cert_dir);
    assert_int_equal(nftw(fx.top, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    return reached;
}

static void sweep(int error)
{
    size_t at = 1;
    while (at < POINTS_MAX && one_point(at, error))
        at++;
    print_message("%zu points\n", at - 1);
    assert_true(at > 40 && at < POINTS_MAX);
}

static void kill_at_every_call(void **state)
{
    sweep(0);
}

static void disk_full_at_every_call(void **state)
{
#ifndef __x86_64__
    skip();
#endif
    sweep(ENOSPC);
}

static void broken_disk_at_every_call(void **state)
{
#ifndef __x86_64__
    skip();
#endif
    sweep(EIO);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return run_child(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(kill_at_every_call),
            cmocka_unit_test(disk_full_at_every_call),
            cmocka_unit_test(broken_disk_at_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
