// SPDX-License-Identifier: MIT
#include "embed/brain.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "engine/bundle.h"
#include "engine/journal.h"
#include "script/bind_machine.h"
#include "script/bind_ml.h"
#include "script/bind_stats.h"
#include "script/bind_watch.h"
#include "script/json.h"
#include "script/load_text.h"
#include "script/pattern.h"
#include "script/plain.h"
#include "script/text.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CALL_MS = 2000,           /* CPU time of one call */
    LOAD_MS = 5000,
    COUNT = 10000,            /* instructions between two looks */
    PAUSE = 120,              /* per cent the heap may grow before it is collected: small before fast */
    HEAP_BYTES = 64 << 20,
    RESULT_BYTES = 16 << 20,
};

struct brain {
    lua_State *L;
    struct bundle *bundle;
    struct engine *engine; /* the part of it that journals need */
    int api;               /* registry reference: the table that own.lua returns */
    uint64_t until_ns;     /* CPU time of this thread at which a call is over its budget */
    uint64_t budget_ms;
};

static const char brain_key; /* its address is the registry key */

static struct brain *brain_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&brain_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct brain *b = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return b;
}

/* ---- limits ---- */

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* Once it has raised, it raises with every instruction, so that a pcall does not go on. */
static void on_count(lua_State *L, lua_Debug *ar)
{
    struct brain *b = brain_of(L);
    (void)ar;
    if (cpu_ns() > b->until_ns) {
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
        luaL_error(L, "interrupted after %d ms of CPU time", (int)b->budget_ms);
    }
    if ((size_t)lua_gc(L, LUA_GCCOUNT, 0) << 10 > HEAP_BYTES) {
        lua_gc(L, LUA_GCCOLLECT, 0);
        if ((size_t)lua_gc(L, LUA_GCCOUNT, 0) << 10 > HEAP_BYTES)
            luaL_error(L, "more than %d MiB of memory in use", HEAP_BYTES >> 20);
    }
}

static void begin(struct brain *b, uint64_t ms)
{
    b->budget_ms = ms;
    b->until_ns = cpu_ns() + ms * 1000000;
    lua_sethook(b->L, on_count, LUA_MASKCOUNT, COUNT);
}

/* bounded(budget_ms, fn, ...), as script/bounded.h has it. */
static int lua_bounded(lua_State *L)
{
    struct brain *b = brain_of(L);
    uint64_t until_ns = b->until_ns, budget_ms = b->budget_ms, began_ns = cpu_ns();
    lua_Integer given_ms = luaL_checkinteger(L, 1);
    luaL_checkany(L, 2);
    if (began_ns <= until_ns) {
        b->budget_ms = given_ms > 0 ? (uint64_t)given_ms : 0;
        b->until_ns = began_ns + b->budget_ms * 1000000;
    }
    int status = lua_pcall(L, lua_gettop(L) - 2, 1, 0);
    uint64_t now_ns = cpu_ns();
    bool interrupted = status != 0 && now_ns > b->until_ns;
    if (began_ns <= until_ns) {
        b->until_ns = until_ns + (now_ns - began_ns);
        b->budget_ms = budget_ms;
        lua_sethook(L, on_count, LUA_MASKCOUNT, COUNT);
    }
    lua_pushboolean(L, status == 0);
    lua_insert(L, -2);
    lua_pushnumber(L, (double)(now_ns - began_ns) / 1e6);
    lua_pushboolean(L, interrupted);
    return 4;
}

/* ---- files ---- */

static const struct source *find(const struct bundle *bundle, const char *path, bool builtin)
{
    for (size_t i = 0; i < bundle->count; i++)
        if (bundle->files[i].builtin == builtin && strcmp(bundle->files[i].path, path) == 0)
            return &bundle->files[i];
    return NULL;
}

