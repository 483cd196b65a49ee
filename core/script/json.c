/* The encoder writes straight into the buffer and builds nothing in Lua: one
 * lua_next() walk decides between list and object (the first key that is no
 * positive integer ends it), a second walk writes.
 *
 * Where an error sits is known from the chain of `struct step` on the C
 * stack, one per open table; it is put into words only when needed.
 */
// SPDX-License-Identifier: MIT
#include "script/json.h"

#include "base/err.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char ARRAY_KEY; /* its address is the registry key of the array metatable */

static void push_array_metatable(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (!lua_isnil(L, -1))
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "array"); /* it is shared by all scripts: keep it out of their reach */
    lua_setfield(L, -2, "__metatable");
    lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* ---- bytes both directions care about ----------------------------------------- */

static inline bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Returns the end of the run of bytes that are neither control, quote,
 * backslash nor above ASCII. Eight at a time: for each lane, the top bit of
 * the sum says whether the byte is one of these (Hacker's Delight 6-1). */
static const char *plain_run(const char *p, const char *end)
{
    const uint64_t low = 0x0101010101010101, high = 0x8080808080808080;
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        uint64_t quote = w ^ low * '"', slash = w ^ low * '\\';
        if ((w | (w - low * 0x20) | (quote - low) | (slash - low)) & high)
            break;
        p += 8;
    }
    while (p < end && is_plain((unsigned char)*p))
        p++;
    return p;
}

static inline bool is_tail(const char *p, unsigned char low, unsigned char high)
{
    return (unsigned char)*p >= low && (unsigned char)*p <= high;
}

/* Length of the valid UTF-8 sequence at p (RFC 3629, section 4), or 0. */
static size_t utf8_len(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    size_t left = (size_t)(end - p);
    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf)
        return left > 1 && is_tail(p + 1, 0x80, 0xbf) ? 2 : 0;
    if (c >= 0xe0 && c <= 0xef)
        return left > 2 && is_tail(p + 1, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf) &&
                       is_tail(p + 2, 0x80, 0xbf)
                   ? 3
                   : 0;
    if (c >= 0xf0 && c <= 0xf4)
        return left > 3 && is_tail(p + 1, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf) &&
                       is_tail(p + 2, 0x80, 0xbf) && is_tail(p + 3, 0x80, 0xbf)
                   ? 4
                   : 0;
    return 0;
}

/* ---- encode ---------------------------------------------------------------------- */

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
        const char *stop = plain_run(p, end);
        if (stop > p && !add(e, p, (size_t)(stop - p)))
            return false;
        for (p = stop; p < end && !is_plain((unsigned char)*p);)
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
    lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    e.array_metatable = lua_topointer(L, -1);
    lua_pop(L, 1);
    bool ok = encode_value(&e);
    lua_settop(L, top);
    if (!ok && !e.why)
        fail(&e, "");
    *why = e.why;
    return ok;
}

/* ---- decode ---------------------------------------------------------------------- */

struct decoder {
    lua_State *L;
    const char *text, *p, *end;
    unsigned depth, depth_max;
    int array_metatable; /* stack index */
    int err;
    const char *what;
};

static bool decode_value(struct decoder *d);

/* Always false. The error is where d->p stands. */
static bool reject(struct decoder *d, const char *what)
{
    d->err = ERR_INVAL;
    d->what = d->p < d->end ? what : "the text ends too early";
    return false;
}

static inline char peek(struct decoder *d)
{
    while (d->p < d->end && (*d->p == ' ' || *d->p == '\n' || *d->p == '\r' || *d->p == '\t'))
        d->p++;
    return d->p < d->end ? *d->p : 0;
}

static bool decode_word(struct decoder *d, struct str word)
{
    for (size_t i = 0; i < word.len; i++, d->p++)
        if (d->p == d->end || *d->p != word.p[i])
            return reject(d, "a value was expected");
    return true;
}

static bool hex4(struct decoder *d, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, d->p++) {
        char c = d->p < d->end ? ascii_lower(*d->p) : 0;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out << 4 | (unsigned)(c - 'a' + 10);
        else
            return reject(d, "four hexadecimal digits were expected");
    }
    return true;
}

static void add_utf8(luaL_Buffer *out, unsigned c)
{
    if (c < 0x80) {
        luaL_addchar(out, (char)c);
        return;
    }
    if (c < 0x800) {
        luaL_addchar(out, (char)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            luaL_addchar(out, (char)(0xe0 | c >> 12));
        } else {
            luaL_addchar(out, (char)(0xf0 | c >> 18));
            luaL_addchar(out, (char)(0x80 | (c >> 12 & 0x3f)));
        }
        luaL_addchar(out, (char)(0x80 | (c >> 6 & 0x3f)));
    }
    luaL_addchar(out, (char)(0x80 | (c & 0x3f)));
}

