/* module.c - `require "perilune"` in a program that is not ours.
 *
 *     core.own(options) / core.attach(path) / core.attach_remote(url, token, routes_max)    engine, or nil and why
 *     engine:start(method, route)              span
 *     span:phase(name, ms)                     more time spent in a phase
 *     span:finish(status, bytes_out, bytes_in, ms, trace_id)
 *     core.call(engine, function, ...)         a function of the loop inside, see lua/perilune/embed/own.lua
 *
 * The rest of the public module is Lua: lua/perilune/embed/host.lua, which is part of this library.
 * Nothing but luaopen_* is exported; only the classic C API of Lua 5.1 is used, and it comes from
 * the program that loads us.
 */
// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "embed/nginx.h"
#include "embed/own.h"
#include "embed/recorder.h"
#include "embed/remote.h"
#include "engine/embedded.h"
#include "script/bind_ml.h"
#include "script/json.h"
#include "script/json_text.h"
#include "script/plain.h"
#include "script/text.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define ENGINE "perilune.engine"
#define SPAN "perilune.span"
#define EXPORT __attribute__((visibility("default")))

enum { ARGUMENT_BYTES = 1 << 20 };

struct engine_object {
    struct recorder recorder; /* lane NULL: closed */
    struct own *own;          /* NULL: attached, or closed */
    struct remote *remote;    /* attached to an engine elsewhere */
    struct attached attached;
    bool closed;
};

static struct engine_object *engine_at(lua_State *L, int at)
{
    struct engine_object *e = luaL_checkudata(L, at, ENGINE);
    if (e->closed)
        luaL_error(L, "this engine was closed");
    return e;
}

static int fail(lua_State *L, const char *why, size_t len)
{
    lua_pushnil(L);
    lua_pushlstring(L, why, len);
    return 2;
}

/* ---- spans ---- */

static int engine_start(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    struct str method, route;
    method.p = luaL_checklstring(L, 2, &method.len);
    route.p = luaL_checklstring(L, 3, &route.len);
    uint32_t index = recorder_route(&e->recorder, method, route);
    struct span *s = lua_newuserdata(L, sizeof *s);
    lua_getfenv(L, 1); /* holds the engine, so that it lives as long as its spans */
    lua_setfenv(L, -2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    span_begin(&e->recorder, index, s);
    return 1;
}

static int span_phase_of(lua_State *L)
{
    struct span *s = luaL_checkudata(L, 1, SPAN);
    const char *name = luaL_checkstring(L, 2);
    double ms = luaL_checknumber(L, 3);
    luaL_argcheck(L, ms >= 0 && ms < 1e12, 3, "milliseconds, 0 or above");
    for (int i = 0; i < PHASE_COUNT; i++)
        if (strcmp(phase_name((enum phase)i), name) == 0) {
            span_phase(s, (enum phase)i, (uint64_t)(ms * 1e6));
            lua_settop(L, 1);
            return 1;
        }
    lua_pushfstring(L, "there is no phase '%s'; it is one of", name);
    for (int i = 0; i < PHASE_COUNT; i++)
        lua_pushfstring(L, "%s %s", i ? "," : "", phase_name((enum phase)i));
    lua_concat(L, PHASE_COUNT + 1);
    return luaL_argerror(L, 2, lua_tostring(L, -1));
}

static uint64_t bytes_at(lua_State *L, int at)
{
    double n = luaL_optnumber(L, at, 0);
    luaL_argcheck(L, n >= 0 && n < 9e15, at, "bytes, 0 or above");
    return (uint64_t)n;
}

static int span_finish(lua_State *L)
{
    struct span *s = luaL_checkudata(L, 1, SPAN);
    double status = luaL_optnumber(L, 2, 200), ms = luaL_optnumber(L, 5, 0);
    luaL_argcheck(L, status == 0 || (status >= 100 && status <= 599), 2, "a status from 100 to 599, or 0 when the client went away");
    luaL_argcheck(L, ms >= 0 && ms < 1e12, 5, "milliseconds, 0 or above");
    size_t len = 0;
    const char *trace_id = luaL_optlstring(L, 6, NULL, &len);
    if (!s->recorder)
        return luaL_error(L, "this span is over: a span is finished once");
    struct span_result result = {.status = (uint32_t)status, .bytes_out = bytes_at(L, 3), .bytes_in = bytes_at(L, 4),
                                 .latency_ns = (uint64_t)(ms * 1e6), .trace_id = len == 32 ? trace_id : NULL};
    span_end(s, &result);
    return 0;
}

/* One that nobody finished was given up. */
static int span_collect(lua_State *L)
{
    struct span *s = lua_touserdata(L, 1);
    if (s->recorder)
        span_end(s, &(struct span_result){0});
    return 0;
}

/* ---- engines ---- */

static struct engine_object *new_engine(lua_State *L)
{
    struct engine_object *e = lua_newuserdata(L, sizeof *e);
    memset(e, 0, sizeof *e);
    e->closed = true;
    e->attached.fd = -1;
    luaL_getmetatable(L, ENGINE);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 4);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    return e;
}

