/* bind_tasks.h - tasks for handlers; lua/perilune/tasks.lua makes them an object.
 *
 *     core.tasks.lua(module, fn, map, priority, deadline_ms, ...)   a handle; nil, message, code
 *     core.tasks.kernel(name, data, text, number, priority, deadline_ms)   the same
 *     core.tasks.await(handle)    waits: results; nil, message, code
 *     core.tasks.cancel(handle)   whether it was still under way
 *     core.tasks.kernels()        a list of { name, takes, text, number }
 *     core.tasks.threads()        how many there may be
 *
 * A task belongs to the request that started it. What nobody can await any more is
 * cancelled: when its request ends, however it ends, or its handle is collected.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

struct fiber;
struct task_handle;

/* Adds `tasks` to `core` on top of the stack. */
void bind_tasks_open(lua_State *L);

/* The fiber's request is over: gives up its tasks. */
void tasks_request_over(struct fiber *f);
