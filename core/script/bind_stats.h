/* bind_stats.h - what was measured, as Lua tables.
 *
 *     stats.stats(window_s)   requests, latencies, phases, processes, slow
 *                             requests, machine; 0: since the start
 *     stats.totals()          of that what belongs to no route and no window
 *     stats.histograms(i, n)  cumulative latency buckets of n routes from the
 *                             i-th on, and where to go on; without both of all
 *     stats.settings()        every setting with bounds, value and origin
 *     stats.generation()      which scripts are in force
 *
 * Times are milliseconds unless the name says otherwise. What is not available
 * on this machine is absent. Lists are marked, so an empty one encodes as [].
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/history.h"
#include "sys/resources.h"

#include <lua.h>

/* Pushes the table of functions. `resources` is sampled by the caller and may be
 * NULL; all three must outlive the state. Returns 1. */
int bind_stats_open(lua_State *L, struct board *board, struct history *history,
                    const struct resources *resources);
