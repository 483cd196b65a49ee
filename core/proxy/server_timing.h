/* server_timing.h - takes in the phases an upstream tells about itself.
 *
 * Source:  W3C Server Timing, "Server-Timing: db;dur=9.8;desc=x, cache;dur=.4".
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

/* Adds the durations of metrics named like our phases ("db", "redis", "cache",
 * "queue", "lua", "compress", "pool_wait") to phase_ns. Others are ignored, as is
 * what is malformed or above an hour. */
void server_timing_read(struct str value, uint64_t *phase_ns);
