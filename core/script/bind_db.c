// SPDX-License-Identifier: MIT
#include "script/bind_db.h"

#include "pg/wire.h"
#include "script/db_values.h"
#include "script/json_text.h"
#include "script/state.h"

#include <stdlib.h>

#define LEASE_TYPE "perilune.lease"

static const char tag_again; /* the types of the parameters are known now: ask again */

enum shape { SHAPE_ROWS, SHAPE_ONE, SHAPE_COUNT };
enum call_mode { CALL_ISOLATED, CALL_READ, CALL_CONTROL };

/* A statement or a lease that a fiber waits for. */
struct db_op {
    struct fiber *fiber;
    struct pg_job *job;
    struct db_lease *box;
    enum shape shape;
};

/* A lease as Lua holds it, with the stream on it. */
struct db_lease {
    struct db_lease *next, *prev; /* of the fiber */
    struct fiber *fiber;          /* NULL: over */
    struct pg_lease *lease;
    struct pg_job *job;           /* stream under way */
    struct buf rows;
    struct pg_columns *columns;
    struct pg_error error;
    bool streaming, ended, waits;
};

/* ---- results ---- */

static int push_failure(lua_State *L, const struct pg_error *e)
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

static int push_result(lua_State *L, void *user)
{
    const struct db_op *op = user;
    const struct pg_job *job = op->job;
    if (job->error.sqlstate[0])
        return push_failure(L, &job->error);
    if (job->mode == PG_DESCRIBE) {
        lua_pushlightuserdata(L, (void *)&tag_again);
        return 1;
    }
    if (op->shape == SHAPE_ROWS)
        return push_rows(L, job);
    if (op->shape == SHAPE_ONE)
        return push_one(L, job);
    lua_pushnumber(L, (double)job->affected);
    return 1;
}

/* ---- statements ---- */

static void note_phases(const struct fiber *f, uint64_t queued_ns, uint64_t sent_ns, uint64_t done_ns)
{
    if (!f->ex)
        return;
    f->ex->phase_ns[PHASE_POOL_WAIT] += (sent_ns ? sent_ns : done_ns) - queued_ns;
    if (sent_ns)
        f->ex->phase_ns[PHASE_DB] += done_ns - sent_ns;
}

void db_count_call(struct fiber *f, uint32_t shape)
{
    struct db_calls *all = &f->calls;
    unsigned i = 0;
    if (f->script->process < board_worker(f->script->board, 0))
        return; /* control has no lane */
    if (f->ex)
        all->route = f->ex->route;
    while (i < all->count && all->list[i].shape != shape)
        i++;
    if (i == DB_CALLS)
        return;
    if (i == all->count) {
        all->count++;
        all->list[i].shape = shape;
        all->list[i].calls = 0;
    }
    all->list[i].calls++;
}

static void count_call(struct fiber *f, const struct pg_job *job)
{
    if (job->mode != PG_DESCRIBE)
        db_count_call(f, pg_statement_shape(job->statement));
}

static void on_done(struct pg_job *job)
{
    struct db_op *op = job->user;
    struct fiber *f = op->fiber;
    note_phases(f, job->queued_ns, job->sent_ns, job->done_ns);
    count_call(f, job);
    io_now(f->script->io);
    fiber_resume(f, push_result, op);
    free(op);
}

static void cancel_statement(struct fiber *f)
{
    struct db_op *op = f->wait.op;
    pg_abandon(op->job);
    free(op);
}

static int wait_for(lua_State *L, struct fiber *f, void (*cancel)(struct fiber *), void *op)
{
    int yields = fiber_wait(L, f, cancel, op);
    f->wait.needs_client = setting_number(&f->script->board->settings, SETTING_POOL_DB_CANCEL_GONE) != 0;
    return yields;
}

static struct pg_pool *pool_of(lua_State *L, const struct script *s)
{
    int index = luaL_checkint(L, 1);
    if (index < 0 || (size_t)index >= s->database_count || !s->databases[index].pool)
        luaL_error(L, "a database can only be asked while serving");
    return s->databases[index].pool;
}

