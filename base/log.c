/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record is formatted whole and handed to stderr in pieces of at most PIPE_BUF bytes, each after
 * poll() has said that there is room: POSIX promises that such a piece fits a writable pipe, so
 * nothing here waits although stderr stays blocking (it is shared with whoever started us, and
 * O_NONBLOCK would be theirs too). What does not fit is dropped and counted, and the next line that
 * gets through says how many are missing.
 *
 * Threads of the pool may log too: scopes are per thread, everything else is atomic or set at
 * start.
 */
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

#define LINE_MAX_BYTES  ((size_t)64 * 1024)
#define VALUE_MAX_BYTES ((size_t)4096)
#define FIELDS_MAX      48
/* For the rest of a line that has begun to go out; a reader that is alive needs far less. */
#define REST_WAIT_MS 20

static _Thread_local struct log_scope *innermost;
static _Atomic(int) threshold = LOG_INFO;
static enum log_format format;
static int64_t (*clock_now)(void *arg);
static void *clock_arg;
static void (*line_sink)(void *arg, enum log_level level, const char *line);
static void *line_sink_arg;
static _Atomic(uint64_t) dropped;
static _Atomic(uint64_t) unreported;
static _Atomic(bool) line_is_torn;

static const char *const level_names[] = {"debug", "info", "warning", "error"};

/* ---- scopes ---- */

void log_scope_push(struct log_scope *scope)
{
    scope->outer = innermost;
    innermost = scope;
}

void log_scope_pop(struct log_scope *scope)
{
    assert(innermost == scope);
    innermost = scope->outer;
}

struct log_scope *log_scope_current(void)
{
    return innermost;
}

void log_scope_set_current(struct log_scope *scope)
{
    innermost = scope;
}

static size_t string_size(const struct log_field *f)
{
    return f->type == LOG_FIELD_STR && f->str != NULL ? strlen(f->str) + 1 : 0;
}

/* One block: the scopes in their order, then the strings of all of them. */
struct log_scope *log_scope_snapshot(void)
{
    size_t scopes = 0;
    size_t text = 0;
    for (const struct log_scope *s = innermost; s != NULL; s = s->outer, scopes++)
        for (const struct log_field *f = s->fields; f->key != NULL; f++)
            text += strlen(f->key) + 1 + string_size(f);
    if (scopes == 0)
        return NULL;
    struct log_scope *copy = mem_alloc(scopes * sizeof(*copy) + text);
    char *at = (char *)(copy + scopes);
    size_t i = 0;
    for (const struct log_scope *s = innermost; s != NULL; s = s->outer, i++) {
        copy[i] = *s;
        copy[i].outer = s->outer != NULL ? &copy[i + 1] : NULL;
        for (struct log_field *f = copy[i].fields; f->key != NULL; f++) {
            size_t value_size = string_size(f);
            f->key = memcpy(at, f->key, strlen(f->key) + 1);
            at += strlen(f->key) + 1;
            if (value_size > 0)
                f->str = memcpy(at, f->str, value_size);
            at += value_size;
        }
    }
    return copy;
}

void log_scope_snapshot_free(struct log_scope *copy)
{
    free(copy);
}

/* ---- collecting the fields ---- */

/* Filled from the back, innermost first, so that it reads from the outermost scope to the record's
 * own fields. */
struct record {
    const struct log_field *fields[FIELDS_MAX];
    size_t first; /* FIELDS_MAX: empty */
    bool cut;
};

/* Inner wins: a key that is there already is not added again. */
static bool has_key(const struct record *r, const char *key)
{
    for (size_t i = r->first; i < FIELDS_MAX; i++)
        if (strcmp(r->fields[i]->key, key) == 0)
            return true;
    return false;
}

static void collect(struct record *r, const struct log_field *fields)
{
    size_t n = 0;
    while (fields[n].key != NULL)
        n++;
    for (; n > 0; n--) {
        const struct log_field *f = &fields[n - 1];
        if ((f->type == LOG_FIELD_STR && f->str == NULL) || has_key(r, f->key))
            continue;
        if (r->first == 0)
            r->cut = true;
        else
            r->fields[--r->first] = f;
    }
}

/* ---- formatting ---- */

static void put_escape(struct buf *b, uint32_t c)
{
    if (c == '\n')
        buf_puts(b, "\\n");
    else if (c == '\r')
        buf_puts(b, "\\r");
    else if (c == '\t')
        buf_puts(b, "\\t");
    else if (c == '"' || c == '\\')
        buf_printf(b, "\\%c", (char)c);
    else
        buf_printf(b, "\\u%04x", c);
}

/* The inside of a quoted string, the same in logfmt and in JSON. */
static void put_quoted(struct buf *b, const char *text)
{
    size_t len = strnlen(text, VALUE_MAX_BYTES + 1);
    size_t at = 0;
    buf_putc(b, '"');
    while (at < len) {
        uint32_t c;
        size_t size = str_utf8_decode(text + at, len - at, &c);
        if (at + (size == 0 ? 1 : size) > VALUE_MAX_BYTES)
            break;
        if (size == 0)
            buf_puts(b, "\xef\xbf\xbd"); /* U+FFFD */
        else if (c == '"' || c == '\\' || str_is_control(c))
            put_escape(b, c);
        else
            buf_append(b, text + at, size);
        at += size == 0 ? 1 : size;
    }
    if (at < len)
        buf_puts(b, "…");
    buf_putc(b, '"');
}

