/* chunk.h - the frames of one thing in a row of the archive.
 *
 * A tier has slots of its period; a chunk is a run of them: a minute of 1 s,
 * ten minutes of 10 s, an hour of 1 min, a day of 1 h. Which slot a window
 * belongs to is said by the instant that closed it, as in memory.
 *
 * The thing "all" carries for each slot when it was, the host's state, and the
 * sum over all routes; a route carries its frame only, and none in slots
 * without requests.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "stats/frame.h"

enum { ARCHIVE_TIERS = 4, CHUNK_SLOTS = 60 };

struct chunk_tier {
    uint32_t period_s;
    uint32_t slots;         /* in a chunk */
    uint32_t share_eighths; /* of the budget */
};

extern const struct chunk_tier chunk_tiers[ARCHIVE_TIERS];

/* The start of the slot that a 1 s window with this end belongs to, and of its chunk. */
uint64_t chunk_slot_ms(int tier, uint64_t window_to_ms);
uint64_t chunk_start_ms(int tier, uint64_t slot_ms);
unsigned chunk_slot(int tier, uint64_t slot_ms);

struct chunk_view {
    const unsigned char *bytes; /* NULL: nothing in this slot */
    size_t size;
};

struct chunk {
    struct chunk_view slot[CHUNK_SLOTS];
};

/* Views into the bytes of a row. False, with what could be read, when it is damaged. */
bool chunk_read(struct chunk *chunk, const unsigned char *bytes, size_t size);
void chunk_write(const struct chunk *chunk, struct buf *out);

/* What is known of one thing in one slot, or a sum of such. 16 KB. */
struct chunk_sum {
    uint64_t from_ms, to_ms, covered_ms; /* of "all"; covered 0: nothing yet */
    struct stats_host host;
    struct stats_route counts;
};

/* Adds what a slot says; `whole`: it is of the thing "all". */
bool chunk_sum_slot(struct chunk_sum *sum, const struct chunk_view *slot, bool whole);

/* Adds a window's times and host. */
void chunk_sum_window(struct chunk_sum *sum, uint64_t from_ms, uint64_t to_ms,
                      uint64_t covered_ms, const struct stats_host *host);

/* Appends a slot's bytes. */
void chunk_sum_write(const struct chunk_sum *sum, bool whole, struct buf *out);
