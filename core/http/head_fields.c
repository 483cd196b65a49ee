/* head_fields.c - field lines, the names we know, and what Connection says.
 *
 * A field is looked up by the length of its name, which leaves three
 * candidates at most.
 */
// SPDX-License-Identifier: MIT
#include "http/head_parts.h"

enum { CONNECTION_OPTIONS_MAX = 100, NAME_MAX_BYTES = 19, NAME_CANDIDATES = 3 };

#define ALNUM (CLASS_TOKEN | CLASS_TARGET | CLASS_HOST)
#define HEX (ALNUM | CLASS_HEX)
const unsigned char head_classes[256] = {
    [0 ... 8] = CLASS_CONTROL,
    [10 ... 31] = CLASS_CONTROL,
    [127] = CLASS_CONTROL,
    ['0' ... '9'] = HEX,
    ['A' ... 'F'] = HEX,
    ['G' ... 'Z'] = ALNUM,
    ['a' ... 'f'] = HEX,
    ['g' ... 'z'] = ALNUM,
    /* token, target and host */
    ['!'] = ALNUM,
    ['$'] = ALNUM,
    ['&'] = ALNUM,
    ['\''] = ALNUM,
    ['*'] = ALNUM,
    ['+'] = ALNUM,
    ['-'] = ALNUM,
    ['.'] = ALNUM,
    ['_'] = ALNUM,
    ['~'] = ALNUM,
    /* target and host */
    ['('] = CLASS_TARGET | CLASS_HOST,
    [')'] = CLASS_TARGET | CLASS_HOST,
    [';'] = CLASS_TARGET | CLASS_HOST,
    ['='] = CLASS_TARGET | CLASS_HOST,
    /* token and target */
    ['^'] = CLASS_TOKEN | CLASS_TARGET,
    ['`'] = CLASS_TOKEN | CLASS_TARGET,
    ['|'] = CLASS_TOKEN | CLASS_TARGET,
    /* token */
    ['#'] = CLASS_TOKEN,
    ['%'] = CLASS_TOKEN,
    /* target */
    ['"'] = CLASS_TARGET,
    [','] = CLASS_TARGET,
    ['/'] = CLASS_TARGET,
    [':'] = CLASS_TARGET,
    ['<'] = CLASS_TARGET,
    ['>'] = CLASS_TARGET,
    ['@'] = CLASS_TARGET,
    ['['] = CLASS_TARGET,
    [']'] = CLASS_TARGET,
    ['{'] = CLASS_TARGET,
    ['}'] = CLASS_TARGET,
};
#undef ALNUM
#undef HEX

static const struct str names[FIELD_COUNT] = {
#define X(id, name) [FIELD_##id] = {name, sizeof name - 1},
    HEAD_FIELD_LIST(X)
#undef X
};

static const unsigned char by_length[NAME_MAX_BYTES + 1][NAME_CANDIDATES] = {
    [2] = {FIELD_TE},
    [4] = {FIELD_HOST, FIELD_DATE},
    [6] = {FIELD_COOKIE, FIELD_SERVER, FIELD_EXPECT},
    [7] = {FIELD_UPGRADE, FIELD_TRAILER},
    [9] = {FIELD_FORWARDED, FIELD_X_REAL_IP},
    [10] = {FIELD_CONNECTION, FIELD_KEEP_ALIVE},
    [11] = {FIELD_TRACEPARENT},
    [12] = {FIELD_CONTENT_TYPE},
    [13] = {FIELD_AUTHORIZATION, FIELD_SERVER_TIMING},
    [14] = {FIELD_CONTENT_LENGTH},
    [15] = {FIELD_X_FORWARDED_FOR, FIELD_ACCEPT_ENCODING},
    [16] = {FIELD_CONTENT_ENCODING, FIELD_X_FORWARDED_HOST, FIELD_PROXY_CONNECTION},
    [17] = {FIELD_TRANSFER_ENCODING, FIELD_X_FORWARDED_PROTO},
    [18] = {FIELD_PROXY_AUTHENTICATE},
    [19] = {FIELD_PROXY_AUTHORIZATION},
};

