/* plain.h - plain Lua values as bytes, to be copied from one state to another.
 *
 *     nil, booleans, numbers, strings, json.null, and tables of these
 *
 * Lists made with json.array stay such. A table that is reachable twice is copied
 * twice. Functions, userdata, coroutines, tables with other metatables, and tables
 * inside of themselves are refused with the path to them.
 *
 * The bytes are for the process that made them only: decoding trusts them.
 *
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"

#include <lua.h>

enum { PLAIN_DEPTH_MAX = 100, PLAIN_WHY = 300 };

/* Appends the values from `first` to `last`. `what` begins the paths ("argument").
 * Returns 0; ERR_INVAL (not plain), ERR_TOO_LARGE (more than max_bytes in the buffer), ERR_NOMEM;
 * why[] says what and where. Raises nothing unless the Lua stack cannot grow. */
int plain_encode(lua_State *L, int first, int last, const char *what, size_t max_bytes, struct buf *out,
                 char why[PLAIN_WHY]);

/* Pushes all values and returns how many. May raise Lua's out-of-memory error. */
int plain_decode(lua_State *L, struct str bytes);
