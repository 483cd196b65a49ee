// SPDX-License-Identifier: MIT
#include "script/bind_past.h"

#include "script/push.h"
#include "script/series_columns.h"
#include "script/state.h"
#include "store/chunk.h"
#include "store/past.h"

#include <stdio.h>
#include <stdlib.h>

struct binding {
    struct historian *historian;
    struct board *board;
    struct history *history;
    struct watch *watch;
};

enum { RECALL_MS = 20 * 60 * 1000, RECALL_AGE_MS = 24 * 60 * 60 * 1000 };

/* A series that waits for the file. */
struct past_op {
    uv_work_t work;
    struct fiber *fiber; /* NULL: given up */
    struct history *history;
    struct past past;
    struct series_columns columns;
    char name[sizeof((struct board_route *)0)->method + BOARD_ROUTE_NAME + 1];
    char path[];
};

static const struct binding *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* ---- series() ---- */

static void on_work(uv_work_t *work)
{
    past_read(&((struct past_op *)work)->past);
}

static bool is_known(const struct past_op *op)
{
    return op->past.thing != PAST_GONE || op->past.result == 0;
}

static int push_past(lua_State *L, void *user)
{
    struct past_op *op = user;
    if (!is_known(op))
        return 0;
    if (!past_finish(&op->past, op->history))
        return luaL_error(L, "out of memory");
    series_columns_push(L, &op->columns);
    return 1;
}

static void op_free(struct past_op *op)
{
    series_columns_done(&op->columns);
    free(op);
}

static void on_read(uv_work_t *work, int status)
{
    (void)status;
    struct past_op *op = (struct past_op *)work;
    if (op->fiber) {
        io_now(op->fiber->script->io);
        fiber_resume(op->fiber, push_past, op);
    }
    op_free(op);
}

static void cancel(struct fiber *f)
{
    struct past_op *op = f->wait.op;
    op->fiber = NULL;
    uv_cancel((uv_req_t *)&op->work); /* where that is too late, its end frees it all the same */
}

static struct past_op *op_new(const struct binding *b, const struct archive_query *query)
{
    const char *path = historian_path(b->historian);
    struct past_op *op = calloc(1, sizeof *op + strlen(path) + 1);
    if (!op)
        return NULL;
    strcpy(op->path, path);
    op->history = b->history;
    op->past.query = *query;
    op->past.query.path = op->path;
    op->past.on_step = series_columns_add;
    op->past.arg = &op->columns;
    return op;
}

static bool is_named(const struct board_route *r, const char *name)
{
    size_t len = strlen(r->method);
    return strcmp(r->name, name) == 0 ||
           (strncmp(r->method, name, len) == 0 && name[len] == ' ' && strcmp(r->name, name + len + 1) == 0);
}

static int find_route(struct board *board, const char *name)
{
    uint32_t n = atomic_load_explicit(&board->route_count, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++)
        if (is_named(&board->routes[i], name))
            return (int)i;
    return PAST_GONE;
}

/* What argument 1 names: a pool, or a route by index or name; -1: all routes. */
static int thing_of(lua_State *L, const struct binding *b, bool pool)
{
    struct board *board = b->board;
    int known = pool ? history_pool(b->history, luaL_checkstring(L, 1)) : -1;
    if (pool)
        return known < 0 ? PAST_GONE : known;
    if (lua_isnoneornil(L, 1))
        return -1;
    if (lua_type(L, 1) == LUA_TSTRING)
        return find_route(board, lua_tostring(L, 1));
    int route = (int)luaL_checkinteger(L, 1);
    luaL_argcheck(L, route >= 0 && route < (int)board->routes_max, 1, "the index of a route, or its name");
    return route;
}

