/* keep.h - texts that outlive a generation of scripts: name and text, in memory.
 *
 *     core.keep.put(name, text)   text nil: gone
 *     core.keep.get(name)         text or nil
 *
 * What a script of control has learnt would be lost with its state at each reload.
 *
 * Owner:   control; ends with keep_free().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

enum { KEEP_NAMES = 64, KEEP_NAME = 64, KEEP_BYTES = 8 << 20 };

struct keep;

struct keep *keep_new(void);
void keep_free(struct keep *k);

/* Sets the field `keep` of the table on top. */
void keep_open(lua_State *L, struct keep *k);
