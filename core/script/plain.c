// SPDX-License-Identifier: MIT
#include "script/plain.h"

#include "base/err.h"
#include "script/json_text.h"

#include <lauxlib.h>
#include <stdio.h>

enum tag { TAG_NIL, TAG_FALSE, TAG_TRUE, TAG_NULL, TAG_NUMBER, TAG_STRING, TAG_TABLE, TAG_LIST };

struct encoding {
    lua_State *L;
    struct buf *out;
    size_t max_bytes;
    const char *what;
    int first, argument; /* index of the value under way */
    unsigned depth;
    const void *tables[PLAIN_DEPTH_MAX]; /* from the outermost to the one under way */
    int keys[PLAIN_DEPTH_MAX];           /* stack index of the key under way in each */
    const void *array;                   /* metatable of lists */
    char *why;
};

/* ---- where it went wrong ---- */

static bool is_word(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (i && c >= '0' && c <= '9')))
            return false;
    }
    return len > 0 && len < 60;
}

static size_t add_key(lua_State *L, int index, char *out, size_t size)
{
    int n = 0;
    if (lua_type(L, index) == LUA_TSTRING) {
        size_t len;
        const char *p = lua_tolstring(L, index, &len);
        n = snprintf(out, size, is_word(p, len) ? ".%.*s" : "[\"%.*s\"]", len < 60 ? (int)len : 60, p);
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        n = snprintf(out, size, "[%.14g]", lua_tonumber(L, index));
    } else {
        n = snprintf(out, size, "[%s]", lua_type(L, index) == LUA_TBOOLEAN ? lua_toboolean(L, index) ? "true" : "false"
                                                                            : luaL_typename(L, index));
    }
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

/* Fills why with "REASON at argument 1.users[3]". */
static int refuse(struct encoding *e, int err, const char *reason, const char *detail)
{
    size_t n = (size_t)snprintf(e->why, PLAIN_WHY, "%s%s at %s %d", reason, detail, e->what,
                                e->argument - e->first + 1);
    for (unsigned i = 0; i < e->depth && n < PLAIN_WHY - 1; i++)
        n += add_key(e->L, e->keys[i], e->why + n, PLAIN_WHY - n);
    return err;
}

/* ---- out ---- */

static void add_u32(struct buf *out, size_t value)
{
    uint32_t u = (uint32_t)value;
    buf_add(out, &u, sizeof u);
}

static int add_value(struct encoding *e, int index);

static int begin_table(struct encoding *e, int index, enum tag *tag)
{
    const void *table = lua_topointer(e->L, index);
    if (e->depth == PLAIN_DEPTH_MAX)
        return refuse(e, ERR_INVAL, "tables nest too deeply", "");
    for (unsigned i = 0; i < e->depth; i++)
        if (e->tables[i] == table)
            return refuse(e, ERR_INVAL, "a table is inside of itself", "");
    *tag = TAG_TABLE;
    if (lua_getmetatable(e->L, index)) {
        bool list = lua_topointer(e->L, -1) == e->array && e->array;
        lua_pop(e->L, 1);
        if (!list)
            return refuse(e, ERR_INVAL, "a table with a metatable is not plain data,", "");
        *tag = TAG_LIST;
    }
    if (!lua_checkstack(e->L, 8))
        return refuse(e, ERR_NOMEM, "out of memory", "");
    e->tables[e->depth] = table;
    return 0;
}

/* tag, length of the list, number of pairs (filled in after), key, value, ... */
static int add_table(struct encoding *e, int index)
{
    lua_State *L = e->L;
    enum tag tag = TAG_TABLE;
    int err = begin_table(e, index, &tag);
    if (err < 0)
        return err;
    buf_add_char(e->out, (char)tag);
    add_u32(e->out, lua_objlen(L, index));
    size_t count_at = buf_len(e->out), count = 0;
    add_u32(e->out, 0);
    lua_pushnil(L);
    while (err == 0 && lua_next(L, index)) {
        int value = lua_gettop(L);
        e->keys[e->depth++] = value - 1;
        err = add_value(e, value - 1);
        if (err == 0)
            err = add_value(e, value);
        e->depth--;
        lua_settop(L, value - 1);
        count++;
    }
    if (err < 0)
        return err;
    if (buf_ok(e->out))
        memcpy(e->out->data + e->out->start + count_at, &(uint32_t){(uint32_t)count}, sizeof(uint32_t));
    return 0;
}

static int add_string(struct encoding *e, int index)
{
    size_t len;
    const char *p = lua_tolstring(e->L, index, &len);
    if (len > e->max_bytes)
        return refuse(e, ERR_TOO_LARGE, "the data is larger than tasks.copy_bytes", "");
    buf_add_char(e->out, TAG_STRING);
    add_u32(e->out, len);
    buf_add(e->out, p, len);
    return 0;
}

static int add_value(struct encoding *e, int index)
{
    lua_State *L = e->L;
    double number;
    int err = 0;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        buf_add_char(e->out, TAG_NIL);
        break;
    case LUA_TBOOLEAN:
        buf_add_char(e->out, lua_toboolean(L, index) ? TAG_TRUE : TAG_FALSE);
        break;
    case LUA_TNUMBER:
        number = lua_tonumber(L, index);
        buf_add_char(e->out, TAG_NUMBER);
        buf_add(e->out, &number, sizeof number);
        break;
    case LUA_TSTRING:
        err = add_string(e, index);
        break;
    case LUA_TTABLE:
        err = add_table(e, index);
        break;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index))
            return refuse(e, ERR_INVAL, "a userdata is not plain data,", "");
        buf_add_char(e->out, TAG_NULL);
        break;
    default:
        return refuse(e, ERR_INVAL, "a value that is not plain data, a ", luaL_typename(L, index));
    }
    if (err < 0)
        return err;
    if (!buf_ok(e->out))
        return refuse(e, ERR_NOMEM, "out of memory", "");
    return buf_len(e->out) > e->max_bytes ? refuse(e, ERR_TOO_LARGE, "the data is larger than tasks.copy_bytes", "") : 0;
}