/* \uXXXX, or two of them that make one character (RFC 8259, section 7). */
static bool decode_unicode(struct decoder *d, luaL_Buffer *out)
{
    unsigned c, second;
    if (!hex4(d, &c))
        return false;
    if (c >= 0xd800 && c <= 0xdfff) {
        if (c >= 0xdc00 || d->end - d->p < 2 || d->p[0] != '\\' || d->p[1] != 'u')
            return reject(d, "half of a surrogate pair");
        d->p += 2;
        if (!hex4(d, &second))
            return false;
        if (second < 0xdc00 || second > 0xdfff)
            return reject(d, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (second - 0xdc00);
    }
    add_utf8(out, c);
    return true;
}

static bool decode_escape(struct decoder *d, luaL_Buffer *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    d->p++;
    if (d->p < d->end && *d->p == 'u') {
        d->p++;
        return decode_unicode(d, out);
    }
    const char *at = d->p < d->end ? memchr(from, *d->p, sizeof from - 1) : NULL;
    if (!at)
        return reject(d, "no such escape");
    luaL_addchar(out, to[at - from]);
    d->p++;
    return true;
}

/* Moves over bytes that stand for themselves. */
static bool skip_unescaped(struct decoder *d)
{
    for (;;) {
        d->p = plain_run(d->p, d->end);
        if (d->p == d->end || (unsigned char)*d->p < 0x20)
            return reject(d, "a control character must be escaped");
        if (*d->p == '"' || *d->p == '\\')
            return true;
        size_t len = utf8_len(d->p, d->end);
        if (!len) {
            reject(d, "not valid UTF-8");
            return false;
        }
        d->p += len;
    }
}

static bool decode_string(struct decoder *d)
{
    const char *from = ++d->p;
    if (!skip_unescaped(d))
        return false;
    if (*d->p == '"') {
        lua_pushlstring(d->L, from, (size_t)(d->p++ - from));
        return true;
    }
    luaL_Buffer out;
    luaL_buffinit(d->L, &out);
    for (;;) {
        luaL_addlstring(&out, from, (size_t)(d->p - from));
        if (*d->p == '"')
            break;
        if (!decode_escape(d, &out))
            return false;
        from = d->p;
        if (!skip_unescaped(d))
            return false;
    }
    d->p++;
    luaL_pushresult(&out);
    return true;
}

static size_t skip_digits(struct decoder *d)
{
    const char *from = d->p;
    while (d->p < d->end && *d->p >= '0' && *d->p <= '9')
        d->p++;
    return (size_t)(d->p - from);
}

/* Pushes the number whose text was checked already. */
static bool push_number(struct decoder *d, const char *from)
{
    char text[64];
    size_t len = (size_t)(d->p - from);
    double value;
    if (len < sizeof text) {
        memcpy(text, from, len);
        text[len] = 0;
        value = strtod(text, NULL);
    } else { /* hundreds of digits are legal; Lua lends a copy that ends in a NUL */
        lua_pushlstring(d->L, from, len);
        value = strtod(lua_tostring(d->L, -1), NULL);
        lua_pop(d->L, 1);
    }
    if (!isfinite(value)) {
        d->p = from;
        return reject(d, "the number is out of range");
    }
    lua_pushnumber(d->L, value);
    return true;
}

static bool decode_number(struct decoder *d)
{
    const char *from = d->p;
    bool minus = *d->p == '-', zero;
    d->p += minus;
    zero = d->p < d->end && *d->p == '0';
    size_t digits = zero ? (d->p++, 1) : skip_digits(d);
    if (!digits)
        return reject(d, minus ? "a digit was expected" : "a value was expected");
    bool fraction = d->p < d->end && (*d->p == '.' || *d->p == 'e' || *d->p == 'E');
    if (!fraction && digits <= 15) {
        int64_t value = 0;
        for (const char *p = from + minus; p < d->p; p++)
            value = value * 10 + (*p - '0');
        lua_pushnumber(d->L, minus ? -(double)value : (double)value);
        return true;
    }
    if (d->p < d->end && *d->p == '.') {
        d->p++;
        if (!skip_digits(d))
            return reject(d, "a digit was expected");
    }
    if (d->p < d->end && (*d->p == 'e' || *d->p == 'E')) {
        d->p++;
        if (d->p < d->end && (*d->p == '+' || *d->p == '-'))
            d->p++;
        if (!skip_digits(d))
            return reject(d, "a digit was expected");
    }
    return push_number(d, from);
}

static bool decode_list(struct decoder *d)
{
    lua_State *L = d->L;
    lua_newtable(L);
    lua_pushvalue(L, d->array_metatable);
    lua_setmetatable(L, -2);
    d->p++;
    if (peek(d) == ']') {
        d->p++;
        return true;
    }
    for (int i = 1;; i++) {
        if (!decode_value(d))
            return false;
        lua_rawseti(L, -2, i);
        char c = peek(d);
        if (c != ',' && c != ']')
            return reject(d, "',' or ']' was expected");
        d->p++;
        if (c == ']')
            return true;
    }
}

static bool decode_object(struct decoder *d)
{
    lua_State *L = d->L;
    lua_newtable(L);
    d->p++;
    if (peek(d) == '}') {
        d->p++;
        return true;
    }
    for (;;) {
        if (peek(d) != '"')
            return reject(d, "a key in quotes was expected");
        if (!decode_string(d))
            return false;
        if (peek(d) != ':')
            return reject(d, "':' was expected");
        d->p++;
        if (!decode_value(d))
            return false;
        lua_rawset(L, -3);
        char c = peek(d);
        if (c != ',' && c != '}')
            return reject(d, "',' or '}' was expected");
        d->p++;
        if (c == '}')
            return true;
    }
}

static bool decode_nested(struct decoder *d, char open)
{
    /* Four slots: table, key, and what a string or a metatable needs. */
    if (d->depth == d->depth_max || !lua_checkstack(d->L, 4 + LUA_MINSTACK)) {
        d->err = ERR_TOO_LARGE;
        d->what = "nested too deeply";
        return false;
    }
    d->depth++;
    bool ok = open == '[' ? decode_list(d) : decode_object(d);
    d->depth--;
    return ok;
}

/* Pushes one value; after a failure there may be more on the stack. */
static bool decode_value(struct decoder *d)
{
    char c = peek(d);
    switch (c) {
    case '"':
        return decode_string(d);
    case '{':
    case '[':
        return decode_nested(d, c);
    case 't':
    case 'f':
        lua_pushboolean(d->L, c == 't');
        return decode_word(d, c == 't' ? STR("true") : STR("false"));
    case 'n':
        lua_pushlightuserdata(d->L, NULL);
        return decode_word(d, STR("null"));
    default:
        return decode_number(d);
    }
}

static void describe(const struct decoder *d, char *why, size_t why_size)
{
    size_t line = 1, column = 1;
    for (const char *p = d->text; p < d->p; p++) {
        column++;
        if (*p == '\n') {
            line++;
            column = 1;
        }
    }
    snprintf(why, why_size, "line %zu column %zu: %s", line, column, d->what);
}

int json_decode(lua_State *L, const char *text, size_t len, unsigned depth_max, char *why,
                size_t why_size)
{
    struct decoder d = {.L = L, .text = text, .p = text, .end = text + len, .depth_max = depth_max};
    int top = lua_gettop(L);
    luaL_checkstack(L, LUA_MINSTACK, "json");
    push_array_metatable(L);
    d.array_metatable = top + 1;
    bool ok = decode_value(&d);
    peek(&d);
    if (ok && d.p < d.end)
        ok = reject(&d, "something follows the value");
    if (ok) {
        lua_replace(L, top + 1);
        return 0;
    }
    lua_settop(L, top);
    describe(&d, why, why_size);
    return d.err;
}

/* ---- Lua ------------------------------------------------------------------------- */

/* The buffer is a userdata, kept between calls: nothing leaks when Lua runs
 * out of memory while taking the text over. */
static int lua_encode(lua_State *L)
{
    struct buf *out = lua_touserdata(L, lua_upvalueindex(1));
    const char *why;
    luaL_checkany(L, 1);
    buf_clear(out);
    out->failed = false;
    if (!json_encode(L, 1, out, &why))
        return luaL_error(L, "%s", why);
    lua_pushlstring(L, out->data, buf_len(out));
    buf_clear(out);
    return 1;
}

static int lua_decode(lua_State *L)
{
    char why[128];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (json_decode(L, text, len, JSON_DEPTH_MAX, why, sizeof why) == 0)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int lua_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    push_array_metatable(L);
    lua_setmetatable(L, 1);
    return 1;
}

static int free_buffer(lua_State *L)
{
    buf_done(lua_touserdata(L, 1));
    return 0;
}

static void push_buffer(lua_State *L)
{
    struct buf *buffer = lua_newuserdata(L, sizeof *buffer);
    *buffer = (struct buf){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_buffer);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
}

int json_open(lua_State *L)
{
    lua_createtable(L, 0, 4);
    push_buffer(L);
    lua_pushcclosure(L, lua_encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, lua_decode);
    lua_setfield(L, -2, "decode");
    lua_pushcfunction(L, lua_array);
    lua_setfield(L, -2, "array");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
