/* Series in, figures out; nothing here has a state but the moving average. */
// SPDX-License-Identifier: MIT
#include "script/bind_ml.h"

#include "ml/changepoint.h"
#include "ml/correlate.h"
#include "ml/forecast.h"
#include "ml/robust.h"
#include "ml/season.h"
#include "ml/smooth.h"
#include "ml/trend.h"
#include "script/push.h"

#include <math.h>

enum { CHANGES_MOST = 1024 };

static const char EWMA[] = "perilune.ml.ewma";

static double *work_for(lua_State *L, size_t n)
{
    return lua_newuserdata(L, (n + 1) * sizeof(double));
}

/* Where a threshold is asked for: both options, none given: NaN. */
struct threshold {
    double threshold;
    bool falling;
};

static int lua_trend(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(threshold, threshold, ML_REAL, -1e300, 1e300),
        ML_OPTION(threshold, falling, ML_FLAG, 0, 1)};
    struct threshold at = {NAN, false};
    struct trend t;
    lua_settop(L, 2);
    ml_options_at(L, 2, "ml.trend", options, 2, &at);
    struct ml_series s = ml_series_at(L, 1, "ml.trend");
    ml_check(L, trend_fit(s.v, s.n, &t), "ml.trend");
    lua_createtable(L, 0, 10);
    set_number(L, "n", (double)t.n);
    ml_set(L, "slope", t.slope);
    ml_set(L, "lo", t.lo);
    ml_set(L, "hi", t.hi);
    ml_set(L, "level", t.level);
    ml_set(L, "tau", t.tau);
    ml_set(L, "p", t.p);
    ml_set(L, "r", t.r);
    ml_set(L, "spread", t.spread);
    if (isnan(at.threshold))
        return 1;
    struct crossing c = trend_crossing(&t, at.threshold, !at.falling);
    lua_createtable(L, 0, 4);
    ml_set_flag(L, "crosses", c.crosses);
    ml_set(L, "steps", c.steps);
    ml_set(L, "soonest", c.soonest);
    ml_set(L, "latest", c.latest);
    lua_setfield(L, -2, "crossing");
    return 1;
}

static int lua_level(lua_State *L)
{
    lua_settop(L, 1);
    struct ml_series s = ml_series_at(L, 1, "ml.level");
    struct robust_level level = robust_level(s.v, s.n, work_for(L, s.n));
    lua_createtable(L, 0, 3);
    set_number(L, "n", (double)level.n);
    ml_set(L, "median", level.median);
    ml_set(L, "spread", level.spread);
    return 1;
}

/* A figure, or nil when there is none. */
static int push_figure(lua_State *L, double x)
{
    if (isfinite(x))
        lua_pushnumber(L, x);
    else
        lua_pushnil(L);
    return 1;
}

static int lua_quantile(lua_State *L)
{
    lua_settop(L, 2);
    double q = ml_number_at(L, 2, "ml.quantile", "q", 0, 1);
    struct ml_series s = ml_series_at(L, 1, "ml.quantile");
    double *work = work_for(L, s.n);
    return push_figure(L, robust_quantile(work, robust_finite(s.v, s.n, work), q));
}

static int lua_volatility(lua_State *L)
{
    lua_settop(L, 1);
    struct ml_series s = ml_series_at(L, 1, "ml.volatility");
    return push_figure(L, robust_volatility(s.v, s.n, work_for(L, s.n)));
}

static int lua_growth(lua_State *L)
{
    lua_settop(L, 2);
    size_t window = (size_t)ml_number_at(L, 2, "ml.growth", "the window", 1, 1e9);
    struct ml_series s = ml_series_at(L, 1, "ml.growth");
    return push_figure(L, robust_growth(s.v, s.n, window, work_for(L, s.n)));
}

