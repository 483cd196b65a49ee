// SPDX-License-Identifier: MIT
#include "board/board.h"

#include <stdio.h>
#include <string.h>

static const struct board_pool *pool_of(const struct board *board, struct trial_target target)
{
    return &board->pools.list[target.index];
}

static bool find_own(const struct board *board, const char *name, struct trial_target *out)
{
    struct str upstream;
    enum own_setting which;
    if (!own_parse(str_from(name), &upstream, &which))
        return false;
    const struct own_slot *slot = own_find(&board->own, upstream);
    if (slot)
        *out = (struct trial_target){TRIAL_OWN, (int)(slot - board->own.slots), which};
    return slot != NULL;
}

static bool find_pool(const struct board *board, const char *name, const char *bound, enum trial_kind kind, struct trial_target *out)
{
    for (int i = 0; i < POOLS_MAX; i++) {
        const struct board_pool *p = pools_at(&board->pools, i);
        char full[POOL_NAME + 16];
        if (!p)
            continue;
        snprintf(full, sizeof full, "pool.%s.%s", p->name, bound);
        if (strcmp(full, name) == 0) {
            *out = (struct trial_target){.kind = kind, .index = i};
            return true;
        }
    }
    return false;
}

bool trial_find(const struct board *board, const char *name, struct trial_target *out)
{
    int id = setting_find(str_from(name));
    if (id >= 0) {
        *out = (struct trial_target){.kind = TRIAL_SETTING, .index = id};
        return true;
    }
    return find_own(board, name, out) || find_pool(board, name, "max", TRIAL_POOL_MAX, out) || find_pool(board, name, "min", TRIAL_POOL_MIN, out);
}

double trial_value(const struct board *board, struct trial_target target)
{
    switch (target.kind) {
    case TRIAL_POOL_MAX:
        return pool_max(pool_of(board, target));
    case TRIAL_POOL_MIN:
        return pool_min(pool_of(board, target));
    case TRIAL_OWN:
        return own_number(&board->own.slots[target.index], &board->settings, target.which);
    default: /* of the canary, where it has another */
        return atomic_load_explicit(&board->settings.value[FOR_CANARY][target.index], memory_order_relaxed);
    }
}

double trial_stable(const struct board *board, struct trial_target target)
{
    switch (target.kind) {
    case TRIAL_POOL_MAX:
        return pool_stable_max(pool_of(board, target));
    case TRIAL_POOL_MIN:
        return pool_stable_min(pool_of(board, target));
    case TRIAL_OWN:
        return own_stable(&board->own.slots[target.index], &board->settings, target.which);
    default:
        return atomic_load_explicit(&board->settings.stable[target.index], memory_order_relaxed);
    }
}

bool trial_is_on(const struct board *board, struct trial_target target)
{
    switch (target.kind) {
    case TRIAL_POOL_MAX:
        return atomic_load(&pool_of(board, target)->max_tried) != 0;
    case TRIAL_POOL_MIN:
        return atomic_load(&pool_of(board, target)->min_tried) != 0;
    case TRIAL_OWN:
        return own_is_tried(&board->own.slots[target.index], target.which);
    default:
        return atomic_load(&board->settings.tried[target.index]) != 0;
    }
}

/* The place of a pool's bound on trial: plus one, 0 for none. */
static _Atomic uint32_t *bound_of(struct board *board, struct trial_target target)
{
    struct board_pool *p = &board->pools.list[target.index];
    return target.kind == TRIAL_POOL_MAX ? &p->max_tried : &p->min_tried;
}

void trial_try(struct board *board, struct trial_target target, double value, bool canary_only)
{
    if (target.kind == TRIAL_SETTING)
        settings_try(&board->settings, target.index, value, canary_only);
    else if (target.kind == TRIAL_OWN)
        own_try(&board->own.slots[target.index], target.which, value);
    else
        atomic_store(bound_of(board, target), (uint32_t)value + 1);
}

void trial_untry(struct board *board, struct trial_target target)
{
    if (target.kind == TRIAL_SETTING)
        settings_untry(&board->settings, target.index);
    else if (target.kind == TRIAL_OWN)
        own_untry(&board->own.slots[target.index], target.which);
    else
        atomic_store(bound_of(board, target), 0);
}

void trials_canary(struct board *board, uint64_t workers)
{
    atomic_store(&board->settings.canary, workers);
}

void trials_renew(struct board *board, uint64_t until_ns)
{
    atomic_store(&board->trials.until_ns, until_ns);
}

bool trials_clear(struct board *board)
{
    bool any = own_untry_all(&board->own);
    for (int i = 0; i < SETTING_COUNT; i++)
        if (atomic_load_explicit(&board->settings.tried[i], memory_order_relaxed)) {
            settings_untry(&board->settings, i);
            any = true;
        }
    for (int i = 0; i < POOLS_MAX; i++) {
        struct board_pool *p = &board->pools.list[i];
        bool max = atomic_exchange(&p->max_tried, 0) != 0, min = atomic_exchange(&p->min_tried, 0) != 0;
        any = any || max || min;
    }
    trials_canary(board, 0);
    atomic_store(&board->trials.until_ns, 0);
    if (any)
        atomic_fetch_add(&board->trials.expired, 1);
    return any;
}

bool trials_expire(struct board *board, uint64_t now_ns)
{
    uint64_t until_ns = atomic_load(&board->trials.until_ns);
    return until_ns && now_ns > until_ns && trials_clear(board);
}
