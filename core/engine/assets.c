// SPDX-License-Identifier: MIT
#include "engine/assets.h"

#include "base/str.h"
#include "engine/embedded.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

static const struct embedded_asset *find(const char *name)
{
    for (const struct embedded_asset *a = embedded_assets; a->name; a++)
        if (strcmp(a->name, name) == 0)
            return a;
    return NULL;
}

static int lua_asset(lua_State *L)
{
    const struct embedded_asset *a = find(luaL_checkstring(L, 1));
    char hash[32];
    if (!a)
        return 0;
    struct str text = {a->start, (size_t)(a->end - a->start)};
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)str_hash(text));
    if (lua_toboolean(L, 2))
        lua_pushlstring(L, (const char *)a->packed, a->packed_len);
    else
        lua_pushlstring(L, text.p, text.len);
    lua_pushstring(L, hash);
    return 2;
}

void assets_open(lua_State *L)
{
    lua_pushcfunction(L, lua_asset);
    lua_setfield(L, -2, "asset");
}
