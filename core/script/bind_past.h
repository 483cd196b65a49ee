/* bind_past.h - history on disk, as Lua sees it.
 *
 *     watch.series(route, from_ms, to_ms, step_s, slow_ms)   as in bind_watch.h, and waits for the file
 *                  where memory does not reach back; `route` may be a name, "GET /users" or
 *                  "/users", also of a route that only the file knows; nil: nobody knows it
 *     store.state()   { enabled, open, trouble, file_bytes, budget_bytes, written_ms, waiting_bytes, writes,
 *                  failures, lost_s, tiers = { { period_s, bytes } } }; trouble: why it cannot be written now
 *     store.recall(route)   what is usual for a route, by index, from the last 20 minutes that are on disk,
 *                  as long as it has not learnt enough by itself; how many samples that were; waits
 *
 * Files are read on the loop's threads, never on the loop.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "store/historian.h"
#include "watch/watch.h"

#include <lua.h>

/* Sets `store` in the table on top, and `series` in its field `watch`. All must outlive the state. */
void bind_past_open(lua_State *L, struct historian *historian, struct board *board, struct history *history,
                    struct watch *watch);
