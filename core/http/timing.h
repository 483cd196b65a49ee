/* timing.h - tells a client where the time of its answer went so far.
 *
 * Source:  W3C Server Timing: "Server-Timing: total;dur=12.3, db;dur=9.8", in milliseconds.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "http/conn.h"

enum { TIMING_ROOM = 40 * (PHASE_COUNT + 1) + 32 };

enum { TIMING_NOBODY, TIMING_PRIVATE, TIMING_ALL }; /* values of server.timing */

/* Whether it may by this value of the setting, which is not TIMING_NOBODY. */
bool timing_may_know(const struct exchange *ex, uint64_t who);

/* Whether this client may know, by the setting server.timing. */
static inline bool timing_wanted(const struct exchange *ex)
{
    uint64_t who = setting_integer(&ex->server->board->settings, SETTING_SERVER_TIMING);
    return who != TIMING_NOBODY && timing_may_know(ex, who);
}

/* Writes the field into at most TIMING_ROOM bytes; returns behind it. */
char *timing_put(char *to, const struct exchange *ex, uint64_t now_ns);
