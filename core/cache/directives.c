// SPDX-License-Identifier: MIT
#include "cache/directives.h"

void directives_init(struct directives *d)
{
    *d = (struct directives){
        .max_age = DIRECTIVE_ABSENT,
        .s_maxage = DIRECTIVE_ABSENT,
        .min_fresh = DIRECTIVE_ABSENT,
        .max_stale = DIRECTIVE_ABSENT,
        .stale_while_revalidate = DIRECTIVE_ABSENT,
        .stale_if_error = DIRECTIVE_ABSENT,
    };
}

/* RFC 9111 1.2.2: a number too large is the largest; what is no number is 0. */
static int64_t seconds(struct str digits)
{
    int64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9')
            return 0;
        value = value * 10 + (digits.p[i] - '0');
        if (value > DIRECTIVE_MOST_S)
            value = DIRECTIVE_MOST_S;
    }
    return value;
}

static void least(int64_t *slot, int64_t value)
{
    if (*slot == DIRECTIVE_ABSENT || value < *slot)
        *slot = value;
}

static void set_flag(struct directives *d, struct str name)
{
    const struct {
        struct str name;
        bool *flag;
    } flags[] = {
        {STR("no-store"), &d->no_store},
        {STR("no-cache"), &d->no_cache},
        {STR("private"), &d->is_private},
        {STR("public"), &d->is_public},
        {STR("must-revalidate"), &d->must_revalidate},
        {STR("proxy-revalidate"), &d->proxy_revalidate},
        {STR("only-if-cached"), &d->only_if_cached},
        {STR("must-understand"), &d->must_understand},
        {STR("no-transform"), &d->no_transform},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (str_iequal(name, flags[i].name))
            *flags[i].flag = true;
}

static int64_t *number_slot(struct directives *d, struct str name)
{
    const struct {
        struct str name;
        int64_t *slot;
    } numbers[] = {
        {STR("max-age"), &d->max_age},
        {STR("s-maxage"), &d->s_maxage},
        {STR("min-fresh"), &d->min_fresh},
        {STR("max-stale"), &d->max_stale},
        {STR("stale-while-revalidate"), &d->stale_while_revalidate},
        {STR("stale-if-error"), &d->stale_if_error},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (str_iequal(name, numbers[i].name))
            return numbers[i].slot;
    return NULL;
}

static void take(struct directives *d, struct str name, struct str value, bool has_value)
{
    int64_t *slot = number_slot(d, name);
    d->present = true;
    if (!slot)
        set_flag(d, name);
    else if (!has_value && slot == &d->max_stale)
        least(slot, DIRECTIVE_MOST_S);
    else
        least(slot, value.len ? seconds(value) : 0);
}

static bool is_name(char c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') ||
           memchr("!#$%&'*+-.^_`|~", c, 15);
}

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* The end of a quoted string that begins at p, behind its closing quote; NULL without one. */
static const char *quoted_end(const char *p, const char *end)
{
    for (p++; p < end; p++) {
        if (*p == '"')
            return p + 1;
        if (*p == '\\' && ++p == end)
            return NULL;
    }
    return NULL;
}

/* One "name", "name=token" or "name="quoted"" at p. NULL: malformed. */
static const char *read_one(struct directives *d, const char *p, const char *end)
{
    struct str name = {p, 0}, value = {NULL, 0};
    while (p < end && is_name(*p))
        p++;
    name.len = (size_t)(p - name.p);
    if (!name.len)
        return NULL;
    p = skip_blanks(p, end);
    bool has_value = p < end && *p == '=';
    if (has_value) {
        p = skip_blanks(p + 1, end);
        const char *from = p;
        if (p < end && *p == '"') {
            if (!(p = quoted_end(p, end)))
                return NULL;
            value = (struct str){from + 1, (size_t)(p - from - 2)};
        } else {
            while (p < end && *p != ',' && *p != ' ' && *p != '\t')
                p++;
            value = (struct str){from, (size_t)(p - from)};
        }
    }
    take(d, name, value, has_value);
    return skip_blanks(p, end);
}

void directives_read(struct directives *d, struct str value)
{
    const char *p = value.p, *end = value.p + value.len;
    while (p < end) {
        p = skip_blanks(p, end);
        if (p == end)
            return;
        if (*p != ',' && (!(p = read_one(d, p, end)) || (p < end && *p != ','))) {
            d->present = d->no_store = true; /* somebody may read a restriction in it */
            return;
        }
        p += p < end;
    }
}

/* ---- RFC 9651: dictionaries ------------------------------------------------ */

struct reader {
    const char *p, *end;
};

enum item { ITEM_NONE, ITEM_TRUE, ITEM_FALSE, ITEM_INTEGER, ITEM_OTHER };

static bool at(const struct reader *r, char c)
{
    return r->p < r->end && *r->p == c;
}

static bool read_key(struct reader *r, struct str *key)
{
    key->p = r->p;
    if (r->p == r->end || !((*r->p >= 'a' && *r->p <= 'z') || *r->p == '*'))
        return false;
    while (r->p < r->end && ((*r->p >= 'a' && *r->p <= 'z') || (*r->p >= '0' && *r->p <= '9') ||
                             memchr("_-.*", *r->p, 4)))
        r->p++;
    key->len = (size_t)(r->p - key->p);
    return true;
}

/* At most 15 digits; with a point, 12 before and 3 behind it. */
static enum item read_number(struct reader *r, int64_t *value)
{
    bool negative = at(r, '-');
    int64_t whole = 0;
    int before = 0, behind = 0;
    for (r->p += negative; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++, before++)
        if (before < 15)
            whole = whole * 10 + (*r->p - '0');
    *value = negative ? 0 : whole;
    if (!at(r, '.'))
        return before >= 1 && before <= 15 ? ITEM_INTEGER : ITEM_NONE;
    for (r->p++; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
        behind++;
    return before >= 1 && before <= 12 && behind >= 1 && behind <= 3 ? ITEM_OTHER : ITEM_NONE;
}

static enum item read_text(struct reader *r)
{
    for (r->p++; r->p < r->end; r->p++) {
        if (*r->p == '"') {
            r->p++;
            return ITEM_OTHER;
        }
        if (*r->p == '\\' && (++r->p == r->end || !memchr("\"\\", *r->p, 2)))
            return ITEM_NONE;
        if ((unsigned char)*r->p < 0x20 || (unsigned char)*r->p > 0x7e)
            return ITEM_NONE;
    }
    return ITEM_NONE;
}

static enum item read_bytes(struct reader *r)
{
    for (r->p++; r->p < r->end; r->p++)
        if (*r->p == ':') {
            r->p++;
            return ITEM_OTHER;
        } else if (!is_name(*r->p) && !memchr("/=", *r->p, 2)) {
            return ITEM_NONE;
        }
    return ITEM_NONE;
}

static enum item read_item(struct reader *r, int64_t *value)
{
    if (r->p == r->end)
        return ITEM_NONE;
    char c = *r->p;
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(r, value);
    if (c == '"')
        return read_text(r);
    if (c == ':')
        return read_bytes(r);
    if (c == '?') {
        r->p++;
        if (!at(r, '0') && !at(r, '1'))
            return ITEM_NONE;
        return *r->p++ == '1' ? ITEM_TRUE : ITEM_FALSE;
    }
    if (c != '*' && !(ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'))
        return ITEM_NONE;
    while (r->p < r->end && (is_name(*r->p) || *r->p == ':' || *r->p == '/'))
        r->p++;
    return ITEM_OTHER;
}

static bool skip_parameters(struct reader *r)
{
    struct str key;
    int64_t ignored;
    while (at(r, ';')) {
        for (r->p++; at(r, ' ');)
            r->p++;
        if (!read_key(r, &key))
            return false;
        if (at(r, '=')) {
            r->p++;
            if (read_item(r, &ignored) == ITEM_NONE)
                return false;
        }
    }
    return true;
}

static enum item read_list(struct reader *r)
{
    int64_t ignored;
    for (r->p++;;) {
        const char *before = r->p;
        while (at(r, ' '))
            r->p++;
        if (at(r, ')')) {
            r->p++;
            return ITEM_OTHER;
        }
        bool separated = r->p > before || before[-1] == '(';
        if (!separated || read_item(r, &ignored) == ITEM_NONE || !skip_parameters(r))
            return ITEM_NONE;
    }
}

/* Later members replace earlier ones (RFC 9651 3.2). */
static void take_member(struct directives *d, struct str key, enum item item, int64_t value)
{
    int64_t *slot = number_slot(d, key);
    if (item == ITEM_TRUE && (!slot || slot == &d->max_stale)) {
        take(d, key, (struct str){NULL, 0}, false);
    } else if (slot && item == ITEM_INTEGER) {
        *slot = value > DIRECTIVE_MOST_S ? DIRECTIVE_MOST_S : value;
    } else if (!slot && item == ITEM_OTHER) {
        take(d, key, (struct str){NULL, 0}, true); /* no-cache="a": as without names */
    }
    d->present = true;
}

bool directives_read_targeted(struct directives *d, struct str value)
{
    struct reader r = {value.p, value.p + value.len};
    struct directives read;
    directives_init(&read);
    while (at(&r, ' '))
        r.p++;
    if (r.p == r.end)
        return false;
    for (;;) {
        struct str key;
        int64_t number = 0;
        enum item item = ITEM_TRUE;
        if (!read_key(&r, &key))
            return false;
        if (at(&r, '=')) {
            r.p++;
            item = at(&r, '(') ? read_list(&r) : read_item(&r, &number);
        }
        if (item == ITEM_NONE || !skip_parameters(&r))
            return false;
        take_member(&read, key, item, number);
        while (at(&r, ' ') || at(&r, '\t'))
            r.p++;
        if (r.p == r.end)
            break;
        if (*r.p++ != ',')
            return false;
        while (at(&r, ' ') || at(&r, '\t'))
            r.p++;
        if (r.p == r.end)
            return false; /* a comma at the end */
    }
    *d = read;
    return true;
}
