/* settings_rows.h - the settings as rows for Lua.
 *
 * A row is { name, type, unit, default, value, min, max, origin, live, on_trial, canary_only, stable, scope, group, step,
 * settle_s, env, doc }, see board/settings.h. Those that an upstream has for itself (board/own.h) come behind all others.
 *
 * Threads: the Lua state's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

#include <lua.h>

/* Pushes a list of all of them. */
void settings_rows(lua_State *L, const struct board *board);
