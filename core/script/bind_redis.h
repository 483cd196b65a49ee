/* bind_redis.h - Redis for handlers; lua/perilune/redis.lua makes it an object.
 *
 *     core.redis.open(name or nil)           handle; or nil
 *     core.redis.run(handle, hold or nil, timeout_ms, name, ...)     a reply
 *     core.redis.many(handle, hold or nil, timeout_ms, {{name, ...}, ...})   a list of them
 *     core.redis.hold()                      what a connection or a subscription will be in
 *     core.redis.lease(handle, hold, keeps)  a connection for oneself
 *     core.redis.taint(hold, whether)        it is closed when given back
 *     core.redis.subscribe(handle, hold, channels, patterns)
 *     core.redis.receive(hold, timeout_ms)   payload, channel, pattern
 *     core.redis.release(hold)
 *     core.redis.sha1(text), core.redis.retries()
 *
 * `name` may be several words, "CLIENT LIST". timeout_ms 0: as the pool says, -1:
 * none. What a handler holds is given back when its request ends, however it ends.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>

struct fiber;

/* Adds `redis` to `core` on top of the stack. */
void bind_redis_open(lua_State *L);

/* The fiber's request is over: gives back what it holds. */
void redis_request_over(struct fiber *f);
