/* batch.h - windows on their way from memory to the archive.
 *
 * Owner:   whoever holds the struct; ends with batch_done().
 * Threads: one at a time.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "stats/history.h"

struct batch_window {
    uint64_t from_ms, to_ms;
    struct stats_host host;
    uint32_t first_frame, frames;
};

struct batch_frame {
    uint32_t thing;  /* a route's index on the board; or HISTORY_POOL and a place in pools */
    uint32_t window; /* index in the batch */
    size_t at, size; /* in bytes */
};

struct batch {
    struct buf windows; /* of struct batch_window, in order */
    struct buf frames;  /* of struct batch_frame */
    struct buf bytes;
    struct buf pools;   /* their names, of POOL_NAME bytes each */
};

static inline size_t batch_windows(const struct batch *b)
{
    return buf_len(&b->windows) / sizeof(struct batch_window);
}

static inline struct batch_window *batch_window(const struct batch *b, size_t i)
{
    return (struct batch_window *)(void *)b->windows.data + i;
}

static inline struct batch_frame *batch_frame(const struct batch *b, size_t i)
{
    return (struct batch_frame *)(void *)b->frames.data + i;
}

static inline size_t batch_frames(const struct batch *b)
{
    return buf_len(&b->frames) / sizeof(struct batch_frame);
}

static inline const char *batch_pool(const struct batch *b, uint32_t thing)
{
    return b->pools.data + (size_t)(thing - HISTORY_POOL) * POOL_NAME;
}

static inline size_t batch_bytes(const struct batch *b)
{
    return b->windows.end + b->frames.end + b->bytes.end;
}

/* Takes the 1 s windows that ended behind after_ms, as long as the batch has less than
 * `most_bytes`. False when memory is out: then it holds what it held before. */
bool batch_take(struct batch *b, struct history *history, uint64_t after_ms, size_t most_bytes);

void batch_clear(struct batch *b);
void batch_done(struct batch *b);
