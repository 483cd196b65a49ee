/* bounded.h - asks a function that somebody else wrote, and takes it back when it uses too much.
 *
 *     bounded(budget_ms, fn, ...) -> true, answer, used_ms
 *                                    false, message, used_ms, interrupted
 *
 * For what the engine runs for itself and asks many for: one rule that does not end must not
 * take the others with it (limits.h). fn may not wait, and has one answer.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Adds bounded() to the table on top. For the program's own files: a script could give itself more time. */
void bounded_open(lua_State *L);
