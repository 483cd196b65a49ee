// SPDX-License-Identifier: MIT
#include "base/arena.h"

#include <stdlib.h>

enum { BLOCK_BYTES = 8192 - 32 }; /* a parsed head and a small request fit */

struct arena_block {
    struct arena_block *next;
    size_t size; /* usable bytes in data */
    _Alignas(16) char data[];
};

void arena_init(struct arena *a)
{
    *a = (struct arena){0};
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = a->head;
    if (keep && !keep->next && keep->size == BLOCK_BYTES) { /* nearly always */
        a->used = 0;
        return;
    }
    keep = NULL;
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        if (!keep && b->size == BLOCK_BYTES)
            keep = b;
        else
            free(b);
    }
    if (keep)
        keep->next = NULL;
    *a = (struct arena){.head = keep, .total_bytes = keep ? keep->size : 0};
}

void *arena_alloc(struct arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (!a->head || a->head->size - a->used < size) {
        size_t bytes = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        struct arena_block *b = malloc(sizeof *b + bytes);
        if (!b)
            return NULL;
        b->size = bytes;
        b->next = a->head;
        a->head = b;
        a->used = 0;
        a->total_bytes += bytes;
    }
    void *p = a->head->data + a->used;
    a->used += size;
    return p;
}

struct str arena_copy(struct arena *a, struct str s)
{
    char *p = arena_alloc(a, s.len + 1);
    if (!p)
        return (struct str){NULL, 0};
    if (s.len)
        memcpy(p, s.p, s.len);
    p[s.len] = 0;
    return (struct str){p, s.len};
}
