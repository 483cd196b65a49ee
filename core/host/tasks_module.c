/* tasks_module.c - task threads for programs that are not ours.
 *
 *     module.new(options)                 threads; or nil and why
 *     module.kernels()                    a list of { name, takes, text, number }
 *     threads:lua(module, fn, map, priority, deadline_ms, ...)              a handle; nil, message, code
 *     threads:kernel(name, data, text, number, priority, deadline_ms)   the same
 *     threads:cancel(handle)              whether it was still under way
 *     threads:stats(), threads:close()
 *     module.waits(handle)                its number while it is under way, else nothing
 *     module.result(handle)               what it gave; nil, message, code
 *
 * lua/perilune/embed/host_tasks.lua makes that the object that programs see. A library of
 * its own, so that a program which only measures needs neither libuv nor the kernels' libraries.
 *
 * A thread that does not come back from C code cannot be ended. Then nothing of its pool is
 * freed, and the library stays in memory (it is linked that way), so that it returns to something.
 */
// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "base/log.h"
#include "host/loop.h"
#include "host/task_lua.h"
#include "script/json_text.h"
#include "script/plain.h"
#include "script/push.h"
#include "script/task_stats.h"
#include "script/task_work.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#define THREADS "perilune.tasks"
#define HANDLE "perilune.tasks.task"

enum { GRACE_MS = 5000 };

struct job;

/* What threads may look at; it outlives the object of Lua where a thread does not come back. */
struct crew {
    struct host_loop *loop;
    struct tasks *tasks;
    struct settings settings;
    struct task_process lane;
    struct task_lua_opts lua;
    char *path, *cpath;
    struct job *jobs; /* under way */
};

struct threads {
    struct host_object object;
    struct crew *crew;
};

struct handle {
    struct host_wait wait;
    struct job *job; /* while it is under way */
    enum task_form form;
    struct buf out;
    int err;
    char *why;
    bool taken;
};

struct job {
    struct task_work work;
    struct job *next, *prev;
    struct crew *crew;
    struct handle *handle; /* NULL: nobody wants the result */
};

/* ---- on a thread ---- */

static void run_lua(struct task *task, void *local)
{
    struct job *job = (struct job *)task;
    struct task_call call = task_work_call(&job->work);
    task_work_take(&job->work, local ? task_lua_run(local, &job->crew->lua, &call) : ERR_NOMEM, &call);
}

/* ---- the end of a task ---- */

static void job_free(struct job *job)
{
    *(job->prev ? &job->prev->next : &job->crew->jobs) = job->next;
    if (job->next)
        job->next->prev = job->prev;
    task_work_done(&job->work);
    free(job);
}

/* Its handle is left with an outcome; what becomes of the job is not its concern any more. */
static void leave(struct job *job, int err)
{
    struct handle *h = job->handle;
    job->handle = NULL;
    if (!h)
        return;
    h->job = NULL;
    h->err = err;
    host_wait_end(&h->wait);
}

static void on_done(struct task *task)
{
    struct job *job = (struct job *)task;
    struct handle *h = job->handle;
    int err = task->outcome == TASK_EXPIRED ? ERR_TIMEOUT : task->outcome == TASK_CANCELLED ? ERR_CANCELLED : job->work.err;
    if (err == ERR_INTERRUPTED && atomic_load_explicit(&task->stop, memory_order_relaxed))
        err = ERR_CANCELLED; /* by close() */
    if (h) {
        h->out = job->work.out;
        h->form = task_form_of(job->work.kernel);
        job->work.out = (struct buf){0};
        if (err == job->work.err) {
            h->why = job->work.why;
            job->work.why = NULL;
        }
    }
    leave(job, err);
    job_free(job);
}

/* It runs on, but nobody waits for that. */
static void on_expired(struct task *task)
{
    leave((struct job *)task, ERR_TIMEOUT);
}

static const struct task_class lua_class = {.kind = TASK_LUA, .run = run_lua, .done = on_done, .expired = on_expired, .name = task_work_name,
                                            .local_new = task_lua_new, .local_free = task_lua_free};

static const struct task_class kernel_class = {.kind = TASK_KERNEL, .run = task_work_run_kernel, .done = on_done, .expired = on_expired, .name = task_work_name,
                                               .local_new = task_work_codec_new, .local_free = task_work_codec_free};

/* ---- handles ---- */

/* Nobody waits for it any more. True: it was still under way. */
static bool give_up(struct handle *h)
{
    struct job *job = h->job;
    if (!job)
        return false;
    leave(job, ERR_CANCELLED);
    if (!job->work.task.pool || tasks_cancel(job->crew->tasks, &job->work.task))
        job_free(job);
    return true;
}

static void clear_result(struct handle *h)
{
    buf_done(&h->out);
    free(h->why);
    h->why = NULL;
}

static int handle_gc(lua_State *L)
{
    struct handle *h = lua_touserdata(L, 1);
    if (h->job && host_loop_is_ours(h->job->crew->loop))
        give_up(h);
    clear_result(h);
    return 0;
}

