/* assets.h - the files of the dashboard, for the Lua that serves them.
 *
 * Threads: control's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Sets the field `asset` of the table on top: asset(name, packed) gives the file's bytes (or those
 * by gzip) and a hash of the file in hexadecimal; nil when there is none. */
void assets_open(lua_State *L);