/* What every reader of logfmt takes without quotes. */
static bool is_bare(const char *text)
{
    size_t len = strnlen(text, VALUE_MAX_BYTES + 1);
    if (len == 0 || len > VALUE_MAX_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~' || text[i] == '"' || text[i] == '=' || text[i] == '\\')
            return false;
    return true;
}

static void put_key(struct buf *b, const char *key)
{
    if (format == LOG_JSON)
        buf_printf(b, "%s\"%s\":", b->len == 0 ? "{" : ",", key);
    else
        buf_printf(b, "%s%s=", b->len == 0 ? "" : " ", key);
}

static void put_str(struct buf *b, const char *key, const char *value)
{
    put_key(b, key);
    if (format == LOG_LOGFMT && is_bare(value))
        buf_puts(b, value);
    else
        put_quoted(b, value);
}

static void put_field(struct buf *b, const struct log_field *f)
{
    if (f->type == LOG_FIELD_STR) {
        put_str(b, f->key, f->str);
        return;
    }
    put_key(b, f->key);
    if (f->type == LOG_FIELD_BOOL)
        buf_puts(b, f->num != 0 ? "true" : "false");
    else
        buf_printf(b, "%" PRId64, f->num);
}

/* A field that could pass the end of the line even when all of it is escaped is left out whole, so
 * that the line stays well-formed. */
static bool has_room(const struct buf *b, const struct log_field *f)
{
    size_t value = f->type == LOG_FIELD_STR ? strnlen(f->str, VALUE_MAX_BYTES) : 24;
    return b->len + strlen(f->key) + 6 * value + 64 < LINE_MAX_BYTES;
}

static int64_t now_ms(void)
{
    if (clock_now != NULL)
        return clock_now(clock_arg);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void put_time(struct buf *b)
{
    char text[WALL_TEXT_MAX];
    char with_ms[WALL_TEXT_MAX + 8];
    int64_t ms = now_ms();
    wall_format((struct wall){ms}, text);
    unsigned fraction = (unsigned)(((ms % 1000) + 1000) % 1000);
    snprintf(with_ms, sizeof(with_ms), "%.19s.%03uZ", text, fraction);
    put_str(b, "time", with_ms);
}

static void format_record(struct buf *b, enum log_level level, const char *event,
        const char *message, const struct record *r)
{
    bool cut = r->cut;
    put_time(b);
    put_str(b, "level", level_names[level]);
    put_str(b, "event", event);
    put_str(b, "msg", message);
    for (size_t i = r->first; i < FIELDS_MAX; i++) {
        if (has_room(b, r->fields[i]))
            put_field(b, r->fields[i]);
        else
            cut = true;
    }
    if (cut)
        put_field(b, &LOG_BOOL("fields_missing", true));
}

/* ---- writing ---- */

static bool is_writable(int wait_ms)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    int n;
    do
        n = poll(&p, 1, wait_ms);
    while (n < 0 && errno == EINTR);
    return n == 1 && (p.revents & POLLOUT) != 0;
}

/* Returns how much of it went out. */
static size_t write_pieces(const char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        if (!is_writable(done == 0 ? 0 : REST_WAIT_MS))
            break;
        size_t piece = len - done < PIPE_BUF ? len - done : PIPE_BUF;
        ssize_t n = write(STDERR_FILENO, data + done, piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

/* One more; reported: those that the lost line would have told of. */
static void count_dropped(uint64_t reported)
{
    atomic_fetch_add(&dropped, 1);
    atomic_fetch_add(&unreported, reported + 1);
}

/* The rest of a line that was cut short is gone; the next one begins on a line of its own. */
static bool mend_torn_line(void)
{
    if (!atomic_load(&line_is_torn))
        return true;
    if (write_pieces("\n", 1) != 1)
        return false;
    atomic_store(&line_is_torn, false);
    return true;
}

static void write_line(const char *line, size_t len, uint64_t reported)
{
    size_t done = mend_torn_line() ? write_pieces(line, len) : 0;
    if (done == len)
        return;
    if (done > 0)
        atomic_store(&line_is_torn, true);
    count_dropped(reported);
}

static void emit(
        enum log_level level, const char *event, const char *message, const struct record *r)
{
    AUTO_BUF struct buf line = BUF_INIT(LINE_MAX_BYTES);
    /* Taken, not only read: of two threads one tells. */
    uint64_t reported = line_sink == NULL ? atomic_exchange(&unreported, 0) : 0;
    format_record(&line, level, event, message, r);
    if (reported > 0)
        put_field(&line, &LOG_INT("lines_dropped", reported));
    if (format == LOG_JSON)
        buf_putc(&line, '}');
    if (line_sink == NULL)
        buf_putc(&line, '\n');
    if (line.overflow || line.nomem)
        count_dropped(reported);
    else if (line_sink != NULL)
        line_sink(line_sink_arg, level, line.data);
    else
        write_line(line.data, line.len, reported);
}

void log_write(enum log_level level, const char *event, const char *message,
        const struct log_field *fields)
{
    assert(level < LOG_NOTHING);
    if ((int)level < atomic_load(&threshold))
        return;
    /* A caller may log between a failure and its look at errno. */
    int saved_errno = errno;
    struct record r = {.first = FIELDS_MAX};
    collect(&r, fields);
    for (const struct log_scope *s = innermost; s != NULL; s = s->outer)
        collect(&r, s->fields);
    emit(level, event, message, &r);
    errno = saved_errno;
}

/* ---- set-up ---- */

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load(&threshold);
}

void log_set_format(enum log_format new_format)
{
    format = new_format;
}

void log_set_clock(int64_t (*new_now_ms)(void *arg), void *arg)
{
    clock_now = new_now_ms;
    clock_arg = arg;
}

void log_set_sink(void (*sink)(void *arg, enum log_level level, const char *line), void *arg)
{
    line_sink = sink;
    line_sink_arg = arg;
}

uint64_t log_dropped(void)
{
    return atomic_load(&dropped);
}
