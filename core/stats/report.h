/* report.h - figures over all lanes that need no history.
 *
 * Threads: any; the lanes' writers go on meanwhile.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

/* Since the start, over all workers. */
struct stats_totals {
    uint64_t finished, aborted;
    uint64_t in_flight;
    uint64_t bytes_in, bytes_out;
};
void stats_totals(struct board *board, struct stats_totals *out);

/* The slowest samples that the lanes still hold, slowest first. Returns how
 * many, at most `max`. */
uint32_t stats_slowest(struct board *board, struct slow_sample *out, uint32_t max);

/* How many of a latency sketch's values are at or below each of the ascending
 * bounds. A bucket that straddles a bound counts by its middle, so a bound is
 * met within 0.55 %. Returns the number of all values. */
uint64_t stats_cumulative(const uint32_t latency[SKETCH_BUCKETS], const double *bounds_s,
                          unsigned count, uint64_t *out);
