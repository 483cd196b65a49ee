// SPDX-License-Identifier: MIT
#include "script/bind_machine.h"

#include "script/push.h"
#include "sys/process_info.h"

#include <stdio.h>
#include <string.h>

enum { TITLE = 512, SESSIONS_MOST = 200 };

static int lua_figures(lua_State *L)
{
    const struct resources *r = lua_touserdata(L, lua_upvalueindex(1));
    new_list(L);
    for (int id = 0; id < RESOURCE_COUNT; id++) {
        const struct resource_info *info = &resource_infos[id];
        lua_createtable(L, 0, 5);
        set_text(L, "section", info->section);
        set_text(L, "name", info->name);
        set_text(L, "unit", info->unit);
        set_text(L, "doc", info->doc);
        if (resource_known(r, (enum resource_id)id))
            set_number(L, "value", r->value[id]);
        else
            set_text(L, "why", r->why[id]);
        lua_rawseti(L, -2, id + 1);
    }
    return 1;
}

static void push_process(lua_State *L, struct board *board, uint32_t index, pid_t pid)
{
    const struct board_process *p = &board->processes[index];
    static const char *const roles[] = {"supervisor", "control", "worker"};
    enum role role = atomic_load(&p->role);
    uint64_t value;
    lua_createtable(L, 0, 10);
    if (role == ROLE_WORKER)
        lua_pushfstring(L, "worker %d", (int)index - 2);
    else
        lua_pushstring(L, roles[role]);
    lua_setfield(L, -2, "name");
    set_text(L, "role", roles[role]);
    set_number(L, "pid", pid);
    if (process_rss_bytes("", pid, &value))
        set_number(L, "rss_bytes", (double)value);
    if (process_open_fds("", pid, &value))
        set_number(L, "open_fds", (double)value);
    if (role != ROLE_WORKER)
        return;
    const struct lane *lane = board_lane(board, index - 2);
    set_number(L, "requests", (double)(lane_get(&lane->finished) + lane_get(&lane->aborted)));
    set_number(L, "loop_lag_ms", (double)atomic_load(&p->loop_lag_ns) / 1e6);
    set_number(L, "lua_heap_bytes", (double)atomic_load(&p->lua_bytes));
    set_number(L, "gc_cycles", (double)atomic_load(&p->gc_cycles));
    set_number(L, "gc_pause_ms", (double)atomic_load(&p->gc_pause_ns) / 1e6);
}

static int lua_processes(lua_State *L)
{
    struct board *board = lua_touserdata(L, lua_upvalueindex(1));
    int n = 0;
    new_list(L);
    for (uint32_t i = 0; i < board->workers + 2; i++) {
        pid_t pid = atomic_load(&board->processes[i].pid);
        if (!pid)
            continue;
        push_process(L, board, i, pid);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* "postgres: user database host(port) SELECT": the title, and not a process that has this number here by chance. */
static bool is_session(pid_t pid, const char *database)
{
    char title[TITLE], word[TITLE];
    snprintf(word, sizeof word, " %s ", database);
    return process_title("", pid, title, sizeof title) && strncmp(title, "postgres: ", 10) == 0 && strstr(title, word);
}

static int lua_sessions(lua_State *L)
{
    const char *database = luaL_checkstring(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_newtable(L);
    for (int i = 1; i <= (int)lua_objlen(L, 1) && i <= SESSIONS_MOST; i++) {
        double cpu_s, wait_s;
        lua_rawgeti(L, 1, i);
        pid_t pid = (pid_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (pid <= 0 || !is_session(pid, database) || !process_cpu_s("", pid, &cpu_s) || !process_cpu_wait_s("", pid, &wait_s))
            continue;
        lua_createtable(L, 0, 2);
        set_number(L, "cpu_s", cpu_s);
        set_number(L, "wait_s", wait_s);
        lua_rawseti(L, -2, (int)pid);
    }
    return 1;
}

void bind_machine_open(lua_State *L, struct board *board, const struct resources *resources)
{
    lua_createtable(L, 0, 3);
    lua_pushlightuserdata(L, (void *)resources);
    lua_pushcclosure(L, lua_figures, 1);
    lua_setfield(L, -2, "figures");
    lua_pushlightuserdata(L, board);
    lua_pushcclosure(L, lua_processes, 1);
    lua_setfield(L, -2, "processes");
    lua_pushcfunction(L, lua_sessions);
    lua_setfield(L, -2, "sessions");
    lua_setfield(L, -2, "machine");
}
