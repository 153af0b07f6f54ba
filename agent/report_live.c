/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live display is a block of lines at the bottom of the terminal, one per name, redrawn in
 * place when a step changes and every half second for the elapsed time. Whatever else is printed
 * clears the block first (report_pause), so text above it scrolls as usual.
 *
 * A block can only be redrawn while all of it is on the screen: no line may wrap, and no more lines
 * are drawn than fit. Where the names don't fit, each host has one line.
 */
#include "agent/report.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ROWS_MAX      ((size_t)4000)
#define REDRAW_MS     50 /* no more often, however many steps are taken */
#define BLOCK_MAX     ((size_t)256 * 1024)
#define SPAN_FROM_MS  CLOCK_SEC
#define SPAN_COLUMNS  8
#define COLUMNS_LEAST 20

struct row {
    struct name host;
    struct name name; /* equal to host for the host's own row */
    char what[96];
    struct mono since;
    bool finished, failed;
};

struct report {
    struct world *world;
    struct report_options options;
    size_t n_rows, room;
    struct row *rows;
    size_t drawn; /* lines of the block on the screen now */
    struct mono last;
};

struct screen {
    size_t rows, columns;
};

static void on_log_line(void *arg, enum log_level level, const char *line);

struct report *report_new(struct world *world, const struct report_options *options)
{
    struct report *report = MEM_NEW(struct report);

    report->world = world;
    report->options = *options;
    if (options->style == REPORT_LIVE)
        log_set_sink(on_log_line, report);
    return report;
}

void report_free(struct report *report)
{
    if (report == NULL)
        return;
    report_pause(report);
    if (report->options.style == REPORT_LIVE)
        log_set_sink(NULL, NULL);
    free(report->rows);
    free(report);
}

/* ---- the screen ---- */

static void put(const struct report *report, const struct buf *text)
{
    const char *p = text->data;
    size_t left = text->len;

    while (left > 0) {
        ssize_t n = write(report->options.fd, p, left);
        if (n <= 0)
            return; /* a display that can't be written is not worth an error */
        p += n;
        left -= (size_t)n;
    }
}

/* Back to the first line of the block. */
static void go_up(struct report *report, struct buf *out)
{
    if (report->drawn > 0)
        buf_printf(out, "\033[%zuF", report->drawn);
    report->drawn = 0;
}

static void erase(struct report *report, struct buf *out)
{
    if (report->drawn == 0)
        return;
    go_up(report, out);
    buf_puts(out, "\033[J");
}

void report_pause(struct report *report)
{
    AUTO_BUF struct buf out = BUF_INIT(256);

    erase(report, &out);
    put(report, &out);
}

static struct screen measure(int fd)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0)
        return (struct screen){.rows = 24, .columns = 80};
    return (struct screen){.rows = size.ws_row,
            .columns = size.ws_col < COLUMNS_LEAST ? COLUMNS_LEAST : size.ws_col};
}

/* ---- rows ---- */

static bool is_own(const struct row *row)
{
    return name_equal(&row->host, &row->name);
}

/* At most so many columns of the text, with an ellipsis where it is cut; returns how many. */
static size_t put_cut(struct buf *out, const char *text, size_t columns)
{
    size_t len = strlen(text), at = 0, used = 0;
    uint32_t character;

    while (at < len) {
        size_t size = str_utf8_decode(text + at, len - at, &character);
        size = size == 0 ? 1 : size;
        if (used + 1 == columns && at + size < len) {
            buf_puts(out, "…");
            return columns;
        }
        if (used == columns)
            break;
        buf_append(out, text + at, size);
        at += size;
        used++;
    }
    return used;
}

static void put_row(const struct report *report, const struct row *row, size_t name_columns,
        size_t columns, struct buf *out)
{
    char span[WALL_TEXT_MAX] = "";
    int64_t ms = mono_diff(world_mono(report->world), row->since);
    const char *color = row->failed ? "\033[31m" : row->finished ? "\033[32m" : "\033[33m";
    size_t indent = is_own(row) ? 0 : 2;

    /* Whole seconds: digits that flicker can't be read. */
    if (!row->finished && ms >= SPAN_FROM_MS)
        clock_span(ms - ms % CLOCK_SEC, span);
    buf_printf(out, "%*s", (int)indent, "");
    size_t used = indent + put_cut(out, row->name.text, name_columns - indent);
    buf_printf(out, "%*s", (int)(name_columns + 2 - used), "");
    size_t left = columns - name_columns - 2;
    if (report->options.color)
        buf_puts(out, color);
    used = put_cut(out, row->what, left >= 3 * SPAN_COLUMNS ? left - SPAN_COLUMNS : left);
    if (report->options.color)
        buf_puts(out, "\033[0m");
    if (used + SPAN_COLUMNS <= left)
        buf_printf(out, "  %s", span);
    buf_puts(out, "\033[K\n");
}

static size_t widest_name(const struct report *report, bool all)
{
    size_t widest = 0;

    for (size_t i = 0; i < report->n_rows; i++) {
        const struct row *row = &report->rows[i];
        size_t len = strlen(row->name.text) + (is_own(row) ? 0 : 2);
        if ((all || is_own(row)) && len > widest)
            widest = len;
    }
    return widest;
}

