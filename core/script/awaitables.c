/* sleep, and what else a handler may need that is not a route or a call. */
// SPDX-License-Identifier: MIT
#include "script/state.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

struct sleep_op {
    uv_timer_t timer;
    struct fiber *fiber;
};

static void on_sleep_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_sleep_over(uv_timer_t *timer)
{
    struct sleep_op *op = (struct sleep_op *)timer;
    struct fiber *f = op->fiber;
    uv_close((uv_handle_t *)timer, on_sleep_closed);
    io_now(f->script->io);
    fiber_resume(f, NULL, NULL);
}

static void cancel_sleep(struct fiber *f)
{
    uv_close((uv_handle_t *)f->wait.op, on_sleep_closed);
}

/*
 * The loop counts whole milliseconds and rounds the present down, so a timer set by it may fire up to one too soon.
 * Here the moment to wake is rounded up instead: a sleep may be longer than asked, never shorter.
 */
static uint64_t timeout_ms(const uv_loop_t *loop, double seconds)
{
    if (seconds == 0)
        return 0;
    uint64_t due_ms = (uv_hrtime() + (uint64_t)(seconds * 1e9) + 999999) / 1000000;
    return due_ms - uv_now(loop);
}

/* sleep(seconds): lets other requests run meanwhile, for no less than so long; sleep(0) for one turn of the loop. */
static int lua_sleep(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    struct fiber *f = fiber_running(L);
    if (!(seconds >= 0 && seconds <= 86400))
        return luaL_error(L, "perilune.sleep takes 0 to 86400 seconds, not %f", seconds);
    struct sleep_op *op = calloc(1, sizeof *op);
    if (!op)
        return luaL_error(L, "out of memory");
    op->fiber = f;
    uv_timer_init(&f->script->io->loop, &op->timer);
    uv_update_time(&f->script->io->loop);
    uv_timer_start(&op->timer, on_sleep_over, timeout_ms(&f->script->io->loop, seconds), 0);
    return fiber_wait(L, f, cancel_sleep, op);
}

static int lua_log(lua_State *L)
{
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    int level = luaL_checkoption(L, 1, "info", levels);
    log_line((enum log_level)level, "%s", luaL_checkstring(L, 2));
    return 0;
}

/* now(): seconds since an arbitrary point, for measuring (monotonic). */
static int lua_now(lua_State *L)
{
    lua_pushnumber(L, (double)clock_now_ns() / 1e9);
    return 1;
}

/* unix_now(): seconds since 1970, with fractions. */
static int lua_unix_now(lua_State *L)
{
    lua_pushnumber(L, (double)clock_unix_ms() / 1e3);
    return 1;
}

void awaitables_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sleep", lua_sleep}, {"log", lua_log}, {"now", lua_now}, {"unix_now", lua_unix_now}, {0}};
    luaL_register(L, NULL, functions);
}
