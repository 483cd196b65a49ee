// SPDX-License-Identifier: MIT
#include "engine/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { JOURNAL_MOST = 4 << 20, READ_MOST = 256 << 10, PATH_SIZE = 4096 };

/* Names are the program's own: letters only. */
static void path_of(lua_State *L, char out[PATH_SIZE])
{
    const struct engine *e = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    luaL_argcheck(L, *name && strspn(name, "abcdefghijklmnopqrstuvwxyz") == strlen(name), 1, "a name of small letters");
    snprintf(out, PATH_SIZE, "%s/%s.journal", e->state, name);
}

static void turn_over(const char *path)
{
    struct stat st;
    char old[PATH_SIZE + 2];
    if (stat(path, &st) == 0 && st.st_size > JOURNAL_MOST) {
        snprintf(old, sizeof old, "%s.1", path);
        rename(path, old); /* where it fails, the journal grows on */
    }
}

static bool ends_in_line(int fd)
{
    char last = '\n';
    off_t end = lseek(fd, 0, SEEK_END);
    return end <= 0 || (pread(fd, &last, 1, end - 1) == 1 && last == '\n');
}

/* In one write: the kernel keeps it whole. */
static bool add_line(int fd, const char *line, size_t len, bool synced)
{
    char *text = malloc(len + 2);
    if (!text) {
        errno = ENOMEM;
        return false;
    }
    size_t at = 0;
    if (!ends_in_line(fd))
        text[at++] = '\n';
    memcpy(text + at, line, len);
    at += len;
    text[at++] = '\n';
    ssize_t n = write(fd, text, at);
    free(text);
    if (n >= 0 && (size_t)n != at)
        errno = ENOSPC;
    return n >= 0 && (size_t)n == at && (!synced || fsync(fd) == 0);
}

/* Remembers why a journal could not be written, or (NULL) that it can. */
static void note(lua_State *L, const char *why)
{
    lua_pushvalue(L, 1);
    if (why)
        lua_pushstring(L, why);
    else
        lua_pushnil(L);
    lua_rawset(L, lua_upvalueindex(2));
}

/* failures(): { name = why } of the journals whose last line could not be written. */
static int lua_failures(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    return 1;
}

static int lua_append(lua_State *L)
{
    char path[PATH_SIZE];
    size_t len;
    path_of(L, path);
    const char *line = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, !memchr(line, '\n', len) && len < READ_MOST / 2, 2, "one line of less than 128 KiB");
    turn_over(path);
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && add_line(fd, line, len, !lua_toboolean(L, 3));
    int err = errno;
    if (fd >= 0)
        close(fd);
    note(L, ok ? NULL : strerror(err));
    if (ok) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushfstring(L, "%s cannot be written: %s", path, strerror(err));
    return 2;
}

/* Appends the whole lines of the last `most` bytes of a file to the list on top. */
static void read_lines(lua_State *L, const char *path, off_t most)
{
    struct stat st = {0};
    int n = (int)lua_objlen(L, -1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    off_t from = fstat(fd, &st) == 0 && st.st_size > most ? st.st_size - most : 0;
    char *text = lua_newuserdata(L, READ_MOST);
    ssize_t got = pread(fd, text, (size_t)most, from);
    close(fd);
    char *p = text, *end = text + (got > 0 ? got : 0), *line_end;
    for (bool whole = from == 0; (line_end = memchr(p, '\n', (size_t)(end - p))); p = line_end + 1) {
        if (whole && line_end > p) {
            lua_pushlstring(L, p, (size_t)(line_end - p));
            lua_rawseti(L, -3, ++n);
        }
        whole = true; /* the first may begin before what was read */
    }
    lua_pop(L, 1);
}

static int lua_read(lua_State *L)
{
    char path[PATH_SIZE], old[PATH_SIZE + 2];
    struct stat st;
    path_of(L, path);
    snprintf(old, sizeof old, "%s.1", path);
    off_t has = stat(path, &st) == 0 ? st.st_size : 0;
    lua_newtable(L);
    if (has < READ_MOST)
        read_lines(L, old, READ_MOST - has);
    read_lines(L, path, READ_MOST);
    return 1;
}

/* flag(name): whether the operator has put a file of that name into the state folder. */
static int lua_flag(lua_State *L)
{
    const struct engine *e = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    char path[PATH_SIZE];
    luaL_argcheck(L, *name && strspn(name, "abcdefghijklmnopqrstuvwxyz") == strlen(name), 1, "a name of small letters");
    snprintf(path, sizeof path, "%s/%s", e->state, name);
    lua_pushboolean(L, access(path, F_OK) == 0);
    return 1;
}

void journal_open(lua_State *L, struct engine *engine)
{
    static const luaL_Reg functions[] = {{"append", lua_append}, {"read", lua_read}, {"flag", lua_flag},
                                         {"failures", lua_failures}, {0}};
    lua_newtable(L);
    lua_newtable(L); /* of failures */
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, engine);
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, f->func, 2);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    lua_setfield(L, -2, "journal");
}
