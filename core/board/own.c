// SPDX-License-Identifier: MIT
#include "board/own.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char PREFIX[] = "upstream.";

const enum setting_id own_setting_ids[OWN_SETTINGS] = {
#define X(id) [OWN_##id] = SETTING_UPSTREAM_##id,
    OWN_SETTING_LIST(X)
#undef X
};

/* "retries" of "upstream.retries". */
static const char *key_of(enum own_setting which)
{
    return setting_infos[own_setting_ids[which]].name + strlen(PREFIX);
}

bool own_parse(struct str name, struct str *upstream, enum own_setting *which)
{
    size_t prefix = strlen(PREFIX), dot = name.len;
    while (dot > 0 && name.p[dot - 1] != '.')
        dot--;
    if (!str_starts(name, str_from(PREFIX)) || dot <= prefix + 1)
        return false;
    struct str key = {name.p + dot, name.len - dot};
    for (int k = 0; k < OWN_SETTINGS; k++)
        if (str_equal(key, str_from(key_of((enum own_setting)k)))) {
            *upstream = (struct str){name.p + prefix, dot - 1 - prefix};
            *which = (enum own_setting)k;
            return true;
        }
    return false;
}

void own_name(const struct own_slot *slot, enum own_setting which, char *out, size_t size)
{
    snprintf(out, size, "%s%s.%s", PREFIX, slot->name, key_of(which));
}

static bool is_ready(const struct own_slot *slot)
{
    return atomic_load_explicit(&slot->ready, memory_order_acquire);
}

static void clear(struct own_slot *slot)
{
    for (int k = 0; k < OWN_SETTINGS; k++) {
        atomic_store_explicit(&slot->tried[k], NAN, memory_order_relaxed);
        atomic_store_explicit(&slot->stable[k], NAN, memory_order_relaxed);
    }
}

void own_init(struct own_settings *all)
{
    for (int i = 0; i < OWN_SLOTS; i++)
        clear(&all->slots[i]);
}

const struct own_slot *own_find(const struct own_settings *all, struct str upstream)
{
    for (int i = 0; i < OWN_SLOTS; i++) {
        const struct own_slot *slot = &all->slots[i];
        if (is_ready(slot) && str_equal(str_from(slot->name), upstream))
            return slot;
    }
    return NULL;
}

struct own_slot *own_open(struct own_settings *all, struct str upstream)
{
    const struct own_slot *known = own_find(all, upstream);
    if (known)
        return &all->slots[known - all->slots];
    for (int i = 0; i < OWN_SLOTS && upstream.len < OWN_NAME; i++) {
        struct own_slot *slot = &all->slots[i];
        if (is_ready(slot))
            continue;
        memcpy(slot->name, upstream.p, upstream.len);
        slot->name[upstream.len] = 0;
        atomic_store_explicit(&slot->ready, 1, memory_order_release);
        return slot;
    }
    return NULL;
}

void own_drop(struct own_slot *slot)
{
    clear(slot);
    atomic_store_explicit(&slot->ready, 0, memory_order_release);
}

void own_set(struct own_slot *slot, enum own_setting which, double value, enum setting_origin origin)
{
    double before = atomic_load_explicit(&slot->stable[which], memory_order_relaxed);
    bool same = before == value || (isnan(before) && isnan(value));
    atomic_store_explicit(&slot->stable[which], value, memory_order_relaxed);
    atomic_store_explicit(&slot->origin[which], (unsigned char)origin, memory_order_relaxed);
    if (!same)
        own_untry(slot, which);
}

double own_stable(const struct own_slot *slot, const struct settings *settings, enum own_setting which)
{
    double value = atomic_load_explicit(&slot->stable[which], memory_order_relaxed);
    return isnan(value) ? atomic_load_explicit(&settings->stable[own_setting_ids[which]], memory_order_relaxed) : value;
}

void own_try(struct own_slot *slot, enum own_setting which, double value)
{
    atomic_store_explicit(&slot->tried[which], value, memory_order_relaxed);
}

void own_untry(struct own_slot *slot, enum own_setting which)
{
    own_try(slot, which, NAN);
}

bool own_is_tried(const struct own_slot *slot, enum own_setting which)
{
    return !isnan(atomic_load_explicit(&slot->tried[which], memory_order_relaxed));
}

bool own_untry_all(struct own_settings *all)
{
    bool any = false;
    for (int i = 0; i < OWN_SLOTS; i++)
        for (int k = 0; k < OWN_SETTINGS; k++)
            if (own_is_tried(&all->slots[i], (enum own_setting)k)) {
                own_untry(&all->slots[i], (enum own_setting)k);
                any = true;
            }
    return any;
}
