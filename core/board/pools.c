// SPDX-License-Identifier: MIT
#include "board/pools.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SLOT_FREE = 0, SLOT_WRITING = 1, SLOT_READY = 2, SLOT_BITS = 3, SPINS = 2000, UNUSED_TICKS = 20 };

/* A writer that died leaves its slot to the next. */
static uint32_t await_slot(struct board_pool *p)
{
    uint32_t state = 0;
    for (int i = 0; i < SPINS; i++) {
        state = atomic_load_explicit(&p->state, memory_order_acquire);
        if ((state & SLOT_BITS) != SLOT_WRITING)
            return state;
        if (kill((pid_t)(state >> 2), 0) != 0 && errno == ESRCH)
            atomic_compare_exchange_strong(&p->state, &state, SLOT_FREE);
        else
            sched_yield();
    }
    return state;
}

static struct board_pool *entry_of(struct pools *all, struct str name)
{
    if (name.len >= POOL_NAME)
        return NULL;
    for (int i = 0; i < POOLS_MAX;) {
        struct board_pool *p = &all->list[i];
        uint32_t state = await_slot(p);
        if (state == SLOT_READY && str_equal(str_from(p->name), name))
            return p;
        if (state != SLOT_FREE) {
            i++;
            continue;
        }
        if (!atomic_compare_exchange_strong(&p->state, &state, (uint32_t)getpid() << 2 | SLOT_WRITING))
            continue;
        snprintf(p->name, sizeof p->name, "%.*s", STR_ARG(name));
        atomic_fetch_add_explicit(&p->incarnation, 1, memory_order_relaxed);
        atomic_store_explicit(&p->state, SLOT_READY, memory_order_release);
        return p;
    }
    return NULL;
}

/* Says so first and looks after, as pools_tick() does the other way round. */
static bool attach(struct board_pool *p, uint32_t worker)
{
    atomic_fetch_add(&p->lanes[worker].open, 1);
    if (atomic_load(&p->state) == SLOT_READY)
        return true;
    atomic_fetch_sub(&p->lanes[worker].open, 1);
    return false;
}

struct board_pool *pools_open(struct pools *all, struct str name, uint32_t worker, const char *where)
{
    struct board_pool *p;
    do
        p = entry_of(all, name);
    while (p && !attach(p, worker));
    if (!p)
        return NULL;
    atomic_store(&p->deleted, 0); /* it may have come back under its old name */
    atomic_store(&p->forced, 0);
    if (strcmp(p->where, where) != 0)
        snprintf(p->where, sizeof p->where, "%s", where);
    return p;
}

void pool_close(struct board_pool *p, uint32_t worker)
{
    atomic_fetch_sub(&p->lanes[worker].open, 1);
}

void pool_delete(struct board_pool *p, bool force)
{
    atomic_store(&p->forced, force);
    atomic_store(&p->deleted, 1);
}

static bool is_open(const struct board_pool *p)
{
    for (int i = 0; i < POOL_WORKERS; i++)
        if (atomic_load(&p->lanes[i].open))
            return true;
    return false;
}

void pools_tick(struct pools *all)
{
    for (int i = 0; i < POOLS_MAX; i++) {
        struct board_pool *p = &all->list[i];
        uint32_t state = SLOT_READY;
        if (atomic_load(&p->state) != SLOT_READY || is_open(p)) {
            p->unused_ticks = 0;
            continue;
        }
        if ((!atomic_load(&p->deleted) && ++p->unused_ticks < UNUSED_TICKS) || !atomic_compare_exchange_strong(&p->state, &state, (uint32_t)getpid() << 2 | SLOT_WRITING))
            continue;
        bool reopened = is_open(p);
        if (!reopened)
            memset(p->name, 0, sizeof *p - offsetof(struct board_pool, name));
        atomic_store_explicit(&p->state, reopened ? SLOT_READY : SLOT_FREE, memory_order_release);
    }
}

