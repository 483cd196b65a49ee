/* journal.h - what was changed, line by line, on the disk before it is in force.
 *
 *     core.journal.append(name, line)   true, or nil and why; returns when the disk has it
 *     core.journal.append(name, line, true)   the same, but what the disk has is up to the kernel
 *     core.journal.failures()           { name = why } of those whose last line could not be written
 *     core.journal.read(name)           its last lines, the oldest first: up to 256 KiB of them
 *     core.journal.flag(name)           whether there is a file <state>/<name>, put there by an operator
 *
 * A journal is <state>/<name>.journal, readable by the owner alone. One of more than
 * 4 MiB is moved to <name>.journal.1, whose predecessor is gone; reading goes on there. A line that a crash cut
 * off is left out when it is read, and ended when the next is written.
 *
 * Owner:   control. Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/engine.h"

#include <lua.h>

/* Adds the field to `core` on top of the stack. */
void journal_open(lua_State *L, struct engine *engine);
