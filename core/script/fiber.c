/* Running handlers in recycled coroutines.
 *
 * A fiber's coroutine runs a small Lua loop (lua/perilune/core/trampoline.lua):
 *
 *     while true: yield()                           -- parked until the next
 *                 handler, request = begin(fiber)   -- unless it takes no request
 *                 finish(fiber, handler(request))   -- becomes the answer
 *
 * so whatever allocates runs inside the coroutine and is protected by
 * lua_resume, and a request costs no new coroutine. A coroutine that died with
 * an error, or yields what it should not, is dropped.
 */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "base/log.h"
#include "base/measure.h"

#include <stdlib.h>

enum { SPARE_FIBERS = 256 };

/* What a coroutine yields to us when it waits; its address only. */
static const char tag_wait;

static void run(struct fiber *f, int arguments);

static struct fiber *fiber_new(struct script *s)
{
    struct fiber *f = s->spare;
    if (f) {
        s->spare = f->next;
        s->spare_count--;
        f->next = NULL;
        return f;
    }
    f = calloc(1, sizeof *f);
    if (f) {
        f->script = s;
        f->ref = LUA_NOREF;
    }
    return f;
}

struct thread_result {
    struct script *s;
    lua_State *co;
    int ref;
};

static int make_thread(lua_State *L)
{
    struct thread_result *r = lua_touserdata(L, 1);
    r->co = lua_newthread(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->s->trampoline);
    lua_xmove(L, r->co, 1);
    r->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static void drop_thread(struct fiber *f)
{
    luaL_unref(f->script->L, LUA_REGISTRYINDEX, f->ref);
    f->ref = LUA_NOREF;
    f->co = NULL;
}

/* Gives the fiber a coroutine that waits in the trampoline. */
static bool give_thread(struct fiber *f)
{
    struct thread_result r = {.s = f->script, .ref = LUA_NOREF};
    if (f->ref != LUA_NOREF)
        return true;
    if (lua_cpcall(f->script->L, make_thread, &r) != 0) {
        lua_pop(f->script->L, 1);
        return false;
    }
    f->co = r.co;
    f->ref = r.ref;
    lua_pushlightuserdata(f->co, f);
    if (lua_resume(f->co, 1) == LUA_YIELD)
        return true;
    drop_thread(f);
    return false;
}

static void unlink_active(struct fiber *f)
{
    if (f->next)
        f->next->prev = f->prev;
    if (f->prev)
        f->prev->next = f->next;
    else
        f->script->active = f->next;
    f->next = f->prev = NULL;
}

/* The fiber has nothing to do any more. */
static void park(struct fiber *f)
{
    struct script *s = f->script;
    unlink_active(f);
    redis_request_over(f);
    db_request_over(f);
    tasks_request_over(f);
    if (f->box)
        f->box->fiber = NULL;
    if (f->ex) {
        f->ex->user = NULL;
        f->ex->on_gone = NULL;
    }
    if (f->route)
        f->route->busy = false;
    f->box = NULL;
    f->ex = NULL;
    f->route = NULL;
    f->match = NULL;
    f->wait = (struct wait){0};
    f->body_whole = f->body_wanted = f->answered = false;
    f->stream = 0;
    buf_clear(&f->body);
    if (s->spare_count < SPARE_FIBERS) {
        f->next = s->spare;
        s->spare = f;
        s->spare_count++;
    } else {
        if (f->ref != LUA_NOREF)
            drop_thread(f);
        buf_done(&f->body);
        free(f);
    }
    script_fiber_over(s);
}

/* ---- errors ---- */

static int add_traceback(lua_State *L)
{
    struct fiber *f = lua_touserdata(L, 1);
    const char *message = lua_isstring(f->co, -1) ? lua_tostring(f->co, -1)
                                                  : "(the error is not a string)";
    luaL_traceback(L, f->co, message, 0);
    struct exchange *ex = f->ex;
    log_line(LOG_ERROR, "error id=%s route=\"%s %s\" declared at %s:%d: %s",
             ex ? exchange_trace(ex) : "-", f->route->method, f->route->pattern, f->route->file,
             f->route->line, lua_tostring(L, -1));
    return 0;
}

static void answer_error(struct fiber *f)
{
    struct exchange *ex = f->ex;
    f->ex = NULL;
    if (!ex)
        return;
    ex->user = NULL;
    ex->on_gone = NULL;
    if (ex->answer == ANSWER_NONE)
        exchange_problem(ex, 500, "handler_failed",
                         "the handler of this route failed; the log has the details under this id",
                         NULL, 0);
    else if (ex->answer == ANSWER_BEGUN)
        exchange_abort(ex);
}

static void failed(struct fiber *f, bool interrupted)
{
    struct script *s = f->script;
    lane_add(&s->lane->script_errors, 1);
    if (interrupted)
        lane_add(&s->lane->script_interrupts, 1);
    if (lua_cpcall(s->L, add_traceback, f) != 0) {
        log_line(LOG_ERROR, "error route=\"%s %s\" declared at %s:%d: %s", f->route->method,
                 f->route->pattern, f->route->file, f->route->line,
                 lua_isstring(f->co, -1) ? lua_tostring(f->co, -1) : "out of memory");
        lua_pop(s->L, 1);
    }
    drop_thread(f);
    answer_error(f);
    park(f);
}

/* ---- running ---- */

void fiber_stop_clock(struct fiber *f)
{
    if (MEASURE && f->ex)
        f->ex->phase_ns[PHASE_LUA] += io_now(f->script->io) - f->resumed_ns;
}

static void run(struct fiber *f, int arguments)
{
    struct script *s = f->script;
    struct board_process *process = s->process;
    f->resumed_ns = s->io->now_ns;
    s->running = f;
    atomic_store_explicit(&process->script, f->ex ? f->ex->route : 0, memory_order_relaxed);
    atomic_store_explicit(&process->running, 1, memory_order_relaxed);
    limits_enter(&s->heap, (unsigned)setting_integer(&s->board->settings, SETTING_SCRIPT_CPU_MS));
    int status = lua_resume(f->co, arguments);
    bool interrupted = limits_leave();
    atomic_store_explicit(&process->running, 0, memory_order_relaxed);
    s->running = NULL;
    if (status == LUA_YIELD && f->answered) { /* nothing of the handler runs after that */
        park(f);
        return;
    }
    if (status == LUA_YIELD && lua_touserdata(f->co, -1) == &tag_wait && f->wait.cancel) {
        lua_settop(f->co, 0);
        fiber_stop_clock(f);
        if (f->body_wanted)
            request_read_body(f);
        return;
    }
    if (status == LUA_YIELD) {
        lua_settop(f->co, 0);
        lua_pushliteral(f->co, "coroutine.yield was called by the handler itself; yield inside of "
                               "coroutines that you make, or use perilune.sleep to wait");
    }
    failed(f, interrupted);
}

int fiber_wait(lua_State *L, struct fiber *f, void (*cancel)(struct fiber *), void *op)
{
    f->wait = (struct wait){.cancel = cancel, .op = op};
    lua_settop(L, 0);
    lua_pushlightuserdata(L, (void *)&tag_wait);
    return lua_yield(L, 1);
}

struct results {
    struct fiber *f;
    int (*push)(lua_State *L, void *user);
    void *user;
    int count;
};

static int push_results(lua_State *L)
{
    struct results *r = lua_touserdata(L, 1);
    lua_settop(L, 0);
    r->count = r->push(L, r->user);
    if (!lua_checkstack(r->f->co, r->count))
        return luaL_error(L, "stack overflow");
    lua_xmove(L, r->f->co, r->count);
    return 0;
}

void fiber_resume(struct fiber *f, int (*push)(lua_State *L, void *user), void *user)
{
    struct results r = {.f = f, .push = push, .user = user};
    f->wait = (struct wait){0};
    if (push && lua_cpcall(f->script->L, push_results, &r) != 0) {
        lua_pop(f->script->L, 1);
        lua_settop(f->co, 0);
        lua_pushliteral(f->co, "out of memory: the result of a call was too large for the heap");
        failed(f, false);
        return;
    }
    run(f, r.count);
}

void fiber_start(struct script *s, struct route *route, struct exchange *ex,
                 struct router_match *match)
{
    struct fiber *f = fiber_new(s);
    if (!f || !give_thread(f)) {
        free(f);
        if (ex)
            exchange_problem(ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return;
    }
    s->fibers++;
    f->prev = NULL;
    f->next = s->active;
    if (s->active)
        s->active->prev = f; /* NOLINT(clang-analyzer-unix.Malloc): park() has taken what it freed off the list */
    s->active = f;
    f->ex = ex;
    f->route = route;
    if (ex) {
        ex->user = f;
        ex->on_gone = fiber_client_gone;
    }
    if (match && match->params) {
        f->match = arena_alloc(ex->arena, sizeof *match);
        if (f->match)
            *f->match = *match;
    }
    if (route->bare)
        lua_rawgeti(f->co, LUA_REGISTRYINDEX, route->handler);
    run(f, route->bare);
}

void script_tick(struct script *s)
{
    for (struct route *r = s->routes; r; r = r->next) {
        if (!r->every_ms || r->busy || s->io->now_ms < r->due_ms)
            continue;
        r->due_ms = s->io->now_ms + r->every_ms;
        r->busy = true;
        fiber_start(s, r, NULL, NULL);
    }
}

void fiber_cancel(struct fiber *f)
{
    if (f->wait.cancel)
        f->wait.cancel(f);
    drop_thread(f);
    park(f);
}

void fiber_client_gone(struct exchange *ex)
{
    struct fiber *f = ex->user;
    ex->user = NULL;
    ex->on_gone = NULL;
    f->ex = NULL;
    f->match = NULL;
    if (f->wait.cancel && f->wait.needs_client)
        fiber_cancel(f); /* it waits for bytes that will never come */
}

/* ---- the trampoline's functions ---- */

static int lua_begin(lua_State *L)
{
    struct fiber *f = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, f->route->handler);
    request_push(L, f);
    return 2;
}

static int lua_finish(lua_State *L)
{
    struct fiber *f = lua_touserdata(L, 1);
    int results = f->ex ? answer_from_lua(L, f, 2) : 0; /* nobody may be left to answer */
    f->answered = results == 0;
    return results;
}

/* Ends a streamed answer. */
static int lua_finish_stream(lua_State *L)
{
    struct fiber *f = lua_touserdata(L, 1);
    struct exchange *ex = f->ex;
    f->answered = true;
    if (!ex)
        return 0;
    fiber_stop_clock(f);
    f->ex = NULL;
    ex->user = NULL;
    ex->on_gone = NULL;
    exchange_end(ex);
    return 0;
}

void fiber_open(struct script *s)
{
    static const luaL_Reg functions[] = {
        {"begin", lua_begin}, {"finish", lua_finish}, {"finish_stream", lua_finish_stream}, {0}};
    luaL_register(s->L, NULL, functions);
    lua_pushlightuserdata(s->L, (void *)&tag_wait);
    lua_setfield(s->L, -2, "WAIT");
}
