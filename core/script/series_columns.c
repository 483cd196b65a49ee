// SPDX-License-Identifier: MIT
#include "script/series_columns.h"

#include "script/push.h"
#include "stats/report.h"

#include <math.h>

enum { STEPS_MOST = 20000 };

static const char *const names_of_routes[] = {"at_ms", "requests", "rps", "error_rate", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "bytes_out", "errors"};
static const char *const names_of_host[] = {"in_flight", "connections", "cpu_share", "memory_share", "disk_share"};

enum {
    OF_ROUTES = sizeof names_of_routes / sizeof *names_of_routes,
    OF_HOST = sizeof names_of_host / sizeof *names_of_host,
    COLUMNS = OF_ROUTES + PHASE_COUNT + OF_HOST + 1, /* "slow" is the last */
};

static const char *name_of(int column)
{
    if (column < OF_ROUTES)
        return names_of_routes[column];
    if (column < OF_ROUTES + PHASE_COUNT)
        return phase_name((enum phase)(column - OF_ROUTES));
    return column < COLUMNS - 1 ? names_of_host[column - OF_ROUTES - PHASE_COUNT] : "slow";
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

void series_columns_add(void *arg, const struct history_step *step)
{
    struct series_columns *c = arg;
    const struct stats_route *r = step->counts;
    double n = r->requests ? (double)r->requests : NAN; /* what is of none is not known */
    double row[COLUMNS] = {
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
    if (c->steps >= STEPS_MOST)
        return;
    for (int p = 0; p < PHASE_COUNT; p++)
        *to++ = (double)r->phase_sum_ns[p] / n / 1e6;
    *to++ = (double)step->host->in_flight;
    *to++ = (double)step->host->connections_open;
    *to++ = step->host->cpu_share;
    *to++ = step->host->memory_share;
    *to++ = step->host->disk_share;
    *to = c->slow_s > 0 ? slower_than(r, c->slow_s) : 0;
    buf_add(&c->rows, row, sizeof row);
    c->steps++;
}

static void push_column(lua_State *L, const struct series_columns *c, int column)
{
    const double *rows = (const double *)(const void *)c->rows.data;
    new_sized_list(L, c->steps);
    for (int i = 0; i < c->steps; i++) {
        double value = rows[i * COLUMNS + column];
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
    for (int i = 0; i < COLUMNS - (c->slow_s > 0 ? 0 : 1); i++) {
        push_column(L, c, i);
        lua_setfield(L, -2, name_of(i));
    }
}

void series_columns_done(struct series_columns *c)
{
    buf_done(&c->rows);
}
