// SPDX-License-Identifier: MIT
#include "script/bind_stats.h"

#include "base/clock.h"
#include "script/json_text.h"
#include "script/push.h"
#include "script/settings_rows.h"
#include "stats/readings.h"
#include "stats/report.h"
#include "sys/process_info.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

enum { SLOW_SHOWN = 20, WINDOW_DEFAULT_S = 60, WINDOW_MOST_S = 1000000000 };

static const char VIEW[] = "perilune.stats_view";

struct binding {
    struct board *board;
    struct history *history;
    const struct resources *resources;
};

static const struct binding *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* ---- small pushes: each sets a field of the table on top ------------------- */

static void set_rounded(lua_State *L, const char *name, double value, double steps)
{
    set_number(L, name, round(value * steps) / steps);
}

static void set_ms(lua_State *L, const char *name, double ns)
{
    set_rounded(L, name, ns / 1e6, 1e3);
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static void set_share(lua_State *L, const char *name, double part, double whole)
{
    set_rounded(L, name, share(part, whole), 1e6);
}

static void set_latency(lua_State *L, const struct stats_route *r, bool mean)
{
    lua_createtable(L, 0, 5);
    set_ms(L, "p50", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, 0.50));
    set_ms(L, "p95", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, 0.95));
    set_ms(L, "p99", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, 0.99));
    set_ms(L, "max", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, 1));
    if (mean)
        set_ms(L, "mean", share((double)r->latency_sum_ns, (double)r->requests));
    lua_setfield(L, -2, "latency_ms");
}

/* ---- stats() --------------------------------------------------------------- */

static void set_phases(lua_State *L, const struct stats_route *r)
{
    lua_newtable(L);
    for (int i = 0; i < PHASE_COUNT; i++) {
        if (!r->phase_count[i])
            continue;
        double sum = (double)r->phase_sum_ns[i];
        lua_createtable(L, 0, 4);
        set_ms(L, "mean", sum / (double)r->phase_count[i]);
        set_ms(L, "p95", sketch_quantile_ns(r->phases[i], SKETCH_COARSE_BUCKETS,
                                            SKETCH_COARSE_SCALE, 0.95));
        set_number(L, "count", (double)r->phase_count[i]);
        set_share(L, "share", sum, (double)r->latency_sum_ns);
        lua_setfield(L, -2, phase_name((enum phase)i));
    }
    lua_setfield(L, -2, "phases_ms");
}

static void set_status(lua_State *L, const struct stats_route *r)
{
    static const char *const names[6] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    lua_createtable(L, 0, 6);
    for (int i = 0; i < 6; i++)
        set_number(L, names[i], (double)r->status[i]);
    lua_setfield(L, -2, "status");
}

static void set_sizes(lua_State *L, const struct stats_route *r)
{
    lua_createtable(L, 0, SIZE_COUNT);
    set_number(L, "small", (double)r->sizes[SIZE_SMALL]);
    set_number(L, "medium", (double)r->sizes[SIZE_MEDIUM]);
    set_number(L, "large", (double)r->sizes[SIZE_LARGE]);
    lua_setfield(L, -2, "response_sizes");
}

static void set_route_name(lua_State *L, struct board *board, uint32_t route)
{
    const struct board_route *r = &board->routes[route < board->routes_max ? route : ROUTE_OTHER];
    set_text(L, "route", r->name);
    set_text(L, "method", r->method);
}

static void push_route(lua_State *L, struct board *board, const struct stats_view *view,
                       const struct stats_route *r)
{
    lua_createtable(L, 0, 12);
    set_route_name(L, board, r->route);
    set_number(L, "requests", (double)r->requests);
    set_rounded(L, "requests_per_second", share((double)r->requests, view->span_s), 1e3);
    set_share(L, "error_rate", (double)r->status[5], (double)r->requests);
    set_share(L, "share", (double)r->latency_sum_ns, (double)view->total.latency_sum_ns);
    set_number(L, "bytes_in", (double)r->bytes_in);
    set_number(L, "bytes_out", (double)r->bytes_out);
    set_latency(L, r, true);
    set_phases(L, r);
    set_status(L, r);
    set_sizes(L, r);
}

