// SPDX-License-Identifier: MIT
#include "script/bind_pools.h"

#include "board/board.h"
#include "script/json_text.h"
#include "script/pool_stats.h"
#include "script/push.h"
#include "script/state.h"

#include <stdio.h>

static const uint32_t SLOT_READY = 2; /* as in pools.c */

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
        pool_stats_push(L, p);
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

/* resize(name, min or nil, max or nil): true; or nil, why, and the field that is wrong or "unknown_pool". A min that
 * was not asked for goes down with max. */
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
            return refuse(L, "'max_size' is a whole number from 1 to 10000", "max_size");
        if (!(min >= 0 && min <= info->max && min == (uint32_t)min))
            return refuse(L, "'min_size' is a whole number from 0 to 10000", "min_size");
        if (min > max)
            return refuse(L, lua_pushfstring(L, "'min_size' is above 'max_size', which is %d", (int)max), "min_size");
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
    pool_stats_set_times(L, "time_ms", time, sum_ns);
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
