/* task_lua.h - functions of the host's modules on task threads.
 *
 * Each thread has a Lua state of its own, with the paths that the host had when the
 * threads were made. What runs there is the host's own code, so it is not locked up;
 * but it is interpreted, so that a hook can end it when nobody wants its result any
 * more or when it has used its time: compiled code looks at no hook. Who would rather
 * have it compiled says so, and then only its return ends it.
 *
 * Threads: each state its thread's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "script/task_values.h"

struct task_lua_opts {
    const char *path, *cpath; /* package.path and package.cpath */
    unsigned cpu_ms;          /* of one call */
    bool jit;
};

/* For struct task_class. */
void *task_lua_new(void);
void task_lua_free(void *thread);

/* Calls a function. 0, ERR_SCRIPT, ERR_INTERRUPTED, ERR_TOO_LARGE, ERR_NOMEM. */
int task_lua_run(void *thread, const struct task_lua_opts *opts, struct task_call *call);