static struct threads *threads_at(lua_State *L)
{
    return (struct threads *)host_object_at(L, THREADS);
}

/* A job in a handle that is on top of the stack, which keeps its threads alive. What may raise comes before anything is queued. */
static struct job *new_job(lua_State *L, const struct task_class *class, int priority_at, int deadline_at)
{
    struct crew *crew = threads_at(L)->crew;
    enum task_priority priority = task_priority_at(L, priority_at);
    uint64_t deadline_ns = task_deadline_at(L, deadline_at, setting_number(&crew->settings, SETTING_TASKS_DEADLINE_MS));
    struct handle *h = lua_newuserdata(L, sizeof *h);
    memset(h, 0, sizeof *h);
    luaL_getmetatable(L, HANDLE);
    lua_setmetatable(L, -2);
    lua_getfenv(L, 1);
    lua_setfenv(L, -2);
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    job->work.task.class = class;
    job->work.task.priority = priority;
    job->work.task.deadline_ns = deadline_ns;
    job->crew = crew;
    job->work.max_bytes = setting_integer(&crew->settings, SETTING_TASKS_COPY_BYTES);
    job->handle = h;
    h->job = job;
    job->next = crew->jobs;
    if (crew->jobs)
        crew->jobs->prev = job;
    crew->jobs = job;
    return job;
}

/* Queues the job of the handle on top of the stack, and returns that. */
static int submit(lua_State *L, struct job *job)
{
    struct crew *crew = job->crew;
    struct handle *h = job->handle;
    if (!buf_ok(&job->work.in) || !buf_ok(&job->work.text))
        return luaL_error(L, "out of memory");
    tasks_tick(crew->tasks);
    if (!tasks_submit(crew->tasks, &job->work.task, 0)) {
        job->work.task.pool = NULL;
        give_up(h);
        return task_push_failure(L, ERR_BUSY, "task queue full");
    }
    host_wait_begin(&h->wait, crew->loop);
    return 1;
}

/* ---- methods ---- */

static int threads_lua(lua_State *L)
{
    const char *module = luaL_checkstring(L, 2), *function = luaL_checkstring(L, 3);
    char why[PLAIN_WHY];
    if (strlen(module) >= TASK_NAME || strlen(function) >= TASK_NAME)
        return luaL_error(L, "names of modules and functions have at most %d bytes", TASK_NAME - 1);
    int last = lua_gettop(L);
    struct job *job = new_job(L, &lua_class, 5, 6);
    job->work.map = lua_toboolean(L, 4);
    snprintf(job->work.module, sizeof job->work.module, "%s", module);
    snprintf(job->work.function, sizeof job->work.function, "%s", function);
    int err = plain_encode(L, 7, last, "argument", job->work.max_bytes, &job->work.in, why);
    if (err == 0)
        return submit(L, job);
    give_up(job->handle);
    if (err == ERR_TOO_LARGE || err == ERR_NOMEM)
        return task_push_failure(L, err, why);
    return luaL_error(L, "%s; tasks take and give numbers, strings, booleans, json.null and tables of them", why);
}

static int threads_kernel(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    const struct kernel *kernel = kernel_find((struct str){name, len});
    if (!kernel)
        return luaL_error(L, "there is no kernel '%s'", name);
    luaL_checktype(L, 3, kernel->takes == KERNEL_BYTES ? LUA_TSTRING : LUA_TTABLE);
    lua_settop(L, 7);
    struct job *job = new_job(L, &kernel_class, 6, 7);
    job->work.kernel = kernel;
    job->work.number = luaL_optnumber(L, 5, NAN);
    const char *p = lua_tolstring(L, 4, &len);
    if (p)
        buf_add(&job->work.text, p, len);
    if (kernel->takes == KERNEL_BYTES) {
        p = lua_tolstring(L, 3, &len);
        buf_add(&job->work.in, p, len);
    } else {
        task_add_numbers(L, 3, &job->work.in);
    }
    if (buf_len(&job->work.in) <= job->work.max_bytes)
        return submit(L, job);
    give_up(job->handle);
    return task_push_failure(L, ERR_TOO_LARGE, "the data is larger than tasks.copy_bytes");
}

static int threads_cancel(lua_State *L)
{
    threads_at(L);
    lua_pushboolean(L, give_up(luaL_checkudata(L, 2, HANDLE)));
    return 1;
}

static int threads_stats(lua_State *L)
{
    struct crew *crew = threads_at(L)->crew;
    tasks_tick(crew->tasks);
    task_stats_push(L, &crew->lane);
    task_stats_push_kinds(L, &crew->lane, 1);
    lua_setfield(L, -2, "kinds");
    return 1;
}

static void crew_free(struct crew *crew)
{
    if (crew->loop)
        host_loop_stop(crew->loop);
    if (crew->tasks)
        tasks_free(crew->tasks);
    if (crew->loop)
        host_loop_free(crew->loop);
    free(crew->path);
    free(crew->cpath);
    free(crew);
}

