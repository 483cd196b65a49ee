// SPDX-License-Identifier: MIT
#include "script/bind_task_stats.h"

#include "script/push.h"
#include "script/state.h"
#include "script/task_stats.h"

static int lua_task_stats(lua_State *L)
{
    const struct board *board = state_of(L)->board;
    lua_createtable(L, 0, 2);
    new_list(L);
    for (uint32_t i = 0; i < board->workers; i++) {
        task_stats_push(L, &board->tasks.processes[i]);
        lua_pushfstring(L, "worker %d", (int)i);
        lua_setfield(L, -2, "name");
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "processes");
    task_stats_push_kinds(L, board->tasks.processes, TASK_PROCESSES);
    lua_setfield(L, -2, "kinds");
    return 1;
}

void bind_task_stats_open(lua_State *L)
{
    lua_pushcfunction(L, lua_task_stats);
    lua_setfield(L, -2, "task_stats");
}
