// SPDX-License-Identifier: MIT
#include "script/bind_trials.h"

#include "base/clock.h"
#include "script/push.h"

#include <lauxlib.h>
#include <string.h>

enum { WHY = 200, LEASE_MOST_S = 3600 };

static struct board *self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static struct arms *arms(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(2));
}

/* What its bounds are the same as. */
static int info_of(struct trial_target target)
{
    static const int same[] = {[TRIAL_POOL_MAX] = SETTING_POOL_DB_MAX, [TRIAL_POOL_MIN] = SETTING_POOL_DB_MIN};
    if (target.kind == TRIAL_OWN)
        return (int)own_setting_ids[target.which];
    return target.kind == TRIAL_SETTING ? target.index : same[target.kind];
}

static void put(lua_State *L, struct trial_target target, const char *name, double value)
{
    if (setting_infos[info_of(target)].type == SETTING_BOOLEAN)
        lua_pushboolean(L, value != 0);
    else
        lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static int lua_state_of(lua_State *L)
{
    struct board *board = self(L);
    struct trial_target target;
    if (!trial_find(board, luaL_checkstring(L, 1), &target))
        return 0;
    const struct setting_info *info = &setting_infos[info_of(target)];
    const struct setting_tuning *tuning = setting_tuning(info_of(target));
    lua_createtable(L, 0, 12);
    put(L, target, "value", trial_value(board, target));
    put(L, target, "stable", trial_stable(board, target));
    lua_pushboolean(L, trial_is_on(board, target));
    lua_setfield(L, -2, "on_trial");
    set_text(L, "unit", info->unit);
    if (info->type != SETTING_BOOLEAN) {
        set_number(L, "min", info->min);
        set_number(L, "max", info->max);
    }
    set_text(L, "type", info->type == SETTING_BOOLEAN ? "boolean" : info->type == SETTING_INTEGER ? "integer" : "number");
    if (!tuning)
        return 1;
    set_text(L, "scope", tuning->scope);
    set_text(L, "group", tuning->group);
    set_number(L, "step", tuning->step);
    set_number(L, "settle_s", tuning->settle_s);
    return 1;
}

static int refuse(lua_State *L, const char *format, const char *name, const char *why)
{
    lua_pushnil(L);
    lua_pushfstring(L, format, name, why);
    return 2;
}

static int lua_try(lua_State *L)
{
    struct board *board = self(L);
    struct trial_target target;
    char why[WHY];
    const char *name = luaL_checkstring(L, 1);
    luaL_checkany(L, 2);
    if (!trial_find(board, name, &target))
        return refuse(L, "there is no setting '%s'%s", name, "");
    int id = info_of(target);
    double value = lua_isboolean(L, 2) ? lua_toboolean(L, 2) : luaL_checknumber(L, 2);
    if (!setting_tuning(id))
        return refuse(L, "'%s' is for an operator to change%s", name, "");
    if (!setting_infos[id].live)
        return refuse(L, "'%s' takes a restart%s", name, "");
    if (!setting_check(id, value, why, sizeof why))
        return refuse(L, "'%s': %s", name, why);
    bool canary_only = lua_toboolean(L, 3);
    if (canary_only && strcmp(setting_tuning(id)->scope, "worker") != 0)
        return refuse(L, "'%s' has one value for all workers%s", name, "");
    trial_try(board, target, value, canary_only);
    lua_pushboolean(L, 1);
    return 1;
}

static int lua_restore(lua_State *L)
{
    struct trial_target target;
    if (trial_find(self(L), luaL_checkstring(L, 1), &target))
        trial_untry(self(L), target);
    return 0;
}

/* The bits of a list of workers; 0 without one. */
static uint64_t workers_at(lua_State *L, int at)
{
    uint64_t bits = 0;
    if (lua_isnoneornil(L, at))
        return 0;
    luaL_checktype(L, at, LUA_TTABLE);
    for (int i = 1; i <= (int)lua_objlen(L, at); i++) {
        lua_rawgeti(L, at, i);
        lua_Number worker = luaL_checknumber(L, -1);
        luaL_argcheck(L, worker >= 0 && worker < self(L)->workers, at, "workers are counted from 0");
        bits |= UINT64_C(1) << (unsigned)worker;
        lua_pop(L, 1);
    }
    return bits;
}

static int lua_canary(lua_State *L)
{
    trials_canary(self(L), workers_at(L, 1));
    return 0;
}

static int lua_arms(lua_State *L)
{
    if (!arms(L) || arms_set(arms(L), workers_at(L, 1)) < 0)
        return refuse(L, "%s%s", "the workers cannot be measured apart: each arm needs one, and memory for it", "");
    lua_pushboolean(L, 1);
    return 1;
}

static int lua_renew(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds <= LEASE_MOST_S, 1, "0 to 3600 s");
    trials_renew(self(L), seconds > 0 ? clock_now_ns() + (uint64_t)(seconds * 1e9) : 0);
    return 0;
}

static int lua_expired(lua_State *L)
{
    lua_pushnumber(L, (double)atomic_load(&self(L)->trials.expired));
    return 1;
}

static int lua_now_ms(lua_State *L)
{
    lua_pushnumber(L, (double)clock_unix_ms());
    return 1;
}

void bind_trials_open(lua_State *L, struct board *board, struct arms *arms)
{
    static const luaL_Reg functions[] = {{"state", lua_state_of},
                                         {"try", lua_try},
                                         {"restore", lua_restore},
                                         {"canary", lua_canary},
                                         {"arms", lua_arms},
                                         {"renew", lua_renew},
                                         {"expired", lua_expired},
                                         {"now_ms", lua_now_ms},
                                         {0}};
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushlightuserdata(L, board);
        lua_pushlightuserdata(L, arms);
        lua_pushcclosure(L, f->func, 2);
        lua_setfield(L, -2, f->name);
    }
    lua_setfield(L, -2, "trials");
}