/* close(): tasks under way are told to stop and waited for; all handles have ended then. */
static int threads_close(lua_State *L)
{
    struct threads *t = luaL_checkudata(L, 1, THREADS);
    struct crew *crew = t->crew;
    struct host_loop *loop = t->object.loop;
    t->object.loop = NULL;
    t->crew = NULL;
    if (!loop || !host_loop_is_ours(loop))
        return 0; /* what the parent goes on with */
    io_now(&loop->io);
    if (tasks_stop(crew->tasks, GRACE_MS)) {
        crew_free(crew);
        return 0;
    }
    log_line(LOG_ERROR, "a task thread does not come back: what it uses stays in memory");
    for (struct job *job = crew->jobs; job; job = job->next)
        leave(job, ERR_CANCELLED);
    return 0;
}

/* ---- the library ---- */

static double number_of(lua_State *L, const char *name, double fallback)
{
    lua_getfield(L, 1, name);
    double value = luaL_optnumber(L, -1, fallback);
    lua_pop(L, 1);
    return value;
}

static char *text_of(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    char *text = strdup(luaL_optstring(L, -1, ""));
    lua_pop(L, 1);
    return text;
}

static void on_tick(void *user)
{
    tasks_tick(((struct crew *)user)->tasks);
}

static bool fill(struct crew *crew, unsigned threads)
{
    crew->lua.path = crew->path;
    crew->lua.cpath = crew->cpath;
    if (!crew->path || !crew->cpath || !(crew->loop = host_loop_new()))
        return false;
    crew->loop->user = crew;
    struct tasks_opts opts = {.io = &crew->loop->io, .settings = &crew->settings, .threads = threads, .lane = &crew->lane};
    if (!(crew->tasks = tasks_new(&opts)))
        return false;
    crew->loop->on_tick = on_tick;
    return true;
}

/* new{ threads, max, deadline_ms, cpu_ms, copy_bytes, lost_ms, path, cpath, jit }: numbers that are absent are the settings' defaults. */
static int new_threads(lua_State *L)
{
    static const struct {
        const char *name;
        enum setting_id id;
    } settings[] = {{"threads", SETTING_TASKS_THREADS}, {"max", SETTING_TASKS_MAX}, {"deadline_ms", SETTING_TASKS_DEADLINE_MS},
                    {"cpu_ms", SETTING_TASKS_CPU_MS}, {"copy_bytes", SETTING_TASKS_COPY_BYTES}, {"lost_ms", SETTING_TASKS_LOST_MS}};
    luaL_checktype(L, 1, LUA_TTABLE);
    struct threads *t = lua_newuserdata(L, sizeof *t);
    memset(t, 0, sizeof *t);
    luaL_getmetatable(L, THREADS);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0); /* what handles are held to, so that the threads live as long as they do */
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    struct crew *crew = aligned_alloc(_Alignof(struct crew), sizeof *crew); /* the lane has cache lines of its own */
    if (!crew)
        return luaL_error(L, "out of memory");
    memset(crew, 0, sizeof *crew);
    settings_init(&crew->settings);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        settings_set(&crew->settings, settings[i].id, number_of(L, settings[i].name, setting_infos[settings[i].id].fallback), ORIGIN_FILE);
    crew->lua.cpu_ms = (unsigned)setting_integer(&crew->settings, SETTING_TASKS_CPU_MS);
    lua_getfield(L, 1, "jit");
    crew->lua.jit = lua_toboolean(L, -1);
    lua_pop(L, 1);
    crew->path = text_of(L, "path");
    crew->cpath = text_of(L, "cpath");
    if (!fill(crew, (unsigned)setting_integer(&crew->settings, SETTING_TASKS_THREADS))) {
        crew_free(crew);
        lua_pushnil(L);
        lua_pushliteral(L, "out of memory or descriptors");
        return 2;
    }
    t->crew = crew;
    t->object.loop = crew->loop;
    return 1;
}

static int handle_waits(lua_State *L)
{
    const struct handle *h = luaL_checkudata(L, 1, HANDLE);
    return host_wait_push(L, &h->wait);
}

static int handle_result(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, HANDLE);
    if (h->job)
        return luaL_error(L, "this task is still under way");
    if (h->taken)
        return luaL_error(L, "this task was awaited before; keep what it gave");
    h->taken = true;
    return task_push_result(L, &(struct task_result){.err = h->err, .why = h->why, .form = h->form, .out = buf_str(&h->out)});
}

EXPORT int luaopen_perilune_tasks(lua_State *L);
int luaopen_perilune_tasks(lua_State *L)
{
    static const luaL_Reg methods[] = {{"lua", threads_lua}, {"kernel", threads_kernel}, {"cancel", threads_cancel}, {"stats", threads_stats}, {"close", threads_close}, {0}};
    static const luaL_Reg functions[] = {{"new", new_threads}, {"kernels", task_push_kernels}, {"waits", handle_waits}, {"result", handle_result}, {0}};
    json_share_array_metatable(L);
    luaL_newmetatable(L, HANDLE);
    lua_pushcfunction(L, handle_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newmetatable(L, THREADS);
    lua_pushcfunction(L, threads_close);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    host_loop_methods(L, THREADS);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