static struct db_lease *lease_at(lua_State *L, int index, const struct fiber *f)
{
    struct db_lease *box = luaL_checkudata(L, index, LEASE_TYPE);
    if (box->fiber != f || !box->lease)
        luaL_error(L, "this transaction is over");
    return box;
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

/* The job of the statement at `sql_index` with the arguments behind it; one that
 * only asks for types when those are not known. All that may raise comes before
 * anything is held that Lua does not know of. */
static struct pg_job *make_job(lua_State *L, struct pg_pool *pool, struct db_lease *box, int sql_index, enum pg_mode mode, bool control)
{
    struct fiber *f = fiber_running(L);
    const uint32_t *oids;
    unsigned expected;
    size_t len;
    const char *sql = luaL_checklstring(L, sql_index, &len);
    int given = lua_gettop(L) - sql_index;
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
    refuse_verb(L, st, control, box != NULL);
    bool typed = pg_statement_types(st, &oids, &expected);
    struct buf *params = &f->script->params;
    buf_clear(params);
    params->failed = false;
    if (typed && (unsigned)given != expected)
        luaL_error(L, "the statement has %d parameters, but %d were given", (int)expected, given);
    if (typed)
        db_add_params(L, sql_index + 1, given, oids, params, &f->script->json);
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
    job->lease = box ? box->lease : NULL;
    return job;
}

/* run(handle, lease or nil, mode, shape, sql, ...) */
static int lua_run(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct pg_pool *pool = pool_of(L, f->script);
    struct db_lease *box = lua_isnil(L, 2) ? NULL : lease_at(L, 2, f);
    int mode = luaL_checkint(L, 3);
    enum shape shape = (enum shape)luaL_checkint(L, 4);
    if (box && box->streaming)
        return luaL_error(L, "rows of this transaction are still being read; finish db:each first");
    struct pg_job *job = make_job(L, pool, box, 5, mode == CALL_READ ? PG_READ : PG_ISOLATED, mode == CALL_CONTROL);
    struct db_op *op = calloc(1, sizeof *op);
    if (!op) {
        pg_job_free(job);
        return luaL_error(L, "out of memory");
    }
    *op = (struct db_op){.fiber = f, .job = job, .shape = shape};
    job->done = on_done;
    job->user = op;
    pg_submit(job);
    return wait_for(L, f, cancel_statement, op);
}

/* ---- leases ---- */

static void end_lease(struct db_lease *box)
{
    if (!box->fiber)
        return;
    *(box->prev ? &box->prev->next : &box->fiber->leases) = box->next;
    if (box->next)
        box->next->prev = box->prev;
    box->fiber = NULL;
    if (box->job)
        pg_abandon(box->job);
    box->job = NULL;
    if (box->lease)
        pg_lease_end(box->lease);
    box->lease = NULL;
    buf_done(&box->rows);
    pg_columns_put(box->columns);
    box->columns = NULL;
    pg_error_clear(&box->error);
    box->streaming = false;
}

static void flush_calls(struct fiber *f)
{
    const struct script *s = f->script;
    uint32_t worker = (uint32_t)(s->process - board_worker(s->board, 0));
    for (unsigned i = 0; i < f->calls.count; i++) {
        struct statement_lane *lane = statements_lane(&s->board->statements, f->calls.list[i].shape, worker);
        lane_add(&lane->requests, 1);
        if (f->calls.list[i].calls <= lane_get(&lane->most))
            continue;
        atomic_store_explicit(&lane->most_route, f->calls.route, memory_order_relaxed);
        atomic_store_explicit(&lane->most, f->calls.list[i].calls, memory_order_relaxed);
    }
    f->calls.count = 0;
}

void db_request_over(struct fiber *f)
{
    if (f->calls.count)
        flush_calls(f);
    while (f->leases)
        end_lease(f->leases);
}

static int lease_gc(lua_State *L)
{
    end_lease(luaL_checkudata(L, 1, LEASE_TYPE));
    return 0;
}

static int push_lease(lua_State *L, void *user)
{
    struct db_op *op = user;
    struct db_lease *box = op->box;
    if (box->lease->error.sqlstate[0])
        return push_failure(L, &box->lease->error);
    lua_pushboolean(L, 1);
    return 1;
}

static void on_lease(struct pg_lease *lease)
{
    struct db_op *op = lease->user;
    struct fiber *f = op->fiber;
    io_now(f->script->io);
    note_phases(f, lease->queued_ns, 0, lease->given_ns);
    fiber_resume(f, push_lease, op);
    free(op);
}

static void cancel_lease(struct fiber *f)
{
    free(f->wait.op); /* the lease itself is on the fiber's list */
}

/* new_lease(): the object that a lease will be in, so that acquiring it raises nothing. */
static int lua_new_lease(lua_State *L)
{
    struct db_lease *box = lua_newuserdata(L, sizeof *box);
    memset(box, 0, sizeof *box);
    luaL_getmetatable(L, LEASE_TYPE);
    lua_setmetatable(L, -2);
    return 1;
}

/* lease(handle, object): true; or nil, message, state. */
static int lua_lease(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct pg_pool *pool = pool_of(L, f->script);
    struct db_lease *box = luaL_checkudata(L, 2, LEASE_TYPE);
    struct db_op *op = box->lease ? NULL : calloc(1, sizeof *op);
    if (!op)
        return luaL_error(L, "out of memory");
    *op = (struct db_op){.fiber = f, .box = box};
    box->lease = pg_lease_new(pool, on_lease, op);
    if (!box->lease) {
        free(op);
        return luaL_error(L, "out of memory");
    }
    box->fiber = f;
    box->prev = NULL;
    box->next = f->leases;
    if (f->leases)
        f->leases->prev = box;
    f->leases = box;
    return wait_for(L, f, cancel_lease, op);
}

static int lua_release(lua_State *L)
{
    end_lease(luaL_checkudata(L, 1, LEASE_TYPE));
    return 0;
}

/* status(lease): "I", "T", "E"; nil when its connection is lost or given back. */
static int lease_status(lua_State *L)
{
    const struct db_lease *box = luaL_checkudata(L, 1, LEASE_TYPE);
    char status[2] = {box->lease ? pg_lease_status(box->lease) : 0, 0};
    if (status[0])
        lua_pushstring(L, status);
    else
        lua_pushnil(L);
    return 1;
}

/* ---- streams ---- */

static int push_next(lua_State *L, void *user)
{
    struct db_lease *box = user;
    if (buf_len(&box->rows)) {
        const char *p = box->rows.data + box->rows.start, *began = p;
        push_row(L, box->columns, push_names(L, box->columns), &p);
        buf_consume(&box->rows, (size_t)(p - began));
        return 1;
    }
    box->streaming = false;
    if (box->error.sqlstate[0])
        return push_failure(L, &box->error);
    lua_pushnil(L);
    return 1;
}

static void take_rows(struct db_lease *box, struct pg_job *job)
{
    buf_done(&box->rows);
    box->rows = job->rows;
    job->rows = (struct buf){0};
    if (!box->columns && job->columns) {
        box->columns = job->columns;
        box->columns->refs++;
    }
}

static void wake(struct db_lease *box)
{
    struct fiber *f = box->fiber;
    if (!box->waits)
        return;
    box->waits = false;
    io_now(f->script->io);
    fiber_resume(f, push_next, box);
}

static void on_more(struct pg_job *job)
{
    struct db_lease *box = job->user;
    take_rows(box, job);
    wake(box);
}

static void on_stream_done(struct pg_job *job)
{
    struct db_lease *box = job->user;
    note_phases(box->fiber, job->queued_ns, job->sent_ns, job->done_ns);
    count_call(box->fiber, job);
    take_rows(box, job);
    box->error = job->error;
    job->error = (struct pg_error){0};
    box->ended = true;
    box->job = NULL;
    wake(box);
}

static void cancel_next(struct fiber *f)
{
    struct db_lease *box = f->wait.op;
    box->waits = false; /* the lease ends with the fiber */
}

static void on_described(struct pg_job *job)
{
    on_done(job);
}

/* stream(handle, lease, sql, ...): true. Its rows come by next(). */
static int lua_stream(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct pg_pool *pool = pool_of(L, f->script);
    struct db_lease *box = lease_at(L, 2, f);
    if (box->streaming)
        return luaL_error(L, "rows of this transaction are being read already");
    struct pg_job *job = make_job(L, pool, box, 3, PG_STREAM, false);
    if (job->mode == PG_DESCRIBE) {
        struct db_op *op = calloc(1, sizeof *op);
        if (!op) {
            pg_job_free(job);
            return luaL_error(L, "out of memory");
        }
        *op = (struct db_op){.fiber = f, .job = job};
        job->done = on_described;
        job->user = op;
        pg_submit(job);
        return wait_for(L, f, cancel_statement, op);
    }
    pg_columns_put(box->columns);
    box->columns = NULL;
    pg_error_clear(&box->error);
    buf_done(&box->rows);
    box->job = job;
    box->streaming = true;
    box->ended = false;
    job->done = on_stream_done;
    job->more = on_more;
    job->wanting = true;
    job->user = box;
    pg_submit(job);
    lua_pushboolean(L, 1);
    return 1;
}

/* next(lease): a row; nil at the end; nil, message, state. */
static int lua_next_row(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct db_lease *box = lease_at(L, 1, f);
    if (!box->streaming)
        return luaL_error(L, "no rows are being read");
    if (buf_len(&box->rows) || box->ended)
        return push_next(L, box);
    box->waits = true;
    pg_job_more(box->job);
    return wait_for(L, f, cancel_next, box);
}

static int lua_open_db(lua_State *L)
{
    const struct script *s = state_of(L);
    const char *name = luaL_checkstring(L, 1);
    for (size_t i = 0; i < s->database_count; i++)
        if (strcmp(s->databases[i].name, name) == 0) {
            lua_pushinteger(L, (int)i);
            return 1;
        }
    return 0;
}

void bind_db_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"open", lua_open_db}, {"run", lua_run},       {"new_lease", lua_new_lease}, {"lease", lua_lease},
        {"release", lua_release}, {"status", lease_status}, {"stream", lua_stream},     {"next", lua_next_row},
        {0}};
    luaL_newmetatable(L, LEASE_TYPE);
    lua_pushcfunction(L, lease_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_pushlightuserdata(L, (void *)&tag_again);
    lua_setfield(L, -2, "AGAIN");
    lua_setfield(L, -2, "db");
}
