// SPDX-License-Identifier: MIT
#include "script/task_work.h"

#include "base/err.h"

#include <stdlib.h>

void *task_work_codec_new(void)
{
    return codec_new();
}

void task_work_codec_free(void *codec)
{
    codec_free(codec);
}

void task_work_run_kernel(struct task *task, void *codec)
{
    struct task_work *work = task_work_of(task);
    struct kernel_call call = {.data = buf_str(&work->in), .text = buf_str(&work->text), .number = work->number,
                               .max_bytes = work->max_bytes, .codec = codec, .stop = &task->stop, .out = &work->out};
    work->err = work->kernel->run(work->kernel, &call);
    if (work->err == 0 && !buf_ok(&work->out))
        work->err = ERR_NOMEM;
    task->failed = work->err < 0;
}

const char *task_work_name(const struct task *task)
{
    const struct task_work *work = (const struct task_work *)task;
    return work->kernel ? work->kernel->name : work->module;
}

struct task_call task_work_call(struct task_work *work)
{
    return (struct task_call){.module = work->module, .function = work->function, .map = work->map, .arguments = buf_str(&work->in),
                              .max_bytes = work->max_bytes, .stop = &work->task.stop};
}

void task_work_take(struct task_work *work, int err, const struct task_call *call)
{
    work->err = err;
    work->out = call->out;
    work->why = call->why;
    work->task.failed = err < 0;
}

void task_work_done(struct task_work *work)
{
    buf_done(&work->text);
    buf_done(&work->in);
    buf_done(&work->out);
    free(work->why);
}
