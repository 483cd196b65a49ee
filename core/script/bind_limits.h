/* bind_limits.h - what the concurrency limits do, for the control API's Lua.
 *
 *     core.limits.classes()   a list of { class, adaptive, limit, least, most, in_flight, base_ms,
 *                             finished, queued, rejected, waited_s }: `limit` is what may be
 *                             under way now, `base_ms` what a request takes when nothing waits
 *                             (0: not known yet); counts are sums over all workers since the start
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void bind_limits_open(lua_State *L, struct board *board);
