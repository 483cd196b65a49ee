// SPDX-License-Identifier: MIT
#include "script/json.h"
#include "script/json_text.h"

#include <lauxlib.h>

#define ARRAY_NAME "perilune.json.array"

static const char ARRAY_KEY; /* its address is the registry key of the array metatable */

void json_push_array_metatable(lua_State *L)
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

void json_share_array_metatable(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, ARRAY_NAME);
    if (lua_isnil(L, -1)) {
        json_push_array_metatable(L);
        lua_setfield(L, LUA_REGISTRYINDEX, ARRAY_NAME);
    } else {
        lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
        lua_pushvalue(L, -2);
        lua_rawset(L, LUA_REGISTRYINDEX);
    }
    lua_pop(L, 1);
}

const void *json_array_metatable(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&ARRAY_KEY);
    lua_rawget(L, LUA_REGISTRYINDEX);
    const void *metatable = lua_topointer(L, -1);
    lua_pop(L, 1);
    return metatable;
}

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
    int depth = luaL_optint(L, 2, JSON_DEPTH_MAX);
    luaL_argcheck(L, depth >= 1 && depth <= JSON_DEPTH_MAX, 2, "a depth this engine can go");
    if (json_decode(L, text, len, (unsigned)depth, why, sizeof why) == 0)
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
    json_push_array_metatable(L);
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
