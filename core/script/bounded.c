// SPDX-License-Identifier: MIT
#include "script/bounded.h"

#include "script/limits.h"

#include <lauxlib.h>

static int lua_bounded(lua_State *L)
{
    struct limits_part part;
    unsigned used_ms = 0;
    lua_Integer budget_ms = luaL_checkinteger(L, 1);
    luaL_checkany(L, 2);
    limits_begin_part(&part, budget_ms > 0 ? (unsigned)budget_ms : 0);
    int status = lua_pcall(L, lua_gettop(L) - 2, 1, 0);
    bool interrupted = limits_end_part(&part, &used_ms) && status != 0;
    lua_pushboolean(L, status == 0);
    lua_insert(L, -2);
    lua_pushinteger(L, (lua_Integer)used_ms);
    lua_pushboolean(L, interrupted);
    return 4;
}

void bounded_open(lua_State *L)
{
    lua_pushcfunction(L, lua_bounded);
    lua_setfield(L, -2, "bounded");
}
