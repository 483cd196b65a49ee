// SPDX-License-Identifier: MIT
#include "script/bind_tasks.h"

#include "base/err.h"
#include "script/plain.h"
#include "script/state.h"
#include "script/task_states.h"
#include "script/task_work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define HANDLE_TYPE "perilune.task"

/* Work for a thread. On its own, because the request may end before it does. */
struct task_job {
    struct task_work work;
    struct task_handle *handle; /* NULL: nobody wants the result */
    struct lane *lane;
    struct task_code *code;     /* of a function of Lua */
    bool interrupted;
};

enum handle_state { HANDLE_NEW, HANDLE_PENDING, HANDLE_ENDED, HANDLE_TAKEN };

/* A task as Lua holds it. */
struct task_handle {
    struct task_handle *next, *prev; /* of the fiber */
    struct fiber *fiber;             /* NULL: its request is over */
    struct task_job *job;            /* while it is pending */
    enum handle_state state;
    bool waits;
    uint64_t waits_ns;
    enum task_form form;
    struct buf out;
    int err;
    char *why;
};

/* ---- on a thread ---- */

static void run_lua(struct task *task, void *local)
{
    struct task_job *job = (struct task_job *)task;
    struct task_call call = task_work_call(&job->work);
    task_work_take(&job->work, local ? task_states_call(local, job->code, &call) : ERR_NOMEM, &call);
    job->interrupted = call.interrupted;
}

/* ---- the end of a task ---- */

static void job_free(struct task_job *job)
{
    task_code_put(job->code);
    task_work_done(&job->work);
    free(job);
}

static int push_result(lua_State *L, void *user)
{
    const struct task_handle *h = user;
    return task_push_result(L, &(struct task_result){.err = h->err, .why = h->why, .form = h->form, .out = buf_str(&h->out)});
}

static void clear_result(struct task_handle *h)
{
    buf_done(&h->out);
    free(h->why);
    h->why = NULL;
}

/* The result is there; whoever waits for it goes on. */
static void resolve(struct task_handle *h)
{
    struct fiber *f = h->fiber;
    h->state = HANDLE_ENDED;
    if (!h->waits)
        return;
    h->waits = false;
    h->state = HANDLE_TAKEN;
    io_now(f->script->io);
    if (f->ex)
        f->ex->phase_ns[PHASE_TASK] += f->script->io->now_ns - h->waits_ns;
    fiber_resume(f, push_result, h);
}

static int error_of(const struct task_job *job)
{
    switch (job->work.task.outcome) {
    case TASK_EXPIRED:
        return ERR_TIMEOUT;
    case TASK_CANCELLED:
        return ERR_CANCELLED;
    default:
        return job->work.err;
    }
}

static void on_done(struct task *task)
{
    struct task_job *job = (struct task_job *)task;
    struct task_handle *h = job->handle;
    if (job->interrupted && task->outcome == TASK_FAILED)
        lane_add(&job->lane->script_interrupts, 1);
    if (h) {
        h->job = NULL;
        h->err = error_of(job);
        h->out = job->work.out;
        h->why = h->err == job->work.err ? job->work.why : NULL;
        h->form = task_form_of(job->work.kernel);
        job->work.out = (struct buf){0};
        if (h->why)
            job->work.why = NULL;
    }
    job_free(job);
    if (h)
        resolve(h);
}

/* It runs on, but nobody waits for that. */
static void on_expired(struct task *task)
{
    struct task_job *job = (struct task_job *)task;
    struct task_handle *h = job->handle;
    if (!h)
        return;
    job->handle = NULL;
    h->job = NULL;
    h->err = ERR_TIMEOUT;
    resolve(h);
}

static const struct task_class lua_class = {
    .kind = TASK_LUA, .run = run_lua, .done = on_done, .expired = on_expired, .name = task_work_name,
    .local_new = task_states_new, .local_tidy = task_states_tidy, .local_free = task_states_free};

