/* The control process: keeps the history, drives reloads, serves the control
 * API, whose routes are Lua as well.
 *
 * It can die at any time: totals live in the lanes, windows in the history,
 * and the generation in force on the board.
 */
// SPDX-License-Identifier: MIT
#include "engine/reload.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "engine/assets.h"
#include "engine/door.h"
#include "engine/files.h"
#include "engine/journal.h"
#include "engine/overlay.h"
#include "http/server.h"
#include "pg/pg.h"
#include "proxy/health.h"
#include "script/bind_benchmark.h"
#include "script/bind_cache.h"
#include "script/bind_command.h"
#include "script/bind_guests.h"
#include "script/bind_compression.h"
#include "script/bind_counts.h"
#include "script/bind_limits.h"
#include "script/bind_machine.h"
#include "script/bind_past.h"
#include "script/bind_pools.h"
#include "script/bind_stats.h"
#include "script/bind_task_stats.h"
#include "script/bind_trials.h"
#include "script/bind_upstreams.h"
#include "script/bind_watch.h"
#include "script/keep.h"
#include "script/limits.h"
#include "store/historian.h"
#include "sys/resources.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HISTORY_MS = 250, MACHINE_MS = 1000, LIMITERS_MS = 1000, FRESH_MS = 1000 };

struct control {
    struct io *io;
    struct engine *engine;
    struct board *board;
    struct board_process *process;
    struct lane *lane; /* its own, so that the API's requests are not counted as traffic */
    struct server *server;
    struct upstreams *upstreams;
    struct pg *pg;
    struct cache_desk *cache; /* NULL: none */
    struct script *script;
    struct reload *reload;
    struct resources resources;
    struct watch *watch;
    struct historian *historian;
    struct remotes *remotes;
    struct arms *arms;
    struct keep *keep;
    struct door *door; /* NULL: applications cannot attach */
    struct limiter_memory limiter_memory[LIMITER_CLASSES];
    uint64_t history_ms, machine_ms, noted_ms, limiters_ms;
    uint64_t refused; /* generation whose control routes could not be loaded */
    struct config_token tokens[CONFIG_TOKENS_MAX + 1]; /* of the generation in force; admin_token is the last */
    size_t token_count;
    uv_signal_t terminate;
    bool stopped;
};

static void on_request(struct exchange *ex)
{
    struct control *c = server_user(ex->server);
    script_request(c->script, ex);
}

static const struct server_app app = {on_request};

/* ---- what the control API's Lua can call ---- */

static struct control *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static void push_time(lua_State *L, uint64_t unix_ms)
{
    lua_pushnumber(L, (double)unix_ms);
}

static void push_record(lua_State *L, const struct reload_record *record)
{
    lua_createtable(L, 0, 6);
    lua_pushnumber(L, (double)record->generation);
    lua_setfield(L, -2, "generation");
    lua_pushstring(L, record->result);
    lua_setfield(L, -2, "result");
    lua_pushstring(L, record->cause);
    lua_setfield(L, -2, "cause");
    push_time(L, record->at_unix_ms);
    lua_setfield(L, -2, "at_unix_ms");
    lua_createtable(L, (int)record->problems.count, 0);
    luaL_getmetatable(L, "perilune.json.array");
    lua_setmetatable(L, -2);
    for (size_t i = 0; i < record->problems.count; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, record->problems.list[i].file);
        lua_setfield(L, -2, "file");
        lua_pushinteger(L, record->problems.list[i].line);
        lua_setfield(L, -2, "line");
        lua_pushstring(L, record->problems.list[i].text);
        lua_setfield(L, -2, "message");
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "problems");
}

/* reload(): ticket of the attempt. */
static int lua_reload(lua_State *L)
{
    lua_pushnumber(L, (double)reload_ask(self(L)->reload, "api"));
    return 1;
}

/* reload_result(ticket): its record, or nil while it runs. */
static int lua_reload_result(lua_State *L)
{
    const struct reload_record *record = reload_result(self(L)->reload, (uint64_t)luaL_checknumber(L, 1));
    if (!record)
        return 0;
    push_record(L, record);
    return 1;
}

