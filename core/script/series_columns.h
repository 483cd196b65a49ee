/* series_columns.h - steps of history as columns: one list of numbers per signal.
 *
 * Steps are turned into numbers as they come, on whatever thread; the lists
 * for Lua are made at the end.
 *
 * Owner:   whoever holds the struct; ends with series_columns_done().
 * Threads: one at a time; pushing is the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "stats/history.h"

#include <lua.h>

struct series_columns {
    struct buf rows; /* of doubles */
    double slow_s;   /* above 0: also "slow", requests that took longer */
    bool pool;       /* the steps are a pool's: statements, wait_ms, ... */
    int steps;
};

/* For history_series() and its like; arg is the columns. Steps above 20,000 are left out. */
void series_columns_add(void *arg, const struct history_step *step);

/* { at_ms = {}, requests = {}, ... } */
void series_columns_push(lua_State *L, const struct series_columns *columns);

void series_columns_done(struct series_columns *columns);