/* For the file by name. */
static void name_thing(lua_State *L, struct past_op *op, const struct board *board, bool pool)
{
    struct archive_query *q = &op->past.query;
    if (pool || op->past.thing == PAST_GONE) {
        snprintf(op->name, sizeof op->name, "%s", lua_tostring(L, 1));
        q->name = op->name;
        q->method = pool ? ARCHIVE_POOL : NULL;
    } else if (op->past.thing >= 0) {
        q->method = board->routes[op->past.thing].method;
        q->name = board->routes[op->past.thing].name;
    }
}

static bool can_wait(lua_State *L)
{
    struct script *s = state_of(L);
    return s->running && s->running->co == L;
}

static bool wants_file(lua_State *L, const struct binding *b, struct archive_query *query, int thing)
{
    struct historian_state state;
    historian_state(b->historian, &state);
    bool memory = past_is_memory(query, b->history);
    if (!can_wait(L))
        return false;
    bool newer = !state.open || state.written_ms > query->from_ms; /* or not known yet */
    return thing == PAST_GONE || (!memory && newer);
}

static int from_memory(lua_State *L, int thing)
{
    if (thing == PAST_GONE)
        return 0;
    lua_settop(L, 5);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    if (thing >= 0) {
        lua_pushinteger(L, thing);
        lua_replace(L, 2);
    }
    lua_call(L, 5, 1);
    return 1;
}

/* series(route, from_ms, to_ms, step_s, slow_ms); with a third upvalue that is true pool_series(name, from_ms, to_ms, step_s). */
static int watch_series(lua_State *L)
{
    const struct binding *b = self(L);
    bool pool = lua_toboolean(L, lua_upvalueindex(3));
    double from = luaL_checknumber(L, 2), to = luaL_checknumber(L, 3), step = luaL_checknumber(L, 4);
    double slow_ms = luaL_optnumber(L, 5, 0);
    luaL_argcheck(L, from >= 0 && to >= from && to < 1e15, 2, "times in ms since 1970, the earlier first");
    luaL_argcheck(L, step >= 1 && step <= 86400, 4, "a step of 1 to 86400 s");
    int thing = thing_of(L, b, pool);
    struct archive_query query = {.from_ms = (uint64_t)from, .to_ms = (uint64_t)to, .step_s = (uint32_t)step};
    if (!wants_file(L, b, &query, thing))
        return from_memory(L, thing);
    struct past_op *op = op_new(b, &query);
    if (!op)
        return luaL_error(L, "out of memory");
    op->past.thing = thing;
    op->columns.slow_s = slow_ms / 1000;
    op->columns.pool = pool;
    name_thing(L, op, b->board, pool);
    op->fiber = fiber_running(L);
    if (uv_queue_work(&op->fiber->script->io->loop, &op->work, on_work, on_read) < 0) {
        op_free(op);
        return from_memory(L, thing);
    }
    return fiber_wait(L, op->fiber, cancel, op);
}

/* ---- store.recall() ---- */

struct recall_op {
    uv_work_t work;
    struct fiber *fiber; /* NULL: given up */
    struct binding binding;
    uint32_t route;
    struct archive_query query;
    struct watch_samples samples;
};

static void on_recalled_frame(void *arg, const struct archive_frame *frame)
{
    struct recall_op *op = arg;
    watch_samples_add(&op->samples, &op->binding.board->settings, frame->counts, (double)frame->covered_ms / 1000);
}

static void recall_work(uv_work_t *work)
{
    struct recall_op *op = (struct recall_op *)work;
    archive_read(&op->query, on_recalled_frame, op); /* what cannot be read is learnt as time goes by */
}

static int push_recalled(lua_State *L, void *user)
{
    struct recall_op *op = user;
    lua_pushinteger(L, (int)watch_recall(op->binding.watch, op->route, &op->samples));
    return 1;
}

static void recall_over(uv_work_t *work, int status)
{
    struct recall_op *op = (struct recall_op *)work;
    (void)status;
    if (op->fiber) {
        io_now(op->fiber->script->io);
        fiber_resume(op->fiber, push_recalled, op);
    }
    free(op);
}

