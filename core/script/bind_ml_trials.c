/* Experiments, their guards, and sketches of durations. */
// SPDX-License-Identifier: MIT
#include "script/bind_ml.h"

#include "ml/guards.h"
#include "ml/switchback.h"
#include "script/push.h"
#include "stats/sketch_algebra.h"

#include <math.h>
#include <string.h>

static const char EXPERIMENT[] = "perilune.ml.experiment", SWITCHBACK[] = "perilune.ml.switchback";
static const char ERROR_GUARD[] = "perilune.ml.error_guard",
                  TAIL_GUARD[] = "perilune.ml.tail_guard";
static const char SKETCH[] = "perilune.ml.sketch";

static const double WHOLE = 9007199254740992.0; /* 2^53 */

static uint64_t count_at(lua_State *L, int at, const char *who, const char *what)
{
    return (uint64_t)ml_number_at(L, at, who, what, 0, WHOLE);
}

static int push_verdict(lua_State *L, enum experiment_verdict v)
{
    lua_pushstring(L, experiment_verdict_name(v));
    return 1;
}

static void push_result(lua_State *L, const struct experiment_result *r)
{
    lua_createtable(L, 0, 10);
    set_text(L, "verdict", experiment_verdict_name(r->verdict));
    ml_set_flag(L, "usable", r->usable);
    set_number(L, "n", r->n);
    ml_set(L, "estimate", r->estimate);
    ml_set(L, "lo", r->lo);
    ml_set(L, "hi", r->hi);
    ml_set(L, "lambda", r->lambda);
    ml_set(L, "sd", r->sd);
}

/* ---- two arms side by side ---- */

static int make_experiment(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(experiment_opts, alpha, ML_REAL, 1e-6, 0.5),
        ML_OPTION(experiment_opts, tau, ML_REAL, 1e-6, 10),
        ML_OPTION(experiment_opts, mde, ML_REAL, 1e-6, 10),
        ML_OPTION(experiment_opts, harm, ML_REAL, 1e-6, 10),
        ML_OPTION(experiment_opts, inflation, ML_REAL, 1e-6, 1),
        ML_OPTION(experiment_opts, r_usable, ML_REAL, 1e-6, 1),
        ML_OPTION(experiment_opts, sd_floor, ML_REAL, 1e-12, 10),
        ML_OPTION(experiment_opts, before, ML_UNSIGNED, 3, 1e6),
        ML_OPTION(experiment_opts, least, ML_UNSIGNED, 1, 1e6),
        ML_OPTION(experiment_opts, most, ML_UNSIGNED, 1, 1e6),
    };
    struct experiment_opts opts = {0};
    lua_settop(L, 1);
    ml_options_at(L, 1, "ml.experiment", options, sizeof options / sizeof *options, &opts);
    experiment_init(ml_object(L, EXPERIMENT, sizeof(struct experiment)), &opts);
    return 1;
}

static int lua_experiment_before(lua_State *L)
{
    struct experiment *e = luaL_checkudata(L, 1, EXPERIMENT);
    experiment_before(e, ml_value_at(L, 2, "experiment:before", "the canary's value"),
                      ml_value_at(L, 3, "experiment:before", "the control's value"));
    return 0;
}

static int lua_experiment_add(lua_State *L)
{
    struct experiment *e = luaL_checkudata(L, 1, EXPERIMENT);
    double canary = ml_value_at(L, 2, "experiment:add", "the canary's value");
    return push_verdict(
        L, experiment_add(e, canary, ml_value_at(L, 3, "experiment:add", "the control's value")));
}

static int lua_experiment_result(lua_State *L)
{
    const struct experiment *e = luaL_checkudata(L, 1, EXPERIMENT);
    push_result(L, &e->result);
    set_number(L, "before", e->result.before);
    set_number(L, "r", e->result.r);
    return 1;
}

/* ---- in turns ---- */

static int make_switchback(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(switchback_opts, arms, ML_UNSIGNED, 1, 2),
        ML_OPTION(switchback_opts, block_ms, ML_U64, 10, 1e10),
        ML_OPTION(switchback_opts, washout_ms, ML_U64, 1, 1e10),
        ML_OPTION(switchback_opts, seed, ML_U64, 0, WHOLE),
        ML_OPTION(switchback_opts, alpha, ML_REAL, 1e-6, 0.5),
        ML_OPTION(switchback_opts, mde, ML_REAL, 1e-6, 10),
        ML_OPTION(switchback_opts, harm, ML_REAL, 1e-6, 10),
        ML_OPTION(switchback_opts, g, ML_REAL, 1e-6, 1e6),
        ML_OPTION(switchback_opts, sd_floor, ML_REAL, 1e-12, 10),
        ML_OPTION(switchback_opts, least, ML_UNSIGNED, 2, 1e6),
        ML_OPTION(switchback_opts, most, ML_UNSIGNED, 2, 1e6),
    };
    struct switchback_opts opts = {0};
    lua_settop(L, 2);
    uint64_t now_ms = count_at(L, 1, "ml.switchback", "the start in ms");
    ml_options_at(L, 2, "ml.switchback", options, sizeof options / sizeof *options, &opts);
    struct switchback *s = ml_object(L, SWITCHBACK, sizeof *s);
    switchback_init(s, &opts, now_ms);
    if (s->opts.washout_ms >= s->opts.block_ms)
        return luaL_error(
            L, "ml.switchback: a wash-out of %f ms leaves nothing to measure of a block of %f ms",
            (double)s->opts.washout_ms, (double)s->opts.block_ms);
    return 1;
}

