// SPDX-License-Identifier: MIT
#include "script/bind_ml.h"

#include "base/err.h"
#include "base/str.h"
#include "script/push.h"

#include <math.h>
#include <string.h>

static const char MATRIX[] = "perilune.ml.matrix";

/* ---- matrices ---- */

static struct mat *new_matrix(lua_State *L, size_t rows, size_t cols, const char *who)
{
    size_t cells = 0, bytes = 0;
    if (cols > MAT_COLS_MOST)
        luaL_error(L, "%s: %d columns, there may be at most %d", who, (int)cols, MAT_COLS_MOST);
    if (__builtin_mul_overflow(rows, cols, &cells) ||
        __builtin_mul_overflow(cells, sizeof(double), &bytes))
        luaL_error(L, "%s: too large", who);
    struct mat *m = lua_newuserdata(L, sizeof *m + bytes);
    *m = (struct mat){rows, cols, (double *)(m + 1)};
    luaL_getmetatable(L, MATRIX);
    lua_setmetatable(L, -2);
    return m;
}

static struct mat *matrix_or_null(lua_State *L, int at)
{
    struct mat *m = lua_touserdata(L, at);
    if (!m || !lua_getmetatable(L, at))
        return NULL;
    luaL_getmetatable(L, MATRIX);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? m : NULL;
}

