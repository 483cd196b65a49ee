// SPDX-License-Identifier: MIT
#include "script/db_rows.h"

#include "pg/wire.h"
#include "script/db_values.h"
#include "script/json_text.h"

#include <lauxlib.h>

static const char tag_again;

int db_push_failure(lua_State *L, const struct pg_error *e)
{
    lua_pushnil(L);
    lua_pushstring(L, e->message ? e->message : "out of memory");
    lua_pushstring(L, e->sqlstate);
    if (!e->detail && !e->hint && !e->constraint && !e->table && !e->column)
        return 3;
    lua_createtable(L, 0, 5);
    const struct {
        const char *name, *value;
    } fields[] = {{"detail", e->detail}, {"hint", e->hint}, {"constraint", e->constraint}, {"table", e->table}, {"column", e->column}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushstring(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 4;
}

/* Pushes the row at *p, whose names stand from `names` on, and moves on. */
static void push_row(lua_State *L, const struct pg_columns *columns, int names, const char **p)
{
    lua_createtable(L, 0, (int)columns->count);
    for (unsigned i = 0; i < columns->count; i++) {
        int32_t len = (int32_t)wire_u32(*p);
        *p += 4;
        lua_pushvalue(L, names + (int)i);
        db_push_value(L, columns->list[i].oid, *p, len);
        lua_rawset(L, -3);
        *p += len > 0 ? len : 0;
    }
}

static int push_names(lua_State *L, const struct pg_columns *columns)
{
    luaL_checkstack(L, (int)columns->count + 8, "too many columns");
    for (unsigned i = 0; i < columns->count; i++)
        lua_pushlstring(L, columns->list[i].name.p, columns->list[i].name.len);
    return lua_gettop(L) - (int)columns->count + 1;
}

static int push_rows(lua_State *L, const struct pg_job *job)
{
    static const struct pg_columns none;
    const struct pg_columns *columns = job->columns ? job->columns : &none;
    const char *p = job->rows.data ? job->rows.data + job->rows.start : "";
    int names = push_names(L, columns);
    lua_createtable(L, job->row_count < INT32_MAX ? (int)job->row_count : 0, 0);
    json_push_array_metatable(L);
    lua_setmetatable(L, -2);
    for (uint64_t i = 1; i <= job->row_count; i++) {
        push_row(L, columns, names, &p);
        lua_rawseti(L, -2, (int)i);
    }
    return 1;
}

static int push_one(lua_State *L, const struct pg_job *job)
{
    const char *p = job->rows.data ? job->rows.data + job->rows.start : "";
    if (!job->row_count || !job->columns) {
        lua_pushnil(L);
        return 1;
    }
    push_row(L, job->columns, push_names(L, job->columns), &p);
    return 1;
}

void db_push_row(lua_State *L, const struct pg_columns *columns, const char **p)
{
    push_row(L, columns, push_names(L, columns), p);
}

void db_push_again(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&tag_again);
}

int db_push_result(lua_State *L, const struct pg_job *job, enum db_shape shape)
{
    if (job->error.sqlstate[0])
        return db_push_failure(L, &job->error);
    if (job->mode == PG_DESCRIBE) {
        db_push_again(L);
        return 1;
    }
    if (shape == DB_ROWS)
        return push_rows(L, job);
    if (shape == DB_ONE)
        return push_one(L, job);
    lua_pushnumber(L, (double)job->affected);
    return 1;
}

static void refuse_verb(lua_State *L, const struct pg_statement *st, bool control, bool leased)
{
    switch (pg_statement_verb(st)) {
    case PG_CONTROL:
        if (!control)
            luaL_error(L, "transactions are made by db:transaction(function(tx) ... end), not by statements");
        return;
    case PG_SESSION:
        if (!control) /* which is our own Lua's */
            luaL_error(L, leased ? "this would change the connection for whoever has it next; in a transaction use SET LOCAL"
                                 : "this would change a connection that others share; use SET LOCAL in a transaction");
        return;
    case PG_COPY:
        luaL_error(L, "COPY is not offered; insert by INSERT ... SELECT unnest($1), read by db:each");
        return;
    case PG_PLAIN:
        return;
    }
}

struct pg_job *db_make_job(lua_State *L, const struct db_asked *asked)
{
    struct pg_pool *pool = asked->pool;
    enum pg_mode mode = asked->mode;
    const uint32_t *oids;
    unsigned expected;
    size_t len;
    const char *sql = luaL_checklstring(L, asked->sql_index, &len);
    int given = lua_gettop(L) - asked->sql_index;
    if (len > PG_SQL_MAX || memchr(sql, 0, len))
        luaL_error(L, "an SQL text has at most %d bytes, and no zero bytes", PG_SQL_MAX);
    if (given > PG_PARAMETERS_MAX)
        luaL_error(L, "a statement takes at most %d parameters; pass a list and use = ANY($1)", PG_PARAMETERS_MAX);
    struct pg_statement *st = pg_statement_get(pool, (struct str){sql, len});
    if (!st) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    pg_statement_put(st); /* it stays as long as nothing else is asked for */
    refuse_verb(L, st, asked->control, asked->lease != NULL);
    bool typed = pg_statement_types(st, &oids, &expected);
    struct buf *params = asked->params;
    buf_clear(params);
    params->failed = false;
    if (typed && (unsigned)given != expected)
        luaL_error(L, "the statement has %d parameters, but %d were given", (int)expected, given);
    if (typed)
        db_add_params(L, asked->sql_index + 1, given, oids, params, asked->scratch);
    else if (given)
        mode = PG_DESCRIBE;
    else
        buf_add(params, "\0\0\0\0", 4);
    struct pg_job *job = pg_job_new(pool, st, mode);
    if (!job) {
        luaL_error(L, "out of memory");
        return NULL;
    }
    buf_add_str(&job->params, buf_str(params));
    job->lease = asked->lease;
    return job;
}
