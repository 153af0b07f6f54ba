/* SPDX-License-Identifier: Apache-2.0 */
/* A struct name that exists is valid, normalised and safe as a file name, however it was written.
 */
#include "base/name.h"
#include "tests/fuzz/fuzz.h"

static void check_name(const struct name *name)
{
    size_t len = strlen(name->text), label = 0, labels = 1;
    assert(len >= 3 && len < NAME_MAX_TEXT);
    for (size_t i = 0; i < len; i++) {
        char c = name->text[i];
        assert((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.');
        assert(c != '.' || (label > 0 && name->text[i - 1] != '-'));
        assert(c != '-' || label > 0);
        label = c == '.' ? 0 : label + 1;
        labels += c == '.';
        assert(label <= 63);
    }
    assert(labels >= 2 && label > 0 && name->text[len - 1] != '-');
}

static void check_again(const struct name *name)
{
    struct name again, from_unicode;
    bool lost = fuzz_refused(name_parse(name->text, &again), ~0u);
    assert(!lost && name_equal(name, &again));
    AUTO_FREE char *unicode = name_to_unicode(name);
    lost = fuzz_refused(name_parse(unicode, &from_unicode), ~0u);
    assert(!lost && name_equal(name, &from_unicode));
}

static void check_relations(const struct name *name)
{
    static const char *const labels[] = {"*", "conference", "xn--bcher-kva"};
    for (size_t i = 0; i < ARRAY_SIZE(labels); i++) {
        struct name joined, again;
        if (fuzz_refused(name_join(labels[i], name, &joined), 1u << ERR_CONFIG))
            continue;
        bool lost = fuzz_refused(name_parse_wildcard(joined.text, &again), ~0u);
        assert(!lost && name_equal(&joined, &again));
        assert(name_is_wildcard(&joined) == (i == 0));
        assert(name_is_below(&joined, name) && !name_is_below(name, &joined));
        assert(name_covers(joined.text, &joined) && !name_covers(joined.text, name));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = mem_dup(data, len);
    struct name name, wildcard, label;
    bool is_name = !fuzz_refused(name_parse(text, &name), 1u << ERR_CONFIG);
    if (is_name) {
        check_name(&name);
        check_again(&name);
        check_relations(&name);
    }
    bool is_wildcard = !fuzz_refused(name_parse_wildcard(text, &wildcard), 1u << ERR_CONFIG);
    assert(!is_name || (is_wildcard && name_equal(&name, &wildcard)));
    assert(!is_wildcard || is_name == !name_is_wildcard(&wildcard));
    if (is_wildcard && !is_name) {
        AUTO_FREE char *unicode = name_to_unicode(&wildcard);
        assert(str_starts(unicode, "*."));
    }
    if (!fuzz_refused(name_parse_label(text, &label), 1u << ERR_CONFIG)) {
        struct name parent = {.text = "example.org"}, joined;
        bool lost = fuzz_refused(name_join(label.text, &parent, &joined), ~0u);
        assert(!lost && strchr(label.text, '.') == NULL);
        check_name(&joined);
        check_again(&joined);
    }
    return 0;
}
