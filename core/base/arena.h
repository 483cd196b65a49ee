/* arena.h - memory of one request: allocated piece by piece, freed at once.
 *
 * The first block lives on after a reset, so a kept-alive connection serves
 * request after request without touching malloc.
 *
 * Owner:   whoever called arena_init(); ends with arena_done().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

struct arena_block;

struct arena {
    struct arena_block *head; /* newest block; allocations come from it */
    size_t used;              /* bytes taken from head */
    size_t total_bytes;       /* of all blocks */
};

void arena_init(struct arena *a);
void arena_done(struct arena *a);

/* Forgets all allocations; keeps one small block for the next round. */
void arena_reset(struct arena *a);

/* Returns `size` bytes aligned to 16, or NULL when memory is out. */
void *arena_alloc(struct arena *a, size_t size);

/* Copies bytes into the arena, with a NUL behind them. p is NULL on failure. */
struct str arena_copy(struct arena *a, struct str s);