static int lua_moving_average(lua_State *L)
{
    lua_settop(L, 2);
    size_t window = (size_t)ml_number_at(L, 2, "ml.moving_average", "the window", 1, 1e9);
    struct ml_series s = ml_series_at(L, 1, "ml.moving_average");
    double *out = work_for(L, s.n);
    moving_average(s.v, s.n, window, out);
    new_list(L);
    for (size_t i = 0; i < s.n; i++) {
        lua_pushnumber(L, out[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int lua_season(lua_State *L)
{
    lua_settop(L, 1);
    struct season season;
    struct ml_series s = ml_series_at(L, 1, "ml.season");
    ml_check(L, season_find(s.v, s.n, 0, &season), "ml.season");
    if (!season.period)
        return 0;
    lua_pushnumber(L, (double)season.period);
    lua_pushnumber(L, season.strength);
    return 2;
}

static int lua_autocorrelation(lua_State *L)
{
    lua_settop(L, 2);
    size_t lag = (size_t)ml_number_at(L, 2, "ml.autocorrelation", "the lag", 0, 1e9);
    struct ml_series s = ml_series_at(L, 1, "ml.autocorrelation");
    return push_figure(L, autocorrelation(s.v, s.n, lag));
}

/* ---- forecast ---- */

struct asked {
    size_t steps, period;
    double coverage, threshold;
    bool falling;
};

static void push_path(lua_State *L, const struct forecast_step *steps, size_t count, double *column)
{
    bool bounded = count && isfinite(steps[0].hi);
    for (size_t h = 0; h < count; h++)
        column[h] = steps[h].value;
    ml_set_list(L, "values", column, count);
    for (size_t h = 0; h < count; h++)
        column[h] = steps[h].lo;
    if (bounded)
        ml_set_list(L, "lo", column, count);
    for (size_t h = 0; h < count; h++)
        column[h] = steps[h].hi;
    if (bounded)
        ml_set_list(L, "hi", column, count);
}

static void set_step(lua_State *L, const char *name, size_t step)
{
    if (step)
        set_number(L, name, (double)step);
}

static void push_crossing(lua_State *L, const struct forecast_step *steps, const struct asked *a)
{
    struct forecast_crossing c = forecast_crossing(steps, a->steps, a->threshold, !a->falling);
    lua_createtable(L, 0, 4);
    ml_set_flag(L, "crosses", c.crosses);
    set_step(L, "expected", c.expected);
    set_step(L, "soonest", c.soonest);
    set_step(L, "latest", c.latest);
    lua_setfield(L, -2, "crossing");
}

/* forecast(series, {steps, period, coverage, threshold, falling}) */
static int lua_forecast(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(asked, steps, ML_SIZE, 1, FORECAST_STEPS),
        ML_OPTION(asked, period, ML_SIZE, 1, FORECAST_SAMPLES),
        ML_OPTION(asked, coverage, ML_REAL, 0.01, 0.999),
        ML_OPTION(asked, threshold, ML_REAL, -1e300, 1e300),
        ML_OPTION(asked, falling, ML_FLAG, 0, 1),
    };
    struct asked a = {.threshold = NAN};
    struct forecast f;
    lua_settop(L, 2);
    ml_options_at(L, 2, "ml.forecast", options, sizeof options / sizeof *options, &a);
    if (!a.steps)
        return luaL_error(L, "ml.forecast: how many steps? ml.forecast(series, { steps = 24 })");
    struct ml_series s = ml_series_at(L, 1, "ml.forecast");
    struct forecast_step *steps = lua_newuserdata(L, a.steps * sizeof *steps);
    double *column = work_for(L, a.steps);
    struct forecast_opts opts = {.steps = a.steps, .period = a.period, .coverage = a.coverage};
    ml_check(L, forecast_make(s.v, s.n, &opts, &f, steps), "ml.forecast");
    if (isnan(steps[0].value)) {
        lua_pushnil(L);
        lua_pushliteral(L, "the series has no recent numbers to forecast from");
        return 2;
    }
    lua_createtable(L, 0, 10);
    set_text(L, "method", forecast_method_name(f.method));
    ml_set_flag(L, "beats", f.beats);
    ml_set(L, "mase", f.mase);
    set_number(L, "period", (double)f.period);
    set_number(L, "origins", (double)f.origins);
    push_path(L, steps, a.steps, column);
    if (!isnan(a.threshold))
        push_crossing(L, steps, &a);
    return 1;
}

/* ---- change points, correlation ---- */

static int lua_changepoints(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(changepoint_opts, penalty, ML_REAL, 0.01, 1e6),
        ML_OPTION(changepoint_opts, passes, ML_UNSIGNED, 1, 10),
        ML_OPTION(changepoint_opts, segment, ML_UNSIGNED, 2, 1e6),
        ML_OPTION(changepoint_opts, r_most, ML_REAL, 0, 0.999)};
    struct changepoint_opts opts = {0};
    struct changepoint_report report;
    lua_settop(L, 2);
    ml_options_at(L, 2, "ml.changepoints", options, 4, &opts);
    struct ml_series s = ml_series_at(L, 1, "ml.changepoints");
    struct changepoint *found = lua_newuserdata(L, CHANGES_MOST * sizeof *found);
    ml_check(L, changepoint_find(s.v, s.n, &opts, found, CHANGES_MOST, &report), "ml.changepoints");
    new_list(L);
    for (size_t i = 0; i < report.count && i < CHANGES_MOST; i++) {
        lua_createtable(L, 0, 6);
        set_number(L, "at", (double)found[i].at + 1);
        ml_set(L, "mean_before", found[i].mean_before);
        ml_set(L, "mean_after", found[i].mean_after);
        ml_set(L, "sd_before", found[i].sd_before);
        ml_set(L, "sd_after", found[i].sd_after);
        ml_set(L, "weight", found[i].weight);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_createtable(L, 0, 4);
    set_number(L, "count", (double)report.count);
    set_number(L, "used", (double)report.used);
    set_number(L, "r", report.r);
    set_number(L, "penalty", report.penalty);
    return 2;
}

struct linked {
    bool ranks;
    size_t lag;
};

/* correlate(x, y, {ranks, lag}) */
static int lua_correlate(lua_State *L)
{
    static const struct ml_option options[] = {ML_OPTION(linked, ranks, ML_FLAG, 0, 1),
                                               ML_OPTION(linked, lag, ML_SIZE, 0, 10000)};
    struct linked o = {0};
    struct correlation c;
    lua_settop(L, 3);
    ml_options_at(L, 3, "ml.correlate", options, 2, &o);
    struct ml_series x = ml_series_at(L, 1, "ml.correlate"), y = ml_series_at(L, 2, "ml.correlate");
    if (x.n != y.n)
        return luaL_error(L, "ml.correlate: the series have %d and %d values; they need as many",
                          (int)x.n, (int)y.n);
    ml_check(L, correlate_lagged(x.v, y.v, x.n, o.lag, o.ranks, &c), "ml.correlate");
    lua_createtable(L, 0, 4);
    set_number(L, "r", c.r);
    set_number(L, "p", c.p);
    set_number(L, "n", (double)c.n);
    set_number(L, "lag", (double)c.lag);
    return 1;
}

/* ---- moving average as an object ---- */

static int make_ewma(lua_State *L)
{
    double span = ml_number_at(L, 1, "ml.ewma", "the span", 1e-9, 1e12);
    ewma_init(ml_object(L, EWMA, sizeof(struct ewma)), span);
    return 1;
}

static int lua_ewma_add(lua_State *L)
{
    struct ewma *e = luaL_checkudata(L, 1, EWMA);
    double step = lua_isnoneornil(L, 3) ? 1 : ml_number_at(L, 3, "ewma:add", "the step", 0, 1e12);
    return push_figure(L, ewma_add(e, ml_value_at(L, 2, "ewma:add", "the value"), step));
}

static int lua_ewma_mean(lua_State *L)
{
    return push_figure(L, ((struct ewma *)luaL_checkudata(L, 1, EWMA))->mean);
}

static int lua_ewma_sd(lua_State *L)
{
    return push_figure(L, sqrt(((struct ewma *)luaL_checkudata(L, 1, EWMA))->variance));
}

void bind_ml_series(lua_State *L)
{
    static const luaL_Reg functions[] = {{"trend", lua_trend},
                                         {"level", lua_level},
                                         {"quantile", lua_quantile},
                                         {"volatility", lua_volatility},
                                         {"growth", lua_growth},
                                         {"moving_average", lua_moving_average},
                                         {"ewma", make_ewma},
                                         {"season", lua_season},
                                         {"autocorrelation", lua_autocorrelation},
                                         {"forecast", lua_forecast},
                                         {"changepoints", lua_changepoints},
                                         {"correlate", lua_correlate},
                                         {0}};
    static const luaL_Reg ewma[] = {
        {"add", lua_ewma_add}, {"mean", lua_ewma_mean}, {"sd", lua_ewma_sd}, {0}};
    ml_class(L, EWMA, ewma, NULL);
    luaL_register(L, NULL, functions);
}
