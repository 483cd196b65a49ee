/* curve.h - how many requests of a route would miss with another size of cache:
 * a miss-ratio curve, sampled.
 *
 * SHARDS of a fixed size with its adjustment (Waldspurger, Park, Garthwaite,
 * Ahmad: "Efficient MRC Construction with SHARDS", FAST 2015): keys whose hash
 * is below a threshold are followed, all others are only counted; when there
 * are too many, the threshold sinks. The distance of a reuse is the bytes of the
 * followed keys that were used since, over the rate. What it predicts is LRU
 * under the same requests; the store's eviction does a little better.
 *
 * Owner:   lies in shared memory, zeroed; one per route.
 * Threads: any process; a short lock that is never waited for: who does not get
 *          it leaves a sample out.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CURVE_SAMPLES = 2048, /* keys followed at once */
    CURVE_BUCKETS = 128,  /* four for each doubling of bytes, from CURVE_LEAST_BYTES */
    CURVE_LEAST_BYTES = 4096,
};

struct curve {
    _Atomic uint64_t locked_ms;  /* 0: free; one who died in it loses it after a while */
    _Atomic uint32_t threshold;  /* of 2^24; 0: nothing seen yet */
    uint32_t clock;
    uint32_t count;
    double seen;                 /* requests, followed or not */
    double total;                /* requests that the followed ones stand for */
    double reuses[CURVE_BUCKETS]; /* of those, by bytes that had to fit */
    uint64_t hash[CURVE_SAMPLES];
    uint32_t used[CURVE_SAMPLES]; /* clock of the last use */
    uint32_t bytes[CURVE_SAMPLES];
};

/* Whether a key is followed; cheap, for each request. */
static inline bool curve_follows(struct curve *c, uint64_t hash)
{
    uint32_t threshold = atomic_load_explicit(&c->threshold, memory_order_relaxed);
    return (hash & 0xffffff) < (threshold ? threshold : 1U << 22);
}

/* A request for a followed key. `bytes` 0: not known. `seen` requests, this one
 * included, have come since the caller's last one. False: it was left out. */
bool curve_use(struct curve *c, uint64_t hash, uint32_t bytes, uint64_t seen, uint64_t now_ms);

/* The size of a followed key is known now. */
void curve_size(struct curve *c, uint64_t hash, uint32_t bytes, uint64_t now_ms);

/* Expected share of requests that miss with so many bytes; negative: nothing was seen. */
double curve_miss_ratio(const struct curve *c, uint64_t bytes);
