// SPDX-License-Identifier: MIT
#include "engine/overlay.h"

#include "engine/config.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <unistd.h>

static void path_of(lua_State *L, char *out, size_t size)
{
    const struct engine *e = lua_touserdata(L, lua_upvalueindex(1));
    config_overlay_path(e->state, out, size);
}

static int lua_read(lua_State *L)
{
    char path[4096], piece[4096];
    luaL_Buffer text;
    path_of(L, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;
    if (fd < 0)
        return 0;
    luaL_buffinit(L, &text);
    while ((n = read(fd, piece, sizeof piece)) > 0)
        luaL_addlstring(&text, piece, (size_t)n);
    close(fd);
    luaL_pushresult(&text);
    return 1;
}

static bool write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0;
}

static int lua_write(lua_State *L)
{
    char path[4096], temporary[4100];
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    path_of(L, path, sizeof path);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_all(fd, text, len);
    int err = errno;
    if (fd >= 0)
        close(fd);
    if (ok && rename(temporary, path) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "%s cannot be written: %s", path, strerror(ok ? errno : err));
    return 2;
}

void overlay_open(lua_State *L, struct engine *engine)
{
    static const luaL_Reg functions[] = {{"read", lua_read}, {"write", lua_write}, {0}};
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, engine);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_setfield(L, -2, "overlay");
}
