/* pool_stats.h - figures of a pool of connections as a table, of all workers together.
 *
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/pools.h"

#include <lua.h>

/* Pushes { id, health, max, count, idle, pending_requests, statements, wait_time_ms, ... }. */
void pool_stats_push(lua_State *L, struct board_pool *p);

/* Sets a field of the table on top: { count, mean, p50, p95, p99 } of a sketch. */
void pool_stats_set_times(lua_State *L, const char *name, const uint32_t *counts, uint64_t sum_ns);
