/* bind_ml.h - the kernels of core/ml for Lua: `core.ml`, which perilune.ml documents.
 *
 * Bindings convert and call. A series is a list of numbers or a matrix of one
 * column, rows are a list of lists or a matrix; both are copied into memory of
 * the Lua heap, so its limit bounds them and an error leaks nothing. A figure
 * that is not finite is absent from a result, so results encode as JSON.
 *
 * Owner:   models belong to their userdata and end with the collector.
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stddef.h>

/* Adds the field `ml` to `core` on top of the stack. */
void bind_ml_open(lua_State *L);

/* ---- shared by the parts of the binding; each part adds its functions to the table on top ---- */

void bind_ml_series(lua_State *L); /* trends, forecasts, change points, correlation */
void bind_ml_models(lua_State *L); /* what is learned from rows */
void bind_ml_trials(lua_State *L); /* experiments, guards, sketches */

/* The series at an index of the stack, as doubles; pushes the memory when it has to be made. */
struct ml_series {
    const double *v;
    size_t n;
};
struct ml_series ml_series_at(lua_State *L, int at, const char *who);

/* The rows at an index, the same. At least one row of one column. */
struct mat ml_rows_at(lua_State *L, int at, const char *who);

/* A list of exactly `cols` numbers, as one row; pushes its memory. */
double *ml_row_at(lua_State *L, int at, size_t cols, const char *who);

enum ml_kind { ML_REAL, ML_UNSIGNED, ML_SIZE, ML_U64, ML_FLAG };

struct ml_option {
    const char *name;
    enum ml_kind kind;
    size_t offset;
    double least, most;
};

#define ML_OPTION(type, field, kind, least, most)               \
    {                                                           \
#field, kind, offsetof(struct type, field), least, most \
    }

/* Reads the options table at an index (nothing: none) into a struct; an unknown key, a wrong type
 * or a number out of bounds is an error that says which. */
void ml_options_at(lua_State *L, int at, const char *who, const struct ml_option *options,
                   size_t count, void *to);

/* Pushes a new object of `size` zero bytes with the methods of a class. */
void *ml_object(lua_State *L, const char *class, size_t size);
void ml_class(lua_State *L, const char *class, const luaL_Reg *methods, lua_CFunction collect);

/* Raises an error for a kernel's code below 0. */
void ml_check(lua_State *L, int err, const char *who);

/* A number within bounds, of the arguments. */
double ml_number_at(lua_State *L, int at, const char *who, const char *what, double least,
                    double most);

/* Any number of the arguments, NaN and infinities too. */
double ml_value_at(lua_State *L, int at, const char *who, const char *what);

/* Sets a field of the table on top, unless the value is not finite. */
void ml_set(lua_State *L, const char *name, double value);
void ml_set_flag(lua_State *L, const char *name, bool value);
void ml_set_list(lua_State *L, const char *name, const double *v, size_t n);
