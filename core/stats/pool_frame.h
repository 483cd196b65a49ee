/* pool_frame.h - what a connection pool did, in the terms of a route's frame, so that rings, batches and archive hold both alike.
 *
 *     requests              statements or commands
 *     status[5]             those of them that failed
 *     bytes_in              connections opened
 *     phases[POOL_WAIT]     waiting for a connection
 *     phases[DB]            from sent to answered; its sum by the time covered is how many connections were at work (Little)
 *
 * Threads: any; one that reads while a worker counts sees a statement a little sooner or later.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "stats/frame.h"

/* All workers' lanes of an entry of the board; `before` is the reading before this one. */
void pool_frame_read(const struct board *board, uint32_t entry, const struct stats_route *before, struct stats_route *out);

/* Whether anything of it has happened since. */
bool pool_frame_differs(const struct stats_route *before, const struct stats_route *after);