static int by_time(const void *a, const void *b)
{
    const struct stats_route *x = a, *y = b;
    if (x->latency_sum_ns != y->latency_sum_ns)
        return x->latency_sum_ns < y->latency_sum_ns ? 1 : -1;
    return x->route < y->route ? -1 : x->route > y->route;
}

static void set_routes(lua_State *L, struct board *board, struct stats_view *view)
{
    if (view->route_count)
        qsort(view->routes, view->route_count, sizeof *view->routes, by_time);
    new_sized_list(L, view->route_count);
    for (uint32_t i = 0; i < view->route_count; i++) {
        push_route(L, board, view, &view->routes[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "routes");
}

static void push_process(lua_State *L, struct board *board, uint32_t index, int32_t pid)
{
    static const char *const roles[] = {"supervisor", "control", "worker"};
    struct board_process *p = &board->processes[index];
    uint32_t role = atomic_load_explicit(&p->role, memory_order_relaxed);
    uint64_t requests = 0, rss;
    if (role == ROLE_WORKER) {
        const struct lane *lane = board_lane(board, index - 2);
        requests = lane_get(&lane->finished) + lane_get(&lane->aborted);
    }
    lua_createtable(L, 0, 6);
    set_text(L, "role", roles[role <= ROLE_WORKER ? role : ROLE_WORKER]);
    set_number(L, "pid", pid);
    set_number(L, "generation",
               (double)atomic_load_explicit(&p->generation, memory_order_relaxed));
    set_number(L, "requests", (double)requests);
    set_number(L, "restarts", (double)atomic_load_explicit(&p->restarts, memory_order_relaxed));
    if (pid && process_rss_bytes("", pid, &rss))
        set_number(L, "rss_bytes", (double)rss);
}

/* Those that run, and the workers that should: pid 0. Sums their descriptors. */
static void set_processes(lua_State *L, struct board *board, uint64_t *open_fds)
{
    int count = 0;
    new_sized_list(L, board->workers + 2);
    *open_fds = 0;
    for (uint32_t i = 0; i < board->workers + 2; i++) {
        int32_t pid = atomic_load_explicit(&board->processes[i].pid, memory_order_relaxed);
        uint64_t fds;
        if (!pid && i < 2)
            continue;
        if (pid && process_open_fds("", pid, &fds))
            *open_fds += fds;
        push_process(L, board, i, pid);
        lua_rawseti(L, -2, ++count);
    }
    lua_setfield(L, -2, "processes");
}

static void push_slow(lua_State *L, struct board *board, const struct slow_sample *s)
{
    char at[CLOCK_TEXT];
    clock_rfc3339(s->at_unix_ms, at);
    lua_createtable(L, 0, 8);
    set_route_name(L, board, s->route);
    if (*s->method)
        set_text(L, "method", s->method);
    set_number(L, "status", (double)s->status);
    set_ms(L, "latency_ms", (double)s->latency_ns);
    if (*s->trace_id)
        set_text(L, "trace_id", s->trace_id);
    set_text(L, "at", at);
    set_number(L, "at_unix_s", (double)s->at_unix_ms / 1000);
    lua_newtable(L);
    for (int i = 0; i < PHASE_COUNT; i++)
        if (s->phase_ns[i])
            set_ms(L, phase_name((enum phase)i), (double)s->phase_ns[i]);
    lua_setfield(L, -2, "phases_ms");
}

static void set_slow(lua_State *L, struct board *board)
{
    struct slow_sample slow[SLOW_SHOWN];
    uint32_t count = stats_slowest(board, slow, SLOW_SHOWN);
    new_sized_list(L, count);
    for (uint32_t i = 0; i < count; i++) {
        push_slow(L, board, &slow[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "slow_requests");
}

static void set_share_of(lua_State *L, const char *name, const struct resources *r, enum resource_id id)
{
    if (r && resource_known(r, id))
        set_rounded(L, name, r->value[id], 1e6);
}

static void set_system(lua_State *L, const struct resources *r, uint64_t open_fds)
{
    lua_createtable(L, 0, 5);
    if (open_fds)
        set_number(L, "open_fds", (double)open_fds);
    set_share_of(L, "cpu_share", r, RESOURCE_CPU_SHARE);
    set_share_of(L, "memory_share", r, RESOURCE_MEMORY_SHARE);
    set_share_of(L, "disk_share", r, RESOURCE_DISK_SHARE);
    if (r && resource_known(r, RESOURCE_LOAD_1)) {
        new_sized_list(L, 3);
        for (int i = 0; i < 3; i++) {
            lua_pushnumber(L, r->value[RESOURCE_LOAD_1 + i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "load");
    }
    lua_setfield(L, -2, "system");
}

static void set_totals(lua_State *L, struct board *board)
{
    struct stats_totals totals;
    stats_totals(board, &totals);
    set_number(L, "requests_total", (double)(totals.finished + totals.aborted));
    set_number(L, "aborted_total", (double)totals.aborted);
    set_number(L, "in_flight", (double)totals.in_flight);
    set_number(L, "bytes_in", (double)totals.bytes_in);
    set_number(L, "bytes_out", (double)totals.bytes_out);
}

/* A view in a userdata, so that an error on the way frees it. */
static struct stats_view *push_view(lua_State *L, double span_s)
{
    struct stats_view *view = lua_newuserdata(L, sizeof *view);
    view->routes = NULL;
    luaL_getmetatable(L, VIEW);
    lua_setmetatable(L, -2);
    if (!history_merge(self(L)->history, span_s, view))
        luaL_error(L, "out of memory");
    return view;
}

static int view_gc(lua_State *L)
{
    stats_view_free(lua_touserdata(L, 1));
    return 0;
}

static void set_others(lua_State *L, const struct binding *b)
{
    uint64_t open_fds;
    set_processes(L, b->board, &open_fds);
    set_slow(L, b->board);
    set_system(L, b->resources, open_fds);
}

/* totals(): what stats() has of no route and no window. */
static int stats_totals_of(lua_State *L)
{
    lua_createtable(L, 0, 8);
    set_totals(L, self(L)->board);
    set_others(L, self(L));
    return 1;
}

static int stats_stats(lua_State *L)
{
    double window_s = luaL_optnumber(L, 1, WINDOW_DEFAULT_S);
    luaL_argcheck(L, window_s >= 0 && window_s <= WINDOW_MOST_S, 1,
                  "a window in seconds, or 0 for all since the start");
    struct board *board = self(L)->board;
    struct stats_view *view = push_view(L, window_s);
    lua_createtable(L, 0, 16);
    set_totals(L, board);
    set_rounded(L, "span_s", view->span_s, 1e3);
    set_rounded(L, "requests_per_second", share((double)view->total.requests, view->span_s), 1e3);
    set_share(L, "error_rate", (double)view->total.status[5], (double)view->total.requests);
    set_latency(L, &view->total, false);
    set_routes(L, board, view);
    stats_view_free(view); /* before the collector comes around to it */
    set_others(L, self(L));
    return 1;
}

/* ---- histograms() ---------------------------------------------------------- */

static void push_histogram(lua_State *L, struct board *board, const struct stats_route *r)
{
    static const double bounds_s[] = {.0005, .001, .0025, .005, .01, .025, .05,
                                      .1,    .25,  .5,    1,    2.5, 5,    10};
    enum { BOUNDS = sizeof bounds_s / sizeof *bounds_s };
    uint64_t cumulative[BOUNDS];
    uint64_t count = stats_cumulative(r->latency, bounds_s, BOUNDS, cumulative);
    lua_createtable(L, 0, 7);
    set_route_name(L, board, r->route);
    set_number(L, "count", (double)count);
    set_number(L, "sum_s", (double)r->latency_sum_ns / 1e9);
    set_status(L, r);
    set_number(L, "bytes_in", (double)r->bytes_in);
    set_number(L, "bytes_out", (double)r->bytes_out);
    new_sized_list(L, BOUNDS);
    for (int i = 0; i < BOUNDS; i++) {
        lua_createtable(L, 0, 2);
        set_number(L, "le_seconds", bounds_s[i]);
        set_number(L, "cumulative", (double)cumulative[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "buckets");
}

/* histograms(from or 0, most or all): those of at most so many routes that had requests, and where to go on; nil: that were all. In
 * parts, because a thousand routes are too much for one turn. */
static int stats_histograms(lua_State *L)
{
    struct board *board = self(L)->board;
    uint32_t routes = atomic_load_explicit(&board->route_count, memory_order_acquire);
    lua_Integer i = luaL_optinteger(L, 1, 0), most = luaL_optinteger(L, 2, LANE_ROUTES_MAX);
    luaL_argcheck(L, i >= 0, 1, "0, or where the part before ended");
    luaL_argcheck(L, most >= 1, 2, "at least one");
    struct stats_route *route = lua_newuserdata(L, sizeof *route);
    new_list(L);
    int n = 0;
    for (; i < routes && n < most; i++) {
        if (i == ROUTE_BENCHMARK || !reading_requests(board, LANES_ALL, (uint32_t)i))
            continue;
        reading_route(board, LANES_ALL, (uint32_t)i, route);
        push_histogram(L, board, route);
        lua_rawseti(L, -2, ++n);
    }
    if (i < routes)
        lua_pushinteger(L, i);
    else
        lua_pushnil(L);
    return 2;
}

/* ---- settings(), generation() ---------------------------------------------- */

static int stats_settings(lua_State *L)
{
    settings_rows(L, self(L)->board);
    return 1;
}

/* workers(): how many there are; 1 in an application. */
static int stats_workers(lua_State *L)
{
    lua_pushnumber(L, self(L)->board->workers);
    return 1;
}

/* restarts(): how many workers were ever replaced. */
static int stats_restarts(lua_State *L)
{
    struct board *board = self(L)->board;
    double sum = 0;
    for (uint32_t w = 0; w < board->workers; w++)
        sum += (double)atomic_load_explicit(&board_worker(board, w)->restarts, memory_order_relaxed);
    lua_pushnumber(L, sum);
    return 1;
}

static int stats_generation(lua_State *L)
{
    const struct board_generation *g = &self(L)->board->generation;
    uint64_t at_ns = lane_get(&g->activated_ns);
    lua_createtable(L, 0, 6);
    if (at_ns)
        set_number(L, "activated_s_ago", (double)(clock_now_ns() - at_ns) / 1e9);
    set_number(L, "active", (double)lane_get(&g->active));
    set_number(L, "newest", (double)lane_get(&g->newest));
    set_number(L, "reloads_ok", (double)lane_get(&g->reloads_ok));
    set_number(L, "reloads_refused", (double)lane_get(&g->reloads_refused));
    set_number(L, "rollbacks", (double)lane_get(&g->rollbacks));
    return 1;
}

/* counters(): { name, value, doc } each, summed over the workers since the start. */
static int stats_counters(lua_State *L)
{
    struct board *board = self(L)->board;
    new_sized_list(L, COUNTER_COUNT);
    for (int i = 0; i < COUNTER_COUNT; i++) {
        uint64_t sum = 0;
        for (uint32_t w = 0; w < board_lanes(board); w++)
            sum += lane_get(&board_lane(board, w)->counters[i]);
        lua_createtable(L, 0, 3);
        set_text(L, "name", counter_infos[i].name);
        set_text(L, "doc", counter_infos[i].doc);
        set_number(L, "value", (double)sum);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

int bind_stats_open(lua_State *L, struct board *board, struct history *history,
                    const struct resources *resources)
{
    static const luaL_Reg functions[] = {
        {"stats", stats_stats},
        {"totals", stats_totals_of},
        {"histograms", stats_histograms},
        {"settings", stats_settings},
        {"generation", stats_generation},
        {"workers", stats_workers},
        {"restarts", stats_restarts},
        {"counters", stats_counters},
    };
    if (luaL_newmetatable(L, VIEW)) {
        lua_pushcfunction(L, view_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
    json_share_array_metatable(L);
    lua_createtable(L, 0, sizeof functions / sizeof *functions);
    struct binding *binding = lua_newuserdata(L, sizeof *binding);
    *binding = (struct binding){board, history, resources};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, functions[i].func, 1);
        lua_setfield(L, -3, functions[i].name);
    }
    lua_pop(L, 1); /* the binding lives on in the closures */
    return 1;
}
