/* bind_cache.h - the cache's figures and purging, for the control API's Lua.
 *
 *     core.cache.view()             nil when there is none; else { bytes, limit_bytes, entries,
 *                                   small_queue_bytes, evictions, evicted_bytes, routes },
 *                                   routes: { id, route, method, hits, misses, ... } since the start
 *     core.cache.miss_ratio(id, bytes)  what a route's sampled curve expects with so much room
 *                                   and nothing else in it; nil: nothing was seen
 *     core.cache.purge(what, text)  what: "key", "prefix", "tag", "all"; a ticket, or nil
 *     core.cache.purged(ticket)     nil: not yet; else how many entries went, -1: it failed
 *
 * Owner:   the control process; bind_cache_open() to bind_cache_close().
 * Threads: the loop's; purging is done by a thread of its own.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "cache/shared.h"

#include <lua.h>

struct cache_desk;

/* NULL without a cache. */
struct cache_desk *cache_desk_new(struct board *board, struct cache_shared *shared);
void cache_desk_free(struct cache_desk *desk);

/* Adds the field to `core` on top of the stack; `desk` may be NULL. */
void bind_cache_open(lua_State *L, struct cache_desk *desk);
