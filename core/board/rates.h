/* rates.h - rate limits by key, shared by all workers.
 *
 * The generic cell rate algorithm (ITU-T I.371): a key has one number, the
 * theoretical arrival time of its next request; a request that comes more than
 * the burst ahead of it is over the limit. Keys are 64-bit hashes in sets of
 * eight; a key that is not known takes the place of the one idle for longest,
 * so a flood of keys costs precision, never memory. An update is one
 * compare-and-swap, and what races with a replacement errs by one request.
 *
 * Owner:   the board. Threads: any process.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RATE_SETS = 8192, RATE_WAYS = 8 };

struct rate_slot {
    _Atomic uint64_t key;    /* 0: free */
    _Atomic uint64_t due_ns; /* theoretical arrival time */
};

struct rates {
    struct rate_slot slots[RATE_SETS][RATE_WAYS];
};

struct rate_limit {
    uint64_t interval_ns; /* between requests at the rate */
    uint64_t burst;       /* requests that may come at once, at least 1 */
};

/* Counts one request of a key at now_ns. 0 when it is within the limit, else
 * after how many ns the next one will be; `peek` counts nothing. */
uint64_t rates_take(struct rates *rates, uint64_t key, const struct rate_limit *limit,
                    uint64_t now_ns, bool peek);
