/* Loading a generation: the program's own Lua, then every route file, each on
 * its own so that all that is wrong is found in one go.
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "script/bind_ml.h"
#include "script/bind_watch.h"
#include "script/bounded.h"
#include "script/fields.h"
#include "script/json.h"
#include "script/text.h"

#include <stdio.h>
#include <stdlib.h>

#define CONTROL_ROUTES "routes/admin/"

struct loading {
    struct script *s;
    const struct script_opts *opts;
    struct problems *problems;
    const struct source *current;
    unsigned kind; /* of the policy file at hand */
};

static const struct source *find_source(const struct script_opts *opts, const char *path, bool builtin)
{
    for (size_t i = 0; i < opts->source_count; i++)
        if (opts->sources[i].builtin == builtin && strcmp(opts->sources[i].path, path) == 0)
            return &opts->sources[i];
    return NULL;
}

static struct loading *loading_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "perilune.loading");
    struct loading *loading = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (!loading)
        luaL_error(L, "modules can only be required while a file is loaded; move the require to its top");
    return loading;
}

/* trusted(path, ...): runs a file of the program, with the rest as its arguments. */
static int lua_trusted(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const struct source *source = find_source(loading_of(L)->opts, path, true);
    if (!source) {
        lua_pushnil(L);
        return 1;
    }
    char name[200];
    snprintf(name, sizeof name, "@%s", path);
    if (luaL_loadbufferx(L, source->text.p, source->text.len, name, "t") != 0)
        return lua_error(L);
    lua_replace(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* Files that are an opinion of control's: the user's, or else the program's of the same path. */
static bool is_opinion(const struct script_opts *opts, const char *path)
{
    static const char *const under[] = {"policies/", "issues/", "suggestions/", "alerts/", "thresholds.lua"};
    if (strcmp(opts->routes_under, CONTROL_ROUTES) != 0)
        return false;
    for (size_t i = 0; i < sizeof under / sizeof *under; i++)
        if (strncmp(path, under[i], strlen(under[i])) == 0)
            return true;
    return false;
}

/* source(path): text and name of a user's module under lib/; in control also of its opinions, and below builtin/
 * of those of the program alone. */
static int lua_source(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const struct script_opts *opts = loading_of(L)->opts;
    bool builtin = strncmp(path, "builtin/", 8) == 0;
    bool opinion = is_opinion(opts, path + (builtin ? 8 : 0));
    const struct source *source = builtin ? NULL : find_source(opts, path, false);
    if (opinion && !source)
        source = find_source(opts, path + (builtin ? 8 : 0), true);
    if (!source || (!opinion && strncmp(path, "lib/", 4) != 0))
        return 0;
    lua_pushlstring(L, source->text.p, source->text.len);
    lua_pushstring(L, source->name);
    return 2;
}

/* modules(folder): names of the modules in a folder of opinions, as require() takes them. */
static int lua_modules(lua_State *L)
{
    size_t len;
    const char *folder = luaL_checklstring(L, 1, &len);
    const struct script_opts *opts = loading_of(L)->opts;
    int n = 0;
    lua_newtable(L);
    for (size_t i = 0; i < opts->source_count; i++) {
        const struct source *source = &opts->sources[i];
        size_t whole = strlen(source->path);
        bool inside = whole > len + 5 && strncmp(source->path, folder, len) == 0 && source->path[len] == '/' &&
                      strcmp(source->path + whole - 4, ".lua") == 0 && !strchr(source->path + len + 1, '/');
        if (!inside || (source->builtin && find_source(opts, source->path, false)))
            continue;
        lua_pushfstring(L, "%s.", folder);
        lua_pushlstring(L, source->path + len + 1, whole - len - 5);
        lua_concat(L, 2);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* forward(upstream, path): what a handler returns to be answered by an upstream. */
static int lua_forward(lua_State *L)
{
    luaL_checkstring(L, 1);
    if (!lua_isnoneornil(L, 2))
        luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "upstream");
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "path");
    luaL_getmetatable(L, "perilune.forward");
    lua_setmetatable(L, -2);
    return 1;
}

/* Leaves the table `core` on the stack. */
static void make_core(lua_State *L, struct loading *loading)
{
    static const luaL_Reg functions[] = {{"forward", lua_forward}, {"modules", lua_modules}, {0}};
    struct script *s = loading->s;
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    sandbox_functions(s);
    bounded_open(L);
    text_nearest_open(L);
    fiber_open(s);
    request_open(L);
    answer_open(L);
    awaitables_open(L);
    bind_http_open(L);
    bind_db_open(L);
    bind_redis_open(L);
    bind_tasks_open(L);
    bind_ml_open(L);
    bind_watch_signals(L);
    json_open(L);
    lua_setfield(L, -2, "json");
    text_open(L);
    lua_setfield(L, -2, "text");
    lua_pushnumber(L, (double)s->generation);
    lua_setfield(L, -2, "generation");
    lua_pushliteral(L, PERILUNE_VERSION);
    lua_setfield(L, -2, "version");
    if (loading->opts->bind)
        loading->opts->bind(L, loading->opts->bind_user);
}

static int boot(lua_State *L)
{
    struct loading *loading = lua_touserdata(L, 1);
    struct script *s = loading->s;
    lua_pushlightuserdata(L, loading);
    lua_setfield(L, LUA_REGISTRYINDEX, "perilune.loading");
    lua_pushcfunction(L, lua_trusted);
    lua_pushliteral(L, "lua/perilune/core/boot.lua");
    make_core(L, loading);
    lua_pushcfunction(L, lua_trusted);
    lua_pushcfunction(L, lua_source);
    lua_call(L, 4, 1);
    if (!lua_istable(L, -1))
        return luaL_error(L, "the program lacks its own Lua files");
    lua_getfield(L, -1, "trampoline");
    s->trampoline = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "collect");
    s->collect = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "prepare");
    s->sandbox = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "module");
    s->module = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "policy");
    s->policy = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* ---- one route file ---- */