static void cancel_recall(struct fiber *f)
{
    struct recall_op *op = f->wait.op;
    op->fiber = NULL;
    uv_cancel((uv_req_t *)&op->work);
}

static int store_recall(lua_State *L)
{
    const struct binding *b = self(L);
    struct fiber *f = fiber_running(L);
    int route = (int)luaL_checkinteger(L, 1);
    struct historian_state state;
    luaL_argcheck(L, route >= 0 && route < (int)b->board->routes_max, 1, "the index of a route");
    historian_state(b->historian, &state);
    bool fresh = state.open && state.written_ms > RECALL_MS && state.written_ms + RECALL_AGE_MS > f->script->io->unix_ms;
    struct recall_op *op = fresh ? calloc(1, sizeof *op) : NULL;
    if (!op) {
        lua_pushinteger(L, 0);
        return 1;
    }
    op->fiber = f;
    op->binding = *b; /* the state may end before the work does */
    op->route = (uint32_t)route;
    op->query = (struct archive_query){
        .path = historian_path(b->historian), .method = b->board->routes[route].method, .name = b->board->routes[route].name,
        .from_ms = state.written_ms - RECALL_MS, .to_ms = state.written_ms, .until_ms = state.written_ms, .step_s = 1};
    if (uv_queue_work(&f->script->io->loop, &op->work, recall_work, recall_over) < 0) {
        free(op);
        return luaL_error(L, "out of memory");
    }
    return fiber_wait(L, f, cancel_recall, op);
}

/* ---- store.state() ---- */

static int store_state(lua_State *L)
{
    struct historian_state s;
    uint64_t budget = setting_integer(&self(L)->board->settings, SETTING_HISTORY_STORE_BYTES);
    historian_state(self(L)->historian, &s);
    lua_createtable(L, 0, 11);
    lua_pushboolean(L, budget != 0);
    lua_setfield(L, -2, "enabled");
    lua_pushboolean(L, s.open);
    lua_setfield(L, -2, "open");
    if (s.troubled)
        set_text(L, "trouble", s.why);
    set_number(L, "file_bytes", (double)s.file_bytes);
    set_number(L, "budget_bytes", (double)budget);
    set_number(L, "written_ms", (double)s.written_ms);
    set_number(L, "waiting_bytes", (double)s.waiting_bytes);
    set_number(L, "writes", (double)s.writes);
    set_number(L, "failures", (double)s.failures);
    set_number(L, "lost_s", (double)s.lost_s);
    new_list(L);
    for (int i = 0; i < ARCHIVE_TIERS; i++) {
        lua_createtable(L, 0, 2);
        set_number(L, "period_s", chunk_tiers[i].period_s);
        set_number(L, "bytes", (double)s.tier_bytes[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "tiers");
    return 1;
}

void bind_past_open(lua_State *L, struct historian *historian, struct board *board, struct history *history,
                    struct watch *watch)
{
    struct binding *b = lua_newuserdata(L, sizeof *b);
    *b = (struct binding){historian, board, history, watch};
    int binding = lua_gettop(L);
    lua_getfield(L, binding - 1, "watch");
    lua_getfield(L, -1, "series");
    for (int pool = 0; pool < 2; pool++) {
        lua_pushvalue(L, binding);
        lua_pushvalue(L, binding + 2);
        lua_pushboolean(L, pool);
        lua_pushcclosure(L, watch_series, 3);
        lua_setfield(L, binding + 1, pool ? "pool_series" : "series");
    }
    lua_settop(L, binding + 1);
    lua_newtable(L);
    lua_pushvalue(L, binding);
    lua_pushcclosure(L, store_state, 1);
    lua_setfield(L, -2, "state");
    lua_pushvalue(L, binding);
    lua_pushcclosure(L, store_recall, 1);
    lua_setfield(L, -2, "recall");
    lua_setfield(L, binding - 1, "store");
    lua_settop(L, binding - 1);
}
