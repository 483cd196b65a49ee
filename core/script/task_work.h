/* task_work.h - what a thread is to do for Lua, and what came of it.
 *
 * The part of a task that is the same for handlers (bind_tasks.c) and for host programs
 * (host/tasks_module.c): a kernel or a function of Lua, its arguments as bytes, its result.
 * Who waits for it, and how, is theirs.
 *
 * Owner:   whoever has it as its first member; ends with task_work_done().
 * Threads: the loop's before it is submitted and after it is done, in between the task's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "script/task_values.h"
#include "task/task.h"

enum { TASK_NAME = 120 };

struct task_work {
    struct task task;
    const struct kernel *kernel; /* NULL: a function of Lua */
    char module[TASK_NAME], function[TASK_NAME];
    bool map;         /* the function is called for each value of its first argument */
    double number;    /* parameters of a kernel */
    struct buf text;
    struct buf in, out;
    size_t max_bytes; /* of the result */
    int err;          /* 0, or ERR_* */
    char *why;        /* malloc'ed, or NULL */
};

static inline struct task_work *task_work_of(struct task *task)
{
    return (struct task_work *)task;
}

/* For struct task_class: runs the kernel; `local` is a codec. */
void task_work_run_kernel(struct task *task, void *codec);
void *task_work_codec_new(void);
void task_work_codec_free(void *codec);

/* And its name, for who looks at what runs. */
const char *task_work_name(const struct task *task);

/* The call of a function of Lua, and what came of it. */
struct task_call task_work_call(struct task_work *work);
void task_work_take(struct task_work *work, int err, const struct task_call *call);

void task_work_done(struct task_work *work);