static const struct script_upstream *find_upstream(struct script *s, const char *name)
{
    for (size_t i = 0; i < s->named_count; i++)
        if (strcmp(s->named[i].name, name) == 0)
            return &s->named[i];
    return NULL;
}

/* Adds the route described by the table on top of the stack. */
static void add_route(lua_State *L, struct loading *loading)
{
    struct script *s = loading->s;
    struct route *r = calloc(1, sizeof *r);
    const char *upstream = field_text(L, "upstream");
    const char *rest = field_text(L, "rest");
    if (!r) {
        luaL_error(L, "out of memory");
        return;
    }
    r->next = s->routes;
    s->routes = r;
    s->route_count++;
    r->script = s;
    r->method = strdup(field_text(L, "method"));
    r->pattern = strdup(field_text(L, "path"));
    r->file = strdup(loading->current->name);
    r->prefix_rest = rest ? strdup(rest) : NULL;
    r->line = (int)field_number(L, "line", 0);
    r->bare = field_flag(L, "bare");
    r->timeout_ms = (uint64_t)field_number(L, "timeout_ms", 0);
    r->buffer_request = field_flag(L, "buffer_request");
    r->every_ms = (uint64_t)(field_number(L, "every_s", 0) * 1000);
    lua_getfield(L, -1, "handler");
    r->handler = lua_isfunction(L, -1) ? luaL_ref(L, LUA_REGISTRYINDEX) : (lua_pop(L, 1), LUA_NOREF);
    if (r->every_ms) {
        if (strcmp(s->routes_under, CONTROL_ROUTES) != 0)
            problems_add(loading->problems, r->file, r->line, "app:every() is for files below rules/%s, which control runs", CONTROL_ROUTES);
        s->route_count--;
        return;
    }
    if (upstream && !(r->upstream = find_upstream(s, upstream))) {
        problems_add(loading->problems, r->file, r->line,
                     "there is no upstream named '%s'; name it in the configuration: "
                     "upstreams = { %s = \"http://127.0.0.1:3000\" }",
                     upstream, upstream);
        return;
    }
    const char *wrong = router_add(s->router, str_from(r->method), str_from(r->pattern), r);
    if (wrong)
        problems_add(loading->problems, r->file, r->line, "route %s %s: %s", r->method, r->pattern, wrong);
}

