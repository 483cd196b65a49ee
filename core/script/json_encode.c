/* The encoder writes straight into the buffer and builds nothing in Lua: one
 * lua_next() walk decides between list and object (the first key that is no
 * positive integer ends it), a second walk writes.
 *
 * Where an error sits is known from the chain of `struct step` on the C
 * stack, one per open table; it is put into words only when needed.
 */
// SPDX-License-Identifier: MIT
#include "script/json.h"
#include "script/json_text.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* How one table was entered, for error messages. */
struct step {
    const struct step *outer;
    struct str key; /* p is NULL for an index */
    double index;
};

struct encoder {
    lua_State *L;
    struct buf *out;
    const void *array_metatable; /* for comparison only */
    unsigned depth;
    const struct step *at; /* innermost */
    size_t mark;           /* length of out at the start */
    const char *why;
};

static bool encode_value(struct encoder *e);

static inline char *room(struct encoder *e, size_t size)
{
    struct buf *b = e->out;
    return b->data && b->size - b->end >= size ? b->data + b->end : buf_room(b, size);
}

static inline bool add(struct encoder *e, const char *bytes, size_t len)
{
    char *to = room(e, len);
    if (!to)
        return false;
    memcpy(to, bytes, len);
    buf_wrote(e->out, len);
    return true;
}

#define ADD(e, literal) add(e, literal, sizeof(literal) - 1)

static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = ascii_lower(s.p[i]);
        if (!((c >= 'a' && c <= 'z') || c == '_' || (i && c >= '0' && c <= '9')))
            return false;
    }
    return s.len && s.len <= 64;
}

static void write_path(struct buf *out, const struct step *at)
{
    if (!at)
        return;
    write_path(out, at->outer);
    struct str key = at->key;
    if (!key.p)
        buf_printf(out, "[%.14g]", at->index);
    else if (is_name(key))
        buf_printf(out, ".%.*s", STR_ARG(key));
    else
        buf_printf(out, "[\"%.*s\"]", key.len < 64 ? (int)key.len : 64, key.p);
}

/* Takes back what was written and leaves the message behind the end of the
 * buffer, where it costs no memory of its own. */
static bool fail(struct encoder *e, const char *what)
{
    struct buf *out = e->out;
    out->end = out->start + e->mark;
    if (out->failed) {
        e->why = "out of memory";
        return false;
    }
    buf_printf(out, "%s", what);
    if (e->at) {
        buf_printf(out, " at ");
        write_path(out, e->at);
    }
    buf_add_char(out, 0);
    out->end = out->start + e->mark;
    e->why = out->failed ? "out of memory" : out->data + out->end;
    return false;
}

static bool fail_type(struct encoder *e, const char *format, int index)
{
    char what[80];
    snprintf(what, sizeof what, format, luaL_typename(e->L, index));
    return fail(e, what);
}

static bool encode_special(struct encoder *e, const char **p, const char *end)
{
    unsigned char c = (unsigned char)**p;
    size_t len = utf8_len(*p, end);
    const char *bytes = *p;
    *p += len ? len : 1;
    if (!len)
        return ADD(e, "\xEF\xBF\xBD");
    if (len > 1)
        return add(e, bytes, len);
    switch (c) {
    case '"':
        return ADD(e, "\\\"");
    case '\\':
        return ADD(e, "\\\\");
    case '\n':
        return ADD(e, "\\n");
    case '\r':
        return ADD(e, "\\r");
    case '\t':
        return ADD(e, "\\t");
    case '\b':
        return ADD(e, "\\b");
    case '\f':
        return ADD(e, "\\f");
    }
    if (c >= 0x20)
        return add(e, bytes, 1);
    char escape[] = {'\\', 'u', '0', '0', (char)('0' + (c >> 4)), "0123456789abcdef"[c & 15]};
    return add(e, escape, sizeof escape);
}

static bool encode_string(struct encoder *e, struct str s)
{
    const char *p = s.p, *end = s.p + s.len;
    if (!ADD(e, "\""))
        return false;
    while (p < end) {
        const char *stop = json_plain_run(p, end);
        if (stop > p && !add(e, p, (size_t)(stop - p)))
            return false;
        for (p = stop; p < end && !json_is_plain((unsigned char)*p);)
            if (!encode_special(e, &p, end))
                return false;
    }
    return ADD(e, "\"");
}

static const double INTEGER_MAX = 9007199254740992; /* 2^53: from here on integers have gaps */

static bool is_integer(double d)
{
    return d >= -INTEGER_MAX && d <= INTEGER_MAX && d == (double)(int64_t)d;
}

