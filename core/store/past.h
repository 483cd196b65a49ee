/* past.h - a series over all of history: from the archive, and from memory as far as that reaches.
 *
 * In two parts, because files are slow: past_read() meets the file, on any
 * thread; past_finish() then meets memory, on the loop. Where the step that
 * the one ends with is the step that the other begins with, it is one step.
 *
 * Owner:   whoever holds the struct; zeroed at first, no end.
 * Threads: one at a time.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "store/archive.h"

struct past {
    struct archive_query query; /* its texts are the caller's */
    int thing;                  /* of the history; -1: all routes; PAST_GONE: not on the board */
    history_step_fn *on_step;   /* steps in order, as of history_series() */
    void *arg;
    struct history_step step;   /* the one that is being summed; from_ms 0: none yet */
    struct stats_host host;
    struct stats_route counts;
    int result;                 /* of archive_read() */
};

enum { PAST_GONE = HISTORY_THINGS };

/* Whether memory alone reaches back far enough. Sets query->until_ms: what ends later is memory's. */
bool past_is_memory(struct archive_query *query, struct history *history);

void past_read(struct past *past);

/* False when memory is out. */
bool past_finish(struct past *past, struct history *history);
