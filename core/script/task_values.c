// SPDX-License-Identifier: MIT
#include "script/task_values.h"

#include "base/clock.h"
#include "base/err.h"
#include "script/json_text.h"
#include "script/push.h"

enum task_form task_form_of(const struct kernel *kernel)
{
    return !kernel ? TASK_PLAIN : kernel->gives == KERNEL_NUMBERS ? TASK_NUMBERS : TASK_BYTES;
}

static const char *message_of(int err)
{
    switch (err) {
    case ERR_TIMEOUT:
        return "the task was not done by its deadline";
    case ERR_CANCELLED:
        return "the task was cancelled";
    case ERR_TOO_LARGE:
        return "the result is larger than tasks.copy_bytes";
    default:
        return err_text(err);
    }
}

int task_push_failure(lua_State *L, int err, const char *message)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, err_word(err));
    return 3;
}

static int push_numbers(lua_State *L, struct str bytes)
{
    int n = (int)(bytes.len / sizeof(double));
    lua_createtable(L, n, 0);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (int i = 0; i < n; i++) {
        double value;
        memcpy(&value, bytes.p + (size_t)i * sizeof value, sizeof value);
        lua_pushnumber(L, value);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

int task_push_result(lua_State *L, const struct task_result *result)
{
    struct str out = result->out;
    if (result->err < 0)
        return task_push_failure(L, result->err, result->why ? result->why : message_of(result->err));
    if (result->form == TASK_PLAIN)
        return plain_decode(L, out);
    if (result->form == TASK_NUMBERS)
        return push_numbers(L, out);
    lua_pushlstring(L, out.len ? out.p : "", out.len);
    return 1;
}

enum task_priority task_priority_at(lua_State *L, int at)
{
    size_t len;
    const char *name = luaL_optlstring(L, at, "normal", &len);
    enum task_priority priority = task_priority_find((struct str){name, len});
    if (priority == TASK_PRIORITIES)
        luaL_error(L, "there is no priority '%s'; there are critical, high, normal and low", name);
    return priority;
}

uint64_t task_deadline_at(lua_State *L, int at, double fallback_ms)
{
    double deadline_ms = luaL_optnumber(L, at, fallback_ms);
    if (!(deadline_ms > 0 && deadline_ms <= 86400000))
        luaL_error(L, "deadline_ms is above 0 and at most 86400000, not %f", deadline_ms);
    return clock_now_ns() + (uint64_t)(deadline_ms * 1e6);
}

void task_add_numbers(lua_State *L, int index, struct buf *out)
{
    int n = (int)lua_objlen(L, index);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, index, i);
        double value = lua_tonumber(L, -1);
        if (lua_type(L, -1) != LUA_TNUMBER)
            luaL_error(L, "value %d of the list is a %s, it must be a number", i, luaL_typename(L, -1));
        lua_pop(L, 1);
        buf_add(out, &value, sizeof value);
    }
}

/* With a function at 2, a list at 3 and further arguments behind it: calls the function for each value of
 * the list with those, and pushes the list of results. */
static void call_each(lua_State *L)
{
    int top = lua_gettop(L);
    luaL_checktype(L, 3, LUA_TTABLE);
    int n = (int)lua_objlen(L, 3);
    lua_createtable(L, n, 0);
    luaL_checkstack(L, top + 4, "too many arguments");
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, 2);
        lua_rawgeti(L, 3, i);
        for (int at = 4; at <= top; at++)
            lua_pushvalue(L, at);
        lua_call(L, top - 2, 1);
        lua_rawseti(L, top + 1, i);
    }
}

int task_call_run(lua_State *L, struct task_call *call, char why[PLAIN_WHY])
{
    int first = 2;
    if (!lua_istable(L, 2))
        luaL_error(L, "module '%s' returns no table, so it has no function '%s'", call->module, call->function);
    lua_getfield(L, 2, call->function);
    if (!lua_isfunction(L, -1))
        luaL_error(L, "module '%s' has no function '%s'", call->module, call->function);
    lua_replace(L, 2);
    int count = plain_decode(L, call->arguments);
    if (call->map) {
        call_each(L);
        first = lua_gettop(L);
    } else {
        lua_call(L, count, LUA_MULTRET);
    }
    return plain_encode(L, first, lua_gettop(L), call->map ? "results" : "result", call->max_bytes, &call->out, why);
}

int task_push_kernels(lua_State *L)
{
    const struct kernel *k;
    new_list(L);
    for (unsigned i = 0; (k = kernel_at(i)); i++) {
        lua_createtable(L, 0, 5);
        set_text(L, "name", k->name);
        set_text(L, "takes", k->takes == KERNEL_BYTES ? "string" : "table");
        set_text(L, "text", k->text);
        set_text(L, "number", k->number);
        lua_pushboolean(L, k->text_needed);
        lua_setfield(L, -2, "text_needed");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}
