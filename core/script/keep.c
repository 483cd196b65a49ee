// SPDX-License-Identifier: MIT
#include "script/keep.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kept {
    char name[KEEP_NAME];
    char *text; /* NULL: a free place */
    size_t len;
};

struct keep {
    struct kept list[KEEP_NAMES];
};

struct keep *keep_new(void)
{
    return calloc(1, sizeof(struct keep));
}

void keep_free(struct keep *k)
{
    for (int i = 0; k && i < KEEP_NAMES; i++)
        free(k->list[i].text);
    free(k);
}

static struct kept *find(struct keep *k, const char *name)
{
    for (int i = 0; i < KEEP_NAMES; i++)
        if (k->list[i].text && strcmp(k->list[i].name, name) == 0)
            return &k->list[i];
    return NULL;
}

static struct kept *find_free(struct keep *k)
{
    for (int i = 0; i < KEEP_NAMES; i++)
        if (!k->list[i].text)
            return &k->list[i];
    return NULL;
}

static int lua_put(lua_State *L)
{
    struct keep *k = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    size_t len = 0;
    const char *text = lua_isnoneornil(L, 2) ? NULL : luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, strlen(name) < KEEP_NAME, 1, "a name of at most 63 bytes");
    luaL_argcheck(L, len <= KEEP_BYTES, 2, "at most 8 MiB");
    struct kept *entry = find(k, name);
    if (!entry && !(entry = find_free(k)))
        return luaL_error(L, "more than %d names are kept", KEEP_NAMES);
    char *copy = text ? malloc(len + 1) : NULL;
    if (text && !copy)
        return luaL_error(L, "out of memory");
    free(entry->text);
    entry->text = copy;
    entry->len = len;
    if (copy) {
        memcpy(copy, text, len);
        snprintf(entry->name, sizeof entry->name, "%s", name);
    }
    return 0;
}

static int lua_get(lua_State *L)
{
    const struct kept *entry = find(lua_touserdata(L, lua_upvalueindex(1)), luaL_checkstring(L, 1));
    if (!entry)
        return 0;
    lua_pushlstring(L, entry->text, entry->len);
    return 1;
}

void keep_open(lua_State *L, struct keep *k)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, k);
    lua_pushcclosure(L, lua_put, 1);
    lua_setfield(L, -2, "put");
    lua_pushlightuserdata(L, k);
    lua_pushcclosure(L, lua_get, 1);
    lua_setfield(L, -2, "get");
    lua_setfield(L, -2, "keep");
}
