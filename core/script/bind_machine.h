/* bind_machine.h - the machine for the control API's Lua.
 *
 *     core.machine.figures()     a list of { section, name, unit, doc, value }, or with `why` in place of
 *                                a value that is not available
 *     core.machine.processes()   a list of { name, role, pid, rss_bytes, open_fds, requests, loop_lag_ms,
 *                                lua_heap_bytes, gc_cycles, gc_pause_ms }; what is not known is absent
 *     core.machine.sessions(pids, database)   of those that are sessions of PostgreSQL in that database, on this machine:
 *                                { [pid] = { cpu_s, wait_s } }, CPU time and time that they waited for a CPU
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "sys/resources.h"

#include <lua.h>

/* Adds the field to `core` on top of the stack; both must outlive the state. */
void bind_machine_open(lua_State *L, struct board *board, const struct resources *resources);
