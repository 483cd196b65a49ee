// SPDX-License-Identifier: MIT
#include "script/bind_pools.h"

#include "board/board.h"
#include "script/json_text.h"
#include "script/push.h"
#include "script/state.h"

#include <stdio.h>

static const uint32_t SLOT_READY = 2; /* as in pools.c */

struct totals {
    uint32_t held, idle, waiting;
    uint64_t opened, refused, lost, statements, rows, errors, timeouts, cancels, repeats, rejected, wait_sum_ns, use_sum_ns;
    uint32_t wait[SKETCH_COARSE_BUCKETS], use[SKETCH_COARSE_BUCKETS];
};

static void add_lane(struct totals *t, struct pool_lane *lane)
{
    t->held += atomic_load(&lane->held);
    t->idle += atomic_load(&lane->idle);
    t->waiting += atomic_load(&lane->waiting);
    t->opened += lane_get(&lane->opened);
    t->refused += lane_get(&lane->refused);
    t->lost += lane_get(&lane->lost);
    t->statements += lane_get(&lane->statements);
    t->rows += lane_get(&lane->rows);
    t->errors += lane_get(&lane->errors);
    t->timeouts += lane_get(&lane->timeouts);
    t->cancels += lane_get(&lane->cancels);
    t->repeats += lane_get(&lane->repeats);
    t->rejected += lane_get(&lane->rejected);
    t->wait_sum_ns += lane_get(&lane->wait_sum_ns);
    t->use_sum_ns += lane_get(&lane->use_sum_ns);
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++) {
        t->wait[i] += atomic_load_explicit(&lane->wait.bucket[i], memory_order_relaxed);
        t->use[i] += atomic_load_explicit(&lane->use.bucket[i], memory_order_relaxed);
    }
}

static void set_times(lua_State *L, const char *name, const uint32_t *counts, uint64_t sum_ns)
{
    uint64_t n = 0;
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        n += counts[i];
    lua_createtable(L, 0, 5);
    set_number(L, "count", (double)n);
    set_number(L, "mean", n ? (double)sum_ns / 1e6 / (double)n : 0);
    set_number(L, "p50", sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.5) / 1e6);
    set_number(L, "p95", sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.95) / 1e6);
    set_number(L, "p99", sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.99) / 1e6);
    lua_setfield(L, -2, name);
}

static void push_pool(lua_State *L, struct board_pool *p)
{
    static const char *const healths[] = {"unknown", "up", "unreachable"};
    struct totals t = {0};
    char reason[POOL_REASON];
    for (int i = 0; i < POOL_WORKERS; i++)
        add_lane(&t, &p->lanes[i]);
    pool_reason(p, reason);
    lua_createtable(L, 0, 24);
    set_text(L, "id", p->name);
    bool redis = atomic_load_explicit(&p->kind, memory_order_relaxed) == POOL_REDIS;
    set_text(L, "pool_type", redis ? "redis" : "database");
    set_text(L, "system", redis ? "redis" : "postgresql");
    set_text(L, "health", healths[atomic_load(&p->health)]);
    set_text(L, "reason", reason);
    set_text(L, "server", p->where);
    set_number(L, "wait_timeout_ms", (double)atomic_load(&p->wait_ms));
    set_number(L, "statement_timeout_ms", (double)atomic_load(&p->statement_ms));
    set_number(L, "connect_timeout_ms", (double)atomic_load(&p->connect_ms));
    set_number(L, "idle_timeout_ms", (double)atomic_load(&p->idle_ms));
    set_number(L, "max_lifetime_ms", (double)atomic_load(&p->lifetime_ms));
    set_number(L, "server_max", atomic_load_explicit(&p->server_max, memory_order_relaxed));
    lua_pushboolean(L, atomic_load(&p->deleted) != 0);
    lua_setfield(L, -2, "draining");
    set_number(L, "max", pool_max(p));
    set_number(L, "min", pool_min(p));
    set_number(L, "count", t.held);
    set_number(L, "idle", t.idle < t.held ? t.idle : t.held);
    set_number(L, "used", t.held > t.idle ? t.held - t.idle : 0);
    set_number(L, "pending_requests", t.waiting);
    set_number(L, "opened", (double)t.opened);
    set_number(L, "refused", (double)t.refused);
    set_number(L, "lost", (double)t.lost);
    set_number(L, "statements", (double)t.statements);
    set_number(L, "rows", (double)t.rows);
    set_number(L, "errors", (double)t.errors);
    set_number(L, "timeouts", (double)t.timeouts);
    set_number(L, "cancels", (double)t.cancels);
    set_number(L, "repeats", (double)t.repeats);
    set_number(L, "rejected", (double)t.rejected);
    set_times(L, "wait_time_ms", t.wait, t.wait_sum_ns);
    set_times(L, "use_time_ms", t.use, t.use_sum_ns);
}

