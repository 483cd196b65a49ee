/* text.h - `perilune.text`: the string jobs that need no pattern, in linear time.
 *
 * Owner:   nothing to own.
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Pushes a table:
 *     trim(s)             s without white space (%s) at both ends
 *     split(s, sep, max)  list of what stands between the plain separators; at
 *                         most max pieces (none: no limit), the last one
 *                         holding the rest; an empty sep is an error
 *     starts_with(s, p)   boolean
 *     ends_with(s, p)     boolean
 * Returns 1. */
int text_open(lua_State *L);

/* Adds nearest(word, list) to the table on top: the most similar name of a list, or nil. */
void text_nearest_open(lua_State *L);
