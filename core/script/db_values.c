// SPDX-License-Identifier: MIT
#include "script/db_values.h"

#include "pg/wire.h"
#include "script/json.h"
#include "script/json_text.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Type identifiers of PostgreSQL's pg_type.dat; they never change. name, of a value, of an array of it */
#define TYPE_LIST(X)                                                                               \
    X(BOOL, 16, 1000)                                                                              \
    X(BYTEA, 17, 1001)                                                                             \
    X(CHAR, 18, 1002)                                                                              \
    X(NAME, 19, 1003)                                                                              \
    X(INT8, 20, 1016)                                                                              \
    X(INT2, 21, 1005)                                                                              \
    X(INT4, 23, 1007)                                                                              \
    X(TEXT, 25, 1009)                                                                              \
    X(OID, 26, 1028)                                                                               \
    X(JSON, 114, 199)                                                                              \
    X(FLOAT4, 700, 1021)                                                                           \
    X(FLOAT8, 701, 1022)                                                                           \
    X(BPCHAR, 1042, 1014)                                                                          \
    X(VARCHAR, 1043, 1015)                                                                         \
    X(DATE, 1082, 1182)                                                                            \
    X(TIME, 1083, 1183)                                                                            \
    X(TIMESTAMP, 1114, 1115)                                                                       \
    X(TIMESTAMPTZ, 1184, 1185)                                                                     \
    X(INTERVAL, 1186, 1187)                                                                        \
    X(NUMERIC, 1700, 1231)                                                                         \
    X(UUID, 2950, 2951)                                                                            \
    X(INET, 869, 1041)                                                                             \
    X(JSONB, 3802, 3807)

enum {
#define X(name, oid, array) TYPE_##name = oid,
    TYPE_LIST(X)
#undef X
    EXACT_DIGITS = 15,
    ARRAY_DEPTH = 6, /* PostgreSQL's own limit */
    NUMBER_TEXT = 40,
};

static const double EXACT_INTEGER = 9007199254740992.0; /* 2^53 */

/* Type of the elements of an array type; 0: not an array, or one that is not known here. */
static uint32_t element_of(uint32_t oid)
{
    switch (oid) {
#define X(name, value, array)                                                                      \
    case array:                                                                                    \
        return value;
        TYPE_LIST(X)
#undef X
    default:
        return 0;
    }
}

static bool is_known(uint32_t oid)
{
    switch (oid) {
#define X(name, value, array) case value:
        TYPE_LIST(X)
#undef X
        return true;
    default:
        return false;
    }
}

/* ---- to Lua ---- */

static void push_text(lua_State *L, const char *p, size_t len)
{
    lua_pushlstring(L, len ? p : "", len);
}

/* The common case without strtod(): a whole number that is exact. */
static bool push_small(lua_State *L, const char *p, size_t len)
{
    bool negative = len && *p == '-';
    int64_t value = 0;
    p += negative;
    len -= negative;
    if (!len || len > EXACT_DIGITS)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        value = value * 10 + (p[i] - '0');
    }
    lua_pushnumber(L, (double)(negative ? -value : value));
    return true;
}

static void push_number(lua_State *L, const char *p, size_t len, bool whole)
{
    char text[NUMBER_TEXT];
    if (push_small(L, p, len))
        return;
    if (len >= sizeof text) {
        push_text(L, p, len);
        return;
    }
    memcpy(text, p, len);
    text[len] = 0;
    double value = strtod(text, NULL);
    if (whole && fabs(value) >= EXACT_INTEGER)
        push_text(L, p, len);
    else
        lua_pushnumber(L, value);
}

static void push_numeric(lua_State *L, const char *p, size_t len)
{
    size_t digits = 0;
    for (size_t i = 0; i < len; i++)
        digits += p[i] >= '0' && p[i] <= '9';
    if (digits <= EXACT_DIGITS)
        push_number(L, p, len, false);
    else
        push_text(L, p, len);
}

static int hex_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 0;
}

/* "\x6869", or the older escape format when bytea_output says so. */
static void push_bytea(lua_State *L, const char *p, size_t len)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    if (len >= 2 && p[0] == '\\' && p[1] == 'x') {
        for (size_t i = 2; i + 1 < len; i += 2)
            luaL_addchar(&b, (char)(hex_of(p[i]) << 4 | hex_of(p[i + 1])));
    } else {
        for (size_t i = 0; i < len; i++) {
            if (p[i] == '\\' && i + 3 < len && p[i + 1] != '\\') {
                luaL_addchar(&b, (char)((p[i + 1] - '0') << 6 | (p[i + 2] - '0') << 3 | (p[i + 3] - '0')));
                i += 3;
            } else {
                i += p[i] == '\\';
                luaL_addchar(&b, i < len ? p[i] : '\\');
            }
        }
    }
    luaL_pushresult(&b);
}

