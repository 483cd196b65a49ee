// SPDX-License-Identifier: MIT
#include "script/series_columns.h"

#include "script/push.h"
#include "stats/report.h"

#include <math.h>
#include <string.h>

enum { STEPS_MOST = 20000 };

static const char *const names_of_routes[] = {"at_ms", "requests", "rps", "error_rate", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "bytes_out", "errors"};
static const char *const names_of_host[] = {"in_flight", "connections", "cpu_share", "memory_share", "disk_share"};

enum {
    OF_ROUTES = sizeof names_of_routes / sizeof *names_of_routes,
    OF_HOST = sizeof names_of_host / sizeof *names_of_host,
    COLUMNS = OF_ROUTES + PHASE_COUNT + OF_HOST + 1, /* "slow" is the last */
};

static const char *const names_of_pools[] = {"at_ms", "statements", "calls", "wait_ms", "wait_p95_ms", "use_ms", "use_p95_ms", "busy", "error_rate", "opened"};
enum { OF_POOLS = sizeof names_of_pools / sizeof *names_of_pools };

static const char *name_of(const struct series_columns *c, int column)
{
    if (c->pool)
        return names_of_pools[column];
    if (column < OF_ROUTES)
        return names_of_routes[column];
    if (column < OF_ROUTES + PHASE_COUNT)
        return phase_name((enum phase)(column - OF_ROUTES));
    return column < COLUMNS - 1 ? names_of_host[column - OF_ROUTES - PHASE_COUNT] : "slow";
}

static int columns_of(const struct series_columns *c)
{
    return c->pool ? OF_POOLS : c->slow_s > 0 ? COLUMNS : COLUMNS - 1;
}

static double slower_than(const struct stats_route *r, double bound_s)
{
    uint64_t within;
    uint64_t all = stats_cumulative(r->latency, &bound_s, 1, &within);
    return (double)(all - within);
}

static double quantile_ms(const struct stats_route *r, double q)
{
    return r->requests ? sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, q) / 1e6 : NAN;
}

static double phase_ms(const struct stats_route *r, enum phase phase)
{
    return r->phase_count[phase] ? (double)r->phase_sum_ns[phase] / (double)r->phase_count[phase] / 1e6 : NAN;
}

static double phase_p95_ms(const struct stats_route *r, enum phase phase)
{
    return r->phase_count[phase] ? sketch_quantile_ns(r->phases[phase], SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, .95) / 1e6 : NAN;
}

/* As stats/pool_frame.h has it. */
static void fill_pool(double row[OF_POOLS], const struct history_step *step)
{
    const struct stats_route *r = step->counts;
    double span_s = step->span_s > 0 ? step->span_s : NAN;
    *row++ = (double)step->from_ms;
    *row++ = (double)r->requests;
    *row++ = (double)r->requests / span_s;
    *row++ = phase_ms(r, PHASE_POOL_WAIT);
    *row++ = phase_p95_ms(r, PHASE_POOL_WAIT);
    *row++ = phase_ms(r, PHASE_DB);
    *row++ = phase_p95_ms(r, PHASE_DB);
    *row++ = (double)r->phase_sum_ns[PHASE_DB] / 1e9 / span_s;
    *row++ = r->requests ? (double)r->status[5] / (double)r->requests : NAN;
    *row++ = (double)r->bytes_in / span_s;
}

static void fill_route(double row[COLUMNS], const struct series_columns *c, const struct history_step *step)
{
    const struct stats_route *r = step->counts;
    double n = r->requests ? (double)r->requests : NAN; /* what is of none is not known */
    const double known[OF_ROUTES] = {
        (double)step->from_ms,
        (double)r->requests,
        step->span_s > 0 ? (double)r->requests / step->span_s : NAN,
        (double)r->status[5] / n,
        (double)r->latency_sum_ns / n / 1e6,
        quantile_ms(r, .50),
        quantile_ms(r, .95),
        quantile_ms(r, .99),
        (double)r->bytes_out / n,
        (double)r->status[5],
    };
    double *to = row + OF_ROUTES;
    memcpy(row, known, sizeof known);
    for (int p = 0; p < PHASE_COUNT; p++)
        *to++ = (double)r->phase_sum_ns[p] / n / 1e6;
    *to++ = (double)step->host->in_flight;
    *to++ = (double)step->host->connections_open;
    *to++ = step->host->cpu_share;
    *to++ = step->host->memory_share;
    *to++ = step->host->disk_share;
    *to = c->slow_s > 0 ? slower_than(r, c->slow_s) : 0;
}

void series_columns_add(void *arg, const struct history_step *step)
{
    struct series_columns *c = arg;
    double row[COLUMNS];
    if (c->steps >= STEPS_MOST)
        return;
    if (c->pool)
        fill_pool(row, step);
    else
        fill_route(row, c, step);
    buf_add(&c->rows, row, (size_t)columns_of(c) * sizeof *row);
    c->steps++;
}

static void push_column(lua_State *L, const struct series_columns *c, int column)
{
    const double *rows = (const double *)(const void *)c->rows.data;
    new_sized_list(L, c->steps);
    for (int i = 0; i < c->steps; i++) {
        double value = rows[i * columns_of(c) + column];
        if (value == value)
            lua_pushnumber(L, value);
        else
            lua_pushlightuserdata(L, NULL); /* JSON's null */
        lua_rawseti(L, -2, i + 1);
    }
}

void series_columns_push(lua_State *L, const struct series_columns *c)
{
    if (!buf_ok(&c->rows))
        luaL_error(L, "out of memory");
    lua_createtable(L, 0, COLUMNS);
    for (int i = 0; i < columns_of(c); i++) {
        push_column(L, c, i);
        lua_setfield(L, -2, name_of(c, i));
    }
}

void series_columns_done(struct series_columns *c)
{
    buf_done(&c->rows);
}
