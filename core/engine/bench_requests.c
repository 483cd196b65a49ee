// SPDX-License-Identifier: MIT
#include "engine/bench_requests.h"

#include "base/buf.h"
#include "engine/remote.h"

#include <errno.h>
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MOST = 16 << 20 };

/* One request while it is put together. */
struct draft {
    struct str method, path, body; /* body.p NULL: none */
    struct buf fields;             /* header lines */
    bool has_host;
};

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 127 || strchr("()<>@,;:\\\"/[]?={}", s.p[i]))
            return false;
    return s.len > 0;
}

/* Nothing below `least`, and no DEL. */
static bool is_visible(struct str s, unsigned char least)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.p[i] < least || s.p[i] == 127)
            return false;
    return true;
}

static bool add_field(struct draft *d, struct str name, struct str value, char why[BENCH_WHY])
{
    if (!is_token(name) || !is_visible(value, ' ')) {
        snprintf(why, BENCH_WHY, "'%.*s' is no header field: it is written as 'Name: value', on one line", (int)(name.len < 60 ? name.len : 60), name.p);
        return false;
    }
    if (str_iequal(name, STR("content-length")) || str_iequal(name, STR("transfer-encoding"))) {
        snprintf(why, BENCH_WHY, "the header field '%.*s' is made from the body; leave it away", STR_ARG(name));
        return false;
    }
    d->has_host = d->has_host || str_iequal(name, STR("host"));
    buf_printf(&d->fields, "%.*s: %.*s\r\n", STR_ARG(name), STR_ARG(value));
    return true;
}

/* "Name: value", as --header has it. */
static bool add_line(struct draft *d, const char *line, char why[BENCH_WHY])
{
    const char *colon = strchr(line, ':');
    if (!colon) {
        snprintf(why, BENCH_WHY, "--header '%.80s' is not written as 'Name: value'", line);
        return false;
    }
    return add_field(d, (struct str){line, (size_t)(colon - line)}, str_trim(str_from(colon + 1)), why);
}

static bool add_lines(struct draft *d, const struct options *o, char why[BENCH_WHY])
{
    for (unsigned i = 0; i < o->bench.header_count; i++)
        if (!add_line(d, o->bench.headers[i], why))
            return false;
    return true;
}

static bool room_for(struct bench_requests *r, size_t bytes)
{
    r->bytes += bytes;
    if (r->count < r->room)
        return true;
    size_t room = r->room ? 2 * r->room : 16;
    void *more = realloc(r->list, room * sizeof *r->list);
    if (!more)
        return false;
    r->list = more;
    r->room = room;
    return true;
}

static bool render(struct bench_requests *r, const struct draft *d, const struct bench_defaults *site, char why[BENCH_WHY])
{
    struct buf out = {0};
    if (!is_token(d->method) || !d->path.len || d->path.p[0] != '/' || !is_visible(d->path, '!')) {
        snprintf(why, BENCH_WHY, "'%.20s %.80s' is no request: a method, and a path that begins with '/' and has no blanks", d->method.p, d->path.p);
        return false;
    }
    buf_printf(&out, "%.*s %.*s HTTP/1.1\r\n", STR_ARG(d->method), STR_ARG(d->path));
    if (!d->has_host)
        buf_printf(&out, "Host: %.*s\r\n", STR_ARG(site->authority));
    buf_add_str(&out, buf_len(&d->fields) ? buf_str(&d->fields) : STR(""));
    if (d->body.p)
        buf_printf(&out, "Content-Length: %zu\r\n", d->body.len);
    buf_add_str(&out, STR("\r\n"));
    if (d->body.p)
        buf_add_str(&out, d->body);
    if (!buf_ok(&out) || !buf_ok(&d->fields) || !room_for(r, buf_len(&out))) {
        buf_done(&out);
        snprintf(why, BENCH_WHY, "out of memory");
        return false;
    }
    r->list[r->count++] = (struct bench_request){buf_str(&out), str_equal(d->method, STR("HEAD"))}; /* the bytes are its own now */
    return true;
}

static bool take_body(const char *text, struct draft *d, struct buf *file, char why[BENCH_WHY])
{
    if (text && text[0] == '@') {
        if (!remote_read_file(text + 1, BODY_MOST, file)) {
            snprintf(why, BENCH_WHY, "--body: %.100s cannot be read: %s", text + 1, strerror(errno));
            return false;
        }
        d->body = buf_len(file) ? buf_str(file) : STR("");
    } else if (text) {
        d->body = str_from(text);
    }
    return true;
}

static bool make_one(struct bench_requests *r, const struct options *o, const struct bench_defaults *site, char why[BENCH_WHY])
{
    const char *method = o->bench.method ? o->bench.method : o->bench.body ? "POST" : "GET";
    struct draft d = {.method = str_from(method), .path = site->path};
    struct buf file = {0};
    bool ok = take_body(o->bench.body, &d, &file, why) && add_lines(&d, o, why) && render(r, &d, site, why);
    buf_done(&d.fields);
    buf_done(&file);
    return ok;
}

/* ---- from a script: the table of a request is on top ---- */

static bool text_field(lua_State *L, const char *name, struct str *out, char why[BENCH_WHY])
{
    lua_getfield(L, -1, name);
    if (lua_type(L, -1) == LUA_TSTRING)
        out->p = lua_tolstring(L, -1, &out->len); /* the table holds it */
    else if (!lua_isnil(L, -1))
        snprintf(why, BENCH_WHY, "'%s' is a %s, and must be a string", name, luaL_typename(L, -1));
    lua_pop(L, 1);
    return !*why;
}

