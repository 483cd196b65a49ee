// SPDX-License-Identifier: MIT
#include "stats/sketch_algebra.h"

#include <math.h>

void sketch_merge(uint32_t *to, const uint32_t *from, unsigned buckets)
{
    for (unsigned i = 0; i < buckets; i++)
        if (__builtin_add_overflow(to[i], from[i], &to[i]))
            to[i] = UINT32_MAX;
}

bool sketch_subtract(uint32_t *to, const uint32_t *from, unsigned buckets)
{
    for (unsigned i = 0; i < buckets; i++)
        if (to[i] < from[i])
            return false;
    for (unsigned i = 0; i < buckets; i++)
        to[i] -= from[i];
    return true;
}

uint64_t sketch_total(const uint32_t *counts, unsigned buckets)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < buckets; i++)
        total += counts[i];
    return total;
}

static double lower_ns(unsigned bucket, unsigned scale)
{
    return bucket ? sketch_upper_ns(bucket - 1, scale) : exp2(SKETCH_LOW_EXPONENT);
}

/* The bucket that holds the value of a rank, 1 to total. */
static unsigned bucket_of(const uint32_t *counts, double rank)
{
    double seen = 0;
    unsigned i = 0;
    while ((seen += counts[i]) < rank)
        i++;
    return i;
}

struct sketch_estimate sketch_estimate(const uint32_t *counts, unsigned buckets, unsigned scale,
                                       double q)
{
    double n = (double)sketch_total(counts, buckets);
    if (n <= 0)
        return (struct sketch_estimate){0};
    q = fmin(1, fmax(0, q));
    double rank = fmin(n, fmax(1, ceil(q * n))), half = 1.96 * sqrt(n * q * (1 - q));
    unsigned at = bucket_of(counts, rank);
    unsigned low = bucket_of(counts, fmax(1, floor(q * n - half)));
    unsigned high = bucket_of(counts, fmin(n, ceil(q * n + half) + 1));
    return (struct sketch_estimate){
        .value_ns = sketch_upper_ns(at, scale) * exp2(-0.5 / (double)(1U << scale)),
        .lower_ns = lower_ns(at, scale),
        .upper_ns = sketch_upper_ns(at, scale),
        .lo_ns = lower_ns(low, scale),
        .hi_ns = sketch_upper_ns(high, scale),
    };
}

double sketch_share_above(const uint32_t *counts, unsigned buckets, unsigned scale, double ns)
{
    double total = 0, above = 0;
    for (unsigned i = 0; i < buckets; i++) {
        double low = lower_ns(i, scale), high = sketch_upper_ns(i, scale);
        low = i ? low : 0;
        total += counts[i];
        above += counts[i] * fmin(1, fmax(0, (high - ns) / (high - low)));
    }
    return total > 0 ? above / total : NAN;
}
