/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program: reads the command line and the configuration, makes loop and world, runs the command
 * as a fiber, turns SIGTERM and SIGINT into a cancellation, and errors into two lines on stderr and
 * an exit status.
 */
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/command.h"

struct signals {
    struct loop *loop;
    uv_signal_t *term, *interrupt;
    bool asked;
};

static void on_signal(uv_signal_t *handle, int number)
{
    struct signals *s = handle->data;

    (void)number;
    /* Asked again: at once. The state on disk stands at every instant. */
    if (s->asked)
        _exit(EXIT_OWN_FAILURE);
    s->asked = true;
    loop_cancel_all(s->loop);
}

static uv_signal_t *watch(struct signals *s, int number)
{
    uv_signal_t *handle = MEM_NEW(uv_signal_t);

    uv_signal_init(loop_uv(s->loop), handle);
    handle->data = s;
    uv_signal_start(handle, on_signal, number);
    uv_unref((uv_handle_t *)handle);
    return handle;
}

static void harden(void)
{
    const struct rlimit no_core = {0, 0};

    umask(077);
    /* libcurl would write the session keys of its connections there. */
    unsetenv("SSLKEYLOGFILE");
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_DUMPABLE, 0);
    /* Full disks and closed pipes are errors of a write, not deaths. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* ---- errors ---- */

static int status_of(const struct err *e)
{
    return err_is(e, ERR_CONFIG) ? EXIT_USAGE : EXIT_OWN_FAILURE;
}

static void print_error(const struct err *e)
{
    fprintf(stderr, "certherd: %s\n", err_text(e));
    if (err_advice(e) != NULL)
        fprintf(stderr, "  do:   %s\n", err_advice(e));
    log_debug("error", "made at", LOG_STR("where", err_where(e)),
            LOG_STR("kind", err_kind_name(err_kind(e))));
}

/* ---- configuration ---- */

static void print_problems(const struct command_line *line, const struct config_problems *problems)
{
    for (size_t i = 0; i < problems->lines.n; i++)
        fprintf(stderr, "certherd: %s\n", problems->lines.v[i]);
    if (!line->json)
        return;
    json_t *root = command_json("config-check");
    json_t *list = json_array();
    for (size_t i = 0; i < problems->lines.n; i++)
        json_push(list, json_string(problems->lines.v[i]));
    json_put_bool(root, "ok", false);
    json_put(root, "problems", list);
    command_print_json(root);
}

static struct err *load_config(const struct command_line *line, struct config **ret)
{
    struct config_load load = {.path = line->config_path, .environment = environ};
    struct config_problems problems = {0};

    if ((line->command->options & OPTION_CONFIG) == 0)
        return NULL;
    struct err *e = config_load(&load, ret, &problems);
    if (e == NULL && problems.lines.n > 0)
        print_problems(line, &problems);
    config_problems_done(&problems);
    return e;
}

/* People at a terminal read the result, not the log; the agent's log is its output. */
static void set_up_log(const struct command_line *line, const struct config *config)
{
    bool agent = line->command->run == command_run;
    enum log_level level = config != NULL ? config->log_level : LOG_INFO;

    if (!agent && level < LOG_WARNING)
        level = LOG_WARNING;
    if (line->quiet)
        level = LOG_ERROR;
    if (line->verbose)
        level = LOG_DEBUG;
    log_set_level(level);
    if (config != NULL)
        log_set_format(config->log_format);
}

/* ---- running the command ---- */

static struct err *run_command(void *arg) MAY_SUSPEND;
static struct err *run_command(void *arg)
{
    struct command_context *context = arg;

    return context->line->command->run(context);
}

static void command_ended(void *arg, struct err *result)
{
    struct command_context *context = arg;

    if (result == NULL)
        return;
    if (err_is(result, ERR_CANCELED)) {
        fputs("certherd: stopped; what was begun is gone on with at the next start\n", stderr);
        context->exit_status = EXIT_OWN_FAILURE;
    } else {
        print_error(result);
        context->exit_status = status_of(result);
    }
    err_free(result);
}

static struct err *run_on_loop(struct command_context *context)
{
    AUTO(loop_freep) struct loop *loop = NULL;

    TRY(loop_new(&loop));
    AUTO(world_freep) struct world *world = NULL;
    TRY(world_new(loop, "certherd/" CERTHERD_VERSION, &world));
    struct signals signals = {.loop = loop};
    signals.term = watch(&signals, SIGTERM);
    signals.interrupt = watch(&signals, SIGINT);
    context->world = world;
    fiber_spawn(loop, context->line->command->name, run_command, context, command_ended);
    loop_run(loop);
    if (signals.asked) {
        /* A look-up of the system's resolver can't be canceled and would hold loop_free(). */
        fflush(NULL);
        _exit(context->exit_status);
    }
    loop_close_free((uv_handle_t *)signals.term);
    loop_close_free((uv_handle_t *)signals.interrupt);
    return NULL;
}

/* An empty variable counts as unset (no-color.org says so, too). */
static bool is_set(const char *variable)
{
    const char *value = getenv(variable);

    return value != NULL && *value != '\0';
}

int main(int argc, char **argv)
{
    struct command_line line;
    int status = EXIT_GOOD;

    harden();
    secret_heap_init();
    if (!command_line_parse(argc, argv, &line, &status))
        return status;
    AUTO(config_unrefp) struct config *config = NULL;
    AUTO_ERR struct err *e = load_config(&line, &config);
    if (e == NULL && config == NULL && (line.command->options & OPTION_CONFIG) != 0)
        return EXIT_USAGE;
    set_up_log(&line, config);
    struct command_context context = {
            .line = &line, .config = config, .color = isatty(STDOUT_FILENO) && !is_set("NO_COLOR")};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (e == NULL)
        e = run_on_loop(&context);
    curl_global_cleanup();
    if (e != NULL) {
        print_error(e);
        return status_of(e);
    }
    return context.exit_status;
}
