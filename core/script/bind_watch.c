// SPDX-License-Identifier: MIT
#include "script/bind_watch.h"

#include "script/push.h"
#include "script/series_columns.h"
#include "stats/report.h"

#include <lauxlib.h>
#include <math.h>

enum { SERIES_STEPS_MOST = 20000, PARTS_SHOWN = 5 };

static const char COLUMNS[] = "perilune.series_columns";

struct watching {
    struct watch *watch;
    struct board *board;
    struct history *history;
    struct arms *arms;
};

static const char *const kinds[] = {"host", "route", "pool"};

static const struct watching *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* ---- things() ---- */

static double scaled_of_usual(const struct series *s)
{
    return s->median;
}

static void push_moved(lua_State *L, const struct series *s, const struct series_opts *opts, const char *name)
{
    double spread = s->spread > opts->floor ? s->spread : opts->floor;
    lua_createtable(L, 0, 4);
    set_text(L, "direction", s->moved > 0 ? "up" : "down");
    set_number(L, "since_ms", (double)s->moved_ms);
    set_number(L, "spreads", (series_recent(s) - s->median) / spread);
    set_number(L, "p", s->p);
    lua_setfield(L, -2, name);
}

/* The tables now, usual, moved: on top of the thing's, in this order. */
static void push_signals(lua_State *L, const struct watch *w, const struct watched *t)
{
    bool knows = false;
    lua_createtable(L, 0, (int)watch_signals(t->kind));
    lua_createtable(L, 0, (int)watch_signals(t->kind));
    lua_createtable(L, 0, 4);
    for (unsigned i = 0; i < watch_signals(t->kind); i++) {
        const struct series *s = &t->signals[i];
        struct series_opts opts = watch_series_opts(w, t->kind, i);
        const char *name = watch_signal(t->kind, i).name;
        double now = watch_value(t->kind, i, series_recent(s));
        if (s->moved)
            push_moved(L, s, &opts, name);
        if (series_knows(s, &opts)) {
            knows = true;
            lua_pushnumber(L, watch_value(t->kind, i, scaled_of_usual(s)));
            lua_setfield(L, -3, name);
        }
        if (now == now) {
            lua_pushnumber(L, now);
            lua_setfield(L, -4, name);
        }
    }
    lua_setfield(L, -4, "moved");
    lua_setfield(L, -3, "usual");
    lua_setfield(L, -2, "now");
    lua_pushboolean(L, knows);
    lua_setfield(L, -2, "knows");
}

/* The field `company` of the thing's table. */
static void push_company(lua_State *L, const struct watched *t)
{
    static const char *const channels[] = {"edge", "shift", "pattern"};
    struct company_part parts[PARTS_SHOWN];
    if (!t->company)
        return;
    struct company_state s = company_state(t->company);
    lua_createtable(L, 0, 9);
    set_number(L, "learnt", s.learnt);
    set_number(L, "needed", s.needed);
    lua_pushboolean(L, s.unusual);
    lua_setfield(L, -2, "unusual");
    if (s.severity == s.severity) {
        set_number(L, "severity", s.severity);
        set_number(L, "p", s.p);
        set_text(L, "channel", channels[s.channel]);
    }
    if (s.unusual) {
        set_number(L, "since_ms", (double)s.since_ms);
        set_number(L, "samples", s.samples);
    }
    new_list(L);
    unsigned n = s.unusual ? company_parts(t->company, parts, PARTS_SHOWN) : 0;
    for (unsigned i = 0; i < n; i++) {
        lua_createtable(L, 0, 2);
        set_text(L, "name", watch_signal(t->kind, parts[i].column).name);
        set_number(L, "share", parts[i].share);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "signals");
    lua_setfield(L, -2, "company");
}