static int lua_switchback_at(lua_State *L)
{
    const struct switchback *s = luaL_checkudata(L, 1, SWITCHBACK);
    struct switchback_moment m =
        switchback_at(s, count_at(L, 2, "switchback:at", "the time in ms"));
    lua_createtable(L, 0, 4);
    set_number(L, "block", (double)m.block + 1);
    ml_set_flag(L, "on", m.on);
    ml_set_flag(L, "measuring", m.measuring);
    ml_set_flag(L, "over", m.over);
    return 1;
}

static int lua_switchback_add(lua_State *L)
{
    struct switchback *s = luaL_checkudata(L, 1, SWITCHBACK);
    uint64_t end_ms = count_at(L, 2, "switchback:add", "the window's end in ms");
    uint64_t length_ms = count_at(L, 3, "switchback:add", "the window's length in ms");
    return push_verdict(
        L, switchback_add(s, end_ms, length_ms, ml_value_at(L, 4, "switchback:add", "the value")));
}

static int lua_switchback_close(lua_State *L)
{
    struct switchback *s = luaL_checkudata(L, 1, SWITCHBACK);
    return push_verdict(L,
                        switchback_close(s, count_at(L, 2, "switchback:close", "the time in ms")));
}

static int lua_switchback_result(lua_State *L)
{
    push_result(L, &((const struct switchback *)luaL_checkudata(L, 1, SWITCHBACK))->result);
    return 1;
}

/* ---- guards ---- */

static int make_error_guard(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(error_guard_opts, trips_at, ML_REAL, 1, 1e12),
        ML_OPTION(error_guard_opts, inflation, ML_REAL, 0.1, 100)};
    struct error_guard_opts opts = {0};
    lua_settop(L, 1);
    ml_options_at(L, 1, "ml.error_guard", options, 2, &opts);
    error_guard_init(ml_object(L, ERROR_GUARD, sizeof(struct error_guard)), &opts);
    return 1;
}

static int lua_error_guard_before(lua_State *L)
{
    struct error_guard *g = luaL_checkudata(L, 1, ERROR_GUARD);
    uint64_t requests = count_at(L, 2, "error_guard:before", "the number of requests");
    error_guard_before(g, requests, count_at(L, 3, "error_guard:before", "the number of errors"));
    return 0;
}

/* add(canary requests, canary errors, control requests, control errors) */
static int lua_error_guard_add(lua_State *L)
{
    static const char *const what[] = {"the canary's requests", "the canary's errors",
                                       "the control's requests", "the control's errors"};
    struct error_guard *g = luaL_checkudata(L, 1, ERROR_GUARD);
    uint64_t n[4];
    for (int i = 0; i < 4; i++)
        n[i] = count_at(L, i + 2, "error_guard:add", what[i]);
    lua_pushboolean(L, error_guard_add(g, n[0], n[1], n[2], n[3]));
    double evidence = error_guard_evidence(g);
    lua_pushnumber(L, isfinite(evidence) ? evidence : 1e308);
    lua_pushnumber(L, error_guard_fano(g));
    return 3;
}

static int make_tail_guard(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(tail_guard_opts, ratio, ML_REAL, 1e-6, 1e6),
        ML_OPTION(tail_guard_opts, bad, ML_UNSIGNED, 1, TAIL_GUARD_MOST),
        ML_OPTION(tail_guard_opts, of, ML_UNSIGNED, 1, TAIL_GUARD_MOST),
        ML_OPTION(tail_guard_opts, requests, ML_U64, 1, WHOLE)};
    struct tail_guard_opts opts = {0};
    lua_settop(L, 1);
    ml_options_at(L, 1, "ml.tail_guard", options, 4, &opts);
    struct tail_guard *g = ml_object(L, TAIL_GUARD, sizeof *g);
    tail_guard_init(g, &opts);
    if (g->opts.bad > g->opts.of)
        return luaL_error(L, "ml.tail_guard: %d of %d windows can never be bad", (int)g->opts.bad,
                          (int)g->opts.of);
    return 1;
}

/* add(canary p99, canary requests, control p99, control requests) */
static int lua_tail_guard_add(lua_State *L)
{
    struct tail_guard *g = luaL_checkudata(L, 1, TAIL_GUARD);
    double canary = ml_value_at(L, 2, "tail_guard:add", "the canary's p99");
    uint64_t canary_requests = count_at(L, 3, "tail_guard:add", "the canary's requests");
    double control = ml_value_at(L, 4, "tail_guard:add", "the control's p99");
    uint64_t control_requests = count_at(L, 5, "tail_guard:add", "the control's requests");
    lua_pushboolean(L, tail_guard_add(g, canary, canary_requests, control, control_requests));
    return 1;
}

