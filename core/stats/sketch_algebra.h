/* sketch_algebra.h - sums, differences and questions to the counts of sketches.
 *
 * Sketches of one scale add and subtract bucket by bucket without loss, so
 * windows, workers and routes combine in any order. A quantile comes with the
 * bounds it is certain of: those of its bucket, and those that another sample of
 * the same traffic would stay within.
 *
 * Source:  OpenTelemetry data model. David, Nagaraja: Order statistics, 7.1.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/sketch.h"

#include <stdbool.h>

/* to += from; a count that would pass 2^32 - 1 stays there. */
void sketch_merge(uint32_t *to, const uint32_t *from, unsigned buckets);

/* to -= from, for a later reading minus an earlier one. False, and nothing changed, when `from` is
 * not part of `to`: a bucket would fall below 0. */
bool sketch_subtract(uint32_t *to, const uint32_t *from, unsigned buckets);

uint64_t sketch_total(const uint32_t *counts, unsigned buckets);

struct sketch_estimate {
    double value_ns;           /* geometric middle of the bucket */
    double lower_ns, upper_ns; /* the value of this rank is between them for certain */
    double lo_ns, hi_ns;       /* the quantile of the traffic, with 95 % confidence */
};

/* All 0 when there are no counts. */
struct sketch_estimate sketch_estimate(const uint32_t *counts, unsigned buckets, unsigned scale,
                                       double q);

/* Share of the values above ns, 0 to 1, linear within its bucket. NaN when there are no counts. */
double sketch_share_above(const uint32_t *counts, unsigned buckets, unsigned scale, double ns);