/* own(rules, state, history_bytes, routes_max, thread): numbers 0 and texts nil are the defaults. */
static int core_own(lua_State *L)
{
    struct own_opts opts = {.rules = luaL_optstring(L, 1, NULL), .state = luaL_optstring(L, 2, NULL),
                            .history_bytes = (size_t)luaL_optnumber(L, 3, 0), .routes_max = (unsigned)luaL_optinteger(L, 4, 0),
                            .thread = lua_toboolean(L, 5)};
    struct engine_object *e = new_engine(L);
    struct buf why = {0};
    e->own = own_new(&opts, &why);
    if (!e->own) {
        lua_pushnil(L);
        lua_pushlstring(L, why.data ? why.data : "out of memory", why.data ? buf_len(&why) : 13);
        buf_done(&why);
        return 2;
    }
    buf_done(&why);
    recorder_init(&e->recorder, own_board(e->own), 0, NULL);
    e->closed = false;
    return 1;
}

static int core_attach(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct engine_object *e = new_engine(L);
    char why[ATTACH_WHY];
    if (!attach_open(path, &e->attached, why))
        return fail(L, why, strlen(why));
    recorder_init(&e->recorder, e->attached.board, (uint32_t)e->attached.lane, &e->attached);
    e->closed = false;
    return 1;
}

/* attach_remote(url, token, routes_max, lazy): nil and 0 are the defaults. */
static int core_attach_remote(lua_State *L)
{
    const char *url = luaL_checkstring(L, 1), *token = luaL_optstring(L, 2, NULL);
    struct engine_object *e = new_engine(L);
    char why[REMOTE_WHY];
    e->remote = remote_open(url, token, (unsigned)luaL_optinteger(L, 3, 0), lua_toboolean(L, 4), why);
    if (!e->remote)
        return fail(L, why, strlen(why));
    recorder_init(&e->recorder, remote_board(e->remote), 0, NULL);
    e->recorder.on_fork = remote_after_fork;
    e->recorder.on_fork_user = e->remote;
    e->closed = false;
    return 1;
}

/* attach_again(engine, path): an engine that has ended is looked for anew. True; or nil and why; spans begun before are lost. */
static int core_attach_again(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    const char *path = luaL_checkstring(L, 2);
    struct attached found;
    char why[ATTACH_WHY], remote_why[REMOTE_WHY];
    if (e->remote && !remote_state(e->remote, remote_why))
        return fail(L, remote_why, strlen(remote_why));
    if (e->own || e->remote || attach_alive(&e->attached, clock_now_ns())) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (!attach_open(path, &found, why))
        return fail(L, why, strlen(why));
    attach_close(&e->attached);
    e->attached = found;
    recorder_move(&e->recorder, e->attached.board, (uint32_t)e->attached.lane);
    lua_pushboolean(L, 1);
    return 1;
}

static int engine_close(lua_State *L)
{
    struct engine_object *e = luaL_checkudata(L, 1, ENGINE);
    if (e->closed)
        return 0;
    e->closed = true;
    recorder_close(&e->recorder);
    own_free(e->own);
    remote_close(e->remote);
    e->own = NULL;
    e->remote = NULL;
    if (e->attached.board)
        attach_close(&e->attached);
    return 0;
}

