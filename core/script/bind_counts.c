// SPDX-License-Identifier: MIT
#include "script/bind_counts.h"

#include "script/push.h"
#include "stats/report.h"
#include "watch/watch.h"

#include <math.h>

enum { BOUNDS_MOST = 64 };

static const char VIEW[] = "perilune.counts_view";

struct counting {
    struct board *board;
    struct history *history;
};

static const struct counting *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* In a userdata, so that an error on the way frees it. */
static struct stats_view *new_view(lua_State *L)
{
    struct stats_view *view = lua_newuserdata(L, sizeof *view);
    *view = (struct stats_view){0};
    luaL_getmetatable(L, VIEW);
    lua_setmetatable(L, -2);
    return view;
}

static int view_gc(lua_State *L)
{
    struct stats_view *view = lua_touserdata(L, 1);
    stats_view_free(view);
    *view = (struct stats_view){0};
    return 0;
}

static void set_name(lua_State *L, const struct board *board, const struct stats_route *r)
{
    const struct board_route *route =
        &board->routes[r->route < board->routes_max ? r->route : ROUTE_OTHER];
    set_text(L, "method", route->method);
    set_text(L, "route", route->name);
    lua_pushfstring(L, "%s %s", route->method, route->name);
    lua_setfield(L, -2, "name");
    set_number(L, "index", r->route);
    set_number(L, "requests", (double)r->requests);
}

static double quantile_ms(const struct stats_route *r, double q)
{
    return sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, q) / 1e6;
}

/* The signals of a route in the order of the registry. */
static void push_signals(lua_State *L, const struct stats_route *r, double span_s)
{
    double n = (double)r->requests;
    const double values[ROUTE_PHASES] = {
        [ROUTE_RPS] = span_s > 0 ? n / span_s : 0,
        [ROUTE_MEAN_MS] = (double)r->latency_sum_ns / n / 1e6,
        [ROUTE_P50_MS] = quantile_ms(r, .50),
        [ROUTE_P95_MS] = quantile_ms(r, .95),
        [ROUTE_P99_MS] = quantile_ms(r, .99),
        [ROUTE_ERROR_RATE] = (double)r->status[5] / n,
        [ROUTE_REFUSED_RATE] = (double)r->status[4] / n,
        [ROUTE_ABORTED_RATE] = (double)r->status[0] / n,
        [ROUTE_BYTES_OUT] = (double)r->bytes_out / n,
    };
    for (unsigned i = 0; i < ROUTE_PHASES; i++)
        set_number(L, watch_signal(WATCH_ROUTE, i).name, values[i]);
    for (int i = 0; i < PHASE_COUNT; i++)
        set_number(L, phase_name((enum phase)i), (double)r->phase_sum_ns[i] / n / 1e6);
}

static int counts_window(lua_State *L)
{
    double span_s = luaL_checknumber(L, 1);
    luaL_argcheck(L, span_s > 0 && span_s <= 86400, 1, "a span in seconds, up to a day");
    struct stats_view *view = new_view(L);
    if (!history_merge(self(L)->history, span_s, view))
        return luaL_error(L, "out of memory");
    lua_createtable(L, 0, 2);
    set_number(L, "span_s", view->span_s);
    new_list(L);
    int n = 0;
    for (uint32_t i = 0; i < view->route_count; i++) {
        if (!view->routes[i].requests)
            continue;
        lua_createtable(L, 0, 32);
        set_name(L, self(L)->board, &view->routes[i]);
        push_signals(L, &view->routes[i], view->span_s);
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, -2, "routes");
    stats_view_free(view); /* before the collector comes around to it */
    *view = (struct stats_view){0};
    return 1;
}

static unsigned take_bounds(lua_State *L, int index, double out[BOUNDS_MOST])
{
    luaL_checktype(L, index, LUA_TTABLE);
    unsigned n = (unsigned)lua_objlen(L, index);
    luaL_argcheck(L, n <= BOUNDS_MOST, index, "at most 64 bounds");
    for (unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        out[i] = lua_tonumber(L, -1) / 1000;
        lua_pop(L, 1);
    }
    return n;
}

static void set_slow(lua_State *L, const struct stats_route *r, const double *bounds_s,
                     unsigned bounds)
{
    lua_createtable(L, (int)bounds, 0);
    for (unsigned i = 0; i < bounds; i++) {
        uint64_t within;
        uint64_t all = stats_cumulative(r->latency, &bounds_s[i], 1, &within);
        lua_pushnumber(L, (double)(all - within));
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "slow");
}

static int counts_after(lua_State *L)
{
    double bounds_s[BOUNDS_MOST], after = luaL_checknumber(L, 1);
    luaL_argcheck(L, after >= 0 && after < 1e15, 1, "ms since 1970");
    unsigned bounds = take_bounds(L, 2, bounds_s);
    struct stats_view *view = new_view(L);
    if (!history_after(self(L)->history, (uint64_t)after, view))
        return luaL_error(L, "out of memory");
    lua_createtable(L, 0, 2);
    set_number(L, "to_ms", view->to_ms ? (double)view->to_ms : after);
    new_list(L);
    for (uint32_t i = 0; i < view->route_count; i++) {
        lua_createtable(L, 0, 8);
        set_name(L, self(L)->board, &view->routes[i]);
        set_number(L, "errors", (double)view->routes[i].status[5]);
        set_slow(L, &view->routes[i], bounds_s, bounds);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "routes");
    stats_view_free(view);
    *view = (struct stats_view){0};
    return 1;
}

void bind_counts_open(lua_State *L, struct board *board, struct history *history)
{
    static const luaL_Reg functions[] = {{"window", counts_window}, {"after", counts_after}, {0}};
    if (luaL_newmetatable(L, VIEW)) {
        lua_pushcfunction(L, view_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    lua_newtable(L);
    struct counting *self_ = lua_newuserdata(L, sizeof *self_);
    *self_ = (struct counting){board, history};
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    lua_setfield(L, -2, "counts");
}
