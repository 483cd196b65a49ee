/* load_text.h - source text as a function, in an environment: the only way code gets into a sandbox.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Adds load_text(text, name, env) to the table on top. */
void load_text_open(lua_State *L);