/* ---- sketches ---- */

struct counts {
    uint32_t bucket[SKETCH_BUCKETS];
};

static int make_sketch(lua_State *L)
{
    ml_object(L, SKETCH, sizeof(struct counts));
    return 1;
}

static int lua_sketch_record(lua_State *L)
{
    struct counts *c = luaL_checkudata(L, 1, SKETCH);
    double ms = ml_number_at(L, 2, "sketch:record", "the duration in ms", 0, 1e9);
    double times =
        lua_isnoneornil(L, 3) ? 1 : ml_number_at(L, 3, "sketch:record", "how often", 0, UINT32_MAX);
    uint32_t *bucket = &c->bucket[sketch_index((uint64_t)(ms * 1e6))];
    if (__builtin_add_overflow(*bucket, (uint32_t)times, bucket))
        *bucket = UINT32_MAX;
    return 0;
}

static int lua_sketch_copy(lua_State *L)
{
    const struct counts *c = luaL_checkudata(L, 1, SKETCH);
    *(struct counts *)ml_object(L, SKETCH, sizeof *c) = *c;
    return 1;
}

static int lua_sketch_merge(lua_State *L)
{
    struct counts *to = luaL_checkudata(L, 1, SKETCH), *from = luaL_checkudata(L, 2, SKETCH);
    sketch_merge(to->bucket, from->bucket, SKETCH_BUCKETS);
    lua_settop(L, 1);
    return 1;
}

static int lua_sketch_subtract(lua_State *L)
{
    struct counts *to = luaL_checkudata(L, 1, SKETCH), *from = luaL_checkudata(L, 2, SKETCH);
    if (!sketch_subtract(to->bucket, from->bucket, SKETCH_BUCKETS)) {
        lua_pushnil(L);
        lua_pushliteral(L, "the other sketch is not part of this one: it counts values that this "
                           "one does not have");
        return 2;
    }
    lua_settop(L, 1);
    return 1;
}

static int lua_sketch_total(lua_State *L)
{
    const struct counts *c = luaL_checkudata(L, 1, SKETCH);
    lua_pushnumber(L, (double)sketch_total(c->bucket, SKETCH_BUCKETS));
    return 1;
}

static int lua_sketch_quantile(lua_State *L)
{
    const struct counts *c = luaL_checkudata(L, 1, SKETCH);
    double q = ml_number_at(L, 2, "sketch:quantile", "q", 0, 1);
    if (!sketch_total(c->bucket, SKETCH_BUCKETS))
        return 0;
    struct sketch_estimate e = sketch_estimate(c->bucket, SKETCH_BUCKETS, SKETCH_SCALE, q);
    lua_pushnumber(L, e.value_ns / 1e6);
    lua_createtable(L, 0, 4);
    set_number(L, "lower", e.lower_ns / 1e6);
    set_number(L, "upper", e.upper_ns / 1e6);
    set_number(L, "lo", e.lo_ns / 1e6);
    set_number(L, "hi", e.hi_ns / 1e6);
    return 2;
}

static int lua_sketch_share_above(lua_State *L)
{
    const struct counts *c = luaL_checkudata(L, 1, SKETCH);
    double ms = ml_number_at(L, 2, "sketch:share_above", "the duration in ms", 0, 1e9);
    double share = sketch_share_above(c->bucket, SKETCH_BUCKETS, SKETCH_SCALE, ms * 1e6);
    if (isnan(share))
        return 0;
    lua_pushnumber(L, share);
    return 1;
}

void bind_ml_trials(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"experiment", make_experiment},   {"switchback", make_switchback},
        {"error_guard", make_error_guard}, {"tail_guard", make_tail_guard},
        {"sketch", make_sketch},           {0}};
    static const luaL_Reg experiment[] = {{"before", lua_experiment_before},
                                          {"add", lua_experiment_add},
                                          {"result", lua_experiment_result},
                                          {0}};
    static const luaL_Reg switchback[] = {{"at", lua_switchback_at},
                                          {"add", lua_switchback_add},
                                          {"close", lua_switchback_close},
                                          {"result", lua_switchback_result},
                                          {0}};
    static const luaL_Reg error_guard[] = {
        {"before", lua_error_guard_before}, {"add", lua_error_guard_add}, {0}};
    static const luaL_Reg tail_guard[] = {{"add", lua_tail_guard_add}, {0}};
    static const luaL_Reg sketch[] = {{"record", lua_sketch_record},
                                      {"copy", lua_sketch_copy},
                                      {"merge", lua_sketch_merge},
                                      {"subtract", lua_sketch_subtract},
                                      {"total", lua_sketch_total},
                                      {"quantile", lua_sketch_quantile},
                                      {"share_above", lua_sketch_share_above},
                                      {0}};
    ml_class(L, EXPERIMENT, experiment, NULL);
    ml_class(L, SWITCHBACK, switchback, NULL);
    ml_class(L, ERROR_GUARD, error_guard, NULL);
    ml_class(L, TAIL_GUARD, tail_guard, NULL);
    ml_class(L, SKETCH, sketch, NULL);
    luaL_register(L, NULL, functions);
}
