/* push.h - small pushes that the bindings share: each sets a field of the table
 * on top, or pushes a list that encodes as [] when it is empty.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lauxlib.h>
#include <stdint.h>

static inline void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static inline void set_text(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

static inline void new_list(lua_State *L)
{
    lua_newtable(L);
    luaL_getmetatable(L, "perilune.json.array");
    lua_setmetatable(L, -2);
}

static inline void new_sized_list(lua_State *L, uint32_t size)
{
    lua_createtable(L, (int)size, 0);
    luaL_getmetatable(L, "perilune.json.array");
    lua_setmetatable(L, -2);
}