/* Whether a token of at least two bytes is a known name of the same length, a
 * word at a time. 0x20 makes a letter small; no other token byte becomes a
 * letter or '-' by it. */
static bool is_name(struct str token, const char *name)
{
    const uint64_t small = UINT64_MAX / 255 * 0x20;
    const char *p = token.p;
    size_t len = token.len;
#define DIFFERS(type, at)                                                                          \
    ({                                                                                             \
        type a, b;                                                                                 \
        memcpy(&a, p + (at), sizeof a);                                                            \
        memcpy(&b, name + (at), sizeof b);                                                         \
        (type)(a | (type)small) != b;                                                              \
    })
    if (len < 4)
        return !DIFFERS(uint16_t, 0) && !DIFFERS(uint16_t, len - 2);
    if (len < 8)
        return !DIFFERS(uint32_t, 0) && !DIFFERS(uint32_t, len - 4);
    for (size_t at = 0; at + 8 < len; at += 8)
        if (DIFFERS(uint64_t, at))
            return false;
    return !DIFFERS(uint64_t, len - 8);
#undef DIFFERS
}

static enum head_field_id field_id(struct str name)
{
    if (name.len > NAME_MAX_BYTES)
        return FIELD_OTHER;
    const unsigned char *candidates = by_length[name.len];
    for (unsigned i = 0; i < NAME_CANDIDATES && candidates[i]; i++)
        if (is_name(name, names[candidates[i]].p))
            return (enum head_field_id)candidates[i];
    return FIELD_OTHER;
}

const char *head_field_name(enum head_field_id id)
{
    return names[id].p;
}

/* The first control byte from here on; the CR at the end of the line at last.
 * Eight bytes at a time while none of them can be one (Bit Twiddling Hacks,
 * "Determine if a word has a byte less than n"). */
static const char *value_end(const char *p, const char *end)
{
    const uint64_t ones = UINT64_MAX / 255;
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        uint64_t del = word ^ ones * 0x7f;
        uint64_t below_space = (word - ones * 0x20) & ~word;
        uint64_t found = (below_space | ((del - ones) & ~del)) & ones * 0x80;
        if (!found) {
            p += 8;
            continue;
        }
        p += __builtin_ctzll(found) / 8; /* the first find is exact, later ones may not be */
        if (*p != '\t')
            return p;
        p++;
    }
    while (p < end && !head_class(*p, CLASS_CONTROL))
        p++;
    return p;
}

/* One space in front and nothing behind is what nearly every value has. */
static inline struct str trim(struct str s)
{
    if (s.len && *s.p == ' ') {
        s.p++;
        s.len--;
    }
    bool done = !s.len || (*s.p > ' ' && s.p[s.len - 1] > ' ');
    return done ? s : str_trim(s);
}

static bool refuse_name(struct head_cursor *c, const char *start)
{
    if (c->p == start)
        return head_refuse(c->refusal, 400, "a field has no name", "9112 5.1");
    if (*c->p == ' ' || *c->p == '\t')
        return head_refuse(c->refusal, 400,
                           "there is whitespace between a field name and its colon", "9112 5.1");
    return head_refuse(c->refusal, 400, "a field name is not a token followed by a colon",
                       "9110 5.1");
}

static bool read_field(struct head_cursor *c, struct head_field *field)
{
    const char *start = c->p, *p = start;
    while (head_class(*p, CLASS_TOKEN))
        p++;
    if (*p != ':' || p == start) {
        c->p = p;
        return refuse_name(c, start);
    }
    field->name = (struct str){start, (size_t)(p - start)};
    start = p + 1;
    p = value_end(start, c->end);
    if (p[0] != '\r' || p[1] != '\n')
        return head_refuse(c->refusal, 400, "a field value contains a control byte", "9110 5.5");
    field->value = trim((struct str){start, (size_t)(p - start)});
    field->id = field_id(field->name);
    field->nominated = false;
    c->p = p + 2;
    return true;
}