/* The pair on top; it stays. */
static bool script_field(lua_State *L, struct draft *d, char why[BENCH_WHY])
{
    if (lua_type(L, -2) != LUA_TSTRING || (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)) {
        snprintf(why, BENCH_WHY, "'headers' has texts by name, as in { Accept = \"text/plain\" }");
        return false;
    }
    struct str name, value;
    name.p = lua_tolstring(L, -2, &name.len);
    value.p = lua_tolstring(L, -1, &value.len);
    return add_field(d, name, value, why);
}

static bool script_fields(lua_State *L, struct draft *d, char why[BENCH_WHY])
{
    bool ok = true;
    lua_getfield(L, -1, "headers");
    if (lua_istable(L, -1)) {
        lua_pushnil(L);
        while (ok && lua_next(L, -2)) {
            ok = script_field(L, d, why);
            lua_pop(L, ok ? 1 : 2);
        }
    } else if (!lua_isnil(L, -1)) {
        snprintf(why, BENCH_WHY, "'headers' is a %s, and must be a table", luaL_typename(L, -1));
        ok = false;
    }
    lua_pop(L, 1);
    return ok;
}

static bool known_keys(lua_State *L, char why[BENCH_WHY])
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no text)";
        if (strcmp(key, "method") != 0 && strcmp(key, "path") != 0 && strcmp(key, "headers") != 0 && strcmp(key, "body") != 0) {
            snprintf(why, BENCH_WHY, "unknown key '%.60s'; there are method, path, headers and body", key);
            lua_pop(L, 1);
            return false;
        }
    }
    return true;
}

static bool make_scripted(lua_State *L, struct bench_requests *r, const struct options *o, const struct bench_defaults *site, char why[BENCH_WHY])
{
    struct draft d = {.method = STR("GET"), .path = site->path};
    bool ok = known_keys(L, why) && text_field(L, "method", &d.method, why) && text_field(L, "path", &d.path, why) && text_field(L, "body", &d.body, why)
              && add_lines(&d, o, why) && script_fields(L, &d, why) && render(r, &d, site, why);
    buf_done(&d.fields);
    return ok;
}

/* Request i of the function on top. 1: it was made; 0: there is none; -1: why. */
static int next_of_script(lua_State *L, struct bench_requests *r, const struct options *o, const struct bench_defaults *site, int i, char why[BENCH_WHY])
{
    lua_pushvalue(L, -1);
    lua_pushinteger(L, i);
    if (lua_pcall(L, 1, 1, 0) != 0) {
        snprintf(why, BENCH_WHY, "--script: %.200s", lua_tostring(L, -1));
        return -1;
    }
    char what[BENCH_WHY] = "";
    bool none = lua_isnil(L, -1);
    if (!none && !lua_istable(L, -1))
        snprintf(what, sizeof what, "it is a %s, and must be a table like { path = \"/\" }", luaL_typename(L, -1));
    else if (!none)
        make_scripted(L, r, o, site, what);
    lua_pop(L, 1);
    if (*what)
        snprintf(why, BENCH_WHY, "--script: request %d of %.60s: %.140s", i, o->bench.script, what);
    return *what ? -1 : !none;
}

static bool run_script(lua_State *L, struct bench_requests *r, const struct options *o, const struct bench_defaults *site, char why[BENCH_WHY])
{
    luaL_openlibs(L);
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* a compiled pairs() may end early: LuaJIT issue 827 */
    if (luaL_loadfile(L, o->bench.script) != 0 || lua_pcall(L, 0, 1, 0) != 0) {
        snprintf(why, BENCH_WHY, "--script: %.200s", lua_tostring(L, -1));
        return false;
    }
    if (!lua_isfunction(L, -1)) {
        snprintf(why, BENCH_WHY, "--script: %.80s returns a %s, and must return function(i)", o->bench.script, luaL_typename(L, -1));
        return false;
    }
    int more = 1;
    for (int i = 1; more > 0 && i <= BENCH_SCRIPTED_MOST && r->bytes < BENCH_BYTES_MOST; i++)
        more = next_of_script(L, r, o, site, i, why);
    if (more >= 0 && !r->count)
        snprintf(why, BENCH_WHY, "--script: %.80s makes no request", o->bench.script);
    return more >= 0 && r->count;
}

bool bench_requests_make(struct bench_requests *r, const struct options *o, const struct bench_defaults *site, char why[BENCH_WHY])
{
    *r = (struct bench_requests){0};
    *why = 0;
    if (!o->bench.script)
        return make_one(r, o, site, why);
    if (o->bench.method || o->bench.body) {
        snprintf(why, BENCH_WHY, "--script: its requests have their own method and body; leave --method and --body away");
        return false;
    }
    lua_State *L = luaL_newstate();
    if (!L) {
        snprintf(why, BENCH_WHY, "out of memory");
        return false;
    }
    bool ok = run_script(L, r, o, site, why);
    lua_close(L);
    return ok;
}

void bench_requests_done(struct bench_requests *r)
{
    for (size_t i = 0; i < r->count; i++)
        free((char *)r->list[i].bytes.p);
    free(r->list);
    *r = (struct bench_requests){0};
}
