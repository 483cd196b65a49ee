/* What is learned from rows: each model is a userdata that owns its kernel's object.
 *
 * The collector does not see the kernel's memory, so a step of it is asked for
 * with each model: a loop that trains models does not pile them up. */
// SPDX-License-Identifier: MIT
#include "script/bind_ml.h"

#include "ml/conformal.h"
#include "ml/detector.h"
#include "ml/forest.h"
#include "ml/kmeans.h"
#include "ml/novel.h"
#include "ml/residual.h"
#include "script/push.h"

#include <math.h>

static const char FOREST[] = "perilune.ml.forest", KMEANS[] = "perilune.ml.kmeans";
static const char RESIDUAL[] = "perilune.ml.residual", DETECTOR[] = "perilune.ml.detector";
static const char NOVEL[] = "perilune.ml.novel", CONFORMAL[] = "perilune.ml.conformal";

static const double SEEDS = 9007199254740992.0; /* 2^53: whole numbers end there */

struct detecting {
    struct detector *detector;
    size_t cols;
};

/* The slot of an object; its kernel's pointer is there until it is collected. */
static void **slot(lua_State *L, const char *class)
{
    return ml_object(L, class, sizeof(void *));
}

static void *model_at(lua_State *L, const char *class)
{
    return *(void **)luaL_checkudata(L, 1, class);
}

static void collect_step(lua_State *L)
{
    lua_gc(L, LUA_GCSTEP, 64);
}

/* ---- isolation forest ---- */

static int make_forest(lua_State *L)
{
    static const struct ml_option options[] = {ML_OPTION(forest_opts, trees, ML_UNSIGNED, 1, 10000),
                                               ML_OPTION(forest_opts, sample, ML_UNSIGNED, 2, 256),
                                               ML_OPTION(forest_opts, seed, ML_U64, 0, SEEDS)};
    struct forest_opts opts = {0};
    lua_settop(L, 2);
    collect_step(L);
    ml_options_at(L, 2, "ml.forest", options, 3, &opts);
    struct mat rows = ml_rows_at(L, 1, "ml.forest");
    struct forest **f = (struct forest **)slot(L, FOREST);
    ml_check(L, forest_fit(f, &rows, &opts), "ml.forest");
    return 1;
}

