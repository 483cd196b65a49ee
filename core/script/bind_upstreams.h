/* bind_upstreams.h - peers of upstreams for the control API's Lua.
 *
 *     core.upstreams.list()                    what GET upstreams shows
 *     core.upstreams.drain(name, address, on)  true; or nil, what, word
 *     core.upstreams.undrained(name)           how many peers take requests
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void bind_upstreams_open(lua_State *L);
