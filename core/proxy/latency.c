// SPDX-License-Identifier: MIT
#include "proxy/latency.h"

#include "stats/sketch.h"

#include <math.h>
#include <stdlib.h>

enum {
    ENOUGH = 50,      /* samples before the sketch is believed */
    REFRESH = 32,     /* samples between two looks at it */
    HALVE_AT = 4000,  /* samples */
};

struct latencies {
    uint32_t count;
    uint32_t fresh; /* since the quantile was computed */
    double q;
    uint64_t quantile_ms;
    uint32_t bucket[SKETCH_COARSE_BUCKETS];
};

struct latencies *latencies_new(void)
{
    return calloc(1, sizeof(struct latencies));
}

void latencies_record(struct latencies *l, uint64_t ns)
{
    l->bucket[sketch_coarse_index(ns)]++;
    l->count++;
    l->fresh++;
    if (l->count < HALVE_AT)
        return;
    l->count = 0;
    for (unsigned i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        l->count += l->bucket[i] /= 2;
}

uint64_t latencies_quantile_ms(struct latencies *l, double q)
{
    if (l->count < ENOUGH)
        return 0;
    if (l->fresh >= REFRESH || q != l->q) {
        double ns = sketch_quantile_ns(l->bucket, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, q);
        l->fresh = 0;
        l->q = q;
        l->quantile_ms = (uint64_t)ceil(ns / 1e6);
    }
    return l->quantile_ms;
}