static int lua_forest_score(lua_State *L)
{
    const struct forest *f = model_at(L, FOREST);
    lua_settop(L, 2);
    struct mat rows = ml_rows_at(L, 2, "forest:score");
    if (rows.cols != forest_cols(f))
        return luaL_error(L, "forest:score: the rows have %d columns, the forest was made of %d",
                          (int)rows.cols, (int)forest_cols(f));
    double *out = lua_newuserdata(L, rows.rows * sizeof *out);
    ml_check(L, forest_score(f, &rows, out), "forest:score");
    new_list(L);
    for (size_t i = 0; i < rows.rows; i++) {
        lua_pushnumber(L, out[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int end_forest(lua_State *L)
{
    forest_free(model_at(L, FOREST));
    return 0;
}

/* ---- k-means ---- */

static int make_kmeans(lua_State *L)
{
    static const struct ml_option options[] = {ML_OPTION(kmeans_opts, k, ML_SIZE, 1, 256),
                                               ML_OPTION(kmeans_opts, k_most, ML_SIZE, 1, 256),
                                               ML_OPTION(kmeans_opts, steps, ML_UNSIGNED, 1, 10000),
                                               ML_OPTION(kmeans_opts, starts, ML_UNSIGNED, 1, 100),
                                               ML_OPTION(kmeans_opts, seed, ML_U64, 0, SEEDS)};
    struct kmeans_opts opts = {0};
    lua_settop(L, 2);
    collect_step(L);
    ml_options_at(L, 2, "ml.kmeans", options, 5, &opts);
    struct mat rows = ml_rows_at(L, 1, "ml.kmeans");
    if (opts.k > rows.rows)
        return luaL_error(L,
                          "ml.kmeans: %d groups of %d rows; there cannot be more groups than rows",
                          (int)opts.k, (int)rows.rows);
    struct kmeans **m = (struct kmeans **)slot(L, KMEANS);
    ml_check(L, kmeans_fit(m, &rows, &opts), "ml.kmeans");
    return 1;
}

static int lua_kmeans_result(lua_State *L)
{
    const struct kmeans *m = model_at(L, KMEANS);
    size_t rows = 0;
    lua_createtable(L, 0, 6);
    set_number(L, "k", (double)m->k);
    ml_set(L, "inertia", m->inertia);
    ml_set(L, "silhouette", m->silhouette);
    new_list(L);
    for (size_t g = 0; g < m->k; g++) {
        rows += m->sizes[g];
        lua_pushnumber(L, (double)m->sizes[g]);
        lua_rawseti(L, -2, (int)g + 1);
    }
    lua_setfield(L, -2, "sizes");
    new_list(L);
    for (size_t g = 0; g < m->k; g++) {
        new_list(L);
        for (size_t j = 0; j < m->cols; j++) {
            lua_pushnumber(L, m->centers[g * m->cols + j]);
            lua_rawseti(L, -2, (int)j + 1);
        }
        lua_rawseti(L, -2, (int)g + 1);
    }
    lua_setfield(L, -2, "centers");
    new_list(L);
    for (size_t i = 0; i < rows; i++) {
        lua_pushnumber(L, (double)m->group[i] + 1);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "groups");
    return 1;
}

static int lua_kmeans_group(lua_State *L)
{
    const struct kmeans *m = model_at(L, KMEANS);
    double distance;
    lua_settop(L, 2);
    const double *row = ml_row_at(L, 2, m->cols, "kmeans:group");
    lua_pushnumber(L, (double)kmeans_group(m, row, &distance) + 1);
    lua_pushnumber(L, distance);
    return 2;
}

static int end_kmeans(lua_State *L)
{
    struct kmeans *m = model_at(L, KMEANS);
    if (m)
        kmeans_free(m);
    return 0;
}

/* ---- residual ---- */

static int make_residual(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(residual_opts, keep, ML_REAL, 0.01, 1),
        ML_OPTION(residual_opts, floor, ML_REAL, 1e-300, 1e300),
        ML_OPTION(residual_opts, clip, ML_REAL, 1e-3, 1e300),
        ML_OPTION(residual_opts, shrink, ML_REAL, 0, 1)};
    struct residual_opts opts = {0};
    lua_settop(L, 2);
    collect_step(L);
    ml_options_at(L, 2, "ml.residual", options, 4, &opts);
    struct mat rows = ml_rows_at(L, 1, "ml.residual");
    struct residual **r = (struct residual **)slot(L, RESIDUAL);
    ml_check(L, residual_fit(r, &rows, &opts), "ml.residual");
    return 1;
}

static int lua_residual_of(lua_State *L)
{
    const struct residual *r = model_at(L, RESIDUAL);
    lua_settop(L, 2);
    size_t cols = residual_cols(r);
    const double *row = ml_row_at(L, 2, cols, "residual:of");
    double *work = lua_newuserdata(L, cols * sizeof *work);
    struct residual_score score = residual_of(r, row, work);
    lua_pushnumber(L, score.residual);
    lua_pushnumber(L, score.mahalanobis);
    return 2;
}

static int lua_residual_kept(lua_State *L)
{
    lua_pushnumber(L, (double)residual_kept(model_at(L, RESIDUAL)));
    return 1;
}

static int end_residual(lua_State *L)
{
    residual_free(model_at(L, RESIDUAL));
    return 0;
}

/* ---- detector ---- */

static int make_detector(lua_State *L)
{
    static const struct ml_option options[] = {
        ML_OPTION(detector_opts, alpha, ML_REAL, 1e-6, 0.5),
        ML_OPTION(detector_opts, window, ML_SIZE, 1, 1 << 20),
        ML_OPTION(detector_opts, smooth, ML_REAL, 1e-6, 1)};
    struct detector_opts opts = {0};
    lua_settop(L, 2);
    collect_step(L);
    ml_options_at(L, 2, "ml.detector", options, 3, &opts);
    struct mat rows = ml_rows_at(L, 1, "ml.detector");
    if (rows.rows < 64)
        return luaL_error(L, "ml.detector: it learns from at least 64 rows, these are %d",
                          (int)rows.rows);
    struct detecting *d = ml_object(L, DETECTOR, sizeof *d);
    d->cols = rows.cols;
    ml_check(L, detector_fit(&d->detector, &rows, &opts), "ml.detector");
    return 1;
}

static int lua_detector_next(lua_State *L)
{
    static const char *const names[DETECTOR_CHANNELS] = {"edge", "shift", "pattern"};
    struct detecting *d = luaL_checkudata(L, 1, DETECTOR);
    lua_settop(L, 2);
    struct verdict v = detector_next(d->detector, ml_row_at(L, 2, d->cols, "detector:next"));
    lua_createtable(L, 0, 5);
    ml_set(L, "severity", v.severity);
    ml_set(L, "p_all", v.p_all);
    ml_set_flag(L, "alarm", v.alarm);
    lua_createtable(L, 0, DETECTOR_CHANNELS);
    for (int i = 0; i < DETECTOR_CHANNELS; i++)
        ml_set(L, names[i], v.score[i]);
    lua_setfield(L, -2, "score");
    lua_createtable(L, 0, DETECTOR_CHANNELS);
    for (int i = 0; i < DETECTOR_CHANNELS; i++)
        ml_set(L, names[i], v.p[i]);
    lua_setfield(L, -2, "p");
    return 1;
}

static int end_detector(lua_State *L)
{
    struct detecting *d = luaL_checkudata(L, 1, DETECTOR);
    if (d->detector)
        detector_free(d->detector);
    return 0;
}

/* ---- novelty, conformal ranks ---- */

static int make_novel(lua_State *L)
{
    static const struct ml_option options[] = {ML_OPTION(novel_opts, block, ML_UNSIGNED, 4, 1024),
                                               ML_OPTION(novel_opts, share, ML_REAL, 1e-9, 1),
                                               ML_OPTION(novel_opts, rise, ML_REAL, 0.1, 100),
                                               ML_OPTION(novel_opts, quiet, ML_UNSIGNED, 1, 4096)};
    struct novel_opts opts = {0};
    lua_settop(L, 1);
    collect_step(L);
    ml_options_at(L, 1, "ml.novel", options, 4, &opts);
    void **n = slot(L, NOVEL);
    if (!(*n = novel_new(&opts)))
        return luaL_error(L, "ml.novel: out of memory");
    return 1;
}

static int lua_novel_next(lua_State *L)
{
    struct novel_score score =
        novel_next(model_at(L, NOVEL), ml_value_at(L, 2, "novel:next", "the value"));
    lua_pushnumber(L, score.raw);
    lua_pushnumber(L, score.event);
    return 2;
}

static int end_novel(lua_State *L)
{
    struct novel *n = model_at(L, NOVEL);
    if (n)
        novel_free(n);
    return 0;
}

static int make_conformal(lua_State *L)
{
    size_t window = (size_t)ml_number_at(L, 1, "ml.conformal", "the window", 1, 1 << 20);
    collect_step(L);
    void **c = slot(L, CONFORMAL);
    if (!(*c = conformal_new(window)))
        return luaL_error(L, "ml.conformal: out of memory");
    return 1;
}

static int lua_conformal_p(lua_State *L)
{
    lua_pushnumber(
        L, conformal_p(model_at(L, CONFORMAL), ml_value_at(L, 2, "conformal:p", "the score")));
    return 1;
}

static int lua_conformal_add(lua_State *L)
{
    conformal_add(model_at(L, CONFORMAL), ml_value_at(L, 2, "conformal:add", "the score"));
    return 0;
}

static int lua_conformal_count(lua_State *L)
{
    lua_pushnumber(L, (double)conformal_count(model_at(L, CONFORMAL)));
    return 1;
}

static int end_conformal(lua_State *L)
{
    conformal_free(model_at(L, CONFORMAL));
    return 0;
}

void bind_ml_models(lua_State *L)
{
    static const luaL_Reg functions[] = {{"forest", make_forest},
                                         {"kmeans", make_kmeans},
                                         {"residual", make_residual},
                                         {"detector", make_detector},
                                         {"novel", make_novel},
                                         {"conformal", make_conformal},
                                         {0}};
    static const luaL_Reg forest[] = {{"score", lua_forest_score}, {0}};
    static const luaL_Reg kmeans[] = {
        {"result", lua_kmeans_result}, {"group", lua_kmeans_group}, {0}};
    static const luaL_Reg residual[] = {{"of", lua_residual_of}, {"kept", lua_residual_kept}, {0}};
    static const luaL_Reg detector[] = {{"next", lua_detector_next}, {0}};
    static const luaL_Reg novel[] = {{"next", lua_novel_next}, {0}};
    static const luaL_Reg conformal[] = {
        {"p", lua_conformal_p}, {"add", lua_conformal_add}, {"count", lua_conformal_count}, {0}};
    ml_class(L, FOREST, forest, end_forest);
    ml_class(L, KMEANS, kmeans, end_kmeans);
    ml_class(L, RESIDUAL, residual, end_residual);
    ml_class(L, DETECTOR, detector, end_detector);
    ml_class(L, NOVEL, novel, end_novel);
    ml_class(L, CONFORMAL, conformal, end_conformal);
    luaL_register(L, NULL, functions);
}
