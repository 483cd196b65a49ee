// SPDX-License-Identifier: MIT
#include "host/loop.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <unistd.h>

enum { IDLE_TICK_MS = 250 };

/* Deadlines want ticks of the wheel; upkeep alone can do with few. Only a tick makes them fewer, so that what begins and
 * ends all the time does not put them off for ever. */
static void on_tick(struct io *io)
{
    struct host_loop *loop = io->user;
    if (loop->on_tick)
        loop->on_tick(loop->user);
    if (!loop->pending && !loop->slow)
        uv_timer_set_repeat(&io->ticker, IDLE_TICK_MS);
    loop->slow = !loop->pending;
}

static void tick_often(struct host_loop *loop)
{
    if (!loop->slow)
        return;
    loop->slow = false;
    uv_update_time(&loop->io.loop);
    uv_timer_set_repeat(&loop->io.ticker, WHEEL_TICK_MS);
    uv_timer_again(&loop->io.ticker);
}

struct host_loop *host_loop_new(void)
{
    struct host_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    if (io_init(&loop->io) < 0) {
        free(loop);
        return NULL;
    }
    loop->io.user = loop;
    loop->io.on_tick = on_tick;
    loop->pid = getpid();
    return loop;
}

void host_loop_stop(struct host_loop *loop)
{
    io_done(&loop->io);
}

void host_loop_free(struct host_loop *loop)
{
    buf_done(&loop->ended);
    free(loop);
}

bool host_loop_is_ours(const struct host_loop *loop)
{
    return loop->pid == getpid();
}

struct host_object *host_object_at(lua_State *L, const char *class)
{
    struct host_object *object = luaL_checkudata(L, 1, class);
    if (!object->loop) {
        luaL_error(L, "this %s was closed; make another", class);
        return NULL;
    }
    if (!host_loop_is_ours(object->loop))
        luaL_error(L, "this %s was made by process %d, before the fork: make one in each process, after it", class, (int)object->loop->pid);
    io_now(&object->loop->io);
    return object;
}

/* ---- waits ---- */

void host_wait_begin(struct host_wait *wait, struct host_loop *loop)
{
    wait->loop = loop;
    wait->number = ++loop->last;
    loop->pending++;
    tick_often(loop);
}

void host_wait_end(struct host_wait *wait)
{
    struct host_loop *loop = wait->loop;
    if (!loop)
        return;
    wait->loop = NULL;
    loop->pending--;
    buf_add(&loop->ended, &wait->number, sizeof wait->number);
}

int host_wait_push(lua_State *L, const struct host_wait *wait)
{
    if (!wait->loop)
        return 0;
    lua_pushnumber(L, (double)wait->number);
    return 1;
}

/* ---- methods ---- */

static const char *class_of(lua_State *L)
{
    return lua_tostring(L, lua_upvalueindex(1));
}

/* ours(): whether it is open, and this process's. */
static int loop_ours(lua_State *L)
{
    const struct host_object *object = luaL_checkudata(L, 1, class_of(L));
    lua_pushboolean(L, object->loop && host_loop_is_ours(object->loop));
    return 1;
}

/* fd(): becomes readable when there is something to do. */
static int loop_fd(lua_State *L)
{
    lua_pushinteger(L, uv_backend_fd(&host_object_at(L, class_of(L))->loop->io.loop));
    return 1;
}

/* timeout(): milliseconds until there is something to do anyway; -1: never. */
static int loop_timeout(lua_State *L)
{
    struct host_loop *loop = host_object_at(L, class_of(L))->loop;
    uv_update_time(&loop->io.loop);
    lua_pushinteger(L, buf_len(&loop->ended) ? 0 : uv_backend_timeout(&loop->io.loop));
    return 1;
}

/* step(): does what there is to do, without waiting. False: the object is another process's, or closed. */
static int loop_step(lua_State *L)
{
    const struct host_object *object = luaL_checkudata(L, 1, class_of(L));
    bool ours = object->loop && host_loop_is_ours(object->loop);
    if (ours)
        uv_run(&object->loop->io.loop, UV_RUN_NOWAIT);
    lua_pushboolean(L, ours);
    return 1;
}

/* wait(): the same, and waits until there is something, a tick at most. */
static int loop_wait(lua_State *L)
{
    struct host_loop *loop = host_object_at(L, class_of(L))->loop;
    uv_run(&loop->io.loop, UV_RUN_ONCE);
    return 0;
}

/* ended(): the number of something that has ended; nothing when there is no more. */
static int loop_ended(lua_State *L)
{
    const struct host_object *object = luaL_checkudata(L, 1, class_of(L));
    uint64_t number;
    if (!object->loop || buf_len(&object->loop->ended) < sizeof number)
        return 0;
    memcpy(&number, buf_str(&object->loop->ended).p, sizeof number);
    buf_consume(&object->loop->ended, sizeof number);
    lua_pushnumber(L, (double)number);
    return 1;
}

void host_loop_methods(lua_State *L, const char *class)
{
    static const luaL_Reg methods[] = {{"ours", loop_ours}, {"fd", loop_fd}, {"timeout", loop_timeout}, {"step", loop_step}, {"wait", loop_wait}, {"ended", loop_ended}, {0}};
    for (const luaL_Reg *m = methods; m->name; m++) {
        lua_pushstring(L, class);
        lua_pushcclosure(L, m->func, 1);
        lua_setfield(L, -2, m->name);
    }
}
