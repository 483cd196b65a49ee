/* bind_compression.h - what was counted of compressed answers, for the control API's Lua.
 *
 *     core.compression.routes()   a list of { route, method, codings, skipped,
 *                                 offloaded, reused, lowered }, of routes that have any;
 *                                 codings: { coding, bodies, bytes_in, bytes_out, cpu_s }
 *
 * Sums over all workers since the start.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void bind_compression_open(lua_State *L, struct board *board);
