// SPDX-License-Identifier: MIT
#include "engine/files.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, TEXT_MOST = 64 << 20, SECRET_MOST = 8192 };

static const struct engine *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Names are the program's own. */
static void path_of(lua_State *L, char out[PATH_SIZE])
{
    const char *name = luaL_checkstring(L, 1);
    luaL_argcheck(L, *name && strspn(name, "abcdefghijklmnopqrstuvwxyz-") == strlen(name), 1,
                  "a name of small letters");
    snprintf(out, PATH_SIZE, "%s/%s.json", self(L)->state, name);
}

static bool write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return fsync(fd) == 0;
}

/* Without it a rename may be forgotten when the machine dies. */
static bool sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool replace(const char *folder, const char *path, const char *text, size_t len)
{
    char temporary[PATH_SIZE + 4];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, text, len);
    int err = errno;
    close(fd);
    if (ok)
        return rename(temporary, path) == 0 && sync_folder(folder);
    errno = err;
    return false;
}

static int lua_write(lua_State *L)
{
    char path[PATH_SIZE];
    size_t len;
    path_of(L, path);
    const char *text = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len <= TEXT_MOST, 2, "at most 64 MiB");
    if (replace(self(L)->state, path, text, len)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "%s cannot be written: %s", path, strerror(errno));
    return 2;
}

/* Pushes what a file holds, up to `most` bytes. False with errno: it cannot be read. */
static bool push_file(lua_State *L, const char *path, size_t most)
{
    char piece[4096];
    luaL_Buffer text;
    ssize_t n;
    size_t whole = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    luaL_buffinit(L, &text);
    while (whole < most && (n = read(fd, piece, sizeof piece)) > 0) {
        luaL_addlstring(&text, piece, (size_t)n);
        whole += (size_t)n;
    }
    close(fd);
    luaL_pushresult(&text);
    return true;
}

static int lua_read(lua_State *L)
{
    char path[PATH_SIZE];
    path_of(L, path);
    return push_file(L, path, TEXT_MOST) ? 1 : 0;
}

static int fail(lua_State *L, const char *format, const char *name, const char *why)
{
    lua_pushnil(L);
    lua_pushfstring(L, format, name, why);
    return 2;
}

static int lua_secret(lua_State *L)
{
    static const char *const kinds[] = {"env", "file", NULL};
    int kind = luaL_checkoption(L, 1, NULL, kinds);
    const char *name = luaL_checkstring(L, 2);
    if (kind == 0) {
        const char *value = getenv(name);
        if (!value || !*value)
            return fail(L, "the environment variable %s is %s", name, value ? "empty" : "not set");
        lua_pushstring(L, value);
        return 1;
    }
    if (!push_file(L, name, SECRET_MOST))
        return fail(L, "%s cannot be read: %s", name, strerror(errno));
    const char *text = lua_tostring(L, -1);
    lua_pushlstring(L, text, strcspn(text, "\r\n"));
    if (lua_objlen(L, -1) == 0)
        return fail(L, "%s %s", name, "has an empty first line");
    return 1;
}

void files_open(lua_State *L, struct engine *engine)
{
    static const luaL_Reg functions[] = {
        {"write", lua_write}, {"read", lua_read}, {"secret", lua_secret}, {0}};
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, engine);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_setfield(L, -2, "files");
}