/* records(): what happened lately, newest first. */
static int lua_records(lua_State *L)
{
    const struct reload_record *record;
    lua_newtable(L);
    luaL_getmetatable(L, "perilune.json.array");
    lua_setmetatable(L, -2);
    for (unsigned i = 0; (record = reload_record_at(self(L)->reload, i)); i++) {
        push_record(L, record);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* kept(): numbers of the generations that can be restored. */
static int lua_kept(lua_State *L)
{
    struct control *c = self(L);
    uint64_t newest = atomic_load(&c->board->generation.newest);
    int n = 0;
    lua_newtable(L);
    luaL_getmetatable(L, "perilune.json.array");
    lua_setmetatable(L, -2);
    for (uint64_t g = newest; g > 0 && g + 256 > newest; g--)
        if (reload_is_kept(c->reload, g)) {
            lua_pushnumber(L, (double)g);
            lua_rawseti(L, -2, ++n);
        }
    return 1;
}

/* restore(number): whether it is kept and now in force. */
static int lua_restore(lua_State *L)
{
    lua_pushboolean(L, reload_restore(self(L)->reload, (uint64_t)luaL_checknumber(L, 1), "restored", "api") == 0);
    return 1;
}

/* workers(): how many there are, are ready, are alive, serve the active generation. */
static int lua_workers(lua_State *L)
{
    struct control *c = self(L);
    uint64_t active = atomic_load(&c->board->generation.active);
    int ready = 0, alive = 0, current = 0;
    for (uint32_t i = 0; i < c->board->workers; i++) {
        struct board_process *p = board_worker(c->board, i);
        ready += atomic_load(&p->ready) != 0;
        alive += atomic_load(&p->heartbeat_ns) / 1000000 + FRESH_MS > c->io->now_ms;
        current += atomic_load(&p->generation) == active;
    }
    lua_pushinteger(L, (int)c->board->workers);
    lua_pushinteger(L, ready);
    lua_pushinteger(L, alive);
    lua_pushinteger(L, current);
    return 4;
}

static int lua_draining(lua_State *L)
{
    lua_pushboolean(L, atomic_load(&self(L)->board->draining) != 0);
    return 1;
}

/* quarantined(): "METHOD route" of those that are answered 503 because they took workers down. */
static int lua_quarantined(lua_State *L)
{
    struct board *board = self(L)->board;
    int n = 0;
    lua_newtable(L);
    for (int i = 0; i < BOARD_QUARANTINE; i++) {
        struct board_quarantine *q = &board->quarantine[i];
        uint32_t route = atomic_load(&q->route);
        if (!route || atomic_load(&q->kills) < 2 || atomic_load(&q->generation) != atomic_load(&board->generation.active))
            continue;
        lua_pushfstring(L, "%s %s", board->routes[route - 1].method, board->routes[route - 1].name);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* token(text): name and role of the token that was given; nil when it is none. Without any token configured everybody
 * is "loopback" and may everything. */
static int lua_token(lua_State *L)
{
    struct control *c = self(L);
    struct str given = {NULL, 0};
    if (c->token_count == 0) {
        lua_pushliteral(L, "loopback");
        lua_pushstring(L, config_role_name(TOKEN_ADMIN));
        return 2;
    }
    given.p = luaL_optlstring(L, 1, "", &given.len);
    struct config_tokens_view view = {c->tokens, c->token_count};
    int found = config_token_find(&view, given);
    if (found < 0)
        return 0;
    lua_pushstring(L, c->tokens[found].name);
    lua_pushstring(L, config_role_name(c->tokens[found].role));
    return 2;
}

/* digest(text): SHA-256, in hexadecimal. */
static int lua_digest(lua_State *L)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[TOKEN_DIGEST];
    char out[2 * TOKEN_DIGEST];
    struct str text;
    text.p = luaL_checklstring(L, 1, &text.len);
    config_token_digest(text, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    lua_pushlstring(L, out, sizeof out);
    return 1;
}

static void bind_control(lua_State *L, void *user)
{
    static const luaL_Reg functions[] = {
        {"reload", lua_reload},     {"reload_result", lua_reload_result},
        {"records", lua_records},   {"kept", lua_kept},
        {"restore", lua_restore},   {"workers", lua_workers},
        {"draining", lua_draining}, {"token", lua_token},
        {"digest", lua_digest},
        {"quarantined", lua_quarantined},
        {0}};
    struct control *c = user;
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, c);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_pushstring(L, c->engine->admin_address);
    lua_setfield(L, -2, "address");
    lua_pushstring(L, c->engine->listen_address);
    lua_setfield(L, -2, "data_address");
    lua_pushstring(L, c->engine->state);
    lua_setfield(L, -2, "state");
    lua_setfield(L, -2, "control");
    bind_stats_open(L, c->board, c->engine->history, &c->resources);
    lua_setfield(L, -2, "stats");
    bind_upstreams_open(L);
    bind_pools_open(L);
    bind_task_stats_open(L);
    bind_machine_open(L, c->board, &c->resources);
    bind_compression_open(L, c->board);
    bind_cache_open(L, c->cache);
    bind_limits_open(L, c->board);
    bind_watch_open(L, c->watch, c->board, c->engine->history, c->arms);
    bind_past_open(L, c->historian, c->board, c->engine->history, c->watch);
    bind_trials_open(L, c->board, c->arms);
    bind_benchmark_open(L, c->board);
    keep_open(L, c->keep);
    overlay_open(L, c->engine);
    journal_open(L, c->engine);
    files_open(L, c->engine);
    bind_counts_open(L, c->board, c->engine->history);
    bind_command_open(L);
    bind_guests_open(L, c->remotes);
    assets_open(L);
}

/* ---- generations ---- */

static void load_problems(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        log_line(LOG_ERROR, "%s:%d: %s", problems->list[i].file, problems->list[i].line, problems->list[i].text);
}

/* A token that is added or taken away needs no restart. */
static void take_tokens(struct control *c, const struct config *config)
{
    const char *own = config->key[CONFIG_ADMIN_TOKEN].text;
    memcpy(c->tokens, config->tokens, sizeof config->tokens);
    c->token_count = config->token_count;
    if (!*own)
        return;
    struct config_token *to = &c->tokens[c->token_count++];
    *to = (struct config_token){.name = "admin_token", .role = TOKEN_ADMIN};
    config_token_digest(str_from(own), to->digest);
}

static bool switch_generation(struct control *c)
{
    uint64_t number = atomic_load_explicit(&c->board->generation.active, memory_order_acquire);
    if ((c->script && script_generation(c->script) == number) || number == c->refused)
        return true;
    struct problems problems = {0};
    char file[4096];
    generation_file(c->engine, number, file, sizeof file);
    struct bundle *bundle = bundle_load(file, &problems);
    struct generation_opts opts = {
        .options = c->engine->options, .board = c->board, .io = c->io,          .process = c->process,
        .lane = c->lane,               .upstreams = c->upstreams, .number = number, .control = true,
        .pg = c->pg,
        .bind = bind_control,          .bind_user = c,
    };
    struct config config = {0};
    struct script *script = bundle ? generation_load(&opts, bundle, &config, &problems) : NULL;
    if (script) {
        take_tokens(c, &config);
        if (c->script)
            script_retire(c->script);
        c->script = script;
        atomic_store(&c->process->generation, number);
    } else {
        log_line(LOG_ERROR, "the control API of generation %llu cannot be loaded", (unsigned long long)number);
        load_problems(&problems);
        c->refused = number;
    }
    if (bundle)
        config_done(&config);
    bundle_free(bundle);
    problems_done(&problems);
    return c->script != NULL;
}

/* ---- the loop ---- */

static void on_terminate(uv_signal_t *signal, int number)
{
    struct control *c = signal->data;
    (void)number;
    c->stopped = true;
    uv_stop(&c->io->loop);
}

static void rotate_tickets(struct control *c)
{
    struct tls_tickets *tickets = &c->engine->board->tickets;
    uint64_t period_ms = setting_integer(&c->engine->board->settings, SETTING_TLS_TICKET_S) * 1000;
    if (c->io->unix_ms > atomic_load(&tickets->rotated_ms) + period_ms)
        tls_tickets_rotate(tickets, c->io->unix_ms);
}

static void on_tick(struct io *io)
{
    struct control *c = io->user;
    atomic_store_explicit(&c->process->heartbeat_ns, io->now_ns, memory_order_relaxed);
    if (io->now_ms >= c->machine_ms + MACHINE_MS) {
        c->machine_ms = io->now_ms;
        resources_sample(&c->resources, io->now_ns);
        bool known = resource_known(&c->resources, RESOURCE_CPU_SHARE);
        atomic_store_explicit(&c->board->cpu_share, known ? c->resources.value[RESOURCE_CPU_SHARE] : 0,
                              memory_order_relaxed);
    }
    if (io->now_ms >= c->noted_ms + 1000 * setting_integer(&c->board->settings, SETTING_RESOURCE_INTERVAL_S)) {
        c->noted_ms = io->now_ms;
        const double *value = c->resources.value;
        history_note_machine(c->engine->history, (float)value[RESOURCE_CPU_SHARE], (float)value[RESOURCE_MEMORY_SHARE],
                             (float)value[RESOURCE_DISK_SHARE], (float)value[RESOURCE_LOAD_1]);
    }
    if (io->now_ms >= c->history_ms + HISTORY_MS) {
        c->history_ms = io->now_ms;
        history_tick(c->engine->history, io->unix_ms);
        arms_tick(c->arms, io->unix_ms);
        watch_tick(c->watch, io->unix_ms);
        historian_tick(c->historian, io->unix_ms);
    }
    reload_tick(c->reload);
    rotate_tickets(c);
    if (io->now_ms >= c->limiters_ms + LIMITERS_MS) {
        c->limiters_ms = io->now_ms;
        limiters_tick(&c->board->limiters, c->limiter_memory, c->board->workers);
        door_tick(c->door);
        remotes_tick(c->remotes, io_now(c->io));
        pools_tick(&c->board->pools);
    }
    switch_generation(c);
    if (c->script)
        script_tick(c->script);
    upstreams_tick(c->upstreams);
    pg_tick(c->pg);
    struct upstream *u;
    for (size_t i = 0; c->script && (u = script_upstream(c->script, i)); i++)
        health_watch(u);
    if (getppid() != c->engine->supervisor_pid) {
        c->stopped = true;
        uv_stop(&io->loop);
    }
}

static struct historian *start_historian(struct engine *engine)
{
    char path[sizeof engine->state + 16];
    snprintf(path, sizeof path, "%s/history.db", engine->state);
    struct historian_opts opts = {.path = path, .board = engine->board, .history = engine->history};
    return historian_new(&opts);
}

/* What there is of the current second is written as well. */
static void stop_historian(struct control *c)
{
    uint64_t now_ms = clock_unix_ms();
    history_end(c->engine->history, now_ms);
    historian_stop(c->historian, now_ms);
}

int control_run(struct engine *engine)
{
    struct control *c = calloc(1, sizeof *c);
    struct io *io = calloc(1, sizeof *io);
    child_begin(engine, "control");
    if (!c || !io || io_init(io) < 0 || limits_start() < 0)
        return 1; /* NOLINT(clang-analyzer-unix.Malloc): the process ends */
    engine_close_listeners(engine);
    c->io = io;
    c->engine = engine;
    c->board = engine->board;
    c->process = &engine->board->processes[ROLE_CONTROL];
    c->lane = calloc(1, engine->board->lane_bytes);
    c->upstreams = upstreams_new(io, engine->board, -1, engine->config.key[CONFIG_RESOLVER].text);
    c->pg = pg_new(io, engine->board, POOL_CONTROL);
    c->cache = cache_desk_new(c->board, engine->cache);
    c->reload = reload_new(engine, io);
    resources_init(&c->resources, "", engine->state);
    c->watch = watch_new(c->board, engine->history, &c->resources);
    c->keep = keep_new();
    c->historian = start_historian(engine);
    c->remotes = remotes_new(c->board);
    c->arms = arms_new(c->board);
    struct server_opts opts = {.io = io, .board = c->board, .lane = c->lane, .app = &app,
                               .listen_fd = engine->admin_fd, .worker = -1, .user = c};
    if (!c->lane || !c->upstreams || !c->pg || !c->reload || !c->watch || !c->keep || !c->historian || !c->remotes || !c->arms || !switch_generation(c) || server_new(&c->server, &opts) < 0) {
        log_line(LOG_ERROR, "cannot start");
        return 1;
    }
    c->door = door_open(io, engine);
    uv_signal_init(&io->loop, &c->terminate);
    c->terminate.data = c;
    uv_signal_start(&c->terminate, on_terminate, SIGTERM);
    io->user = c;
    io->on_tick = on_tick;
    atomic_store(&c->board->benchmark.active, 0); /* of a control that died meanwhile */
    atomic_store(&c->process->heartbeat_ns, io_now(io));
    atomic_store(&c->process->ready, 1);
    while (!c->stopped)
        uv_run(&io->loop, UV_RUN_DEFAULT);
    io->on_tick = NULL;
    atomic_store(&c->process->ready, 0);
    door_close(c->door);
    server_free(c->server);
    health_stop(c->upstreams);
    script_end(c->script);
    upstreams_free(c->upstreams);
    pg_stop(c->pg, 0);
    cache_desk_free(c->cache);
    limits_stop();
    io_done(io);
    stop_historian(c);
    pg_free(c->pg);
    reload_free(c->reload);
    watch_free(c->watch);
    keep_free(c->keep);
    remotes_free(c->remotes);
    arms_free(c->arms);
    free(c->lane);
    free(io);
    free(c);
    return 0;
}
