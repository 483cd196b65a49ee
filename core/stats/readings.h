/* readings.h - what the lanes say now, all workers summed.
 *
 * Threads: any; a request that ends meanwhile is in a sum or in the next one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "stats/frame.h"

uint64_t reading_requests(struct board *board, uint32_t route);
void reading_route(struct board *board, uint32_t route, struct stats_route *out);

/* Adds the lanes' counters and gauges; the machine's are the caller's. */
void reading_host(struct board *board, struct stats_host *out);
