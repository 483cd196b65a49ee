// SPDX-License-Identifier: MIT
#include "script/text.h"

#include "base/str.h"

#include <lauxlib.h>
#include <limits.h>

static struct str check_str(lua_State *L, int arg)
{
    struct str s;
    s.p = luaL_checklstring(L, arg, &s.len);
    return s;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int text_trim(lua_State *L)
{
    struct str s = check_str(L, 1), all = s;
    while (s.len && is_space(s.p[s.len - 1]))
        s.len--;
    while (s.len && is_space(*s.p)) {
        s.p++;
        s.len--;
    }
    if (s.len == all.len)
        lua_pushvalue(L, 1);
    else
        lua_pushlstring(L, s.p, s.len);
    return 1;
}

static int text_split(lua_State *L)
{
    struct str s = check_str(L, 1), separator = check_str(L, 2);
    luaL_argcheck(L, separator.len > 0, 2, "the separator is empty");
    lua_Integer max = luaL_optinteger(L, 3, INT_MAX);
    luaL_argcheck(L, max >= 1, 3, "at least one piece");
    lua_newtable(L);
    int n = 1;
    const char *found;
    while (n < max && (found = memmem(s.p, s.len, separator.p, separator.len))) {
        size_t len = (size_t)(found - s.p);
        lua_pushlstring(L, s.p, len);
        lua_rawseti(L, -2, n++);
        s.p += len + separator.len;
        s.len -= len + separator.len;
    }
    lua_pushlstring(L, s.p, s.len);
    lua_rawseti(L, -2, n);
    return 1;
}

static int text_starts_with(lua_State *L)
{
    lua_pushboolean(L, str_starts(check_str(L, 1), check_str(L, 2)));
    return 1;
}

static int text_ends_with(lua_State *L)
{
    struct str s = check_str(L, 1), end = check_str(L, 2);
    lua_pushboolean(L, s.len >= end.len && memcmp(s.p + s.len - end.len, end.p, end.len) == 0);
    return 1;
}

/* nearest(word, list): the most similar name of a list, or nil. */
static int lua_nearest(lua_State *L)
{
    size_t len;
    const char *p = luaL_checklstring(L, 1, &len);
    unsigned best = 4;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_pushnil(L);
    for (int i = 1, n = (int)lua_objlen(L, 2); i <= n; i++) {
        lua_rawgeti(L, 2, i);
        size_t name_len;
        const char *name = lua_tolstring(L, -1, &name_len);
        unsigned distance = str_distance((struct str){p, len}, (struct str){name, name_len});
        if (distance < best && distance < name_len) {
            best = distance;
            lua_replace(L, 3);
        } else {
            lua_pop(L, 1);
        }
    }
    return 1;
}

int text_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"trim", text_trim},
        {"split", text_split},
        {"starts_with", text_starts_with},
        {"ends_with", text_ends_with},
    };
    lua_createtable(L, 0, sizeof functions / sizeof *functions);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushcfunction(L, functions[i].func);
        lua_setfield(L, -2, functions[i].name);
    }
    return 1;
}

void text_nearest_open(lua_State *L)
{
    lua_pushcfunction(L, lua_nearest);
    lua_setfield(L, -2, "nearest");
}
