/* timing.h - tells a client where the time of its answer went so far.
 *
 * Source:  W3C Server Timing: "Server-Timing: total;dur=12.3, db;dur=9.8", in milliseconds.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/server.h"

enum { TIMING_ROOM = 40 * (PHASE_COUNT + 1) + 32 };

/* Whether this client may know, by the setting server.timing. */
bool timing_wanted(const struct exchange *ex);

/* Writes the field into at most TIMING_ROOM bytes; returns behind it. */
char *timing_put(char *to, const struct exchange *ex, uint64_t now_ns);