int plain_encode(lua_State *L, int first, int last, const char *what, size_t max_bytes, struct buf *out,
                 char why[PLAIN_WHY])
{
    struct encoding e = {.L = L, .out = out, .max_bytes = max_bytes, .what = what, .first = first, .why = why,
                         .array = json_array_metatable(L)};
    int err = 0, top = lua_gettop(L);
    add_u32(out, (size_t)last - (size_t)first + 1);
    for (e.argument = first; err == 0 && e.argument <= last; e.argument++) {
        err = add_value(&e, e.argument);
        lua_settop(L, top);
    }
    return err;
}

/* ---- back ---- */

static uint32_t take_u32(const char **p)
{
    uint32_t value;
    memcpy(&value, *p, sizeof value);
    *p += sizeof value;
    return value;
}

static void push_value(lua_State *L, const char **p);

static void push_table(lua_State *L, const char **p, bool list)
{
    uint32_t length = take_u32(p), count = take_u32(p);
    luaL_checkstack(L, 4, "tables nest too deeply");
    length = length < count ? length : count; /* with holes it can be anything */
    lua_createtable(L, (int)length, (int)(count - length));
    while (count--) {
        push_value(L, p);
        push_value(L, p);
        lua_rawset(L, -3);
    }
    if (list) {
        json_push_array_metatable(L);
        lua_setmetatable(L, -2);
    }
}

static void push_value(lua_State *L, const char **p)
{
    double number;
    size_t len;
    enum tag tag = (enum tag)(unsigned char)*(*p)++;
    switch (tag) {
    case TAG_NIL:
        lua_pushnil(L);
        return;
    case TAG_FALSE:
    case TAG_TRUE:
        lua_pushboolean(L, tag == TAG_TRUE);
        return;
    case TAG_NULL:
        lua_pushlightuserdata(L, NULL);
        return;
    case TAG_NUMBER:
        memcpy(&number, *p, sizeof number);
        *p += sizeof number;
        lua_pushnumber(L, number);
        return;
    case TAG_STRING:
        len = take_u32(p);
        lua_pushlstring(L, *p, len);
        *p += len;
        return;
    case TAG_TABLE:
    case TAG_LIST:
        push_table(L, p, tag == TAG_LIST);
        return;
    }
}

int plain_decode(lua_State *L, struct str bytes)
{
    const char *p = bytes.p;
    int count = bytes.len ? (int)take_u32(&p) : 0;
    luaL_checkstack(L, count + 8, "too many values");
    for (int i = 0; i < count; i++)
        push_value(L, &p);
    return count;
}
