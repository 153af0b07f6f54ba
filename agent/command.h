/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands: one row each, with everything that belongs to it (name, arguments, options, help,
 * function). The table drives parsing, `--help`, the man page test and the completions.
 */
#pragma once

#include "agent/agent.h"

/* Exit statuses of design 5. */
enum exit_status {
    EXIT_GOOD = 0,
    EXIT_OWN_FAILURE = 1,
    EXIT_USAGE = 2,
    EXIT_SOME_NOT_GOOD = 3,
    EXIT_NONE_GOOD = 4,
    EXIT_LOCKED = 75,
};

enum command_option {
    OPTION_JSON = 1 << 0,
    OPTION_FORCE = 1 << 1,
    OPTION_PROBE = 1 << 2,
    OPTION_HOSTS = 1 << 3,  /* takes HOST… */
    OPTION_CONFIG = 1 << 4, /* reads the configuration */
};

struct command_line {
    const struct command *command;
    const char *config_path; /* or NULL */
    bool json, force, probe, quiet, verbose;
    char *const *hosts;
    size_t n_hosts;
};

struct command_context {
    const struct command_line *line;
    struct world *world;
    struct config *config; /* NULL without OPTION_CONFIG */
    bool color;            /* of stdout */
    int exit_status;       /* set by the command */
};

struct command {
    const char *name;      /* "config check" is two words */
    const char *arguments; /* for the usage line */
    const char *summary;   /* one line */
    const char *help;      /* paragraphs with examples */
    unsigned options;      /* enum command_option */
    struct err *(*run)(struct command_context *context);
};
extern const struct command commands[];
extern const size_t n_commands;

struct err *command_renew(struct command_context *context) MAY_SUSPEND;
struct err *command_run(struct command_context *context) MAY_SUSPEND;
struct err *command_plan(struct command_context *context) MAY_SUSPEND;
struct err *command_verify(struct command_context *context) MAY_SUSPEND;
struct err *command_status(struct command_context *context) MAY_SUSPEND;
struct err *command_hosts(struct command_context *context) MAY_SUSPEND;
struct err *command_config_check(struct command_context *context) MAY_SUSPEND;
struct err *command_config_show(struct command_context *context) MAY_SUSPEND;
struct err *command_version(struct command_context *context) MAY_SUSPEND;

/* Parses argv; prints usage, help or the mistake itself. false: exit with *ret_status. */
bool command_line_parse(int argc, char **argv, struct command_line *ret, int *ret_status);

/* ---- what commands share ---- */

/* 0, 3 or 4: all, some or none of the hosts are good. */
int command_exit_status(size_t good, size_t n);
/* {"schema": "certherd/<name>/1"} */
json_t *command_json(const char *name);
/* Prints to stdout. Takes root. */
void command_print_json(json_t *owned);
void command_print(const struct buf *text);
/* Agent, host set and the hosts named on the command line; ret_hosts is owned, its elements belong
 * to the agent. */
struct command_agent {
    struct report *report;
    struct agent *agent;
    const struct host **hosts;
    size_t n_hosts;
};
struct err *command_agent_open(struct command_context *context, bool read_only,
        struct command_agent *ret) MAY_SUSPEND NODISCARD;
void command_agent_close(struct command_agent *agent);
#define AUTO_COMMAND_AGENT AUTO(command_agent_close)
/* Takes the lock; false: held by another process, said so, exit status set. */
struct err *command_lock(struct command_context *context, struct agent *agent, bool *ret_locked)
        MAY_SUSPEND NODISCARD;
