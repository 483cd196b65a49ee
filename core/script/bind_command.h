/* bind_command.h - runs a program and waits for its end without holding up others.
 *
 *     core.command({ "/usr/local/bin/page", "--now" }, input, timeout_ms, name)
 *     core.command_end(name)     asks those of this name to end (SIGTERM); whether there was one
 *
 * The first returns its exit code; or nil, a message and a code: "invalid", "timeout", "signal", "io". It reads `input`, its
 * stderr is ours, its stdout is dropped. After timeout_ms it and what it has started are killed. No shell is involved.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

/* Sets the field `command` of the table on top. */
void bind_command_open(lua_State *L);
