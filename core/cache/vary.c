// SPDX-License-Identifier: MIT
#include "cache/vary.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const struct str *x = a, *y = b;
    size_t least = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->p, y->p, least);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

bool vary_names(struct str value, struct buf *out)
{
    struct str names[VARY_NAMES_MAX], name;
    char lower[1024];
    size_t count = 0, used = 0;
    while (str_next(&value, ',', &name)) {
        if (!head_is_token(name) || str_equal(name, STR("*")) || count == VARY_NAMES_MAX ||
            used + name.len > sizeof lower)
            return false;
        names[count++] = (struct str){lower + used, name.len};
        for (size_t i = 0; i < name.len; i++)
            lower[used++] = ascii_lower(name.p[i]);
    }
    qsort(names, count, sizeof *names, compare);
    for (size_t i = 0; i < count; i++) {
        if (i && str_equal(names[i], names[i - 1]))
            continue;
        if (buf_len(out))
            buf_add_char(out, ',');
        buf_add_str(out, names[i]);
    }
    return true;
}

static unsigned coding_of(struct str name)
{
    static const struct {
        struct str name;
        unsigned coding;
    } known[] = {{STR("gzip"), CODING_GZIP},   {STR("br"), CODING_BR},
                 {STR("zstd"), CODING_ZSTD},   {STR("deflate"), CODING_DEFLATE},
                 {STR("x-gzip"), CODING_GZIP}, {STR("*"), 15}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_iequal(name, known[i].name))
            return known[i].coding;
    return 0;
}

/* Whether parameters say q=0, q=0. or q=0.000. */
static bool is_refused(struct str parameters)
{
    struct str one;
    while (str_next(&parameters, ';', &one)) {
        if (one.len < 3 || ascii_lower(one.p[0]) != 'q' || one.p[1] != '=')
            continue;
        size_t i = 2;
        while (i < one.len && (one.p[i] == '0' || one.p[i] == '.'))
            i++;
        return i == one.len;
    }
    return false;
}

unsigned vary_codings(struct str value)
{
    unsigned taken = 0, refused = 0, rest = 0;
    struct str element, name;
    while (str_next(&value, ',', &element)) {
        if (!str_next(&element, ';', &name))
            continue;
        unsigned coding = coding_of(name);
        bool no = is_refused(element);
        if (coding == 15)
            rest = no ? 0 : 15;
        else if (no)
            refused |= coding;
        else
            taken |= coding;
    }
    return (taken | rest) & ~(refused & ~taken);
}

void vary_value(const struct head *head, struct str name, struct buf *out)
{
    bool first = true;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct head_field *field = &head->fields[i];
        if (field->name.len != name.len || !str_iequal(field->name, name))
            continue;
        if (!first)
            buf_add_str(out, STR(", "));
        buf_add_str(out, field->value);
        first = false;
    }
    if (first)
        buf_add_char(out, '\t'); /* absent is not empty; no value begins with a tab */
}

void vary_values(const struct head *head, struct str names, struct buf *out)
{
    struct str name;
    while (str_next(&names, ',', &name)) {
        buf_add_str(out, name);
        buf_add_char(out, ':');
        if (str_equal(name, STR("accept-encoding")))
            buf_printf(out, "%u", vary_codings(head_find(head, name)));
        else
            vary_value(head, name, out);
        buf_add_char(out, '\n');
    }
}
