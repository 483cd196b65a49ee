/* bind_guests.h - parcels of applications elsewhere, as Lua hands them over.
 *
 *     guests.take(bytes)   true; or nil and "invalid", "protocol" (of another version), "busy" (no lane is free), "io"
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/remotes.h"

#include <lua.h>

/* Sets `guests` in the table on top. */
void bind_guests_open(lua_State *L, struct remotes *remotes);
