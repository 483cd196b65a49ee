// SPDX-License-Identifier: MIT
#include "script/load_text.h"

#include <lauxlib.h>
#include <luajit.h>

/* load_text(text, name, env): the function, or nil and a message. Bytecode is
 * refused by mode "t": it can break out of any sandbox. */
static int load_text(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    const char *name = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (luaL_loadbufferx(L, text, len, name, "t") != 0) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    luaJIT_setmode(L, -1, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
    lua_pushvalue(L, 3);
    lua_setfenv(L, -2);
    return 1;
}

void load_text_open(lua_State *L)
{
    lua_pushcfunction(L, load_text);
    lua_setfield(L, -2, "load_text");
}
