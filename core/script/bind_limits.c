// SPDX-License-Identifier: MIT
#include "script/bind_limits.h"

#include "script/push.h"

struct sums {
    uint64_t finished, queued, rejected, waited_us;
};

static void add_lane(struct sums *s, const struct limiter_lane *lane)
{
    s->finished += atomic_load_explicit(&lane->finished, memory_order_relaxed);
    s->queued += atomic_load_explicit(&lane->queued, memory_order_relaxed);
    s->rejected += atomic_load_explicit(&lane->rejected, memory_order_relaxed);
    s->waited_us += atomic_load_explicit(&lane->waited_us, memory_order_relaxed);
}

static double read(const _Atomic uint32_t *value)
{
    return (double)atomic_load_explicit(value, memory_order_relaxed);
}

static void push_class(lua_State *L, const struct limiter *l, uint32_t workers)
{
    struct sums sums = {0};
    for (uint32_t w = 0; w < workers && w < LIMITER_WORKERS; w++)
        add_lane(&sums, &l->lanes[w]);
    lua_createtable(L, 0, 11);
    set_text(L, "class", l->name);
    lua_pushboolean(L, read(&l->adaptive) != 0);
    lua_setfield(L, -2, "adaptive");
    set_number(L, "limit", read(&l->limit));
    set_number(L, "least", read(&l->least));
    set_number(L, "most", read(&l->most));
    set_number(L, "in_flight", (double)limiter_inflight(l, workers));
    set_number(L, "base_ms", read(&l->rtt0_us) / 1000);
    set_number(L, "finished", (double)sums.finished);
    set_number(L, "queued", (double)sums.queued);
    set_number(L, "rejected", (double)sums.rejected);
    set_number(L, "waited_s", (double)sums.waited_us / 1e6);
}

static int lua_classes(lua_State *L)
{
    struct board *board = lua_touserdata(L, lua_upvalueindex(1));
    int n = 0;
    new_list(L);
    for (int i = 0; i < LIMITER_CLASSES; i++) {
        const struct limiter *l = &board->limiters.classes[i];
        if (!atomic_load_explicit(&l->key, memory_order_acquire))
            continue;
        push_class(L, l, board->workers);
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

void bind_limits_open(lua_State *L, struct board *board)
{
    lua_newtable(L);
    lua_pushlightuserdata(L, board);
    lua_pushcclosure(L, lua_classes, 1);
    lua_setfield(L, -2, "classes");
    lua_setfield(L, -2, "limits");
}