static const struct task_class kernel_class = {
    .kind = TASK_KERNEL, .run = task_work_run_kernel, .done = on_done, .expired = on_expired, .name = task_work_name,
    .local_new = task_work_codec_new, .local_free = task_work_codec_free};

/* ---- handles ---- */

/* Nobody awaits it any more. True: it was still under way. */
static bool give_up(struct task_handle *h, struct tasks *tasks)
{
    struct task_job *job = h->job;
    if (!job)
        return false;
    h->job = NULL;
    job->handle = NULL;
    if (h->state == HANDLE_NEW || tasks_cancel(tasks, &job->work.task))
        job_free(job);
    h->err = ERR_CANCELLED;
    h->state = HANDLE_ENDED;
    return true;
}

static void leave_fiber(struct task_handle *h)
{
    if (!h->fiber)
        return;
    *(h->prev ? &h->prev->next : &h->fiber->tasks) = h->next;
    if (h->next)
        h->next->prev = h->prev;
    h->fiber = NULL;
    h->waits = false;
}

void tasks_request_over(struct fiber *f)
{
    struct task_handle *h;
    while ((h = f->tasks)) {
        give_up(h, f->script->tasks);
        clear_result(h);
        leave_fiber(h);
    }
}

static int handle_gc(lua_State *L)
{
    struct task_handle *h = luaL_checkudata(L, 1, HANDLE_TYPE);
    give_up(h, h->fiber ? h->fiber->script->tasks : NULL);
    clear_result(h);
    leave_fiber(h);
    return 0;
}

static struct task_handle *new_handle(lua_State *L, struct fiber *f)
{
    struct task_handle *h = lua_newuserdata(L, sizeof *h);
    memset(h, 0, sizeof *h);
    luaL_getmetatable(L, HANDLE_TYPE);
    lua_setmetatable(L, -2);
    h->fiber = f;
    h->next = f->tasks;
    if (f->tasks)
        f->tasks->prev = h;
    f->tasks = h;
    return h;
}

/* ---- starting ---- */

/* A job in a handle that is on top of the stack. What may raise comes before anything is queued. */
static struct task_job *new_job(lua_State *L, const struct task_class *class, int priority_at, int deadline_at)
{
    struct fiber *f = fiber_running(L);
    struct script *s = f->script;
    if (!s->tasks)
        luaL_error(L, "tasks are for the handlers of routes; there are no task threads here");
    enum task_priority priority = task_priority_at(L, priority_at);
    uint64_t deadline_ns = task_deadline_at(L, deadline_at, setting_number(&s->board->settings, SETTING_TASKS_DEADLINE_MS));
    struct task_handle *h = new_handle(L, f);
    struct task_job *job = h->job = calloc(1, sizeof *job);
    if (!job) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    job->work.task.class = class;
    job->work.task.priority = priority;
    job->work.task.deadline_ns = deadline_ns;
    job->handle = h;
    job->lane = s->lane;
    job->work.max_bytes = setting_integer(&s->board->settings, SETTING_TASKS_COPY_BYTES);
    return job;
}

/* Queues the job of the handle on top of the stack, and returns that. */
static int submit(lua_State *L, struct task_job *job)
{
    struct task_handle *h = job->handle;
    struct tasks *tasks = h->fiber->script->tasks;
    if (!buf_ok(&job->work.in) || !buf_ok(&job->work.text))
        return luaL_error(L, "out of memory");
    if (!tasks_submit(tasks, &job->work.task, 0)) {
        give_up(h, tasks);
        return task_push_failure(L, ERR_BUSY, "task queue full");
    }
    h->state = HANDLE_PENDING;
    return 1;
}