static void set_name(lua_State *L, struct board *board, const struct watched *t)
{
    if (t->kind == WATCH_ROUTE) {
        set_text(L, "method", board->routes[t->index].method);
        set_text(L, "route", board->routes[t->index].name);
        lua_pushfstring(L, "%s %s", board->routes[t->index].method, board->routes[t->index].name);
    } else {
        lua_pushstring(L, t->kind == WATCH_POOL ? board->pools.list[t->index].name : "host");
    }
    lua_setfield(L, -2, "name");
}

static int watch_things(lua_State *L)
{
    const struct watching *self_ = self(L);
    const struct watched *t;
    new_list(L);
    for (unsigned i = 0; (t = watch_at(self_->watch, i)); i++) {
        struct series_opts opts = watch_series_opts(self_->watch, t->kind, 0);
        lua_createtable(L, 0, 16);
        set_text(L, "kind", kinds[t->kind]);
        set_name(L, self_->board, t);
        set_number(L, "index", t->index);
        set_number(L, "samples", t->samples);
        set_number(L, "learnt", t->learnt);
        set_number(L, "needed", opts.least < t->signals[0].size ? opts.least : t->signals[0].size);
        set_number(L, "requests", (double)t->requests);
        set_number(L, "span_s", t->span_s);
        set_number(L, "at_ms", (double)t->sample_ms);
        if (t->kind == WATCH_ROUTE)
            set_number(L, "errors", t->errors);
        if (t->held_ms)
            set_number(L, "held_ms", (double)t->held_ms);
        push_signals(L, self_->watch, t);
        push_company(L, t);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* ---- signals(), cost() ---- */

static int watch_registry(lua_State *L)
{
    int n = 0;
    new_list(L);
    for (int kind = WATCH_HOST; kind <= WATCH_POOL; kind++)
        for (unsigned i = 0; i < watch_signals((enum watch_kind)kind); i++) {
            struct signal_info info = watch_signal((enum watch_kind)kind, i);
            lua_createtable(L, 0, 5);
            set_text(L, "kind", kinds[kind]);
            set_text(L, "name", info.name);
            set_text(L, "unit", info.unit);
            set_text(L, "scale", info.scale == SCALE_LOG ? "ratio" : "difference");
            set_text(L, "doc", info.doc);
            lua_rawseti(L, -2, ++n);
        }
    return 1;
}

static int watch_costs(lua_State *L)
{
    struct watch_cost cost;
    watch_cost(self(L)->watch, &cost);
    lua_createtable(L, 0, 8);
    set_number(L, "bytes", (double)cost.bytes);
    set_number(L, "company_bytes", (double)cost.company_bytes);
    set_number(L, "companies", cost.companies);
    set_number(L, "fits", cost.fits);
    set_number(L, "fit_ms", cost.fit_ms);
    set_number(L, "ticks", (double)cost.ticks);
    set_number(L, "tick_ms", cost.tick_ms);
    set_number(L, "mean_ms", cost.mean_ms);
    return 1;
}

/* hold(until_unix_ms) */
static int watch_hold_until(lua_State *L)
{
    watch_hold(self(L)->watch, (uint64_t)luaL_checknumber(L, 1));
    return 0;
}

/* ---- series() ---- */

/* In a userdata, so that an error on the way frees them. */
static struct series_columns *new_columns(lua_State *L)
{
    struct series_columns *c = lua_newuserdata(L, sizeof *c);
    *c = (struct series_columns){0};
    luaL_getmetatable(L, COLUMNS);
    lua_setmetatable(L, -2);
    return c;
}

static int columns_gc(lua_State *L)
{
    series_columns_done(lua_touserdata(L, 1));
    return 0;
}

static int watch_series(lua_State *L)
{
    int route = lua_isnoneornil(L, 1) ? -1 : (int)luaL_checkinteger(L, 1);
    double from = luaL_checknumber(L, 2), to = luaL_checknumber(L, 3), step = luaL_checknumber(L, 4);
    double slow_ms = luaL_optnumber(L, 5, 0);
    luaL_argcheck(L, from >= 0 && to >= from && to < 1e15, 2, "times in ms since 1970, the earlier first");
    luaL_argcheck(L, step >= 1 && step <= 86400, 4, "a step of 1 to 86400 s");
    struct series_columns *c = new_columns(L);
    c->slow_s = slow_ms / 1000;
    c->pool = route >= HISTORY_POOL;
    if (!history_series(self(L)->history, route, (uint64_t)from, (uint64_t)to, (uint32_t)step, series_columns_add, c))
        return luaL_error(L, "out of memory");
    series_columns_push(L, c);
    series_columns_done(c); /* before the collector comes around to it */
    return 1;
}

/* ---- latencies() ---- */

enum { BOUNDS_MOST = 24 };

struct heat {
    lua_State *L;
    int times, counts, n;
    double bounds_s[BOUNDS_MOST];
    unsigned bounds;
};

static void on_heat(void *arg, const struct history_step *step)
{
    struct heat *h = arg;
    lua_State *L = h->L;
    uint64_t within[BOUNDS_MOST];
    if (h->n >= SERIES_STEPS_MOST)
        return;
    h->n++;
    lua_pushnumber(L, (double)step->from_ms);
    lua_rawseti(L, h->times, h->n);
    uint64_t all = stats_cumulative(step->counts->latency, h->bounds_s, h->bounds, within);
    new_list(L);
    for (unsigned i = 0; i <= h->bounds; i++) {
        uint64_t to = i < h->bounds ? within[i] : all;
        lua_pushnumber(L, (double)(to - (i ? within[i - 1] : 0)));
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_rawseti(L, h->counts, h->n);
}

/* latencies(route or nil, from_ms, to_ms, step_s, bounds_ms): { at_ms = {}, counts = {} }; counts has for each step a list
 * of how many requests took up to each bound and longer than the one before, and last those above all bounds. */
static int watch_latencies(lua_State *L)
{
    int route = lua_isnoneornil(L, 1) ? -1 : (int)luaL_checkinteger(L, 1);
    double from = luaL_checknumber(L, 2), to = luaL_checknumber(L, 3), step = luaL_checknumber(L, 4);
    luaL_argcheck(L, from >= 0 && to >= from && to < 1e15, 2, "times in ms since 1970, the earlier first");
    luaL_argcheck(L, step >= 1 && step <= 86400, 4, "a step of 1 to 86400 s");
    luaL_checktype(L, 5, LUA_TTABLE);
    struct heat h = {.L = L, .bounds = (unsigned)lua_objlen(L, 5)};
    luaL_argcheck(L, h.bounds >= 1 && h.bounds <= BOUNDS_MOST, 5, "1 to 24 bounds in ms, ascending");
    for (unsigned i = 0; i < h.bounds; i++) {
        lua_rawgeti(L, 5, (int)i + 1);
        h.bounds_s[i] = lua_tonumber(L, -1) / 1000;
        luaL_argcheck(L, h.bounds_s[i] > (i ? h.bounds_s[i - 1] : 0), 5, "1 to 24 bounds in ms, ascending");
        lua_pop(L, 1);
    }
    lua_newtable(L);
    new_list(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "at_ms");
    h.times = lua_gettop(L);
    new_list(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "counts");
    h.counts = lua_gettop(L);
    if (!history_series(self(L)->history, route, (uint64_t)from, (uint64_t)to, (uint32_t)step, on_heat, &h))
        return luaL_error(L, "out of memory");
    lua_pop(L, 2);
    return 1;
}

/* ---- span() ---- */

struct sum {
    struct stats_route counts;
    double span_s, cpu;
    unsigned cpu_n;
};

static void on_frame(void *arg, const struct history_step *step)
{
    struct sum *sum = arg;
    sum->span_s += step->span_s;
    stats_route_add(&sum->counts, step->counts);
    if (step->host->cpu_share == step->host->cpu_share) {
        sum->cpu += (double)step->host->cpu_share;
        sum->cpu_n++;
    }
}

static void push_span(lua_State *L, const struct sum *sum)
{
    const struct stats_route *r = &sum->counts;
    double n = (double)r->requests;
    lua_createtable(L, 0, 12 + PHASE_COUNT);
    set_number(L, "span_s", sum->span_s);
    set_number(L, "requests", n);
    set_number(L, "errors", (double)r->status[5]);
    if (sum->cpu_n)
        set_number(L, "cpu_share", sum->cpu / sum->cpu_n);
    if (!r->requests)
        return;
    set_number(L, "rps", sum->span_s > 0 ? n / sum->span_s : 0);
    set_number(L, "error_rate", (double)r->status[5] / n);
    set_number(L, "mean_ms", (double)r->latency_sum_ns / n / 1e6);
    set_number(L, "p50_ms", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, .50) / 1e6);
    set_number(L, "p95_ms", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, .95) / 1e6);
    set_number(L, "p99_ms", sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, .99) / 1e6);
    set_number(L, "bytes_out", (double)r->bytes_out / n);
    for (int p = 0; p < PHASE_COUNT; p++)
        set_number(L, phase_name((enum phase)p), (double)r->phase_sum_ns[p] / n / 1e6);
}