/* "2026-01-02 03:04:05.678+00" to RFC 3339; what is no such time (infinity, BC) stays. */
static void push_time(lua_State *L, const char *p, size_t len, bool zone)
{
    char out[64];
    if (len < 19 || len > 40 || p[10] != ' ' || p[len - 1] == 'C') {
        push_text(L, p, len);
        return;
    }
    memcpy(out, p, len);
    out[10] = 'T';
    if (zone && (out[len - 3] == '+' || out[len - 3] == '-')) {
        if (memcmp(out + len - 3, "+00", 3) == 0) {
            out[len - 3] = 'Z';
            len -= 2;
        } else {
            memcpy(out + len, ":00", 3);
            len += 3;
        }
    }
    push_text(L, out, len);
}

static void push_json(lua_State *L, const char *p, size_t len)
{
    char why[128];
    if (json_decode(L, p, len, JSON_DEPTH_MAX, why, sizeof why) != 0)
        push_text(L, p, len); /* nested deeper than we go */
}

struct array {
    const char *p, *end;
    uint32_t element;
    char *scratch; /* as long as the text: an element without its escapes */
};

static bool push_array(lua_State *L, struct array *a, unsigned depth);

static bool push_element(lua_State *L, struct array *a, unsigned depth)
{
    size_t n = 0;
    bool quoted = a->p < a->end && *a->p == '"';
    if (a->p < a->end && *a->p == '{')
        return push_array(L, a, depth + 1);
    a->p += quoted;
    while (a->p < a->end && (quoted ? *a->p != '"' : *a->p != ',' && *a->p != '}')) {
        a->p += *a->p == '\\' && a->p + 1 < a->end;
        a->scratch[n++] = *a->p++;
    }
    if (quoted && a->p++ >= a->end)
        return false;
    bool null = !quoted && n == 4 && memcmp(a->scratch, "NULL", 4) == 0;
    db_push_value(L, a->element, a->scratch, null ? DB_NULL : (int32_t)n);
    return true;
}

static bool push_array(lua_State *L, struct array *a, unsigned depth)
{
    int n = 0;
    if (depth > ARRAY_DEPTH)
        return false;
    luaL_checkstack(L, 4, "array");
    lua_newtable(L);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (a->p++; a->p < a->end && *a->p != '}'; a->p += *a->p == ',') {
        if (!push_element(L, a, depth))
            return false;
        lua_rawseti(L, -2, ++n);
        if (a->p >= a->end)
            return false;
    }
    if (a->p >= a->end)
        return false;
    a->p++;
    return true;
}

/* "{1,2}", or "[2:3]={1,2}" when it does not begin at 1. */
static void push_list(lua_State *L, uint32_t element, const char *p, size_t len)
{
    int top = lua_gettop(L);
    const char *open = memchr(p, '{', len);
    struct array a = {open, p + len, element, lua_newuserdata(L, len + 1)};
    if (!open || !push_array(L, &a, 1)) {
        lua_settop(L, top);
        push_text(L, p, len);
        return;
    }
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
}

void db_push_value(lua_State *L, uint32_t oid, const char *p, int32_t len)
{
    size_t n = len < 0 ? 0 : (size_t)len;
    uint32_t element;
    if (len < 0) {
        lua_pushlightuserdata(L, NULL);
        return;
    }
    switch (oid) {
    case TYPE_BOOL:
        lua_pushboolean(L, n && p[0] == 't');
        return;
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
        push_number(L, p, n, true);
        return;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        push_number(L, p, n, false);
        return;
    case TYPE_NUMERIC:
        push_numeric(L, p, n);
        return;
    case TYPE_BYTEA:
        push_bytea(L, p, n);
        return;
    case TYPE_JSON:
    case TYPE_JSONB:
        push_json(L, p, n);
        return;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        push_time(L, p, n, oid == TYPE_TIMESTAMPTZ);
        return;
    default:
        element = element_of(oid);
        if (element)
            push_list(L, element, p, n);
        else
            push_text(L, p, n);
    }
}

/* ---- from Lua ---- */

struct parameters {
    lua_State *L;
    int first;
    struct buf *out, *scratch;
};

static void add_value(struct buf *out, const char *p, size_t len)
{
    wire_add_u32(out, (uint32_t)len);
    buf_add(out, p, len);
}

static size_t number_text(double value, char out[NUMBER_TEXT])
{
    if (isnan(value) || isinf(value))
        return (size_t)snprintf(out, NUMBER_TEXT, "%s", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    if (value != floor(value) || fabs(value) >= EXACT_INTEGER)
        return (size_t)snprintf(out, NUMBER_TEXT, "%.17g", value);
    char digits[NUMBER_TEXT];
    uint64_t left = (uint64_t)fabs(value);
    size_t n = 0, len = 0;
    do
        digits[n++] = (char)('0' + left % 10);
    while (left /= 10);
    if (value < 0)
        out[len++] = '-';
    while (n)
        out[len++] = digits[--n];
    return len;
}

static bool is_null(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) || (lua_islightuserdata(L, index) && !lua_touserdata(L, index));
}

static void add_quoted(struct buf *out, const char *p, size_t len)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '"' || p[i] == '\\')
            buf_add_char(out, '\\');
        buf_add_char(out, p[i]);
    }
    buf_add_char(out, '"');
}

