/* A recursive descent over the bytes, one function per kind of value. Each
 * pushes exactly one value or sets d->what and leaves the cleaning of the Lua
 * stack to json_decode().
 */
// SPDX-License-Identifier: MIT
#include "script/json.h"
#include "script/json_text.h"

#include "base/err.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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
        d->p = json_plain_run(d->p, d->end);
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
    json_push_array_metatable(L);
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
