/* bind_task_stats.h - what task threads did, for the control API's Lua.
 *
 *     core.task_stats()   { processes, kinds }
 *         processes: a list of { name, width, threads, lost, max, queued, running, utilization }
 *         kinds: a list of { kind, priority, queued, running, done, failed, cancelled, expired,
 *                refused, cpu_s, wait_time_ms, run_time_ms }, all processes together; what never was is left out
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void bind_task_stats_open(lua_State *L);
