/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML as far as a configuration needs it: maps, lists and scalars. libyaml's events are made into
 * a tree of our own: its document API forgets where an anchor stood, and recursion, anchors,
 * aliases, tags and second documents are refused here while depth and sizes are bounded. Every
 * scalar stays text; what it means is decided by the key's type, so "no" is no boolean.
 */
#include "agent/config_private.h"

#include <yaml.h>

#define MAP_MAX  ((size_t)1000)
#define LIST_MAX (CONFIG_DOMAINS_MAX + 1)

void config_tree_free(struct config_tree *tree)
{
    if (tree == NULL)
        return;
    for (size_t i = 0; i < tree->n; i++)
        config_tree_free(tree->members[i]); /* at most CONFIG_DEPTH_MAX deep */
    free(tree->members);
    free(tree->key);
    if (tree->text != NULL)
        explicit_bzero(tree->text, strlen(tree->text));
    free(tree->text);
    free(tree);
}

struct builder {
    struct config_loader *l;
    struct config_tree *root;
    struct config_tree *stack[CONFIG_DEPTH_MAX];
    size_t depth;
    /* The key read last in the innermost map, waiting for its value. */
    char *key;
    unsigned key_line, key_column;
    unsigned documents;
    bool failed; /* the tree is not worth looking at */
};

static void complain(struct builder *b, const yaml_mark_t *at, const char *what)
{
    config_problem_at(b->l, (unsigned)at->line + 1, (unsigned)at->column + 1, NULL, "%s", what);
}

static void give_up(struct builder *b, const yaml_mark_t *at, const char *what)
{
    complain(b, at, what);
    b->failed = true;
}

static bool is_null(const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    return event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (*text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
}

static struct config_tree *new_node(const yaml_event_t *event, enum config_node_kind kind)
{
    struct config_tree *node = MEM_NEW(struct config_tree);
    node->kind = kind;
    node->line = (unsigned)event->start_mark.line + 1;
    node->column = (unsigned)event->start_mark.column + 1;
    return node;
}

static struct config_tree *find_key(const struct config_tree *map, const char *key)
{
    for (size_t i = 0; i < map->n; i++) {
        if (strcmp(map->members[i]->key, key) == 0)
            return map->members[i];
    }
    return NULL;
}

/* Puts a finished or just opened node where it belongs; takes it. */
static void attach(struct builder *b, struct config_tree *owned, const yaml_mark_t *at)
{
    if (b->depth == 0) {
        config_tree_free(b->root);
        b->root = owned;
        return;
    }
    struct config_tree *parent = b->stack[b->depth - 1];
    size_t max = parent->kind == CONFIG_NODE_MAP ? MAP_MAX : LIST_MAX;
    if (parent->n >= max) {
        give_up(b, at,
                parent->kind == CONFIG_NODE_MAP ? "more than 1000 keys in one map"
                                                : "more than 10000 entries in one list");
        config_tree_free(owned);
        return;
    }
    if (parent->kind == CONFIG_NODE_MAP) {
        owned->key = STEAL(b->key);
        owned->key_line = b->key_line;
        owned->key_column = b->key_column;
    }
    parent->members =
            mem_realloc_array(parent->members, parent->n + 1, sizeof(struct config_tree *));
    parent->members[parent->n++] = owned;
}

static bool wants_key(const struct builder *b)
{
    return b->depth > 0 && b->stack[b->depth - 1]->kind == CONFIG_NODE_MAP && b->key == NULL;
}

static void take_key(struct builder *b, const yaml_event_t *event)
{
    const char *key = (const char *)event->data.scalar.value;
    const yaml_mark_t *at = &event->start_mark;
    const struct config_tree *earlier = find_key(b->stack[b->depth - 1], key);
    AUTO_FREE char *shown = str_foreign(key, 64);
    if (strlen(key) != event->data.scalar.length) {
        give_up(b, at, "a NUL character in a key");
        return;
    }
    if (earlier != NULL)
        config_problem_at(b->l, (unsigned)at->line + 1, (unsigned)at->column + 1, shown,
                "given twice in one map, first in line %u", earlier->key_line);
    b->key = str_dup(key);
    b->key_line = (unsigned)at->line + 1;
    b->key_column = (unsigned)at->column + 1;
}

static void take_scalar(struct builder *b, const yaml_event_t *event)
{
    if (event->data.scalar.anchor != NULL)
        complain(b, &event->start_mark, "anchors (&) are not allowed; write the value out");
    if (event->data.scalar.tag != NULL)
        complain(b, &event->start_mark, "tags (!) are not allowed");
    if (wants_key(b)) {
        take_key(b, event);
        return;
    }
    struct config_tree *node = new_node(event, CONFIG_NODE_SCALAR);
    node->text = mem_dup(event->data.scalar.value, event->data.scalar.length);
    node->null = is_null(event);
    if (strlen(node->text) != event->data.scalar.length) {
        complain(b, &event->start_mark, "a NUL character in a value");
        node->null = true;
    }
    attach(b, node, &event->start_mark);
}

static void open_node(struct builder *b, const yaml_event_t *event, enum config_node_kind kind)
{
    bool map = kind == CONFIG_NODE_MAP;
    const yaml_char_t *anchor =
            map ? event->data.mapping_start.anchor : event->data.sequence_start.anchor;
    const yaml_char_t *tag = map ? event->data.mapping_start.tag : event->data.sequence_start.tag;
    if (anchor != NULL)
        complain(b, &event->start_mark, "anchors (&) are not allowed; write the value out");
    if (tag != NULL)
        complain(b, &event->start_mark, "tags (!) are not allowed");
    if (wants_key(b)) {
        give_up(b, &event->start_mark, "a map or list as a key; keys are plain words");
        return;
    }
    if (b->depth == CONFIG_DEPTH_MAX) {
        give_up(b, &event->start_mark, "nested more than 16 deep");
        return;
    }
    struct config_tree *node = new_node(event, kind);
    attach(b, node, &event->start_mark);
    if (!b->failed)
        b->stack[b->depth++] = node;
}

static void take_alias(struct builder *b, const yaml_event_t *event)
{
    complain(b, &event->start_mark, "aliases (*) are not allowed; write the value out");
    if (wants_key(b)) {
        b->failed = true;
        return;
    }
    struct config_tree *node = new_node(event, CONFIG_NODE_SCALAR);
    node->text = str_dup("");
    node->null = true;
    attach(b, node, &event->start_mark);
}

static void take_event(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents++ > 0)
            give_up(b, &event->start_mark, "a second document (---); the file must hold one");
        break;
    case YAML_ALIAS_EVENT:
        take_alias(b, event);
        break;
    case YAML_SCALAR_EVENT:
        take_scalar(b, event);
        break;
    case YAML_MAPPING_START_EVENT:
        open_node(b, event, CONFIG_NODE_MAP);
        break;
    case YAML_SEQUENCE_START_EVENT:
        open_node(b, event, CONFIG_NODE_LIST);
        break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        b->depth--;
        break;
    default:
        break;
    }
}

