/* pattern.h - Lua 5.1 patterns whose work is bounded.
 *
 * Stock string.find and its siblings backtrack without limit inside C, where
 * no hook can stop them; an 8 KB header is enough to hang a worker for
 * seconds. These count every step and give up with an error. One more
 * difference: a "\0" in a pattern is an ordinary character, not its end.
 *
 * Owner:   nothing to own; `steps` must outlive the Lua state.
 * Threads: the one that runs L; `steps` may be written by any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Replaces find, match, gmatch and gsub in the table on top of the stack and
 * removes gfind. *steps is how many steps one call may take, read at each
 * call; a gmatch iterator starts anew with each match. */
void pattern_open(lua_State *L, const _Atomic double *steps);