/* v[n] from the list on top of the stack. `row` 0: it is no row of a matrix. */
static void read_numbers(lua_State *L, double *v, size_t n, size_t row, const char *who)
{
    for (size_t j = 0; j < n; j++) {
        lua_rawgeti(L, -1, (int)j + 1);
        if (lua_type(L, -1) != LUA_TNUMBER) {
            const char *type = luaL_typename(L, -1);
            if (row)
                luaL_error(L,
                           "%s: value %d of row %d is a %s, it must be a number (0/0 stands for a "
                           "missing one)",
                           who, (int)j + 1, (int)row, type);
            luaL_error(L,
                       "%s: value %d is a %s, it must be a number (0/0 stands for a missing one)",
                       who, (int)j + 1, type);
        }
        v[j] = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
}

struct mat ml_rows_at(lua_State *L, int at, const char *who)
{
    struct mat *given = matrix_or_null(L, at);
    if (given)
        return *given;
    if (!lua_istable(L, at))
        luaL_error(L, "%s: rows are a list of lists of numbers or a matrix, not a %s", who,
                   luaL_typename(L, at));
    size_t rows = lua_objlen(L, at), cols = 0;
    struct mat *m = NULL;
    for (size_t i = 0; i < rows; i++) {
        lua_rawgeti(L, at, (int)i + 1);
        if (!lua_istable(L, -1))
            luaL_error(L, "%s: row %d is a %s, it must be a list of numbers", who, (int)i + 1,
                       luaL_typename(L, -1));
        if (i == 0) {
            cols = lua_objlen(L, -1);
            m = new_matrix(L, rows, cols, who);
            lua_insert(L, -2);
        }
        if (lua_objlen(L, -1) != cols)
            luaL_error(L, "%s: row %d has %d values, row 1 has %d; all rows need as many", who,
                       (int)i + 1, (int)lua_objlen(L, -1), (int)cols);
        read_numbers(L, mat_row(m, i), cols, i + 1, who);
        lua_pop(L, 1);
    }
    if (!m || !cols) {
        luaL_error(L, "%s: there are no %s; give at least one row of one number", who,
                   rows ? "columns" : "rows");
        return (struct mat){0};
    }
    return *m;
}

struct ml_series ml_series_at(lua_State *L, int at, const char *who)
{
    struct mat *given = matrix_or_null(L, at);
    if (given && given->cols != 1)
        luaL_error(L, "%s: a matrix of %d columns is no series; take one of them with m:column(j)",
                   who, (int)given->cols);
    if (given)
        return (struct ml_series){given->v, given->rows};
    if (!lua_istable(L, at))
        luaL_error(L, "%s: a series is a list of numbers or a matrix of one column, not a %s", who,
                   luaL_typename(L, at));
    size_t n = lua_objlen(L, at);
    double *v = lua_newuserdata(L, (n + 1) * sizeof *v);
    lua_pushvalue(L, at);
    read_numbers(L, v, n, 0, who);
    lua_pop(L, 1);
    return (struct ml_series){v, n};
}

double *ml_row_at(lua_State *L, int at, size_t cols, const char *who)
{
    if (!lua_istable(L, at))
        luaL_error(L, "%s: a row is a list of numbers, not a %s", who, luaL_typename(L, at));
    if (lua_objlen(L, at) != cols)
        luaL_error(L, "%s: the row has %d values, it must have %d", who, (int)lua_objlen(L, at),
                   (int)cols);
    double *v = lua_newuserdata(L, (cols + 1) * sizeof *v);
    lua_pushvalue(L, at);
    read_numbers(L, v, cols, 0, who);
    lua_pop(L, 1);
    return v;
}

/* matrix(rows) */
static int make_matrix(lua_State *L)
{
    lua_settop(L, 1);
    struct mat from = ml_rows_at(L, 1, "ml.matrix");
    if (lua_gettop(L) == 1 && from.v) { /* of a matrix: a copy */
        struct mat *to = new_matrix(L, from.rows, from.cols, "ml.matrix");
        memcpy(to->v, from.v, from.rows * from.cols * sizeof *to->v);
    }
    return 1;
}

static size_t index_at(lua_State *L, int at, size_t most, const char *who, const char *what)
{
    return (size_t)ml_number_at(L, at, who, what, 1, (double)most) - 1;
}

static int matrix_shape(lua_State *L)
{
    struct mat *m = luaL_checkudata(L, 1, MATRIX);
    lua_pushnumber(L, (double)m->rows);
    lua_pushnumber(L, (double)m->cols);
    return 2;
}

static int matrix_rows(lua_State *L)
{
    lua_pushnumber(L, (double)((struct mat *)luaL_checkudata(L, 1, MATRIX))->rows);
    return 1;
}

static int matrix_get(lua_State *L)
{
    struct mat *m = luaL_checkudata(L, 1, MATRIX);
    size_t i = index_at(L, 2, m->rows, "matrix:get", "the row");
    lua_pushnumber(L, mat_row(m, i)[index_at(L, 3, m->cols, "matrix:get", "the column")]);
    return 1;
}

static int matrix_row(lua_State *L)
{
    struct mat *m = luaL_checkudata(L, 1, MATRIX);
    size_t i = index_at(L, 2, m->rows, "matrix:row", "the row");
    new_list(L);
    for (size_t j = 0; j < m->cols; j++) {
        lua_pushnumber(L, mat_row(m, i)[j]);
        lua_rawseti(L, -2, (int)j + 1);
    }
    return 1;
}

static int matrix_column(lua_State *L)
{
    struct mat *m = luaL_checkudata(L, 1, MATRIX);
    size_t j = index_at(L, 2, m->cols, "matrix:column", "the column");
    struct mat *column = new_matrix(L, m->rows, 1, "matrix:column");
    for (size_t i = 0; i < m->rows; i++)
        column->v[i] = mat_row(m, i)[j];
    return 1;
}

/* ---- options ---- */

static void unknown_key(lua_State *L, const char *key, const char *who,
                        const struct ml_option *options, size_t count)
{
    const char *near = NULL;
    unsigned best = 4;
    for (size_t i = 0; i < count; i++) {
        unsigned distance = str_distance((struct str){key, strlen(key)},
                                         (struct str){options[i].name, strlen(options[i].name)});
        if (distance < best) {
            best = distance;
            near = options[i].name;
        }
    }
    if (near)
        luaL_error(L, "%s: unknown key '%s', did you mean '%s'?", who, key, near);
    luaL_error(L, "%s: unknown key '%s'", who, key);
}

/* The value is on top. */
static void read_option(lua_State *L, const char *who, const struct ml_option *o, void *to)
{
    char *field = (char *)to + o->offset;
    int wanted = o->kind == ML_FLAG ? LUA_TBOOLEAN : LUA_TNUMBER;
    if (lua_type(L, -1) != wanted)
        luaL_error(L, "%s: key '%s' is a %s, it must be a %s", who, o->name, luaL_typename(L, -1),
                   lua_typename(L, wanted));
    if (o->kind == ML_FLAG) {
        *(bool *)field = lua_toboolean(L, -1);
        return;
    }
    double x = lua_tonumber(L, -1);
    if (!(x >= o->least && x <= o->most) || (o->kind != ML_REAL && x != floor(x)))
        luaL_error(L, "%s: key '%s' is %f, it must be %s from %f to %f", who, o->name, x,
                   o->kind == ML_REAL ? "a number" : "a whole number", o->least, o->most);
    if (o->kind == ML_REAL)
        *(double *)field = x;
    else if (o->kind == ML_UNSIGNED)
        *(unsigned *)field = (unsigned)x;
    else if (o->kind == ML_SIZE)
        *(size_t *)field = (size_t)x;
    else
        *(uint64_t *)field = (uint64_t)x;
}

void ml_options_at(lua_State *L, int at, const char *who, const struct ml_option *options,
                   size_t count, void *to)
{
    if (lua_isnoneornil(L, at))
        return;
    if (!lua_istable(L, at))
        luaL_error(L, "%s: options are a table, not a %s", who, luaL_typename(L, at));
    for (lua_pushnil(L); lua_next(L, at); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "[a list]";
        size_t i = 0;
        while (i < count && strcmp(options[i].name, key) != 0)
            i++;
        if (i == count)
            unknown_key(L, key, who, options, count);
        read_option(L, who, &options[i], to);
    }
}

double ml_value_at(lua_State *L, int at, const char *who, const char *what)
{
    if (lua_isnoneornil(L, at))
        luaL_error(L, "%s: %s is missing, it must be a number", who, what);
    if (lua_type(L, at) != LUA_TNUMBER)
        luaL_error(L, "%s: %s is a %s, it must be a number", who, what, luaL_typename(L, at));
    return lua_tonumber(L, at);
}

double ml_number_at(lua_State *L, int at, const char *who, const char *what, double least,
                    double most)
{
    double x = ml_value_at(L, at, who, what);
    if (!(x >= least && x <= most))
        luaL_error(L, "%s: %s is %f, it must be from %f to %f", who, what, x, least, most);
    return x;
}

/* ---- objects and results ---- */

void *ml_object(lua_State *L, const char *class, size_t size)
{
    void *object = lua_newuserdata(L, size);
    memset(object, 0, size);
    luaL_getmetatable(L, class);
    lua_setmetatable(L, -2);
    return object;
}

void ml_class(lua_State *L, const char *class, const luaL_Reg *methods, lua_CFunction collect)
{
    luaL_newmetatable(L, class);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    if (collect) {
        lua_pushcfunction(L, collect);
        lua_setfield(L, -2, "__gc");
    }
    lua_pop(L, 1);
}

void ml_check(lua_State *L, int err, const char *who)
{
    if (err < 0)
        luaL_error(L, "%s: %s", who, err_text(err));
}

void ml_set(lua_State *L, const char *name, double value)
{
    if (isfinite(value))
        set_number(L, name, value);
}

void ml_set_flag(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

void ml_set_list(lua_State *L, const char *name, const double *v, size_t n)
{
    new_list(L);
    for (size_t i = 0; i < n; i++) {
        lua_pushnumber(L, v[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, name);
}

void bind_ml_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"shape", matrix_shape},
                                       {"get", matrix_get},
                                       {"row", matrix_row},
                                       {"column", matrix_column},
                                       {0}};
    ml_class(L, MATRIX, methods, NULL);
    luaL_getmetatable(L, MATRIX);
    lua_pushcfunction(L, matrix_rows);
    lua_setfield(L, -2, "__len");
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushcfunction(L, make_matrix);
    lua_setfield(L, -2, "matrix");
    bind_ml_series(L);
    bind_ml_models(L);
    bind_ml_trials(L);
    lua_setfield(L, -2, "ml");
}
