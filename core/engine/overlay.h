/* overlay.h - the file in which the API keeps what it was told, for the control API's Lua.
 *
 *     core.overlay.read()        its text, or nil
 *     core.overlay.write(text)   true, or nil and why; in one step, readable by the owner alone
 *
 * Owner:   control. Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/engine.h"

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void overlay_open(lua_State *L, struct engine *engine);