const struct board_pool *pools_at(const struct pools *all, int i)
{
    return atomic_load_explicit(&all->list[i].state, memory_order_acquire) == SLOT_READY ? &all->list[i] : NULL;
}

uint32_t pool_held(const struct board_pool *p)
{
    uint32_t sum = 0;
    for (int i = 0; i < POOL_CONTROL; i++)
        sum += atomic_load(&p->lanes[i].held);
    return sum;
}

bool pool_hold(struct board_pool *p, uint32_t worker, uint32_t max)
{
    if (worker == POOL_CONTROL) {
        uint32_t none = 0;
        return atomic_compare_exchange_strong(&p->lanes[worker].held, &none, 1);
    }
    if (pool_held(p) >= max)
        return false;
    atomic_fetch_add(&p->lanes[worker].held, 1);
    if (pool_held(p) <= max)
        return true;
    pool_release(p, worker);
    return false;
}

void pool_release(struct board_pool *p, uint32_t worker)
{
    atomic_fetch_sub(&p->lanes[worker].held, 1);
}

bool pool_others_starve(const struct board_pool *p, uint32_t worker)
{
    for (uint32_t i = 0; i < POOL_WORKERS; i++)
        if (i != worker && atomic_load_explicit(&p->lanes[i].starved, memory_order_relaxed))
            return true;
    return false;
}

uint32_t pool_stable_max(const struct board_pool *p)
{
    uint32_t set = atomic_load_explicit(&p->max_set, memory_order_relaxed);
    return set ? set - 1 : atomic_load_explicit(&p->max, memory_order_relaxed);
}

uint32_t pool_stable_min(const struct board_pool *p)
{
    uint32_t set = atomic_load_explicit(&p->min_set, memory_order_relaxed);
    return set ? set - 1 : atomic_load_explicit(&p->min, memory_order_relaxed);
}

uint32_t pool_max(const struct board_pool *p)
{
    uint32_t tried = atomic_load_explicit(&p->max_tried, memory_order_relaxed);
    return tried ? tried - 1 : pool_stable_max(p);
}

uint32_t pool_min(const struct board_pool *p)
{
    uint32_t tried = atomic_load_explicit(&p->min_tried, memory_order_relaxed), max = pool_max(p);
    uint32_t min = tried ? tried - 1 : pool_stable_min(p);
    return min < max ? min : max;
}

void pool_set_bounds(struct board_pool *p, uint32_t min, uint32_t max)
{
    atomic_store(&p->max_set, max + 1);
    atomic_store(&p->min_set, min + 1);
    atomic_store(&p->max_tried, 0);
    atomic_store(&p->min_tried, 0);
}

void pool_set_health(struct board_pool *p, enum pool_health health, const char *reason)
{
    uint32_t sequence = atomic_load(&p->sequence);
    atomic_store_explicit(&p->health, health, memory_order_relaxed);
    if ((sequence & 1) || !atomic_compare_exchange_strong(&p->sequence, &sequence, sequence + 1))
        return; /* another worker says the same right now */
    snprintf(p->reason, sizeof p->reason, "%s", reason);
    atomic_store(&p->sequence, sequence + 2);
}

void pool_reason(struct board_pool *p, char out[POOL_REASON])
{
    uint32_t before = atomic_load(&p->sequence);
    memcpy(out, p->reason, POOL_REASON);
    out[POOL_REASON - 1] = 0;
    if ((before & 1) || atomic_load(&p->sequence) != before)
        out[0] = 0;
}

void pools_forget_worker(struct pools *all, uint32_t worker)
{
    for (int i = 0; i < POOLS_MAX; i++) {
        struct pool_lane *lane = &all->list[i].lanes[worker];
        atomic_store(&lane->held, 0);
        atomic_store(&lane->idle, 0);
        atomic_store(&lane->waiting, 0);
        atomic_store(&lane->starved, 0);
        atomic_store(&lane->open, 0);
    }
}