/* tick(engine): what is due is done. */
static int core_tick(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    if (e->own) {
        atomic_store(&board_worker(e->recorder.board, 0)->lua_bytes, (uint64_t)lua_gc(L, LUA_GCCOUNT, 0) << 10);
        own_tick(e->own);
    }
    return 0;
}

/* call(engine, function, ...): its results; or nil and what went wrong. */
static int core_call(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    const char *function = luaL_checkstring(L, 2);
    struct buf arguments = {0}, *results = lua_newuserdata(L, sizeof *results);
    char why[PLAIN_WHY];
    memset(results, 0, sizeof *results);
    lua_insert(L, 3);
    if (!e->own)
        return luaL_error(L, "an attached engine is asked through its control API");
    if (plain_encode(L, 4, lua_gettop(L), "argument", ARGUMENT_BYTES, &arguments, why) < 0) {
        buf_done(&arguments);
        return luaL_error(L, "%s", why);
    }
    int status = own_call(e->own, function, buf_str(&arguments), results);
    buf_done(&arguments);
    lua_settop(L, 3);
    if (status < 0) {
        lua_pushnil(L);
        lua_pushlstring(L, buf_len(results) ? buf_str(results).p : "", buf_len(results));
        buf_done(results);
        return 2;
    }
    int n = plain_decode(L, buf_str(results)); /* raises when the program is out of memory, and then the buffer is lost */
    buf_done(results);
    return n;
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

/* info(engine): { mode, generation, problems, lua_bytes, thread } or { mode, version, admin, lane }; lost spans. */
static int core_info(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    lua_createtable(L, 0, 8);
    set_number(L, "lost", (double)e->recorder.lost);
    lua_pushstring(L, e->own ? "own" : "attached");
    lua_setfield(L, -2, "mode");
    if (e->own) {
        struct own_state state;
        own_state(e->own, &state);
        set_number(L, "generation", (double)state.generation);
        set_number(L, "lua_bytes", (double)state.lua_bytes);
        lua_pushstring(L, state.problems);
        lua_setfield(L, -2, "problems");
        lua_pushboolean(L, state.has_thread);
        lua_setfield(L, -2, "thread");
        return 1;
    }
    if (e->remote) {
        lua_pushstring(L, remote_address(e->remote));
        lua_setfield(L, -2, "admin");
        return 1;
    }
    set_number(L, "lane", e->attached.lane);
    lua_pushstring(L, e->attached.hello.version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, e->attached.hello.admin);
    lua_setfield(L, -2, "admin");
    return 1;
}

/* value(engine, name): a setting of an attached engine in force now, or nil. */
static int core_value(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    int id = setting_find(str_from(luaL_checkstring(L, 2)));
    if (e->own || e->remote || id < 0)
        return 0;
    double value = setting_number(&e->recorder.board->settings, (enum setting_id)id);
    if (setting_infos[id].type == SETTING_BOOLEAN)
        lua_pushboolean(L, value != 0);
    else
        lua_pushnumber(L, value);
    return 1;
}

/* setting_defaults(): { name = { default, min, max, type, unit } }, of the engine's registry. */
static int core_setting_defaults(lua_State *L)
{
    static const char *const types[] = {"boolean", "integer", "number"};
    lua_createtable(L, 0, SETTING_COUNT);
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_info *info = &setting_infos[i];
        lua_createtable(L, 0, 6);
        if (info->type == SETTING_BOOLEAN)
            lua_pushboolean(L, info->fallback != 0);
        else
            lua_pushnumber(L, info->fallback);
        lua_setfield(L, -2, "default");
        set_number(L, "min", info->min);
        set_number(L, "max", info->max);
        const struct setting_tuning *tuning = setting_tuning(i);
        if (tuning) {
            set_number(L, "step", tuning->step);
            set_number(L, "settle_s", tuning->settle_s);
            lua_pushstring(L, tuning->scope);
            lua_setfield(L, -2, "scope");
            lua_pushstring(L, tuning->group);
            lua_setfield(L, -2, "group");
        }
        lua_pushstring(L, types[info->type]);
        lua_setfield(L, -2, "type");
        lua_pushstring(L, info->unit);
        lua_setfield(L, -2, "unit");
        lua_setfield(L, -2, info->name);
    }
    return 1;
}

