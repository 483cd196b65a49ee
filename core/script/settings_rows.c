// SPDX-License-Identifier: MIT
#include "script/settings_rows.h"

#include "script/push.h"

#include <math.h>

static void set_value(lua_State *L, const char *name, enum setting_type type, double value)
{
    if (type == SETTING_BOOLEAN)
        lua_pushboolean(L, value != 0);
    else
        lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void push_tuning(lua_State *L, int id)
{
    const struct setting_tuning *tuning = setting_tuning(id);
    if (!tuning)
        return;
    set_text(L, "scope", tuning->scope);
    set_text(L, "group", tuning->group);
    set_number(L, "step", tuning->step);
    set_number(L, "settle_s", tuning->settle_s);
}

struct shown {
    const char *name;
    double fallback, value, stable;
    enum setting_origin origin;
    bool on_trial, canary_only;
};

static void push_setting(lua_State *L, int id, const struct shown *s)
{
    static const char *const types[] = {"boolean", "integer", "number"};
    const struct setting_info *info = &setting_infos[id];
    lua_createtable(L, 0, 17);
    set_text(L, "name", s->name);
    set_text(L, "type", types[info->type]);
    set_text(L, "unit", info->unit);
    set_value(L, "default", info->type, s->fallback);
    set_value(L, "value", info->type, s->value);
    if (info->type != SETTING_BOOLEAN) {
        set_number(L, "min", info->min);
        set_number(L, "max", info->max);
    }
    set_text(L, "origin", setting_origin_name(s->origin));
    lua_pushboolean(L, info->live);
    lua_setfield(L, -2, "live");
    if (s->on_trial) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "on_trial");
        lua_pushboolean(L, s->canary_only);
        lua_setfield(L, -2, "canary_only");
        set_value(L, "stable", info->type, s->stable);
    }
    push_tuning(L, id);
    if (info->env)
        set_text(L, "env", info->env);
    set_text(L, "doc", info->doc);
}

static void push_for_all(lua_State *L, const struct settings *settings, int id)
{
    double value = atomic_load_explicit(&settings->value[FOR_CANARY][id], memory_order_relaxed);
    push_setting(L, id, &(struct shown){
        .name = setting_infos[id].name,
        .fallback = setting_infos[id].fallback,
        .value = value,
        .stable = atomic_load_explicit(&settings->stable[id], memory_order_relaxed),
        .origin = (enum setting_origin)atomic_load_explicit(&settings->origin[id], memory_order_relaxed),
        .on_trial = atomic_load_explicit(&settings->tried[id], memory_order_relaxed) != 0,
        .canary_only = value != atomic_load_explicit(&settings->value[FOR_ALL][id], memory_order_relaxed),
    });
}

/* A setting that an upstream has for itself, or that is on trial for it: its default is what all others have. */
static void push_own(lua_State *L, const struct board *board, const struct own_slot *slot, enum own_setting which)
{
    int id = (int)own_setting_ids[which];
    char name[OWN_NAME + 64];
    own_name(slot, which, name, sizeof name);
    bool is_own = !isnan(atomic_load_explicit(&slot->stable[which], memory_order_relaxed));
    push_setting(L, id, &(struct shown){
        .name = name,
        .fallback = atomic_load_explicit(&board->settings.stable[id], memory_order_relaxed),
        .value = own_number(slot, &board->settings, which),
        .stable = own_stable(slot, &board->settings, which),
        .origin = (enum setting_origin)atomic_load_explicit(is_own ? &slot->origin[which] : &board->settings.origin[id], memory_order_relaxed),
        .on_trial = own_is_tried(slot, which),
    });
}

static bool has_own(const struct own_slot *slot, enum own_setting which)
{
    return own_is_tried(slot, which) || !isnan(atomic_load_explicit(&slot->stable[which], memory_order_relaxed));
}

void settings_rows(lua_State *L, const struct board *board)
{
    int n = 0;
    new_sized_list(L, SETTING_COUNT);
    while (n < SETTING_COUNT) {
        push_for_all(L, &board->settings, n);
        lua_rawseti(L, -2, ++n);
    }
    for (int i = 0; i < OWN_SLOTS; i++) {
        const struct own_slot *slot = &board->own.slots[i];
        for (int k = 0; atomic_load_explicit(&slot->ready, memory_order_acquire) && k < OWN_SETTINGS; k++)
            if (has_own(slot, (enum own_setting)k)) {
                push_own(L, board, slot, (enum own_setting)k);
                lua_rawseti(L, -2, ++n);
            }
    }
}
