/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON documents of the state: each begins with its schema, is written whole, and when damaged is
 * set aside rather than believed or overwritten.
 */
#include "agent/store_private.h"

/* "certherd/state/1" -> the part up to and including the last slash */
static size_t family_len(const char *schema)
{
    return (size_t)(strrchr(schema, '/') - schema) + 1;
}

static struct err *check_schema(const json_t *document, const char *schema, bool *ret_newer)
{
    const char *found = NULL;
    TRY(json_get_str(document, "schema", 64, &found));
    if (strcmp(found, schema) == 0)
        return NULL;
    size_t len = family_len(schema);
    unsigned long long theirs = 0, ours = 0;
    if (strncmp(found, schema, len) == 0 && str_to_u64(found + len, UINT32_MAX, &theirs) &&
            str_to_u64(schema + len, UINT32_MAX, &ours) && theirs > ours)
        *ret_newer = true;
    return ERR(ERR_PROTOCOL, "schema is '%s', expected '%s'", found, schema);
}

struct err *store_document_bad(struct store_job *job, const char *path, struct err *why)
{
    AUTO_ERR struct err *e = why;
    if (job->store->read_only) {
        store_warn(job, "%s is damaged and counts as empty: %s", path, err_text(e));
        return NULL;
    }
    char when[WALL_TEXT_MAX];
    AUTO_FREE char *aside = str_printf("%s.bad-%s", path, wall_format(job->now, when));
    TRY(file_rename(path, aside));
    store_warn(job, "%s was damaged and counts as empty; kept as %s: %s", path, aside, err_text(e));
    return NULL;
}

static struct err *newer(const char *path, struct err *why)
{
    struct err *e =
            err_rekind(err_context(why, "%s was written by a newer certherd", path), ERR_CONFIG);
    return err_advise(e, "use that version again, or move %s away and lose what it says", path);
}

struct err *store_document_read(
        struct store_job *job, const char *path, const char *schema, json_t **ret)
{
    AUTO_BUF struct buf text = BUF_INIT(STORE_DOCUMENT_MAX);
    bool found = true;
    TRY(file_read(path, STORE_DOCUMENT_MAX, &text, &found));
    *ret = NULL;
    if (!found)
        return NULL;
    AUTO_JSON json_t *document = NULL;
    struct err *bad = json_parse(buf_str(&text), text.len, "state", &document);
    bool is_newer = false;
    if (bad == NULL)
        bad = check_schema(document, schema, &is_newer);
    if (is_newer)
        return newer(path, bad);
    if (bad != NULL)
        return store_document_bad(job, path, bad);
    *ret = STEAL(document);
    return NULL;
}

struct err *store_document_write(const char *path, const json_t *document)
{
    AUTO_FREE char *text = json_text_pretty(document);
    AUTO_FREE char *line = str_printf("%s\n", text);
    const struct file_write_options options = {.mode = 0600};
    return file_write(path, line, strlen(line), &options);
}

json_t *store_json_made(json_t *made)
{
    if (made == NULL)
        mem_fail(sizeof(*made));
    return made;
}

json_t *store_document_new(const char *schema)
{
    json_t *document = store_json_made(json_object());
    json_put_str(document, "schema", schema);
    return document;
}

void store_put_wall(json_t *object, const char *key, struct wall t)
{
    if (t.ms == 0) {
        json_put_str(object, key, NULL);
        return;
    }
    char seconds[WALL_TEXT_MAX];
    wall_format(t, seconds);
    int64_t fraction = ((t.ms % 1000) + 1000) % 1000;
    /* "…:41Z" -> "…:41.250Z" */
    AUTO_FREE char *text =
            str_printf("%.*s.%03dZ", (int)strlen(seconds) - 1, seconds, (int)fraction);
    json_put_str(object, key, text);
}

struct err *store_get_wall(const json_t *object, const char *key, struct wall *ret)
{
    const char *text = NULL;
    TRY(json_opt_str(object, key, 64, &text));
    struct wall t = {0};
    if (text != NULL && !wall_parse(text, &t))
        return ERR(ERR_PROTOCOL, "'%s' is '%s', expected an instant (RFC 3339)", key, text);
    *ret = t;
    return NULL;
}

void store_put_names(json_t *object, const char *key, const struct name_list *names)
{
    json_t *array = store_json_made(json_array());
    for (size_t i = 0; i < names->n; i++)
        json_push(array, store_json_made(json_string(names->v[i].text)));
    json_put(object, key, array);
}

/* A name in the state is one that we wrote: normalised, possibly a wildcard. */
static struct err *stored_name(const char *text, struct name *ret)
{
    struct name name = {0};
    bool wildcard = str_starts(text, "*.");
    TRY(name_parse(wildcard ? text + 2 : text, &name));
    if (wildcard && strlen(text) >= sizeof(name.text))
        return ERR(ERR_PROTOCOL, "'%s' is too long", text);
    if (wildcard) {
        memmove(name.text + 2, name.text, sizeof(name.text) - 2);
        memcpy(name.text, "*.", 2);
    }
    *ret = name;
    return NULL;
}

struct err *store_get_names(const json_t *object, const char *key, struct name_list *ret)
{
    const json_t *array = NULL;
    TRY(json_get_array(object, key, 1000, &array));
    AUTO(name_list_done) struct name_list names = {0};
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        struct name name;
        if (text == NULL)
            return ERR(ERR_PROTOCOL, "'%s' holds something else than names", key);
        TRY_CTX(stored_name(text, &name), "'%s'", key);
        name_list_add(&names, &name);
    }
    *ret = names;
    names = (struct name_list){0};
    return NULL;
}
