// SPDX-License-Identifier: MIT
#include "script/bind_db.h"

#include "pg/wire.h"
#include "script/db_rows.h"
#include "script/db_values.h"
#include "script/state.h"

#include <stdlib.h>

#define LEASE_TYPE "perilune.lease"

/* A statement or a lease that a fiber waits for. */
struct db_op {
    struct fiber *fiber;
    struct pg_job *job;
    struct db_lease *box;
    enum db_shape shape;
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

static int push_result(lua_State *L, void *user)
{
    const struct db_op *op = user;
    return db_push_result(L, op->job, op->shape);
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

static struct pg_job *make_job(lua_State *L, struct pg_pool *pool, struct db_lease *box, int sql_index, enum pg_mode mode, bool control)
{
    struct script *s = fiber_running(L)->script;
    return db_make_job(L, &(struct db_asked){.pool = pool, .lease = box ? box->lease : NULL, .sql_index = sql_index, .mode = mode,
                                             .control = control, .params = &s->params, .scratch = &s->json});
}

/* run(handle, lease or nil, mode, shape, sql, ...) */
static int lua_run(lua_State *L)
{
    struct fiber *f = fiber_running(L);
    struct pg_pool *pool = pool_of(L, f->script);
    struct db_lease *box = lua_isnil(L, 2) ? NULL : lease_at(L, 2, f);
    int mode = luaL_checkint(L, 3);
    enum db_shape shape = (enum db_shape)luaL_checkint(L, 4);
    if (box && box->streaming)
        return luaL_error(L, "rows of this transaction are still being read; finish db:each first");
    struct pg_job *job = make_job(L, pool, box, 5, mode == DB_READ ? PG_READ : PG_ISOLATED, mode == DB_CONTROL);
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
        return db_push_failure(L, &box->lease->error);
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
        db_push_row(L, box->columns, &p);
        buf_consume(&box->rows, (size_t)(p - began));
        return 1;
    }
    box->streaming = false;
    if (box->error.sqlstate[0])
        return db_push_failure(L, &box->error);
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
    db_push_again(L);
    lua_setfield(L, -2, "AGAIN");
    lua_setfield(L, -2, "db");
}
