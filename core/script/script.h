/* script.h - one generation of scripts in one process: a Lua state, the routes
 * loaded into it, and the fibers that run its handlers.
 *
 *     source files > sandboxed chunks > apps > router
 *     exchange > fiber (recycled coroutine) > handler > answer
 *
 * A generation is retired when the next takes over and ends itself when its
 * last fiber has finished, so a request ends on the scripts it began with.
 *
 * Owner:   the engine; script_new() to script_retire().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/problems.h"
#include "http/server.h"
#include "pg/pg.h"
#include "proxy/call.h"
#include "redis/redis.h"
#include "task/task.h"

#include <lua.h>

struct script;
struct fiber;
struct cache;

struct source {
    const char *path; /* "routes/api.lua", below the rules */
    const char *name; /* as the user would open it: "rules/routes/api.lua" */
    struct str text;
    bool builtin;     /* shipped with the program */
};

/* Adds functions of the engine to the table `core` of the prelude, on top of the stack. */
typedef void script_bind(lua_State *L, void *user);

struct script_opts {
    struct io *io;
    struct board *board;
    struct board_process *process; /* where heartbeat and running script are shown */
    struct lane *lane;
    struct compress *compress;     /* NULL: answers are not compressed */
    struct tasks *tasks;           /* NULL: no task can be run */
    struct upstreams *upstreams;   /* NULL: load only, nothing can be called */
    struct cache *cache;           /* NULL: the cache policy has no effect */
    uint64_t generation;
    const struct source *sources;
    size_t source_count;
    const char *routes_under;      /* "routes/" for workers, "routes/admin/" for control */
    const char *routes_except;     /* prefix to leave out, or NULL */
    const struct upstream_spec *named;
    size_t named_count;
    struct pg *pg;                 /* NULL: load only, no database can be asked */
    const struct pg_spec *databases;
    size_t database_count;
    struct redis *redis;           /* NULL: load only, no Redis can be asked */
    const struct redis_spec *redises;
    size_t redis_count;
    bool policies;                 /* load rules/policies/, too */
    const char *default_upstream;  /* takes what no route takes; NULL: 404 */
    bool in_task;                  /* a state for task threads: no routes, nothing can wait */
    script_bind *bind;
    void *bind_user;
};

/* Loads a generation. NULL when something is wrong; *problems then says all of it. */
struct script *script_new(const struct script_opts *opts, struct problems *problems);

/* Answers a request by route, upstream or 404 (server_app.on_request). */
void script_request(struct script *s, struct exchange *ex);

/* Runs what is due of app:every(); control calls it each tick. */
void script_tick(struct script *s);

/* The engine needs it no more; it frees itself after its last fiber. */
void script_retire(struct script *s);

/* The process ends: gives up what still waits, and frees. Exchanges must be gone. */
void script_end(struct script *s);

/* The i-th upstream of its configuration, NULL behind the last. */
struct upstream *script_upstream(const struct script *s, size_t i);

uint64_t script_generation(const struct script *s);
size_t script_heap_bytes(const struct script *s);

/* Garbage collections so far, and the longest pause that was timed since the call before
 * (limits.h); for once a second. */
uint64_t script_gc(struct script *s, uint64_t *pause_ns);

/* Prints the routes, for `perilune check`. */
size_t script_route_count(const struct script *s);