static int lua_start_lua(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    const char *module = luaL_checkstring(L, 1), *function = luaL_checkstring(L, 2);
    char why[PLAIN_WHY];
    if (strlen(module) >= TASK_NAME || strlen(function) >= TASK_NAME)
        return luaL_error(L, "names of modules and functions have at most %d bytes", TASK_NAME - 1);
    if (f->script->task_code && !task_code_has(f->script->task_code, module))
        return luaL_error(L, "there is no module '%s': put it below the rules folder as lib/name.lua and name it 'lib.name'",
                          module);
    int last = lua_gettop(L);
    struct task_job *job = new_job(L, &lua_class, 4, 5);
    job->work.map = lua_toboolean(L, 3);
    snprintf(job->work.module, sizeof job->work.module, "%s", module);
    snprintf(job->work.function, sizeof job->work.function, "%s", function);
    job->code = task_code_hold(f->script->task_code);
    int err = plain_encode(L, 6, last, "argument", job->work.max_bytes, &job->work.in, why);
    if (err == ERR_TOO_LARGE || err == ERR_NOMEM) {
        give_up(job->handle, f->script->tasks);
        return task_push_failure(L, err, why);
    }
    return err < 0 ? luaL_error(L, "%s; tasks take and give numbers, strings, booleans, json.null and tables of them", why)
                   : submit(L, job);
}

static int lua_start_kernel(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    const struct kernel *kernel = kernel_find((struct str){name, len});
    if (!kernel)
        return luaL_error(L, "there is no kernel '%s'", name);
    luaL_checktype(L, 2, kernel->takes == KERNEL_BYTES ? LUA_TSTRING : LUA_TTABLE);
    lua_settop(L, 6);
    struct task_job *job = new_job(L, &kernel_class, 5, 6);
    job->work.kernel = kernel;
    job->work.number = luaL_optnumber(L, 4, NAN);
    const char *p = lua_tolstring(L, 3, &len);
    if (p)
        buf_add(&job->work.text, p, len);
    if (kernel->takes == KERNEL_BYTES) {
        p = lua_tolstring(L, 2, &len);
        buf_add(&job->work.in, p, len);
    } else {
        task_add_numbers(L, 2, &job->work.in);
    }
    if (buf_len(&job->work.in) <= job->work.max_bytes)
        return submit(L, job);
    give_up(job->handle, job->handle->fiber->script->tasks);
    return task_push_failure(L, ERR_TOO_LARGE, "the data is larger than tasks.copy_bytes");
}

/* ---- waiting ---- */

static struct task_handle *handle_at(lua_State *L, const struct fiber *f)
{
    struct task_handle *h = luaL_checkudata(L, 1, HANDLE_TYPE);
    if (h->fiber != f)
        luaL_error(L, "a task belongs to the request that started it, and that one is over");
    return h;
}

static void cancel_wait(struct fiber *f)
{
    struct task_handle *h = f->wait.op;
    h->waits = false; /* the task goes with the fiber */
}

static int lua_await(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct task_handle *h = handle_at(L, f);
    switch (h->state) {
    case HANDLE_TAKEN:
        return luaL_error(L, "this task was awaited before; keep what it gave");
    case HANDLE_ENDED:
        h->state = HANDLE_TAKEN;
        return push_result(L, h);
    default:
        break;
    }
    h->waits = true;
    h->waits_ns = io_now(f->script->io);
    int yields = fiber_wait(L, f, cancel_wait, h);
    f->wait.needs_client = setting_number(&f->script->board->settings, SETTING_TASKS_CANCEL_GONE) != 0;
    return yields;
}

static int lua_cancel(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct task_handle *h = handle_at(L, f);
    lua_pushboolean(L, give_up(h, f->script->tasks));
    return 1;
}

/* ---- what there is ---- */

static int lua_threads(lua_State *L)
{
    lua_pushnumber(L, setting_number(&state_of(L)->board->settings, SETTING_TASKS_THREADS));
    return 1;
}

void bind_tasks_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"lua", lua_start_lua}, {"kernel", lua_start_kernel}, {"await", lua_await}, {"cancel", lua_cancel},
        {"kernels", task_push_kernels}, {"threads", lua_threads}, {0}};
    luaL_newmetatable(L, HANDLE_TYPE);
    lua_pushcfunction(L, handle_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_setfield(L, -2, "tasks");
}
