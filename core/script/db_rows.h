/* db_rows.h - statements made of Lua values, and what they gave as such.
 *
 * For handlers (bind_db.c) and for host programs (host/postgres_module.c), which wait in
 * different ways.
 *
 * Threads: the one that runs L.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "pg/pg.h"

#include <lua.h>

/* As lua/perilune/postgres.lua says them. */
enum db_shape { DB_ROWS, DB_ONE, DB_COUNT };
enum db_call { DB_ISOLATED, DB_READ, DB_CONTROL /* which is our own Lua's */ };

/* The types of the parameters are known now: ask again. */
void db_push_again(lua_State *L);

/* What a job that is done gave: rows, the first row or nil, a number; or nil, message, state, details. */
int db_push_result(lua_State *L, const struct pg_job *job, enum db_shape shape);

/* nil, message, state and, where the server told more, a table of details. */
int db_push_failure(lua_State *L, const struct pg_error *e);

/* Pushes the row at *p and moves on. */
void db_push_row(lua_State *L, const struct pg_columns *columns, const char **p);

struct db_asked {
    struct pg_pool *pool;
    struct pg_lease *lease; /* NULL: any connection */
    int sql_index;          /* parameters follow */
    enum pg_mode mode;
    bool control;           /* a statement of our own Lua's */
    struct buf *params, *scratch; /* survive a raise */
};

/* The job of a statement with its parameters; one that only asks for their types when those are
 * not known. All that may raise comes before anything is held that Lua does not know of. Raises
 * when the statement would change a connection that others get after. */
struct pg_job *db_make_job(lua_State *L, const struct db_asked *asked);
