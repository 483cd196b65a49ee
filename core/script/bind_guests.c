// SPDX-License-Identifier: MIT
#include "script/bind_guests.h"

#include "base/clock.h"
#include "base/err.h"

#include <lauxlib.h>

static struct remotes *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int guests_take(lua_State *L)
{
    struct str parcel;
    parcel.p = luaL_checklstring(L, 1, &parcel.len);
    int err = remotes_take(self(L), parcel, clock_now_ns());
    if (err) {
        lua_pushnil(L);
        lua_pushstring(L, err_word(err));
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

void bind_guests_open(lua_State *L, struct remotes *remotes)
{
    lua_createtable(L, 0, 1);
    lua_pushlightuserdata(L, remotes);
    lua_pushcclosure(L, guests_take, 1);
    lua_setfield(L, -2, "take");
    lua_setfield(L, -2, "guests");
}