static struct board_pool *pool_at(lua_State *L, int i)
{
    struct board_pool *p = &state_of(L)->board->pools.list[i];
    return atomic_load_explicit(&p->state, memory_order_acquire) == SLOT_READY ? p : NULL;
}

static int lua_list(lua_State *L)
{
    int n = 0;
    lua_newtable(L);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (int i = 0; i < POOLS_MAX; i++) {
        struct board_pool *p = pool_at(L, i);
        if (!p)
            continue;
        push_pool(L, p);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int refuse(lua_State *L, const char *what, const char *word)
{
    lua_pushnil(L);
    lua_pushstring(L, what);
    lua_pushstring(L, word);
    return 3;
}

static int lua_resize(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const struct setting_info *info = &setting_infos[SETTING_POOL_DB_MAX];
    for (int i = 0; i < POOLS_MAX; i++) {
        struct board_pool *p = pool_at(L, i);
        if (!p || strcmp(p->name, name) != 0)
            continue;
        double max = luaL_optnumber(L, 3, pool_stable_max(p));
        double min = luaL_optnumber(L, 2, pool_stable_min(p) < max ? pool_stable_min(p) : max);
        if (!(max >= info->min && max <= info->max && max == (uint32_t)max))
            return refuse(L, "max is a whole number from 1 to 10000", "bad_max");
        if (!(min >= 0 && min <= max && min == (uint32_t)min))
            return refuse(L, "min is a whole number from 0 to max", "bad_min");
        pool_set_bounds(p, (uint32_t)min, (uint32_t)max);
        lua_pushboolean(L, 1);
        return 1;
    }
    return refuse(L, "there is no pool of this id; see GET resources/pools", "unknown_pool");
}

/* delete(name, force): it goes when nobody uses it any more. */
static int lua_delete(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    for (int i = 0; i < POOLS_MAX; i++) {
        struct board_pool *p = pool_at(L, i);
        if (!p || strcmp(p->name, name) != 0)
            continue;
        pool_delete(p, lua_toboolean(L, 2));
        lua_pushboolean(L, 1);
        return 1;
    }
    return refuse(L, "there is no pool of this id; see GET resources/pools", "unknown_pool");
}

static void push_statement(lua_State *L, const struct board *board, struct board_statement *s)
{
    uint64_t calls = 0, rows = 0, errors = 0, sum_ns = 0, requests = 0, most = 0, route = 0;
    uint32_t time[SKETCH_COARSE_BUCKETS] = {0};
    for (int w = 0; w < STATEMENT_WORKERS; w++) {
        struct statement_lane *lane = &s->lanes[w];
        calls += lane_get(&lane->calls);
        rows += lane_get(&lane->rows);
        errors += lane_get(&lane->errors);
        sum_ns += lane_get(&lane->time_sum_ns);
        requests += lane_get(&lane->requests);
        if (lane_get(&lane->most) > most) {
            most = lane_get(&lane->most);
            route = lane_get(&lane->most_route);
        }
        for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
            time[i] += atomic_load_explicit(&lane->time.bucket[i], memory_order_relaxed);
    }
    lua_createtable(L, 0, 9);
    set_text(L, "statement", s->text);
    set_number(L, "calls", (double)calls);
    set_number(L, "rows", (double)rows);
    set_number(L, "errors", (double)errors);
    set_number(L, "requests", (double)requests);
    set_number(L, "calls_per_request", requests ? (double)calls / (double)requests : 0);
    set_number(L, "most_per_request", (double)most);
    if (most && route < board->routes_max) {
        lua_pushfstring(L, "%s %s", board->routes[route].method, board->routes[route].name);
        lua_setfield(L, -2, "most_by_route");
    }
    set_times(L, "time_ms", time, sum_ns);
}

static int lua_statements(lua_State *L)
{
    struct board *board = state_of(L)->board;
    const char *pool = luaL_checkstring(L, 1);
    int n = 0;
    lua_newtable(L);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (int i = 0; i < STATEMENTS_MAX; i++) {
        struct board_statement *s = &board->statements.list[i];
        if (atomic_load_explicit(&s->state, memory_order_acquire) != SLOT_READY || strcmp(s->pool, pool) != 0)
            continue;
        push_statement(L, board, s);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

void bind_pools_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"list", lua_list}, {"resize", lua_resize}, {"delete", lua_delete}, {"statements", lua_statements}, {0}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "pools");
}
