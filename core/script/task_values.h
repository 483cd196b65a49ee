/* task_values.h - what tasks take and give, between Lua and bytes.
 *
 * For handlers (bind_tasks.c) and for host programs (host/tasks_module.c), which wait in
 * different ways.
 *
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "board/task_lanes.h"
#include "script/plain.h"
#include "task/kernel.h"

#include <lua.h>
#include <stdatomic.h>

enum task_form { TASK_PLAIN /* plain.h */, TASK_BYTES, TASK_NUMBERS };

struct task_result {
    int err;         /* 0, or ERR_* */
    const char *why; /* in its own words, or NULL */
    enum task_form form;
    struct str out;
};

/* What a kernel gives; NULL: a function of Lua. */
enum task_form task_form_of(const struct kernel *kernel);

/* The values; or nil, message, code. */
int task_push_result(lua_State *L, const struct task_result *result);
int task_push_failure(lua_State *L, int err, const char *message);

/* Arguments of a task; raise what is wrong with them. The deadline is a time of the monotonic clock. */
enum task_priority task_priority_at(lua_State *L, int at);
uint64_t task_deadline_at(lua_State *L, int at, double fallback_ms);

/* Appends the list at `index` as doubles; raises when it holds anything else. */
void task_add_numbers(lua_State *L, int index, struct buf *out);

/* A call of a function of Lua on a task thread. */
struct task_call {
    const char *module, *function;
    bool map;             /* the first argument is a list: call for each of its values */
    struct str arguments; /* plain.h */
    size_t max_bytes;     /* of the results */
    const _Atomic bool *stop;
    /* results */
    struct buf out;       /* plain.h */
    char *why;            /* malloc'ed, when it failed */
    bool interrupted;
};

/* With one slot on the stack and the module's table above it: calls the function and writes what it
 * returns to call->out, or raises. Returns what plain_encode() does; why[] is then its word. */
int task_call_run(lua_State *L, struct task_call *call, char why[PLAIN_WHY]);

/* Pushes a list of { name, takes, text, number, text_needed }. A function of Lua. */
int task_push_kernels(lua_State *L);
