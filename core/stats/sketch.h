/* sketch.h - base-2 exponential histograms of durations: constant memory,
 * exact merge and difference, bounded relative error.
 *
 * Bucket i of scale s holds values in (2^(i/2^s), 2^((i+1)/2^s)], counted from
 * SKETCH_LOW_NS. The fine sketch (scale 6, growth 1.0109) answers any quantile
 * within 0.55 %, the coarse one (scale 3, growth 1.0905) within 4.5 %. Values
 * below 1.024 us fall into the first bucket, values above 68.7 s into the last.
 * These are the buckets of OpenTelemetry's exponential histogram and of
 * Prometheus' native histogram, so they export without loss.
 *
 * The index comes from the exponent bits and a table of mantissa bounds; there
 * is no logarithm on the record path. Counts wrap at 2^32: take differences.
 *
 * Source:  OpenTelemetry data model, "ExponentialHistogram".
 * Threads: one writer per sketch by relaxed stores; any number of readers.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum {
    SKETCH_LOW_EXPONENT = 10,  /* first bucket begins at 2^10 ns */
    SKETCH_HIGH_EXPONENT = 36, /* last bucket ends at 2^36 ns */
    SKETCH_SCALE = 6,
    SKETCH_BUCKETS = (SKETCH_HIGH_EXPONENT - SKETCH_LOW_EXPONENT) << SKETCH_SCALE,
    SKETCH_COARSE_SCALE = 3,
    SKETCH_COARSE_BUCKETS = (SKETCH_HIGH_EXPONENT - SKETCH_LOW_EXPONENT) << SKETCH_COARSE_SCALE,
};

struct sketch {
    _Atomic uint32_t bucket[SKETCH_BUCKETS];
};

struct sketch_coarse {
    _Atomic uint32_t bucket[SKETCH_COARSE_BUCKETS];
};

extern const uint64_t sketch_bound[64]; /* see sketch.c */
extern const unsigned char sketch_below[128];

/* Bucket that a duration falls into, 0 .. SKETCH_BUCKETS - 1 (or the coarse count). */
static inline unsigned sketch_index(uint64_t ns)
{
    if (ns <= UINT64_C(1) << SKETCH_LOW_EXPONENT)
        return 0;
    if (ns > UINT64_C(1) << SKETCH_HIGH_EXPONENT)
        return SKETCH_BUCKETS - 1;
    unsigned zeros = (unsigned)__builtin_clzll(ns);
    uint64_t mantissa = ns << zeros; /* leading one in bit 63 */
    unsigned sub = sketch_below[(mantissa >> 56) & 127];
    sub += mantissa > sketch_bound[sub];
    return ((63 - zeros - SKETCH_LOW_EXPONENT) << SKETCH_SCALE) + sub - ((ns & (ns - 1)) == 0);
}

static inline unsigned sketch_coarse_index(uint64_t ns)
{
    return sketch_index(ns) >> (SKETCH_SCALE - SKETCH_COARSE_SCALE);
}

/* The single writer needs no locked instruction: a load and a store. */
static inline void sketch_count(_Atomic uint32_t *bucket)
{
    atomic_store_explicit(bucket, atomic_load_explicit(bucket, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static inline void sketch_record(struct sketch *s, uint64_t ns)
{
    sketch_count(&s->bucket[sketch_index(ns)]);
}

static inline void sketch_coarse_record(struct sketch_coarse *s, uint64_t ns)
{
    sketch_count(&s->bucket[sketch_coarse_index(ns)]);
}

/* Upper bound of a bucket in nanoseconds, for either scale. */
double sketch_upper_ns(unsigned index, unsigned scale);

/* The q-quantile (0 to 1) in nanoseconds of plain counts, or 0 when they are
 * all zero: the geometric middle of the bucket that holds the value of rank
 * ceil(q * total). q = 1 gives the upper bound of the highest used bucket. */
double sketch_quantile_ns(const uint32_t *counts, unsigned buckets, unsigned scale, double q);