static bool encode_integer(struct encoder *e, int64_t n)
{
    char text[20], *p = text + sizeof text;
    uint64_t rest = n < 0 ? (uint64_t)-n : (uint64_t)n;
    do {
        *--p = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (n < 0)
        *--p = '-';
    return add(e, p, (size_t)(text + sizeof text - p));
}

static bool encode_number(struct encoder *e, double d)
{
    if (is_integer(d))
        return encode_integer(e, (int64_t)d);
    if (!isfinite(d))
        return fail(e, isnan(d) ? "cannot encode NaN" : "cannot encode infinity");
    char text[32];
    int len = 0;
    for (int digits = 15; digits <= 17; digits++) {
        len = snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    return add(e, text, (size_t)len);
}

/* Whether the table on top has the keys 1..n, n >= 1, and no others. */
static bool is_list(lua_State *L, size_t *n)
{
    double max = 0, count = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        double key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
        if (!(key >= 1 && is_integer(key))) {
            lua_pop(L, 1);
            return false;
        }
        max = key > max ? key : max;
        count++;
    }
    *n = (size_t)max;
    return count > 0 && count == max;
}

static bool encode_list(struct encoder *e, size_t n)
{
    struct step step = {.outer = e->at};
    e->at = &step;
    for (size_t i = 1; i <= n; i++) {
        step.index = (double)i;
        if (!add(e, i == 1 ? "[" : ",", 1))
            return false;
        lua_rawgeti(e->L, -1, (int)i);
        if (!encode_value(e))
            return false;
        lua_pop(e->L, 1);
    }
    e->at = step.outer;
    return n ? ADD(e, "]") : ADD(e, "[]");
}

/* Writes the key below the value on top; lua_next() needs it unchanged. */
static bool encode_key(struct encoder *e, struct step *step)
{
    lua_State *L = e->L;
    int type = lua_type(L, -2);
    if (type == LUA_TSTRING) {
        step->key.p = lua_tolstring(L, -2, &step->key.len);
        return encode_string(e, step->key);
    }
    e->at = step->outer;
    if (type != LUA_TNUMBER)
        return fail_type(e, "cannot encode a key of type %s", -2);
    double key = lua_tonumber(L, -2);
    if (!is_integer(key))
        return fail(e, "cannot encode a key that is a fraction");
    e->at = step;
    step->key.p = NULL;
    step->index = key;
    return ADD(e, "\"") && encode_integer(e, (int64_t)key) && ADD(e, "\"");
}

static bool encode_object(struct encoder *e)
{
    lua_State *L = e->L;
    struct step step = {.outer = e->at};
    const char *before = "{";
    e->at = &step;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (!add(e, before, 1) || !encode_key(e, &step) || !ADD(e, ":") || !encode_value(e))
            return false;
        lua_pop(L, 1);
        before = ",";
    }
    e->at = step.outer;
    return *before == ',' ? ADD(e, "}") : ADD(e, "{}");
}

static bool encode_table(struct encoder *e)
{
    lua_State *L = e->L;
    size_t n = 0;
    bool list = false, ok;
    if (e->depth == JSON_DEPTH_MAX)
        return fail(e, "nested deeper than 64 levels (a cycle?)");
    if (lua_getmetatable(L, -1)) {
        list = lua_topointer(L, -1) == e->array_metatable;
        lua_pop(L, 1);
    }
    e->depth++;
    if (list)
        ok = encode_list(e, lua_objlen(L, -1));
    else
        ok = is_list(L, &n) ? encode_list(e, n) : encode_object(e);
    e->depth--;
    return ok;
}

/* Writes the value on top of the stack and leaves it there; after a failure
 * there may be more on the stack. */
static bool encode_value(struct encoder *e)
{
    lua_State *L = e->L;
    struct str s;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        s.p = lua_tolstring(L, -1, &s.len);
        return encode_string(e, s);
    case LUA_TNUMBER:
        return encode_number(e, lua_tonumber(L, -1));
    case LUA_TTABLE:
        return encode_table(e);
    case LUA_TBOOLEAN:
        return lua_toboolean(L, -1) ? ADD(e, "true") : ADD(e, "false");
    case LUA_TNIL:
        return ADD(e, "null");
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, -1))
            return ADD(e, "null");
        break;
    }
    return fail_type(e, "cannot encode a %s", -1);
}

bool json_encode(lua_State *L, int index, struct buf *out, const char **why)
{
    struct encoder e = {.L = L, .out = out, .mark = buf_len(out)};
    int top = lua_gettop(L);
    if (!lua_checkstack(L, 4 * JSON_DEPTH_MAX)) { /* table, key, value, next key */
        *why = "the Lua stack is full";
        return false;
    }
    lua_pushvalue(L, index);
    e.array_metatable = json_array_metatable(L);
    bool ok = encode_value(&e);
    lua_settop(L, top);
    if (!ok && !e.why)
        fail(&e, "");
    *why = e.why;
    return ok;
}
