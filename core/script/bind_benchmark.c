// SPDX-License-Identifier: MIT
#include "script/bind_benchmark.h"

#include "stats/lane.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/random.h>

static struct board *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int lua_begin(lua_State *L)
{
    static const char hex[] = "0123456789abcdef";
    struct board *board = self(L);
    unsigned char bits[BENCHMARK_TAG / 2];
    if (getrandom(bits, sizeof bits, 0) != sizeof bits)
        return luaL_error(L, "no random bits: %s", strerror(errno));
    atomic_store_explicit(&board->benchmark.active, 0, memory_order_release);
    for (int i = 0; i < BENCHMARK_TAG; i++)
        board->benchmark.tag[i] = hex[bits[i / 2] >> (i % 2 ? 0 : 4) & 15];
    atomic_store_explicit(&board->benchmark.active, 1, memory_order_release);
    lua_pushlstring(L, board->benchmark.tag, BENCHMARK_TAG);
    return 1;
}

static int lua_finish(lua_State *L)
{
    atomic_store_explicit(&self(L)->benchmark.active, 0, memory_order_release);
    return 0;
}

static int lua_requests(lua_State *L)
{
    struct board *board = self(L);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < board_lanes(board); i++)
        sum += lane_get(&board_lane(board, i)->routes[ROUTE_BENCHMARK].requests);
    lua_pushnumber(L, (double)sum);
    return 1;
}

void bind_benchmark_open(lua_State *L, struct board *board)
{
    static const luaL_Reg functions[] = {{"begin", lua_begin}, {"finish", lua_finish}, {"requests", lua_requests}, {0}};
    lua_createtable(L, 0, 3);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, board);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_setfield(L, -2, "benchmark");
}
