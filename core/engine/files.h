/* files.h - what scripts of control keep on the disk: texts that appear whole or not at all.
 *
 *     core.files.write(name, text)    true, or nil and why; returns when the disk has it
 *     core.files.read(name)           the text, or nil
 *     core.files.secret(kind, name)   an environment variable ("env"), or the first line of a file ("file")
 *
 * A text is <state>/<name>.json, readable by the owner alone: written beside it, synced, renamed, and
 * the folder synced.
 *
 * Owner:   control. Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/engine.h"

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void files_open(lua_State *L, struct engine *engine);
