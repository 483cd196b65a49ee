// SPDX-License-Identifier: MIT
#include "host/task_lua.h"

#include "base/err.h"
#include "script/json_text.h"
#include "script/plain.h"
#include "script/task_values.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT = 10000 /* instructions between two looks */ };

struct task_lua {
    lua_State *L; /* NULL: not made yet */
    const struct task_lua_opts *opts;
    struct task_call *call; /* under way */
    uint64_t until_ns;          /* CPU time of the thread at which it has used its own */
    int err;
    char why[PLAIN_WHY];
};

static const char thread_key; /* its address is the registry key */

void *task_lua_new(void)
{
    return calloc(1, sizeof(struct task_lua));
}

static void drop_state(struct task_lua *t)
{
    if (!t->L)
        return;
    lua_sethook(t->L, NULL, 0, 0);
    lua_close(t->L);
    t->L = NULL;
}

void task_lua_free(void *thread)
{
    drop_state(thread);
    free(thread);
}

/* ---- limits ---- */

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* Once it has raised, it raises with every instruction, so that a pcall does not go on. */
static void on_count(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_pushlightuserdata(L, (void *)&thread_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    struct task_lua *t = lua_touserdata(L, -1);
    lua_pop(L, 1);
    bool unwanted = atomic_load_explicit(t->call->stop, memory_order_relaxed);
    if (!unwanted && cpu_ns() <= t->until_ns)
        return;
    t->call->interrupted = true;
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    if (unwanted)
        luaL_error(L, "interrupted: nobody waits for it any more");
    luaL_error(L, "interrupted after %d ms of CPU time (cpu_ms)", (int)t->opts->cpu_ms);
}

/* ---- the state ---- */

/* os.exit() would end the whole program, from a thread that it does not know of. */
static int refuse_exit(lua_State *L)
{
    return luaL_error(L, "a task cannot end the program");
}

static int open(lua_State *L)
{
    struct task_lua *t = lua_touserdata(L, 1);
    luaL_openlibs(L);
    if (!t->opts->jit)
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_getglobal(L, "package");
    lua_pushstring(L, t->opts->path);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, t->opts->cpath);
    lua_setfield(L, -2, "cpath");
    lua_getglobal(L, "os");
    lua_pushcfunction(L, refuse_exit);
    lua_setfield(L, -2, "exit");
    json_share_array_metatable(L);
    lua_pushlightuserdata(L, (void *)&thread_key);
    lua_pushlightuserdata(L, t);
    lua_rawset(L, LUA_REGISTRYINDEX);
    return 0;
}

static void fail(struct task_lua *t, const char *why)
{
    free(t->call->why);
    t->call->why = strdup(why ? why : "the error raised is not a string");
}

static bool make_state(struct task_lua *t)
{
    if (t->L)
        return true;
    if (!(t->L = luaL_newstate()))
        return false;
    if (lua_cpcall(t->L, open, t) == 0)
        return true;
    fail(t, lua_tostring(t->L, -1));
    drop_state(t);
    return false;
}

/* ---- calls ---- */

static int call_function(lua_State *L)
{
    struct task_lua *t = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushstring(L, t->call->module);
    lua_call(L, 1, 1);
    t->err = task_call_run(L, t->call, t->why);
    return 0;
}

static int judge(struct task_lua *t, int status)
{
    if (status != 0) {
        fail(t, lua_tostring(t->L, -1));
        lua_pop(t->L, 1);
        return t->call->interrupted ? ERR_INTERRUPTED : ERR_SCRIPT;
    }
    if (t->err < 0)
        fail(t, t->why);
    return t->err == ERR_INVAL ? ERR_SCRIPT : t->err;
}

int task_lua_run(void *thread, const struct task_lua_opts *opts, struct task_call *call)
{
    struct task_lua *t = thread;
    t->opts = opts;
    t->call = call;
    t->err = 0;
    if (!make_state(t))
        return ERR_NOMEM;
    t->until_ns = cpu_ns() + opts->cpu_ms * UINT64_C(1000000);
    if (!opts->jit)
        lua_sethook(t->L, on_count, LUA_MASKCOUNT, COUNT);
    int err = judge(t, lua_cpcall(t->L, call_function, t));
    lua_sethook(t->L, NULL, 0, 0);
    if (call->interrupted)
        drop_state(t); /* who knows what state its modules are in */
    return err;
}
