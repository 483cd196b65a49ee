/* fields.h - reads a field of the table on top of the stack: what policies and
 * loaders of tables share.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lauxlib.h>
#include <stdbool.h>

static inline double field_number(lua_State *L, const char *name, double fallback)
{
    lua_getfield(L, -1, name);
    double value = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : fallback;
    lua_pop(L, 1);
    return value;
}

static inline bool field_flag(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

/* NULL when it is none. Stays alive with the table. */
static inline const char *field_text(lua_State *L, const char *name)
{
    lua_getfield(L, -1, name);
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1);
    return value;
}
