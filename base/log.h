/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structured log: level, event name, sentence, typed fields. Fields of the surrounding scopes
 * (host, step, flow) are added to every line; a scope is bound to its fiber and inherited by the
 * fibers it spawns. One record, two writers: logfmt (for people) and JSON, both to stderr, without
 * blocking: what a full pipe refuses is dropped and counted.
 *
 *     LOG_SCOPE(LOG_STR("host", host->text));
 *     log_info("issued", "certificate issued", LOG_INT("names", n), LOG_STR("serial", serial));
 *
 * A scope belongs to its thread; threads of the pool may log, without scopes.
 *
 * Folders below agent/ log at debug level only. Values are escaped here: foreign text may be passed
 * as it is.
 */
#pragma once

#include <stdint.h>

#include "base/mem.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_NOTHING };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
    const char *key; /* NULL ends the list */
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_BOOL } type;
    const char *str; /* NULL: the field is left out */
    int64_t num;
};

#define LOG_STR(k, v)  ((struct log_field){.key = (k), .type = LOG_FIELD_STR, .str = (v)})
#define LOG_INT(k, v)  ((struct log_field){.key = (k), .type = LOG_FIELD_INT, .num = (int64_t)(v)})
#define LOG_BOOL(k, v) ((struct log_field){.key = (k), .type = LOG_FIELD_BOOL, .num = (v) ? 1 : 0})
#define LOG_END        ((struct log_field){.key = NULL})

void log_write(enum log_level level, const char *event, const char *message,
        const struct log_field *fields);
#define log_at(level, event, message, ...)                                                         \
    log_write(level, event, message, (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) LOG_END})
#define log_debug(event, message, ...) log_at(LOG_DEBUG, event, message __VA_OPT__(, ) __VA_ARGS__)
#define log_info(event, message, ...)  log_at(LOG_INFO, event, message __VA_OPT__(, ) __VA_ARGS__)
#define log_warning(event, message, ...)                                                           \
    log_at(LOG_WARNING, event, message __VA_OPT__(, ) __VA_ARGS__)
#define log_error(event, message, ...) log_at(LOG_ERROR, event, message __VA_OPT__(, ) __VA_ARGS__)

/* ---- scopes ---- */

#define LOG_SCOPE_FIELDS 4
struct log_scope {
    struct log_scope *outer;
    struct log_field fields[LOG_SCOPE_FIELDS + 1];
};
void log_scope_push(struct log_scope *scope);
void log_scope_pop(struct log_scope *scope);
#define LOG_CONCAT_(a, b) a##b
#define LOG_CONCAT(a, b)  LOG_CONCAT_(a, b)
/* Up to LOG_SCOPE_FIELDS fields for the rest of the block; the strings must live as long. */
#define LOG_SCOPE(...)                                                                             \
    AUTO(log_scope_pop)                                                                            \
    struct log_scope LOG_CONCAT(log_scope_, __LINE__) = {.fields = {__VA_ARGS__, LOG_END}};        \
    log_scope_push(&LOG_CONCAT(log_scope_, __LINE__))

/* For the fiber switch: the innermost scope of whoever runs now. */
struct log_scope *log_scope_current(void);
void log_scope_set_current(struct log_scope *scope);
/* A flat owned copy of all fields in force, for a fiber that may outlive its parent's scopes. NULL
 * if there are none. */
struct log_scope *log_scope_snapshot(void);
void log_scope_snapshot_free(struct log_scope *copy);

/* ---- set-up ---- */

void log_set_level(enum log_level level);
enum log_level log_level(void);
void log_set_format(enum log_format format);
/* Milliseconds since 1970 for the time stamp; NULL: the system's clock. */
void log_set_clock(int64_t (*now_ms)(void *arg), void *arg);
/* Called on whatever thread logs. Redirects finished lines (without the newline) for tests and for
 * the live progress display; NULL: stderr. */
void log_set_sink(void (*sink)(void *arg, enum log_level level, const char *line), void *arg);
uint64_t log_dropped(void);
