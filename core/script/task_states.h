/* task_states.h - Lua of a generation on task threads.
 *
 * A handler's state belongs to the loop, so each thread makes states of its own from
 * the same files: same sandbox, memory cap and watchdog, but nothing in them can wait.
 * A thread keeps the states of a few generations; a task runs on that of the generation
 * whose handler asked for it, so those under way at a reload end on the code they
 * began with.
 *
 * Owner:   the code: its script and the tasks under way, by count. The states: their thread.
 * Threads: code any; states their thread's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "script/script.h"
#include "script/task_values.h"

struct task_code;
struct task_states;

/* Copies what tasks need of a generation's files. NULL: out of memory. */
struct task_code *task_code_new(const struct script_opts *opts);
struct task_code *task_code_hold(struct task_code *code);
void task_code_put(struct task_code *code);

/* Nobody starts tasks of it any more: states made from it may go. */
void task_code_retire(struct task_code *code);

/* Whether a module ("lib.name") is part of it. */
bool task_code_has(const struct task_code *code, const char *module);

/* For struct task_class. */
void *task_states_new(void);
void task_states_tidy(void *states);
void task_states_free(void *states);

/* Calls a function. 0, ERR_SCRIPT, ERR_INTERRUPTED, ERR_TOO_LARGE, ERR_NOMEM. */
int task_states_call(struct task_states *states, struct task_code *code, struct task_call *call);
