/* latency.h - the latencies of an upstream as one worker sees them, for the
 * moment at which a hedge is worth sending.
 *
 * A coarse sketch whose counts are halved now and then, so that it follows the
 * upstream within some thousand requests.
 *
 * Owner:   its upstream; ends with free().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>

struct latencies;

struct latencies *latencies_new(void);
void latencies_record(struct latencies *l, uint64_t ns);

/* The quantile in ms, rounded up, or 0 as long as there are too few samples. */
uint64_t latencies_quantile_ms(struct latencies *l, double q);