/* Leaves the current file's chunk on the stack. */
static void push_chunk(lua_State *L, struct loading *loading)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, loading->s->sandbox);
    lua_pushlstring(L, loading->current->text.p, loading->current->text.len);
    lua_pushstring(L, loading->current->name);
    lua_call(L, 2, 2);
    if (!lua_isfunction(L, -2))
        lua_error(L); /* the syntax error */
    lua_pop(L, 1);
}

static int load_routes(lua_State *L)
{
    struct loading *loading = lua_touserdata(L, 1);
    struct script *s = loading->s;
    push_chunk(L, loading);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->collect);
    lua_pushvalue(L, -2);
    lua_call(L, 0, 1);
    lua_pushvalue(L, -3);
    lua_call(L, 2, 2); /* collect(app, chunk) */
    if (!lua_istable(L, -2))
        return lua_error(L);
    lua_pop(L, 1);
    int n = (int)lua_objlen(L, -1);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        add_route(L, loading);
        lua_pop(L, 1);
    }
    return 0;
}

/* ---- one policy file ---- */

/* Adds the list of messages on top of the stack, each "line: what", to the problems. */
static void add_messages(lua_State *L, struct loading *loading)
{
    int n = (int)lua_objlen(L, -1);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        lua_getfield(L, -1, "line");
        lua_getfield(L, -2, "text");
        problems_add(loading->problems, loading->current->name, (int)lua_tointeger(L, -2), "%s",
                     lua_tostring(L, -1));
        lua_pop(L, 3);
    }
}

/* Reads the policy of one route: the resolver is at index `resolver`. */
static void read_policy(lua_State *L, struct script *s, struct route *r, unsigned kind, int resolver)
{
    lua_pushvalue(L, resolver);
    lua_pushstring(L, r->method);
    lua_pushstring(L, r->pattern);
    lua_call(L, 2, 1);
    if (lua_istable(L, -1)) {
        r->policies[kind] = policy_kinds[kind]->read(L, s, r);
        r->has_policies = r->has_policies || (r->policies[kind] && policy_kinds[kind]->enter);
    }
    lua_pop(L, 1);
}

static int load_policy(lua_State *L)
{
    struct loading *loading = lua_touserdata(L, 1);
    struct script *s = loading->s;
    unsigned kind = loading->kind;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->policy);
    lua_pushstring(L, policy_kinds[kind]->name);
    push_chunk(L, loading);
    lua_pushlstring(L, loading->current->text.p, loading->current->text.len);
    lua_call(L, 3, 3); /* policy(kind, chunk, text): resolver, unused, problems */
    add_messages(L, loading);
    if (lua_objlen(L, -1) > 0)
        return 0;
    int resolver = lua_gettop(L) - 2, unused = resolver + 1;
    for (struct route *r = s->routes; r; r = r->next)
        read_policy(L, s, r, kind, resolver);
    lua_pushvalue(L, unused);
    lua_call(L, 0, 1);
    add_messages(L, loading);
    return 0;
}

/* The file of a policy: the user's, else the program's. */
static const struct source *policy_source(const struct script_opts *opts, unsigned kind)
{
    char path[80];
    snprintf(path, sizeof path, "policies/%s.lua", policy_kinds[kind]->name);
    const struct source *own = find_source(opts, path, false);
    return own ? own : find_source(opts, path, true);
}

/* What no route takes goes to the default upstream; last, so that it is no
 * problem of any file. */
