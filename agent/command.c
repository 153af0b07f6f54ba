/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

const struct command commands[] = {
        {"renew", "[HOST...] [--force] [--json]",
                "obtain, install and prove what is due, then exit",
                "Checks DNS, obtains certificates where one is missing or due, writes them, "
                "reloads ejabberd and\n"
                "looks at every port. With nothing due it contacts nobody. HOST is an XMPP host or "
                "a mail domain.\n"
                "--force renews although it is not due.\n\n"
                "Example:\n"
                "  certherd renew im.example.org\n",
                OPTION_JSON | OPTION_FORCE | OPTION_HOSTS | OPTION_CONFIG, command_renew},
        {"run", "", "stay and renew for ever",
                "The agent: the same as `renew`, again and again at the right moment. Ends cleanly "
                "on SIGTERM.\n\n"
                "Example:\n"
                "  certherd run\n",
                OPTION_CONFIG, command_run},
        {"plan", "[HOST...] [--probe] [--json]", "what would be done now, and the records to make",
                "Host set, DNS verdict of each name, what would be ordered and why. Reads only; "
                "--probe also fetches\n"
                "a token over HTTP the way a CA does.\n\n"
                "Example:\n"
                "  certherd plan example.org\n",
                OPTION_JSON | OPTION_PROBE | OPTION_HOSTS | OPTION_CONFIG, command_plan},
        {"verify", "[HOST...] [--json]", "look at what is served now, the way a client does",
                "Follows the SRV records to the public addresses and ports and checks names, chain "
                "and dates of\n"
                "the certificate found there. A port that can't be reached from here is a "
                "warning.\n\n"
                "Example:\n"
                "  certherd verify im.example.org\n",
                OPTION_JSON | OPTION_HOSTS | OPTION_CONFIG, command_verify},
        {"status", "[HOST...] [--json]", "last result, next attempt and why, per host",
                "Reads the state directory; contacts nobody.\n\n"
                "Example:\n"
                "  certherd status --json\n",
                OPTION_JSON | OPTION_HOSTS | OPTION_CONFIG, command_status},
        {"hosts", "[--json]", "the host set, one name per line, with the source of each",
                "Example:\n"
                "  certherd hosts\n",
                OPTION_JSON | OPTION_CONFIG, command_hosts},
        {"config check", "", "check the configuration",
                "Says everything that is wrong with file and environment; exit status 2 if "
                "anything is.\n\n"
                "Example:\n"
                "  certherd config check --config ./certherd.yml\n",
                OPTION_CONFIG | OPTION_JSON, command_config_check},
        {"config show", "[--json]", "the effective configuration with the origin of each value",
                "Secrets are hidden.\n\n"
                "Example:\n"
                "  certherd config show\n",
                OPTION_JSON | OPTION_CONFIG, command_config_show},
        {"version", "[--json]", "version of certherd and of the libraries it runs with", "",
                OPTION_JSON, command_version},
};
const size_t n_commands = ARRAY_SIZE(commands);

static const char exit_help[] = "Exit status: 0 all good or nothing due; 1 own failure; 2 usage or "
                                "configuration; 3 some hosts not good;\n"
                                "4 no host good; 75 locked by another process.\n";

static void print_usage(FILE *to)
{
    fputs("usage: certherd COMMAND [ARGUMENTS] [--config FILE] [--quiet] [--verbose]\n\n", to);
    for (size_t i = 0; i < n_commands; i++)
        fprintf(to, "  %-13s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\n`certherd COMMAND --help` says more. %s", exit_help);
}

static void print_help(const struct command *c)
{
    printf("usage: certherd %s %s\n\n%s.\n\n%s\n%s", c->name, c->arguments, c->summary, c->help,
            exit_help);
}

/* ---- parsing ---- */

enum {
    OPT_CONFIG = 256,
    OPT_JSON,
    OPT_FORCE,
    OPT_PROBE,
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_VERSION
};
static const struct option long_options[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"json", no_argument, NULL, OPT_JSON},
        {"force", no_argument, NULL, OPT_FORCE},
        {"probe", no_argument, NULL, OPT_PROBE},
        {"quiet", no_argument, NULL, OPT_QUIET},
        {"verbose", no_argument, NULL, OPT_VERBOSE},
        {"help", no_argument, NULL, OPT_HELP},
        {"version", no_argument, NULL, OPT_VERSION},
        {NULL, 0, NULL, 0},
};

static const struct command *find_command(int argc, char **argv, int *ret_words)
{
    for (size_t i = 0; i < n_commands; i++) {
        const char *space = strchr(commands[i].name, ' ');
        size_t len = space != NULL ? (size_t)(space - commands[i].name) : strlen(commands[i].name);
        if (argc < 1 || strlen(argv[0]) != len || strncmp(argv[0], commands[i].name, len) != 0)
            continue;
        if (space != NULL && (argc < 2 || strcmp(argv[1], space + 1) != 0))
            continue;
        *ret_words = space != NULL ? 2 : 1;
        return &commands[i];
    }
    return NULL;
}

struct parsed {
    bool help, version, failed;
    unsigned given; /* enum command_option */
};

