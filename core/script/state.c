/* Making and ending a generation; finding the route of a request. */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "base/log.h"
#include "script/json.h"
#include "script/task_states.h"

#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>

static const char state_key; /* its address is the registry key of the struct */

struct script *state_of(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&state_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct script *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return s;
}

struct fiber *fiber_running(lua_State *L)
{
    struct script *s = state_of(L);
    if (s->in_task)
        luaL_error(L, "this waits, which a task cannot do: let the handler wait and give the task its data");
    if (!s->running)
        luaL_error(L, "this waits, so it can only be called while a request is handled, "
                      "not while a file is loaded");
    return s->running;
}

static int on_panic(lua_State *L)
{
    log_line(LOG_ERROR, "Lua panic outside of any protection: %s",
             lua_isstring(L, -1) ? lua_tostring(L, -1) : "?");
    abort();
}

static bool open_named(struct script *s, const struct script_opts *opts)
{
    s->named = calloc(opts->named_count + 1, sizeof *s->named);
    for (size_t i = 0; s->named && i < opts->named_count; i++) {
        struct script_upstream *to = &s->named[s->named_count++];
        to->name = strdup(opts->named[i].name);
        if (opts->upstreams)
            to->upstream = upstream_open(opts->upstreams, &opts->named[i]);
        if (!to->name || (opts->upstreams && !to->upstream))
            return false;
        if (opts->default_upstream && strcmp(to->name, opts->default_upstream) == 0)
            s->default_upstream = to;
    }
    return s->named != NULL;
}

static void close_named(struct script *s)
{
    for (size_t i = 0; i < s->named_count; i++) {
        free(s->named[i].name);
        if (s->named[i].upstream)
            upstream_release(s->named[i].upstream);
    }
    free(s->named);
}

struct upstream *script_upstream(const struct script *s, size_t i)
{
    return i < s->named_count ? s->named[i].upstream : NULL;
}

static bool open_databases(struct script *s, const struct script_opts *opts)
{
    s->databases = calloc(opts->database_count + 1, sizeof *s->databases);
    for (size_t i = 0; s->databases && i < opts->database_count; i++) {
        struct script_database *to = &s->databases[s->database_count++];
        to->name = strdup(opts->databases[i].name);
        if (opts->pg)
            to->pool = pg_open(opts->pg, &opts->databases[i]);
        if (!to->name || (opts->pg && !to->pool))
            return false;
    }
    return s->databases != NULL;
}

static void close_databases(struct script *s)
{
    for (size_t i = 0; i < s->database_count; i++) {
        free(s->databases[i].name);
        if (s->databases[i].pool)
            pg_release(s->databases[i].pool);
    }
    free(s->databases);
}

static bool open_redises(struct script *s, const struct script_opts *opts)
{
    s->redises = calloc(opts->redis_count + 1, sizeof *s->redises);
    for (size_t i = 0; s->redises && i < opts->redis_count; i++) {
        struct script_redis *to = &s->redises[s->redis_count++];
        to->name = strdup(opts->redises[i].name);
        if (opts->redis)
            to->pool = redis_open(opts->redis, &opts->redises[i]);
        if (!to->name || (opts->redis && !to->pool))
            return false;
    }
    return s->redises != NULL;
}

static void close_redises(struct script *s)
{
    for (size_t i = 0; i < s->redis_count; i++) {
        free(s->redises[i].name);
        if (s->redises[i].pool)
            redis_release(s->redises[i].pool);
    }
    free(s->redises);
}

static void script_free(struct script *s)
{
    for (struct fiber *f = s->spare, *next; f; f = next) {
        next = f->next;
        buf_done(&f->body);
        free(f);
    }
    if (s->L) {
        heap_close(&s->heap);
        lua_close(s->L);
    }
    router_free(s->router);
    for (struct route *r = s->routes, *next; r; r = next) {
        next = r->next;
        policies_free(r);
        free(r->method);
        free(r->pattern);
        free(r->file);
        free(r->prefix_rest);
        free(r);
    }
    if (s->task_code) {
        task_code_retire(s->task_code);
        task_code_put(s->task_code);
        tasks_tidy(s->tasks);
    }
    close_named(s);
    close_databases(s);
    close_redises(s);
    buf_done(&s->json);
    buf_done(&s->params);
    buf_done(&s->shapes);
    free(s);
}

struct script *script_new(const struct script_opts *opts, struct problems *problems)
{
    const struct settings *settings = &opts->board->settings;
    struct script *s = calloc(1, sizeof *s);
    if (!s || !(s->L = luaL_newstate()) || !(s->router = router_new())) {
        problems_add(problems, "", 0, "out of memory");
        if (s)
            script_free(s);
        return NULL;
    }
    s->io = opts->io;
    s->board = opts->board;
    s->process = opts->process;
    s->lane = opts->lane;
    s->upstreams = opts->upstreams;
    s->compress = opts->compress;
    s->cache = opts->cache;
    s->generation = opts->generation;
    s->routes_under = opts->routes_under;
    s->routes_except = opts->routes_except;
    s->in_task = opts->in_task;
    s->tasks = opts->tasks;
    s->task_code = opts->tasks ? task_code_new(opts) : NULL;
    if ((opts->tasks && !s->task_code) || !open_named(s, opts) || !open_databases(s, opts) ||
        !open_redises(s, opts)) {
        problems_add(problems, "", 0, "out of memory");
        script_free(s);
        return NULL;
    }
    lua_atpanic(s->L, on_panic);
    double soft = setting_number(settings, SETTING_SCRIPT_MEMORY_BYTES);
    heap_open(&s->heap, s->L, (size_t)soft,
              (size_t)(soft * setting_number(settings, SETTING_SCRIPT_MEMORY_FACTOR)));
    luaL_openlibs(s->L);
    luaJIT_setmode(s->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_pushlightuserdata(s->L, (void *)&state_key);
    lua_pushlightuserdata(s->L, s);
    lua_rawset(s->L, LUA_REGISTRYINDEX);
    size_t before = problems->count;
    if (!loader_run(s, opts, problems) || problems->count > before) {
        script_free(s);
        return NULL;
    }
    return s;
}

void script_retire(struct script *s)
{
    s->retired = true;
    if (!s->fibers)
        script_free(s);
}

void script_end(struct script *s)
{
    while (s->fibers > 1)
        fiber_cancel(s->active);
    s->retired = true;
    if (s->fibers)
        fiber_cancel(s->active); /* the last one frees the generation */
    else
        script_free(s);
}

void script_fiber_over(struct script *s)
{
    s->fibers--;
    if (s->retired && !s->fibers)
        script_free(s);
}

uint64_t script_generation(const struct script *s)
{
    return s->generation;
}

size_t script_heap_bytes(const struct script *s)
{
    return s->heap.used_bytes;
}

uint64_t script_gc(struct script *s, uint64_t *pause_ns)
{
    *pause_ns = heap_gc_pause(&s->heap);
    return s->heap.gc_cycles;
}

size_t script_route_count(const struct script *s)
{
    return s->route_count;
}