static bool add_fallback(struct script *s)
{
    struct route *r = s->default_upstream ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return !s->default_upstream;
    r->next = s->routes;
    s->routes = s->fallback = r;
    r->script = s;
    r->method = strdup("*");
    r->pattern = strdup("/*");
    r->file = strdup("");
    r->handler = LUA_NOREF;
    r->upstream = s->default_upstream;
    return r->method && r->pattern && r->file;
}

static bool is_route_file(const struct script *s, const struct source *source)
{
    size_t len = strlen(source->path);
    return strncmp(source->path, s->routes_under, strlen(s->routes_under)) == 0 && len > 4 &&
           strcmp(source->path + len - 4, ".lua") == 0 &&
           !(s->routes_except &&
             strncmp(source->path, s->routes_except, strlen(s->routes_except)) == 0);
}

/* A user's file replaces the program's one of the same path. */
static bool is_replaced(const struct script_opts *opts, const struct source *source)
{
    return source->builtin && find_source(opts, source->path, false);
}

/* The file that a message begins with: Lua cuts long names, and the one at
 * fault can be a module that the current file requires. */
static const char *file_of(const struct loading *loading, const char *message)
{
    const char *colon = strchr(message, ':');
    struct str cut = {message, colon ? (size_t)(colon - message) : 0};
    for (size_t i = 0; i < loading->opts->source_count; i++)
        if (problem_name_is(cut, loading->opts->sources[i].name))
            return loading->opts->sources[i].name;
    return loading->current->name;
}

static const char *message_of(lua_State *L)
{
    return lua_isstring(L, -1) ? lua_tostring(L, -1) : "the error raised is not a string";
}

/* Loads the current file; what is wrong goes to the problems. */
static bool load_file(struct loading *loading, lua_CFunction load)
{
    struct script *s = loading->s;
    lua_State *L = s->L;
    limits_enter(&s->heap, (unsigned)setting_integer(&s->board->settings, SETTING_SCRIPT_LOAD_MS));
    int status = lua_cpcall(L, load, loading);
    limits_leave();
    if (status == 0)
        return true;
    const char *message = message_of(L);
    problems_add_message(loading->problems, file_of(loading, message), message);
    lua_pop(L, 1);
    return false;
}

bool loader_run(struct script *s, const struct script_opts *opts, struct problems *problems)
{
    struct loading loading = {.s = s, .opts = opts, .problems = problems};
    lua_State *L = s->L;
    bool ok = true;
    if (lua_cpcall(L, boot, &loading) != 0) {
        problems_add_message(problems, "", message_of(L));
        lua_pop(L, 1);
        return false;
    }
    for (size_t i = 0; i < opts->source_count; i++) {
        const struct source *source = &opts->sources[i];
        if (!is_route_file(s, source) || is_replaced(opts, source))
            continue;
        loading.current = source;
        ok = load_file(&loading, load_routes) && ok;
    }
    ok = add_fallback(s) && ok;
    for (loading.kind = 0; opts->policies && loading.kind < POLICY_KINDS; loading.kind++)
        if ((loading.current = policy_source(opts, loading.kind)))
            ok = load_file(&loading, load_policy) && ok;
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "perilune.loading");
    return ok;
}

/* ---- modules of tasks ---- */

void loader_push_module(struct script *s, const struct script_opts *opts, const char *name)
{
    lua_State *L = s->L;
    struct loading *loading = lua_newuserdata(L, sizeof *loading);
    *loading = (struct loading){.s = s, .opts = opts};
    lua_setfield(L, LUA_REGISTRYINDEX, "perilune.loading");
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->module);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

static int forget_loading(lua_State *L)
{
    lua_pushnil(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "perilune.loading");
    return 0;
}

void loader_push_over(struct script *s)
{
    if (lua_cpcall(s->L, forget_loading, NULL) != 0)
        lua_pop(s->L, 1); /* the next one sets it anew */
}
