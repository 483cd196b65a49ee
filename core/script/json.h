/* json.h - JSON (RFC 8259) between text and Lua values.
 *
 *     null           lightuserdata NULL (json.null)
 *     list           table with the array metatable, or with keys 1..n, n >= 1
 *     object         any other table; integer keys become strings
 *
 * Both directions work without recursion into Lua: no metamethod runs.
 *
 * Owner:   nothing to own.
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"

#include <lua.h>

enum { JSON_DEPTH_MAX = 64 };

/* Appends the value at `index` to *out. On failure *out is as before and *why
 * says what and where ("cannot encode a function at .users[3].f"); it is valid
 * until *out is touched. Bytes that are not UTF-8 become U+FFFD. Raises no Lua
 * error unless the Lua stack cannot grow, and calls nothing. */
bool json_encode(lua_State *L, int index, struct buf *out, const char **why);

/* Pushes the value that `text` holds and returns 0; or pushes nothing, writes
 * "line 1 column 5: what" to `why` and returns ERR_INVAL, or ERR_TOO_LARGE for
 * nesting deeper than depth_max. Lists get the array metatable; of equal keys
 * the last one wins. May raise Lua's out-of-memory error. */
int json_decode(lua_State *L, const char *text, size_t len, unsigned depth_max, char *why,
                size_t why_size);

/* Pushes {encode(value), decode(text), null, array(t)} and returns 1. encode
 * raises errors, decode returns nil and a message; array marks a table (or a
 * new one) as a list and returns it. */
int json_open(lua_State *L);