/* trusted(path, ...): runs a file of the library, with the rest as its arguments. */
static int lua_trusted(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const struct source *source = find(brain_of(L)->bundle, path, true);
    char name[200];
    if (!source) {
        lua_pushnil(L);
        return 1;
    }
    snprintf(name, sizeof name, "@%s", path);
    if (luaL_loadbufferx(L, source->text.p, source->text.len, name, "t") != 0)
        return lua_error(L);
    lua_replace(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* source(path): text and name of a rule: the user's, or else the library's; below builtin/ of the latter alone. */
static int lua_source(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const struct bundle *bundle = brain_of(L)->bundle;
    bool builtin = strncmp(path, "builtin/", 8) == 0;
    const struct source *source = builtin ? NULL : find(bundle, path, false);
    if (!source && strncmp(path, "lib/", 4) != 0)
        source = find(bundle, path + (builtin ? 8 : 0), true);
    if (!source)
        return 0;
    lua_pushlstring(L, source->text.p, source->text.len);
    lua_pushstring(L, source->name);
    return 2;
}

/* modules(folder): names of the rules in a folder, as require() takes them. */
static int lua_modules(lua_State *L)
{
    size_t len;
    const char *folder = luaL_checklstring(L, 1, &len);
    const struct bundle *bundle = brain_of(L)->bundle;
    int n = 0;
    lua_newtable(L);
    for (size_t i = 0; i < bundle->count; i++) {
        const struct source *source = &bundle->files[i];
        size_t whole = strlen(source->path);
        bool inside = whole > len + 5 && strncmp(source->path, folder, len) == 0 && source->path[len] == '/' &&
                      strcmp(source->path + whole - 4, ".lua") == 0 && !strchr(source->path + len + 1, '/');
        if (!inside || (source->builtin && find(bundle, source->path, false)))
            continue;
        lua_pushlstring(L, folder, len);
        lua_pushliteral(L, ".");
        lua_pushlstring(L, source->path + len + 1, whole - len - 5);
        lua_concat(L, 3);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* is_own(path): whether the folder has this file. */
static int lua_is_own(lua_State *L)
{
    lua_pushboolean(L, find(brain_of(L)->bundle, luaL_checkstring(L, 1), false) != NULL);
    return 1;
}

/* ---- the functions of own.lua ---- */

static int lua_log(lua_State *L)
{
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    int level = luaL_checkoption(L, 1, "info", levels);
    log_line((enum log_level)level, "%s", luaL_checkstring(L, 2));
    return 0;
}

static int lua_now(lua_State *L)
{
    lua_pushnumber(L, (double)clock_now_ns() / 1e9);
    return 1;
}

static int lua_unix_ms(lua_State *L)
{
    lua_pushnumber(L, (double)clock_unix_ms());
    return 1;
}

static void make_core(lua_State *L, const struct brain_opts *opts)
{
    static const luaL_Reg functions[] = {{"modules", lua_modules}, {"bounded", lua_bounded}, {"is_own", lua_is_own}, {"log", lua_log}, {"now", lua_now}, {"unix_ms", lua_unix_ms}, {0}};
    struct brain *b = brain_of(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    text_nearest_open(L);
    load_text_open(L);
    lua_getglobal(L, "string");
    pattern_open(L, &opts->board->settings.value[FOR_ALL][SETTING_SCRIPT_PATTERN_STEPS]);
    lua_pop(L, 1);
    lua_pushlightuserdata(L, b);
    lua_setfield(L, -2, "WAIT");
    json_open(L);
    lua_setfield(L, -2, "json");
    text_open(L);
    lua_setfield(L, -2, "text");
    bind_ml_open(L);
    bind_watch_signals(L);
    bind_watch_open(L, opts->watch, opts->board, opts->history, NULL);
    bind_stats_open(L, opts->board, opts->history, opts->resources);
    lua_setfield(L, -2, "stats");
    bind_machine_open(L, opts->board, opts->resources);
    keep_open(L, opts->keep);
    if (b->engine)
        journal_open(L, b->engine);
    lua_pushnumber(L, (double)opts->number);
    lua_setfield(L, -2, "generation");
    lua_pushliteral(L, PERILUNE_VERSION);
    lua_setfield(L, -2, "version");
}

static int boot(lua_State *L)
{
    const struct brain_opts *opts = lua_touserdata(L, 1);
    struct brain *b = brain_of(L);
    lua_pushcfunction(L, lua_trusted);
    lua_pushliteral(L, "lua/perilune/core/boot.lua");
    make_core(L, opts);
    int core = lua_gettop(L);
    lua_pushcfunction(L, lua_trusted);
    lua_pushcfunction(L, lua_source);
    lua_pushvalue(L, core);
    lua_insert(L, 2); /* core, once more: for own.lua */
    lua_call(L, 4, 1);
    lua_pushcfunction(L, lua_trusted);
    lua_pushliteral(L, "lua/perilune/embed/own.lua");
    lua_pushvalue(L, 2);
    lua_getfield(L, -4, "module");
    lua_call(L, 3, 1);
    if (!lua_istable(L, -1))
        return luaL_error(L, "the library lacks its own Lua files");
    b->api = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, 0);
    lua_gc(L, LUA_GCCOLLECT, 0); /* what only loading needed */
    return 0;
}

static const char *message_of(lua_State *L)
{
    return lua_isstring(L, -1) ? lua_tostring(L, -1) : "the error raised is not a string";
}

static bool start(struct brain *b, const struct brain_opts *opts, struct problems *problems)
{
    if (!(b->L = luaL_newstate())) {
        problems_add(problems, "", 0, "out of memory");
        return false;
    }
    luaL_openlibs(b->L);
    luaJIT_setmode(b->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_pushlightuserdata(b->L, (void *)&brain_key);
    lua_pushlightuserdata(b->L, b);
    lua_rawset(b->L, LUA_REGISTRYINDEX);
    lua_gc(b->L, LUA_GCSETPAUSE, PAUSE);
    begin(b, LOAD_MS);
    if (lua_cpcall(b->L, boot, (void *)opts) == 0)
        return true;
    problems_add_message(problems, "", message_of(b->L));
    return false;
}

static struct bundle *collect(const char *rules, struct problems *problems)
{
    struct bundle *bundle = calloc(1, sizeof *bundle);
    if (bundle && rules)
        bundle_read_folder(bundle, rules, problems);
    if (bundle && bundle_complete(bundle))
        return bundle;
    bundle_free(bundle);
    return NULL;
}

struct brain *brain_new(const struct brain_opts *opts, struct problems *problems)
{
    struct brain *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    b->bundle = collect(opts->rules, problems);
    if (opts->state && (b->engine = calloc(1, sizeof *b->engine)))
        snprintf(b->engine->state, sizeof b->engine->state, "%s", opts->state);
    if (b->bundle && !problems->count && start(b, opts, problems))
        return b;
    brain_free(b);
    return NULL;
}

void brain_free(struct brain *b)
{
    if (!b)
        return;
    if (b->L) {
        lua_sethook(b->L, NULL, 0, 0);
        lua_close(b->L);
    }
    bundle_free(b->bundle);
    free(b->engine);
    free(b);
}

uint64_t brain_signature(const char *rules)
{
    uint64_t hash = 1;
    bundle_sign_folder(&hash, rules);
    return hash;
}

size_t brain_bytes(const struct brain *b)
{
    return (size_t)lua_gc(b->L, LUA_GCCOUNT, 0) << 10;
}

/* ---- calls ---- */

struct call {
    struct brain *brain;
    const char *function;
    struct str arguments;
    struct buf *out;
};

static int call(lua_State *L)
{
    struct call *c = lua_touserdata(L, 1);
    char why[PLAIN_WHY];
    lua_settop(L, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->brain->api);
    lua_getfield(L, 1, c->function);
    int n = plain_decode(L, c->arguments);
    lua_call(L, n, LUA_MULTRET);
    if (plain_encode(L, 2, lua_gettop(L), "result", RESULT_BYTES, c->out, why) < 0)
        return luaL_error(L, "%s", why);
    return 0;
}

int brain_call(struct brain *b, const char *function, struct str arguments, struct buf *out)
{
    struct call c = {b, function, arguments, out};
    begin(b, CALL_MS);
    int status = lua_cpcall(b->L, call, &c);
    lua_sethook(b->L, NULL, 0, 0);
    if (status == 0)
        return 0;
    buf_clear(out);
    buf_add_str(out, str_from(message_of(b->L)));
    lua_pop(b->L, 1);
    return ERR_SCRIPT;
}
