/* task_stats.h - figures of task threads as tables.
 *
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/task_lanes.h"

#include <lua.h>

/* Pushes { width, threads, lost, max, queued, running, utilization } of a process. */
void task_stats_push(lua_State *L, const struct task_process *p);

/* Pushes a list by kind and priority, of all processes together. */
void task_stats_push_kinds(lua_State *L, const struct task_process *processes, unsigned count);
