/* Open connections by client. */
// SPDX-License-Identifier: MIT
#include "board/clients.h"

static unsigned slot_of(uint64_t key, unsigned row)
{
    return (unsigned)(key >> (row * 32)) % CLIENT_SLOTS;
}

static void add(struct clients *mine, uint64_t key, int delta)
{
    for (unsigned row = 0; row < CLIENT_ROWS; row++) {
        _Atomic uint16_t *slot = &mine->rows[row][slot_of(key, row)];
        uint16_t now = atomic_load_explicit(slot, memory_order_relaxed);
        atomic_store_explicit(slot, (uint16_t)(now + delta), memory_order_relaxed);
    }
}

void clients_enter(struct clients *mine, uint64_t key)
{
    add(mine, key, 1);
}

void clients_leave(struct clients *mine, uint64_t key)
{
    add(mine, key, -1);
}

uint32_t clients_count(const struct clients *all, uint32_t workers, uint64_t key)
{
    uint32_t least = UINT32_MAX;
    for (unsigned row = 0; row < CLIENT_ROWS; row++) {
        uint32_t sum = 0;
        for (uint32_t w = 0; w < workers; w++)
            sum += atomic_load_explicit(&all[w].rows[row][slot_of(key, row)], memory_order_relaxed);
        least = sum < least ? sum : least;
    }
    return least;
}

void clients_clear(struct clients *mine)
{
    for (unsigned row = 0; row < CLIENT_ROWS; row++)
        for (unsigned i = 0; i < CLIENT_SLOTS; i++)
            atomic_store_explicit(&mine->rows[row][i], 0, memory_order_relaxed);
}