static void add_hex_element(struct buf *out, const char *p, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    buf_add(out, "\"\\\\x", 4);
    for (size_t i = 0; i < len; i++) {
        buf_add_char(out, digits[(unsigned char)p[i] >> 4]);
        buf_add_char(out, digits[(unsigned char)p[i] & 15]);
    }
    buf_add_char(out, '"');
}

static bool is_json(uint32_t oid)
{
    return oid == TYPE_JSON || oid == TYPE_JSONB;
}

static void add_json(lua_State *L, int index, int number, struct buf *out)
{
    const char *why;
    if (!json_encode(L, index, out, &why))
        luaL_error(L, "parameter %d: %s", number, why);
}

static void add_list(lua_State *L, int index, int number, uint32_t element, struct buf *out, unsigned depth);

static void add_element(lua_State *L, int number, uint32_t element, struct buf *out, unsigned depth)
{
    char text[NUMBER_TEXT];
    size_t len;
    const char *p;
    if (is_null(L, -1)) {
        buf_add_str(out, STR("NULL"));
        return;
    }
    switch (lua_type(L, -1)) {
    case LUA_TNUMBER:
        buf_add(out, text, number_text(lua_tonumber(L, -1), text));
        return;
    case LUA_TBOOLEAN:
        buf_add_str(out, lua_toboolean(L, -1) ? STR("true") : STR("false"));
        return;
    case LUA_TSTRING:
        p = lua_tolstring(L, -1, &len);
        if (element == TYPE_BYTEA)
            add_hex_element(out, p, len);
        else
            add_quoted(out, p, len);
        return;
    case LUA_TTABLE:
        if (!is_json(element)) {
            add_list(L, lua_gettop(L), number, element, out, depth + 1);
            return;
        }
        struct buf json = {0};
        const char *why = NULL;
        bool ok = json_encode(L, lua_gettop(L), &json, &why);
        if (ok)
            add_quoted(out, json.data, buf_len(&json));
        buf_done(&json);
        if (ok)
            return;
        luaL_error(L, "parameter %d: an element cannot be written as JSON", number);
        return;
    default:
        luaL_error(L, "parameter %d holds a %s, which has no type in SQL", number, luaL_typename(L, -1));
    }
}

static void add_list(lua_State *L, int index, int number, uint32_t element, struct buf *out, unsigned depth)
{
    int n = (int)lua_objlen(L, index);
    if (depth > ARRAY_DEPTH)
        luaL_error(L, "parameter %d is nested deeper than the %d levels of an array", number, ARRAY_DEPTH);
    luaL_checkstack(L, 4, "array");
    lua_pushnil(L);
    if (n == 0 && lua_next(L, index))
        luaL_error(L, "parameter %d is a table by name, but the statement takes an array there", number);
    if (n > 0)
        lua_pop(L, 1);
    buf_add_char(out, '{');
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            buf_add_char(out, ',');
        lua_rawgeti(L, index, i);
        add_element(L, number, element, out, depth);
        lua_pop(L, 1);
    }
    buf_add_char(out, '}');
}

static void add_table(lua_State *L, int index, int number, uint32_t oid, struct buf *out, struct buf *scratch)
{
    buf_clear(scratch);
    if (is_json(oid))
        add_json(L, index, number, scratch);
    else if (element_of(oid) || !is_known(oid))
        add_list(L, index, number, element_of(oid), scratch, 1);
    else
        luaL_error(L, "parameter %d is a table, but the statement takes neither JSON nor an array there", number);
    add_value(out, scratch->data, buf_len(scratch));
}

static void add_param(lua_State *L, int index, int number, uint32_t oid, struct buf *out, struct buf *scratch)
{
    char text[NUMBER_TEXT];
    size_t len;
    const char *p;
    if (is_null(L, index)) {
        wire_add_u32(out, UINT32_MAX);
        return;
    }
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
        add_value(out, text, number_text(lua_tonumber(L, index), text));
        return;
    case LUA_TBOOLEAN:
        add_value(out, lua_toboolean(L, index) ? "true" : "false", lua_toboolean(L, index) ? 4 : 5);
        return;
    case LUA_TSTRING:
        p = lua_tolstring(L, index, &len);
        add_value(out, p, len);
        return;
    case LUA_TTABLE:
        add_table(L, index, number, oid, out, scratch);
        return;
    default:
        luaL_error(L, "parameter %d is a %s, which has no type in SQL", number, luaL_typename(L, index));
    }
}

void db_add_params(lua_State *L, int first, int count, const uint32_t *oids, struct buf *out, struct buf *scratch)
{
    wire_add_u16(out, (uint16_t)count);
    for (int i = 0; i < count; i++) /* bytes go as they are, the rest as text */
        wire_add_u16(out, oids[i] == TYPE_BYTEA && lua_type(L, first + i) == LUA_TSTRING);
    wire_add_u16(out, (uint16_t)count);
    for (int i = 0; i < count; i++)
        add_param(L, first + i, i + 1, oids[i], out, scratch);
}
