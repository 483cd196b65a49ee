/* state.h - inside of core/script: a generation's state, routes and fibers. */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/router.h"
#include "script/bind_db.h"
#include "script/bind_redis.h"
#include "script/bind_tasks.h"
#include "script/limits.h"
#include "script/policy.h"
#include "script/script.h"

#include <lauxlib.h>
#include <lualib.h>

/* A named upstream of the configuration. */
struct script_upstream {
    char *name;
    struct upstream *upstream; /* NULL when loading only */
};

struct script_database {
    char *name;
    struct pg_pool *pool; /* NULL when loading only */
};

struct script_redis {
    char *name;
    struct redis_pool *pool; /* NULL when loading only */
};

struct route {
    struct route *next;
    struct script *script;
    char *method;   /* "GET" or "*" */
    char *pattern;
    char *file;     /* where it was declared */
    int line;
    int handler;    /* registry reference, or LUA_NOREF for a plain proxy route */
    const struct script_upstream *upstream; /* of a proxy route */
    char *prefix_rest; /* proxy: name of the parameter that becomes the path, or NULL */
    uint64_t timeout_ms;
    bool buffer_request; /* proxy: read the body before asking the upstream */
    uint32_t index[METHOD_TRACE + 1]; /* on the board by method, 0: not yet known */
    bool bare; /* the handler takes no arguments, so no request object is made */
    uint64_t every_ms, due_ms; /* no route, but run by itself: app:every() */
    bool busy;                 /* it runs */
    bool has_policies;
    void *policies[POLICY_KINDS];
};

struct script {
    lua_State *L;
    struct heap heap;
    struct io *io;
    struct board *board;
    struct board_process *process;
    struct lane *lane;
    struct compress *compress;
    struct upstreams *upstreams;
    struct cache *cache; /* NULL: none */
    uint64_t generation;
    const char *routes_under;
    const char *routes_except;
    struct router *router;
    struct route *routes;
    size_t route_count;
    struct script_upstream *named;
    size_t named_count;
    const struct script_upstream *default_upstream;
    struct route *fallback; /* for what no route takes: to the default upstream; or NULL */
    struct script_database *databases;
    size_t database_count;
    struct script_redis *redises;
    size_t redis_count;
    struct fiber *spare;
    unsigned spare_count;
    struct fiber *running;
    struct fiber *active; /* not parked */
    unsigned fibers;      /* how many those are */
    bool retired;
    bool in_task;    /* made on a task thread: nothing in it can wait */
    struct tasks *tasks; /* NULL: no task can be run */
    struct command_op *commands; /* programs that run for it */
    struct task_code *task_code;
    int module;      /* registry references */
    int trampoline;
    int collect;
    int sandbox;
    int policy;
    int request_type;
    uint64_t streams; /* begun so far */
    struct buf json;  /* scratch for answers */
    struct buf params; /* scratch for the parameters of statements and commands */
    struct buf shapes; /* scratch for the shapes of commands */
    struct problems *problems; /* while loading */
};

/* How a fiber waits for something; at most one wait per fiber. */
struct wait {
    /* Gives the thing up: the fiber will not be resumed by it. NULL: not waiting. */
    void (*cancel)(struct fiber *f);
    void *op;
    bool needs_client; /* pointless once the client has gone */
};

struct fiber {
    struct script *script;
    lua_State *co;
    int ref;              /* keeps co alive */
    struct fiber *next, *prev; /* spare list, or the list of those at work */
    struct exchange *ex;  /* NULL once the client has gone */
    struct route *route;
    struct router_match *match;
    struct request_box *box; /* the Lua request object, NULL when unused */
    struct wait wait;
    struct db_lease *leases; /* connections of databases that it holds */
    struct redis_hold *holds; /* connections and subscriptions of Redis, the same */
    struct db_calls calls;
    struct task_handle *tasks; /* that it has started and not given up */
    uint64_t resumed_ns;
    struct buf body;      /* request body for the script */
    bool body_whole;
    bool answered;        /* the handler is over, and what it returned has been used */
    bool body_wanted;     /* start reading it once the coroutine has yielded */
    uint64_t stream;      /* number of the streamed answer, 0: none */
};

/* ---- state.c ---- */

/* A fiber has ended; frees a retired generation after its last one. */
void script_fiber_over(struct script *s);

/* A handler answered with an upstream: the exchange goes over to the proxy. */
void script_forward(struct fiber *f, const struct script_upstream *to, struct str path);
struct script *state_of(lua_State *L);
struct fiber *fiber_running(lua_State *L); /* raises outside of a handler */

/* ---- fiber.c ---- */

/* Starts a handler for an exchange; NULL: for itself, what it returns is nobody's. */
void fiber_start(struct script *s, struct route *route, struct exchange *ex,
                 struct router_match *match);

/* Yields from a C function until fiber_resume(); returns what lua_yield does. */
int fiber_wait(lua_State *L, struct fiber *f, void (*cancel)(struct fiber *), void *op);

/* Resumes a waiting fiber; `push` puts its results on the stack, protected, and
 * returns how many. */
void fiber_resume(struct fiber *f, int (*push)(lua_State *L, void *user), void *user);
/* Adds the time since it was last resumed to its phase. */
void fiber_stop_clock(struct fiber *f);
void fiber_client_gone(struct exchange *ex);

/* Ends a waiting fiber where it stands. */
void fiber_cancel(struct fiber *f);
void fiber_open(struct script *s); /* registers begin, finish, ... in `core` on the stack */

/* ---- request.c ---- */
struct request_box {
    struct fiber *fiber; /* NULL when the request is over */
    bool has_cache;
};
void request_open(lua_State *L);
void request_push(lua_State *L, struct fiber *f);

/* Starts reading the body that a fiber has yielded for. */
void request_read_body(struct fiber *f);

/* ---- answer.c ---- */

/* Turns a handler's results (from index `first`) into the answer. Returns the
 * number of values it left for the trampoline: 0, or 2 (stream function, writer). */
int answer_from_lua(lua_State *L, struct fiber *f, int first);
void answer_open(lua_State *L);

/* ---- awaitables.c, bind_http.c: add to `core` on top of the stack ---- */
void awaitables_open(lua_State *L);
void bind_http_open(lua_State *L);

/* ---- sandbox.c ---- */

/* Adds load_text to `core` on top of the stack, and our patterns to `string`. */
void sandbox_functions(struct script *s);

/* ---- policy.c ---- */
void policies_free(struct route *route);

/* ---- loader.c ---- */
bool loader_run(struct script *s, const struct script_opts *opts, struct problems *problems);

/* Pushes what a module returned, loading it and what it requires; raises. After the
 * protected call in which this was, also a failed one, loader_push_over(). */
void loader_push_module(struct script *s, const struct script_opts *opts, const char *name);
void loader_push_over(struct script *s);
