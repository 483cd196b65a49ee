/* bind_pools.h - pools of connections for the control API's Lua.
 *
 *     core.pools.list()                   what GET resources/pools shows
 *     core.pools.resize(name, min, max)   true; or nil, what, word. nil leaves a bound as it is
 *     core.pools.delete(name, force)      true; or nil, what, word. Its specification must be gone before
 *     core.pools.statements(name)         what its statements cost, by shape
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void bind_pools_open(lua_State *L);