/* nginx_recorder(engine): addresses of the recorder, which lives as long as the engine does, and of nginx_record(), for
 * hosts whose compiler calls C functions by their address: a call from compiled code costs a few nanoseconds, one through
 * the API of Lua ends the trace. Nothing where there is no nginx. */
static int core_nginx_recorder(lua_State *L)
{
    struct engine_object *e = engine_at(L, 1);
    if (!nginx_here())
        return 0;
    lua_pushlightuserdata(L, &e->recorder);
    lua_pushlightuserdata(L, (void *)(uintptr_t)nginx_record); /* NOLINT(performance-no-int-to-ptr) */
    return 2;
}

/* nginx_template(path): the route that it is taken for. */
static int core_nginx_template(lua_State *L)
{
    struct str path;
    char out[NGINX_ROUTE_BYTES];
    path.p = luaL_checklstring(L, 1, &path.len);
    lua_pushlstring(L, out, nginx_template(path, out));
    return 1;
}

static int core_environment(lua_State *L)
{
    luaL_checkudata(L, 1, ENGINE);
    lua_getfenv(L, 1);
    return 1;
}

/* ---- the library ---- */

static int core_now(lua_State *L)
{
    lua_pushnumber(L, (double)clock_now_ns() / 1e9);
    return 1;
}

static int core_log(lua_State *L)
{
    log_line(LOG_ERROR, "%s", luaL_checkstring(L, 1));
    return 0;
}

static const struct embedded *find(const char *path)
{
    for (const struct embedded *f = embedded_files; f->path; f++)
        if (strcmp(f->path, path) == 0)
            return f;
    return NULL;
}

/* file(path, ...): runs a Lua file of the library with the rest as its arguments. */
static int core_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const struct embedded *file = find(path);
    if (!file)
        return luaL_error(L, "the library lacks its file %s", path);
    lua_pushfstring(L, "@%s", path);
    if (luaL_loadbuffer(L, file->start, (size_t)(file->end - file->start), lua_tostring(L, -1)) != 0)
        return lua_error(L);
    lua_replace(L, 1);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static void open_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction collect)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
}

EXPORT int luaopen_perilune(lua_State *L);
int luaopen_perilune(lua_State *L)
{
    static const luaL_Reg span_methods[] = {{"phase", span_phase_of}, {"finish", span_finish}, {0}};
    static const luaL_Reg engine_methods[] = {{"close", engine_close}, {0}};
    static const luaL_Reg functions[] = {{"own", core_own},   {"attach", core_attach}, {"attach_remote", core_attach_remote}, {"attach_again", core_attach_again}, {"tick", core_tick}, {"call", core_call},
                                         {"info", core_info}, {"value", core_value},   {"now", core_now},   {"log", core_log},
                                         {"nginx_recorder", core_nginx_recorder}, {"nginx_template", core_nginx_template},
                                         {"environment", core_environment}, {"file", core_file}, {"setting_defaults", core_setting_defaults}, {0}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    open_class(L, SPAN, span_methods, span_collect);
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -3, "span");
    open_class(L, ENGINE, engine_methods, engine_close);
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, engine_start, 1);
    lua_setfield(L, -2, "start");
    lua_setfield(L, -4, "engine");
    lua_pop(L, 2);
    json_share_array_metatable(L);
    json_open(L);
    lua_setfield(L, -2, "json");
    text_open(L);
    lua_setfield(L, -2, "text");
    text_nearest_open(L);
    bind_ml_open(L);
    lua_pushliteral(L, PERILUNE_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushcfunction(L, core_file);
    lua_pushliteral(L, "lua/perilune/embed/host.lua");
    lua_pushvalue(L, -3);
    lua_call(L, 2, 1);
    return 1;
}