static void put_block(struct report *report, struct buf *out)
{
    struct screen screen = measure(report->options.fd);
    size_t columns = screen.columns - 1, fit = screen.rows - 1, left_out = 0;
    bool all = report->n_rows <= fit;
    size_t name_columns = widest_name(report, all);

    if (name_columns > columns / 2)
        name_columns = columns / 2;
    for (size_t i = 0; i < report->n_rows; i++) {
        if (!all && !is_own(&report->rows[i]))
            continue;
        if (!all && report->drawn + 1 >= fit) {
            left_out++;
            continue;
        }
        put_row(report, &report->rows[i], name_columns, columns, out);
        report->drawn++;
    }
    if (left_out == 0 || report->drawn >= fit)
        return;
    buf_printf(out, "… and %zu more\033[K\n", left_out);
    report->drawn++;
}

static void draw(struct report *report)
{
    AUTO_BUF struct buf out = BUF_INIT(BLOCK_MAX);

    if (report->options.style != REPORT_LIVE)
        return;
    go_up(report, &out);
    put_block(report, &out);
    buf_puts(&out, "\033[J");
    put(report, &out);
    report->last = world_mono(report->world);
}

/* What changes in quick succession is drawn by the next tick. */
static void draw_soon(struct report *report)
{
    if (report->drawn == 0 || mono_diff(world_mono(report->world), report->last) >= REDRAW_MS)
        draw(report);
}

/* Log lines scroll above the block. */
static void on_log_line(void *arg, enum log_level level, const char *line)
{
    struct report *report = arg;
    AUTO_BUF struct buf out = BUF_INIT((size_t)64 * 1024);

    (void)level;
    erase(report, &out);
    buf_printf(&out, "%s\n", line);
    put(report, &out);
    draw(report);
}

void report_tick(struct report *report)
{
    if (report->n_rows > 0 || report->drawn > 0)
        draw(report);
}

/* ---- steps ---- */

/* Rows of a host stay together. NULL: there are too many to be read anyway. */
static struct row *find_row(struct report *report, const struct name *host, const struct name *name)
{
    size_t at = report->n_rows;

    for (size_t i = 0; i < report->n_rows; i++) {
        if (!name_equal(&report->rows[i].host, host))
            continue;
        if (name_equal(&report->rows[i].name, name))
            return &report->rows[i];
        at = i + 1;
    }
    if (report->n_rows == ROWS_MAX)
        return NULL;
    if (report->n_rows == report->room) {
        report->room = report->room == 0 ? 16 : 2 * report->room;
        report->rows = mem_realloc_array(report->rows, report->room, sizeof(*report->rows));
    }
    memmove(&report->rows[at + 1], &report->rows[at],
            (report->n_rows - at) * sizeof(*report->rows));
    report->rows[at] = (struct row){.host = *host, .name = *name};
    report->n_rows++;
    return &report->rows[at];
}

static void drop_host(struct report *report, const struct name *host)
{
    size_t kept = 0;

    for (size_t i = 0; i < report->n_rows; i++)
        if (!name_equal(&report->rows[i].host, host))
            report->rows[kept++] = report->rows[i];
    report->n_rows = kept;
}

static struct row *set_row(struct report *report, const struct name *host, const struct name *name,
        const char *what, const char *detail)
{
    struct row *row = find_row(report, host, name);

    if (row == NULL)
        return NULL;
    snprintf(row->what, sizeof(row->what), "%s%s%s", what, detail != NULL ? ": " : "",
            detail != NULL ? detail : "");
    row->since = world_mono(report->world);
    row->finished = row->failed = false;
    return row;
}

/* The names of steps are for the log; these are for people. */
static const char *step_text(enum acme_step step)
{
    static const char *const texts[ACME_STEP_MAX] = {
            [ACME_STEP_ORDER] = "ordering",
            [ACME_STEP_AUTHORIZE] = "the CA wants a proof",
            [ACME_STEP_PRESENT] = "publishing the token",
            [ACME_STEP_VISIBLE] = "checking the token",
            [ACME_STEP_ANSWERED] = "the CA is validating",
            [ACME_STEP_VALID] = "valid",
            [ACME_STEP_FAILED] = "failed",
            [ACME_STEP_FINALIZE] = "the CA is issuing",
            [ACME_STEP_DOWNLOAD] = "fetching the certificate",
    };
    return texts[step];
}

void report_step(struct report *report, const struct name *host, const struct name *name,
        enum acme_step step, const char *detail)
{
    log_debug("step", "issuing", LOG_STR("name", name != NULL ? name->text : host->text),
            LOG_STR("step", acme_step_name(step)), LOG_STR("detail", detail));
    if (report->options.style != REPORT_LIVE)
        return;
    struct row *row = set_row(report, host, name != NULL ? name : host, step_text(step),
            step == ACME_STEP_FAILED ? detail : NULL);
    if (row != NULL) {
        row->finished = step == ACME_STEP_VALID || step == ACME_STEP_FAILED;
        row->failed = step == ACME_STEP_FAILED;
    }
    draw_soon(report);
}

void report_host(struct report *report, const struct name *host, const char *what)
{
    if (what != NULL)
        log_debug("step", "host", LOG_STR("step", what));
    if (report->options.style != REPORT_LIVE)
        return;
    if (what == NULL)
        drop_host(report, host);
    else
        set_row(report, host, host, what, NULL);
    draw_soon(report);
}
