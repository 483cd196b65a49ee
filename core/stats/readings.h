/* readings.h - what the lanes say now, summed over all of them or over chosen ones.
 *
 * Chosen lanes are a bit each, of the first 64: those of the workers.
 *
 * Threads: any; a request that ends meanwhile is in a sum or in the next one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "stats/frame.h"

static const uint64_t LANES_ALL = UINT64_MAX; /* those behind the first 64 too */

uint64_t reading_requests(struct board *board, uint64_t lanes, uint32_t route);
void reading_route(struct board *board, uint64_t lanes, uint32_t route, struct stats_route *out);

/* Adds the lanes' counters and gauges; the machine's are the caller's. */
void reading_host(struct board *board, uint64_t lanes, struct stats_host *out);
