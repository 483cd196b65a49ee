/* bind_db.h - databases for handlers; lua/perilune/postgres.lua makes them an object.
 *
 *     core.db.open(name)                            handle; or nil
 *     core.db.run(handle, lease, mode, shape, sql, ...)   mode, shape: see bind_db.c
 *     core.db.lease(handle)                         a connection for oneself
 *     core.db.status(lease), core.db.release(lease)
 *     core.db.stream(handle, lease, sql, ...), core.db.next(lease)
 *
 * What a handler holds is given back when its request ends, however it ends.
 *
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>
#include <stdint.h>

struct fiber;

enum { DB_CALLS = 16 };

/* Statements of one request, by shape; those beyond the last entry are not counted. */
struct db_calls {
    unsigned count;
    uint32_t route;
    struct {
        uint32_t shape, calls;
    } list[DB_CALLS];
};

/* Adds `db` to `core` on top of the stack. */
void bind_db_open(lua_State *L);

/* Its request has called the statement or command of a shape. */
void db_count_call(struct fiber *f, uint32_t shape);

/* The fiber's request is over: counts its statements, gives back what it holds. */
void db_request_over(struct fiber *f);