static void parse_options(int argc, char **argv, struct command_line *line, struct parsed *p)
{
    static char name[] = "certherd";
    int c;

    argv[0] = name; /* in what getopt says */
    while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        switch (c) {
        case OPT_CONFIG:
            line->config_path = optarg;
            break;
        case OPT_JSON:
            line->json = true;
            p->given |= OPTION_JSON;
            break;
        case OPT_FORCE:
            line->force = true;
            p->given |= OPTION_FORCE;
            break;
        case OPT_PROBE:
            line->probe = true;
            p->given |= OPTION_PROBE;
            break;
        case OPT_QUIET:
            line->quiet = true;
            break;
        case OPT_VERBOSE:
            line->verbose = true;
            break;
        case 'h':
        case OPT_HELP:
            p->help = true;
            break;
        case OPT_VERSION:
            p->version = true;
            break;
        default:
            p->failed = true; /* getopt has said why */
            break;
        }
    }
}

static bool usage_error(int *ret_status, const char *fmt, ...) ATTR_PRINTF(2, 3);
static bool usage_error(int *ret_status, const char *fmt, ...)
{
    va_list ap;

    fputs("certherd: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("; `certherd --help` lists the commands\n", stderr);
    *ret_status = EXIT_USAGE;
    return false;
}

static bool check_arguments(struct command_line *line, const struct parsed *p, int *ret_status)
{
    unsigned allowed = line->command->options;
    const char *name = line->command->name;

    if ((p->given & OPTION_JSON & ~allowed) != 0)
        return usage_error(ret_status, "%s has no --json", name);
    if ((p->given & OPTION_FORCE & ~allowed) != 0)
        return usage_error(ret_status, "%s has no --force", name);
    if ((p->given & OPTION_PROBE & ~allowed) != 0)
        return usage_error(ret_status, "%s has no --probe", name);
    if (line->n_hosts > 0 && (allowed & OPTION_HOSTS) == 0)
        return usage_error(ret_status, "%s takes no argument, found '%s'", name, line->hosts[0]);
    return true;
}

bool command_line_parse(int argc, char **argv, struct command_line *ret, int *ret_status)
{
    struct parsed p = {0};
    int words = 0;

    *ret = (struct command_line){0};
    parse_options(argc, argv, ret, &p);
    *ret_status = p.failed ? EXIT_USAGE : EXIT_GOOD;
    if (p.failed)
        return false;
    ret->command = find_command(argc - optind, argv + optind, &words);
    if (p.version)
        ret->command = find_command(1, (char *[]){(char[]){"version"}}, &words);
    else if (p.help && ret->command != NULL)
        print_help(ret->command);
    else if (p.help)
        print_usage(stdout);
    if (p.help)
        return false;
    if (ret->command == NULL && optind >= argc) {
        print_usage(stderr);
        *ret_status = EXIT_USAGE;
        return false;
    }
    if (ret->command == NULL)
        return usage_error(ret_status, "there is no command '%s'", argv[optind]);
    if (!p.version) {
        ret->hosts = argv + optind + words;
        ret->n_hosts = (size_t)(argc - optind - words);
    }
    return check_arguments(ret, &p, ret_status);
}

/* ---- what commands share ---- */

int command_exit_status(size_t good, size_t n)
{
    if (good == n)
        return EXIT_GOOD;
    return good > 0 ? EXIT_SOME_NOT_GOOD : EXIT_NONE_GOOD;
}

json_t *command_json(const char *name)
{
    json_t *root = json_object();
    AUTO_FREE char *schema = str_printf("certherd/%s/1", name);

    json_put_str(root, "schema", schema);
    return root;
}

void command_print_json(json_t *owned)
{
    AUTO_FREE char *text = json_text_pretty(owned);

    json_decref(owned);
    puts(text);
}

void command_print(const struct buf *text)
{
    fwrite(buf_str(text), 1, text->len, stdout);
    fflush(stdout);
}

static enum report_style report_style_for(const struct command_line *line)
{
    const char *term = getenv("TERM");

    if (line->quiet)
        return REPORT_SILENT;
    if (!line->json && !line->verbose && isatty(STDERR_FILENO) && term != NULL &&
            strcmp(term, "dumb") != 0)
        return REPORT_LIVE;
    return REPORT_PLAIN;
}

struct err *command_agent_open(
        struct command_context *context, bool read_only, struct command_agent *ret)
{
    struct agent_options options = {.read_only = read_only};
    struct report_options report = {
            .style = report_style_for(context->line), .color = context->color, .fd = STDERR_FILENO};

    ret->report = report_new(context->world, &report);
    TRY(agent_open(context->world, context->config, &options, ret->report, &ret->agent));
    return host_set_select(&ret->agent->hosts, context->line->hosts, context->line->n_hosts,
            &ret->hosts, &ret->n_hosts);
}

void command_agent_close(struct command_agent *agent)
{
    free(agent->hosts);
    agent_close(agent->agent);
    report_free(agent->report);
    *agent = (struct command_agent){0};
}

struct err *command_lock(struct command_context *context, struct agent *agent, bool *ret_locked)
{
    pid_t holder = 0;

    TRY(agent_state_failed(store_lock(agent->store, ret_locked, &holder)));
    if (!*ret_locked) {
        fprintf(stderr,
                "certherd: another certherd (pid %ld) is at work on %s\n  do:   wait until it is "
                "done, or stop it\n",
                (long)holder, context->config->state_dir);
        context->exit_status = EXIT_LOCKED;
    }
    return NULL;
}
