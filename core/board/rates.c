// SPDX-License-Identifier: MIT
#include "board/rates.h"

static struct rate_slot *find(struct rates *rates, uint64_t key)
{
    struct rate_slot *set = rates->slots[key % RATE_SETS], *oldest = set;
    for (int i = 0; i < RATE_WAYS; i++)
        if (atomic_load_explicit(&set[i].key, memory_order_relaxed) == key)
            return &set[i];
    for (int i = 1; i < RATE_WAYS; i++)
        if (atomic_load_explicit(&set[i].due_ns, memory_order_relaxed) <
            atomic_load_explicit(&oldest->due_ns, memory_order_relaxed))
            oldest = &set[i];
    atomic_store_explicit(&oldest->key, key, memory_order_relaxed);
    atomic_store_explicit(&oldest->due_ns, 0, memory_order_relaxed);
    return oldest;
}

uint64_t rates_take(struct rates *rates, uint64_t key, const struct rate_limit *limit,
                    uint64_t now_ns, bool peek)
{
    struct rate_slot *slot = find(rates, key ? key : 1);
    uint64_t ahead_ns = limit->interval_ns * limit->burst;
    uint64_t due_ns = atomic_load_explicit(&slot->due_ns, memory_order_relaxed);
    for (;;) {
        uint64_t next_ns = (due_ns > now_ns ? due_ns : now_ns) + limit->interval_ns;
        if (next_ns > now_ns + ahead_ns)
            return next_ns - now_ns - ahead_ns;
        if (peek || atomic_compare_exchange_weak_explicit(&slot->due_ns, &due_ns, next_ns,
                                                          memory_order_relaxed, memory_order_relaxed))
            return 0;
    }
}
