/* What a script can reach: an allow-list, built anew for each file.
 *
 * lua/perilune/core/sandbox.lua makes the environment out of the opened
 * libraries; here are the parts that need C: loading text only, and the
 * trusted chunks of the program itself.
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "script/pattern.h"

#include <luajit.h>
#include <stdio.h>

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

void sandbox_functions(struct script *s)
{
    lua_pushcfunction(s->L, load_text);
    lua_setfield(s->L, -2, "load_text");
    lua_getglobal(s->L, "string");
    pattern_open(s->L, &s->board->settings.value[SETTING_SCRIPT_PATTERN_STEPS]);
    lua_pop(s->L, 1);
}