static void note_field(struct head_cursor *c, enum head_field_id id)
{
    struct head *out = c->out;
    out->field_count++;
    if (id == FIELD_OTHER)
        return;
    if (out->first[id])
        c->repeated |= 1U << id;
    else
        out->first[id] = (unsigned char)out->field_count;
}

bool head_read_fields(struct head_cursor *c)
{
    _Static_assert(FIELD_COUNT <= 32, "struct head_cursor has a bit for each field");
    unsigned most = c->limits->fields < HEAD_FIELDS_MAX ? c->limits->fields : HEAD_FIELDS_MAX;
    while (*c->p != '\r') {
        if (c->out->field_count == most)
            return head_refuse(c->refusal, 431, "there are too many fields", "6585 5");
        struct head_field *field = &c->out->fields[c->out->field_count];
        if (!read_field(c, field))
            return false;
        note_field(c, field->id);
    }
    if (c->end - c->p != 2 || c->p[1] != '\n')
        return head_refuse(c->refusal, 400, "the head does not end at its empty line", "9112 2.1");
    return true;
}

/* Fields that Connection cannot take away: they decide framing, routing or
 * who the client is (Apache CVE-2022-31813). */
static bool is_end_to_end(const struct head_field *field)
{
    switch (field->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_COOKIE:
    case FIELD_AUTHORIZATION:
    case FIELD_FORWARDED:
    case FIELD_X_REAL_IP:
        return true;
    default:
        return field->name.len > 12 &&
               str_iequal((struct str){field->name.p, 12}, STR("x-forwarded-"));
    }
}

static void nominate(struct head *out, struct str name)
{
    for (unsigned i = 0; i < out->field_count; i++) {
        struct head_field *field = &out->fields[i];
        if (str_iequal(field->name, name) && !is_end_to_end(field))
            field->nominated = true;
    }
}

struct connection_asks {
    bool close, keep_alive, upgrade;
    unsigned options; /* seen so far */
};

/* False when there are more options than anybody needs: each costs a look at
 * every field. */
static bool read_connection(struct head *out, struct str value, struct connection_asks *asks)
{
    struct str option;
    while (str_next(&value, ',', &option)) {
        if (str_iequal(option, STR("keep-alive")))
            asks->keep_alive = true;
        else if (str_iequal(option, STR("close")))
            asks->close = true;
        else if (str_iequal(option, STR("upgrade")))
            asks->upgrade = true;
        else
            nominate(out, option);
        if (++asks->options > CONNECTION_OPTIONS_MAX)
            return false;
    }
    return true;
}

bool head_judge_connection(struct head_cursor *c)
{
    struct head *out = c->out;
    struct connection_asks asks = {0};
    unsigned at = out->first[FIELD_CONNECTION];
    for (unsigned i = at ? at - 1 : out->field_count; i < out->field_count; i++)
        if (out->fields[i].id == FIELD_CONNECTION &&
            !read_connection(out, out->fields[i].value, &asks))
            return head_refuse(c->refusal, 431, "Connection names too many fields", "6585 5");
    out->keep_alive = !asks.close && (out->minor == 1 || asks.keep_alive);
    /* RFC 9110 7.8: Upgrade in HTTP/1.0 is ignored */
    out->upgrade = asks.upgrade && out->first[FIELD_UPGRADE] && out->minor == 1;
    return true;
}

struct str head_find(const struct head *head, struct str name)
{
    for (unsigned i = 0; i < head->field_count; i++)
        if (str_iequal(head->fields[i].name, name))
            return head->fields[i].value;
    return (struct str){NULL, 0};
}

bool head_is_hop_by_hop(const struct head_field *field)
{
    switch (field->id) {
    case FIELD_CONNECTION:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TE:
    case FIELD_TRAILER:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
    case FIELD_PROXY_AUTHENTICATE:
    case FIELD_PROXY_AUTHORIZATION:
        return true;
    default:
        return field->nominated;
    }
}

bool head_is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!head_class(s.p[i], CLASS_TOKEN))
            return false;
    return s.len > 0;
}

bool head_is_value(struct str s)
{
    return s.len == 0 || value_end(s.p, s.p + s.len) == s.p + s.len;
}