/* ---- what is wrong before or inside the syntax ---- */

static void line_of_offset(
        const char *text, size_t offset, unsigned *ret_line, unsigned *ret_column)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < offset; i++) {
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    *ret_line = line;
    *ret_column = column;
}

/* Things that libyaml takes, or names so that nobody understands. */
static bool check_bytes(struct config_loader *l, const char *text, size_t len)
{
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        config_problem_at(l, 1, 1, NULL, "a byte order mark; save the file as UTF-8 without one");
        return false;
    }
    if (len >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0)) {
        config_problem_at(l, 1, 1, NULL, "UTF-16; save the file as UTF-8");
        return false;
    }
    const char *nul = memchr(text, '\0', len);
    unsigned line = 1, column = 1;
    if (nul != NULL) {
        line_of_offset(text, (size_t)(nul - text), &line, &column);
        config_problem_at(l, line, column, NULL, "a NUL byte");
        return false;
    }
    bool indent = true, ok = true;
    for (size_t i = 0; i < len; i++) {
        if (indent && text[i] == '\t') {
            config_problem_at(l, line, column, NULL, "a tab in the indentation; use spaces");
            ok = indent = false;
        }
        indent = text[i] == '\n' || (indent && text[i] == ' ');
        column = text[i] == '\n' ? 1 : column + 1;
        line += text[i] == '\n';
    }
    return ok;
}

static void syntax_problem(struct config_loader *l, const yaml_parser_t *parser, const char *text)
{
    unsigned line = (unsigned)parser->problem_mark.line + 1;
    unsigned column = (unsigned)parser->problem_mark.column + 1;
    if (parser->error == YAML_READER_ERROR) {
        line_of_offset(text, parser->problem_offset, &line, &column);
        config_problem_at(l, line, column, NULL, "not UTF-8 text: %s", parser->problem);
        return;
    }
    if (parser->error == YAML_MEMORY_ERROR)
        mem_fail(0);
    const char *problem = parser->problem != NULL ? parser->problem : "unknown";
    if (parser->context != NULL)
        config_problem_at(l, line, column, NULL, "not YAML: %s (%s that begins in line %u)",
                problem, parser->context, (unsigned)parser->context_mark.line + 1);
    else
        config_problem_at(l, line, column, NULL, "not YAML: %s", problem);
}

static void parse_events(struct builder *b, const char *text, size_t len)
{
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) != 1)
        mem_fail(sizeof(parser));
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    for (bool end = false; !end && !b->failed;) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) != 1) {
            syntax_problem(b->l, &parser, text);
            b->failed = true;
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        take_event(b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
}

bool config_yaml_parse(
        struct config_loader *l, const char *text, size_t len, struct config_tree **ret)
{
    if (!check_bytes(l, text, len))
        return false;
    struct builder b = {.l = l};
    parse_events(&b, text, len);
    AUTO(config_tree_freep) struct config_tree *root = STEAL(b.root);
    free(b.key);
    if (b.failed)
        return false;
    if (root == NULL || (root->kind == CONFIG_NODE_SCALAR && root->null)) {
        config_tree_free(root);
        root = MEM_NEW(struct config_tree);
        root->kind = CONFIG_NODE_MAP;
        root->line = root->column = 1;
    }
    if (root->kind != CONFIG_NODE_MAP) {
        config_problem_at(l, root->line, root->column, NULL,
                "the file must be a map of keys, for example \"mail_host: mail.example.org\"");
        return false;
    }
    *ret = STEAL(root);
    return true;
}