static struct history *history_at(lua_State *L, int at)
{
    static const char *const names[] = {"canary", "control", NULL};
    if (lua_isnoneornil(L, at))
        return self(L)->history;
    return arms_history(self(L)->arms, (enum arm)luaL_checkoption(L, at, NULL, names));
}

/* span(routes, from_ms, to_ms, arm): the frames of these routes (a list of indexes; nil: all)
 * as one. Whole seconds: the frame that ends at to_ms is in it, that at from_ms is not. */
static int watch_span(lua_State *L)
{
    struct history *history = history_at(L, 4);
    double from = luaL_checknumber(L, 2), to = luaL_checknumber(L, 3);
    luaL_argcheck(L, from >= 0 && to >= from && to < 1e15, 2, "times in ms since 1970, the earlier first");
    if (!history)
        return 0;
    struct sum *sum = lua_newuserdata(L, sizeof *sum); /* 16 KB */
    *sum = (struct sum){.span_s = 0};
    int n = lua_isnoneornil(L, 1) ? 0 : (int)lua_objlen(L, 1);
    bool ok = lua_isnoneornil(L, 1) ? history_series(history, -1, (uint64_t)from, (uint64_t)to, 1, on_frame, sum) : true;
    for (int i = 1; ok && i <= n; i++) {
        lua_rawgeti(L, 1, i);
        double before_s = sum->span_s;
        ok = history_series(history, (int)luaL_checkinteger(L, -1), (uint64_t)from, (uint64_t)to, 1, on_frame, sum);
        lua_pop(L, 1);
        if (i > 1)
            sum->span_s = before_s; /* the same seconds */
    }
    if (!ok)
        return luaL_error(L, "out of memory");
    push_span(L, sum);
    return 1;
}

void bind_watch_signals(lua_State *L)
{
    lua_pushcfunction(L, watch_registry);
    lua_setfield(L, -2, "signals");
}

void bind_watch_open(lua_State *L, struct watch *watch, struct board *board, struct history *history,
                     struct arms *arms)
{
    static const luaL_Reg functions[] = {
        {"things", watch_things}, {"signals", watch_registry}, {"cost", watch_costs}, {"series", watch_series},
        {"span", watch_span}, {"latencies", watch_latencies}, {"hold", watch_hold_until}, {0}};
    luaL_newmetatable(L, COLUMNS);
    lua_pushcfunction(L, columns_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_newtable(L);
    struct watching *self_ = lua_newuserdata(L, sizeof *self_);
    *self_ = (struct watching){watch, board, history, arms};
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -3, f->name);
    }
    lua_pop(L, 1);
    lua_setfield(L, -2, "watch");
}
