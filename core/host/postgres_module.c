/* postgres_module.c - a pool of connections to PostgreSQL for programs that are not ours.
 *
 *     module.wrong(dsn)                        what is wrong with it, or nothing
 *     module.new(options)                      a pool; or nil and why
 *     pool:run(lease, call, shape, sql, ...)   an op
 *     pool:new_lease()                         the object that a lease will be in
 *     pool:lease(object)                       an op, which gives true
 *     pool:stream(lease, sql, ...)             true; or an op that gives AGAIN
 *     pool:stats(), pool:close()
 *     module.waits(op or lease)                its number while it is under way, else nothing
 *     module.result(op)                        what it gave; nil, message, state, details
 *     module.more(lease), module.row(lease)    asks for rows; the next one, nil at the end
 *     module.status(lease), module.release(lease)
 *
 * lua/perilune/postgres.lua, the same that handlers use, makes that a database. A library of its own,
 * so that libpq and libuv are needed only by who asks for a pool.
 *
 * Each pool has a loop and a board of its own: pools of one program know nothing of each other.
 */
// SPDX-License-Identifier: MIT
#include "base/log.h"
#include "host/loop.h"
#include "pg/pg.h"
#include "pg/wire.h"
#include "script/db_rows.h"
#include "script/json_text.h"
#include "script/pool_stats.h"

#include <lauxlib.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
#define POOL "perilune.pool.postgres"
#define OP "perilune.pool.postgres.op"
#define LEASE "perilune.pool.postgres.lease"

enum { GRACE_MS = 5000 /* to find a name, which cannot be broken off */ };

static const char closed_state[] = "57P01", closed_text[] = "the pool was closed";

struct pool {
    struct host_object object;
    struct board *board;
    struct pg *all;
    struct pg_pool *pool;
    struct op *ops;        /* under way */
    struct lease *leases;  /* held, or waited for */
    struct buf params, scratch;
};

/* A statement, or the wait for a lease. */
struct op {
    struct host_wait wait;
    struct op *next, *prev; /* of the pool while it is under way */
    struct pool *pool;      /* NULL: ended */
    struct pg_job *job;     /* under way */
    struct pg_job result;   /* what is left of it: error, columns, rows, counts */
    enum db_shape shape;
    bool leases;
};

/* A connection for oneself, with the stream on it. */
struct lease {
    struct host_wait wait;      /* for rows */
    struct lease *next, *prev;  /* of the pool */
    struct pool *pool;          /* NULL: over */
    struct pg_lease *lease;
    struct op *op;              /* that waits for it */
    struct pg_job *job;         /* stream under way */
    struct buf rows;
    struct pg_columns *columns;
    struct pg_error error;
    bool streaming, ended;
};

static struct pool *pool_at(lua_State *L)
{
    return (struct pool *)host_object_at(L, POOL);
}

/* ---- ops ---- */

static void *new_object(lua_State *L, size_t size, const char *class)
{
    void *object = lua_newuserdata(L, size);
    memset(object, 0, size);
    luaL_getmetatable(L, class);
    lua_setmetatable(L, -2);
    lua_getfenv(L, 1); /* holds the pool, so that it lives as long as this */
    lua_setfenv(L, -2);
    return object;
}

static void op_begin(struct op *op, struct pool *pool)
{
    op->pool = pool;
    op->next = pool->ops;
    if (pool->ops)
        pool->ops->prev = op;
    pool->ops = op;
    host_wait_begin(&op->wait, pool->object.loop);
}

static void op_end(struct op *op)
{
    *(op->prev ? &op->prev->next : &op->pool->ops) = op->next;
    if (op->next)
        op->next->prev = op->prev;
    op->pool = NULL;
    op->job = NULL;
    host_wait_end(&op->wait);
}

static void clear_result(struct op *op)
{
    buf_done(&op->result.rows);
    pg_columns_put(op->result.columns);
    op->result.columns = NULL;
    pg_error_clear(&op->result.error);
}

static int op_gc(lua_State *L)
{
    struct op *op = lua_touserdata(L, 1);
    if (op->pool && host_loop_is_ours(op->pool->object.loop)) {
        if (op->job)
            pg_abandon(op->job);
        op_end(op);
    }
    clear_result(op);
    return 0;
}

/* The job is freed when this returns: what it gave is taken over. */
static void on_done(struct pg_job *job)
{
    struct op *op = job->user;
    struct pg_job *to = &op->result;
    to->mode = job->mode;
    to->error = job->error;
    to->columns = job->columns;
    to->rows = job->rows;
    to->row_count = job->row_count;
    to->affected = job->affected;
    job->error = (struct pg_error){0};
    job->columns = NULL;
    job->rows = (struct buf){0};
    op_end(op);
}

static int op_result(lua_State *L)
{
    struct op *op = luaL_checkudata(L, 1, OP);
    if (op->pool)
        return luaL_error(L, "this statement is still under way");
    if (!op->leases || op->result.error.sqlstate[0])
        return db_push_result(L, &op->result, op->shape);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- leases ---- */

static struct lease *lease_at(lua_State *L, int index)
{
    struct lease *l = luaL_checkudata(L, index, LEASE);
    if (!l->pool || !l->lease) {
        luaL_error(L, "this transaction is over");
        return NULL;
    }
    if (!host_loop_is_ours(l->pool->object.loop))
        luaL_error(L, "this transaction belongs to the process before the fork");
    return l;
}

static void clear_rows(struct lease *l)
{
    buf_done(&l->rows);
    pg_columns_put(l->columns);
    l->columns = NULL;
    pg_error_clear(&l->error);
}

/* What was under way on it is given up; who waits goes on. */
static void end_lease(struct lease *l, const char *why)
{
    struct pool *pool = l->pool;
    if (!pool)
        return;
    *(l->prev ? &l->prev->next : &pool->leases) = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->pool = NULL;
    if (l->job)
        pg_abandon(l->job);
    l->job = NULL;
    for (struct op *op = pool->ops, *next; op; op = next) {
        next = op->next;
        if (op->job && op->job->lease == l->lease) {
            pg_abandon(op->job);
            pg_error_set(&op->result.error, closed_state, "%s", why);
            op_end(op);
        }
    }
    if (l->op) {
        pg_error_set(&l->op->result.error, closed_state, "%s", why);
        op_end(l->op);
        l->op = NULL;
    }
    if (l->lease)
        pg_lease_end(l->lease);
    l->lease = NULL;
    clear_rows(l);
    l->streaming = false;
    host_wait_end(&l->wait);
}

static int lease_gc(lua_State *L)
{
    struct lease *l = lua_touserdata(L, 1);
    if (l->pool && host_loop_is_ours(l->pool->object.loop)) {
        io_now(&l->pool->object.loop->io);
        end_lease(l, "the transaction is over");
    }
    return 0;
}

static int lease_release(lua_State *L)
{
    luaL_checkudata(L, 1, LEASE);
    return lease_gc(L);
}

static int lease_status(lua_State *L)
{
    const struct lease *l = luaL_checkudata(L, 1, LEASE);
    char status[2] = {l->lease ? pg_lease_status(l->lease) : 0, 0};
    if (!status[0])
        return 0;
    lua_pushstring(L, status);
    return 1;
}

static int pool_new_lease(lua_State *L)
{
    pool_at(L);
    new_object(L, sizeof(struct lease), LEASE);
    return 1;
}

static void on_lease(struct pg_lease *lease)
{
    struct lease *l = lease->user;
    struct op *op = l->op;
    l->op = NULL;
    op->result.error = lease->error;
    lease->error = (struct pg_error){0};
    op_end(op);
}

static int pool_lease(lua_State *L)
{
    struct pool *pool = pool_at(L);
    struct lease *l = luaL_checkudata(L, 2, LEASE);
    if (l->lease)
        return luaL_error(L, "this lease is in use");
    struct op *op = new_object(L, sizeof *op, OP);
    l->lease = pg_lease_new(pool->pool, on_lease, l);
    if (!l->lease)
        return luaL_error(L, "out of memory");
    op->leases = true;
    op_begin(op, pool);
    l->op = op;
    l->pool = pool;
    l->prev = NULL;
    l->next = pool->leases;
    if (pool->leases)
        pool->leases->prev = l;
    pool->leases = l;
    return 1;
}

/* ---- statements ---- */

static struct pg_job *make_job(lua_State *L, struct pool *pool, struct lease *l, int sql_index, enum pg_mode mode, bool control)
{
    return db_make_job(L, &(struct db_asked){.pool = pool->pool, .lease = l ? l->lease : NULL, .sql_index = sql_index, .mode = mode,
                                             .control = control, .params = &pool->params, .scratch = &pool->scratch});
}

/* The job in an op, which is pushed. The op is on the stack below the arguments, so that making it raises before there is a job. */
static int submit(struct pool *pool, struct op *op, struct pg_job *job, enum db_shape shape)
{
    op->job = job;
    op->shape = shape;
    op_begin(op, pool);
    job->done = on_done;
    job->user = op;
    pg_submit(job);
    return 1;
}

/* run(pool, lease or nil, call, shape, sql, ...) */
static int pool_run(lua_State *L)
{
    struct pool *pool = pool_at(L);
    struct lease *l = lua_isnil(L, 2) ? NULL : lease_at(L, 2);
    int call = luaL_checkint(L, 3);
    enum db_shape shape = (enum db_shape)luaL_checkint(L, 4);
    if (l && l->streaming)
        return luaL_error(L, "rows of this transaction are still being read; finish db:each first");
    struct op *op = new_object(L, sizeof *op, OP);
    lua_replace(L, 2); /* the lease is held by who called */
    struct pg_job *job = make_job(L, pool, l, 5, call == DB_READ ? PG_READ : PG_ISOLATED, call == DB_CONTROL);
    lua_pushvalue(L, 2);
    return submit(pool, op, job, shape);
}

/* ---- streams ---- */

static void take_rows(struct lease *l, struct pg_job *job)
{
    buf_done(&l->rows);
    l->rows = job->rows;
    job->rows = (struct buf){0};
    if (!l->columns && job->columns) {
        l->columns = job->columns;
        l->columns->refs++;
    }
    host_wait_end(&l->wait);
}

static void on_more(struct pg_job *job)
{
    take_rows(job->user, job);
}

static void on_stream_done(struct pg_job *job)
{
    struct lease *l = job->user;
    l->error = job->error;
    job->error = (struct pg_error){0};
    l->ended = true;
    l->job = NULL;
    take_rows(l, job);
}

/* stream(pool, lease, sql, ...) */
static int pool_stream(lua_State *L)
{
    struct pool *pool = pool_at(L);
    struct lease *l = lease_at(L, 2);
    if (l->streaming)
        return luaL_error(L, "rows of this transaction are being read already");
    struct op *op = new_object(L, sizeof *op, OP);
    lua_replace(L, 1);
    struct pg_job *job = make_job(L, pool, l, 3, PG_STREAM, false);
    if (job->mode == PG_DESCRIBE) {
        lua_pushvalue(L, 1);
        return submit(pool, op, job, DB_ROWS);
    }
    clear_rows(l);
    l->job = job;
    l->streaming = true;
    l->ended = false;
    job->done = on_stream_done;
    job->more = on_more;
    job->wanting = true;
    job->user = l;
    pg_submit(job);
    lua_pushboolean(L, 1);
    return 1;
}

static int lease_more(lua_State *L)
{
    struct lease *l = lease_at(L, 1);
    if (!l->streaming)
        return luaL_error(L, "no rows are being read");
    if (buf_len(&l->rows) || l->ended || l->wait.loop)
        return 0;
    host_wait_begin(&l->wait, l->pool->object.loop);
    pg_job_more(l->job);
    return 0;
}

static int lease_row(lua_State *L)
{
    struct lease *l = lease_at(L, 1);
    if (buf_len(&l->rows)) {
        const char *p = l->rows.data + l->rows.start, *began = p;
        db_push_row(L, l->columns, &p);
        buf_consume(&l->rows, (size_t)(p - began));
        return 1;
    }
    l->streaming = false;
    if (l->error.sqlstate[0])
        return db_push_failure(L, &l->error);
    lua_pushnil(L);
    return 1;
}

/* Of an op, or of a lease whose rows are waited for: both begin with it. */
static int object_waits(lua_State *L)
{
    const struct host_wait *wait = lua_touserdata(L, 1);
    if (!wait || !lua_getmetatable(L, 1))
        return luaL_argerror(L, 1, "a statement or a lease");
    luaL_getmetatable(L, OP);
    luaL_getmetatable(L, LEASE);
    bool known = lua_rawequal(L, -3, -1) || lua_rawequal(L, -3, -2);
    return known ? host_wait_push(L, wait) : luaL_argerror(L, 1, "a statement or a lease");
}

/* ---- pools ---- */

static int pool_stats(lua_State *L)
{
    struct pool *pool = pool_at(L);
    pg_tick(pool->all);
    pool_stats_push(L, &pool->board->pools.list[0]);
    return 1;
}

static void free_parts(struct pool *pool)
{
    struct host_loop *loop = pool->object.loop;
    pool->object.loop = NULL;
    if (pool->all && !pg_stop(pool->all, GRACE_MS)) {
        log_line(LOG_ERROR, "a thread that connects to PostgreSQL does not come back: what it uses stays in memory");
        return;
    }
    if (loop)
        host_loop_stop(loop);
    pg_free(pool->all);
    if (loop)
        host_loop_free(loop);
    if (pool->board)
        board_free(pool->board);
    buf_done(&pool->params);
    buf_done(&pool->scratch);
    pool->all = NULL;
    pool->board = NULL;
}

/* close(): whoever waits is told that the pool was closed. */
static int pool_shut(lua_State *L)
{
    struct pool *pool = luaL_checkudata(L, 1, POOL);
    if (!pool->object.loop)
        return 0;
    if (!host_loop_is_ours(pool->object.loop)) {
        pool->object.loop = NULL; /* what the parent goes on with */
        return 0;
    }
    io_now(&pool->object.loop->io);
    while (pool->leases)
        end_lease(pool->leases, closed_text);
    for (struct op *op; (op = pool->ops);) {
        pg_abandon(op->job);
        pg_error_set(&op->result.error, closed_state, "%s", closed_text);
        op_end(op);
    }
    pg_release(pool->pool);
    free_parts(pool);
    return 0;
}

static void on_tick(void *user)
{
    pg_tick(user);
}

static bool open_pool(struct pool *pool, const struct pg_spec *spec)
{
    pool->board = board_new(&(struct board_opts){.workers = 1, .routes_max = 8, .peers_max = 1, .is_private = true});
    pool->object.loop = pool->board ? host_loop_new() : NULL;
    pool->all = pool->object.loop ? pg_new(&pool->object.loop->io, pool->board, 0) : NULL;
    pool->pool = pool->all ? pg_open(pool->all, spec) : NULL;
    if (!pool->pool)
        return false;
    pool->object.loop->user = pool->all;
    pool->object.loop->on_tick = on_tick;
    return true;
}

static int64_t number_of(lua_State *L, const char *name, double fallback)
{
    lua_getfield(L, 1, name);
    double value = luaL_optnumber(L, -1, fallback);
    lua_pop(L, 1);
    return (int64_t)value;
}

/* new{ name, dsn, min, max, wait_ms, statement_ms, connect_ms, idle_ms, lifetime_ms, pooler } */
static int new_pool(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "name");
    lua_getfield(L, 1, "dsn");
    lua_getfield(L, 1, "pooler");
    struct pg_spec spec = {.name = luaL_checkstring(L, 2), .dsn = luaL_checkstring(L, 3), .pooler = lua_toboolean(L, 4),
                           .min = number_of(L, "min", 0), .max = number_of(L, "max", 0), .wait_ms = number_of(L, "wait_ms", 0),
                           .statement_ms = number_of(L, "statement_ms", 0), .connect_ms = number_of(L, "connect_ms", 0),
                           .idle_ms = number_of(L, "idle_ms", 0), .lifetime_ms = number_of(L, "lifetime_ms", 0)};
    struct pool *pool = lua_newuserdata(L, sizeof *pool);
    memset(pool, 0, sizeof *pool);
    luaL_getmetatable(L, POOL);
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    if (open_pool(pool, &spec))
        return 1;
    free_parts(pool);
    lua_pushnil(L);
    lua_pushliteral(L, "out of memory or descriptors");
    return 2;
}

static int dsn_wrong(lua_State *L)
{
    char why[PG_WHY];
    lua_pushstring(L, pg_dsn_wrong(luaL_checkstring(L, 1), why));
    return 1;
}

static void open_class(lua_State *L, const char *name, lua_CFunction collect)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
}

EXPORT int luaopen_perilune_postgres(lua_State *L);
int luaopen_perilune_postgres(lua_State *L)
{
    static const luaL_Reg methods[] = {{"run", pool_run}, {"new_lease", pool_new_lease}, {"lease", pool_lease}, {"stream", pool_stream},
                                       {"stats", pool_stats}, {"close", pool_shut}, {0}};
    static const luaL_Reg functions[] = {{"new", new_pool}, {"wrong", dsn_wrong}, {"waits", object_waits}, {"result", op_result},
                                         {"more", lease_more}, {"row", lease_row}, {"status", lease_status}, {"release", lease_release}, {0}};
    json_share_array_metatable(L);
    open_class(L, OP, op_gc);
    open_class(L, LEASE, lease_gc);
    open_class(L, POOL, pool_shut);
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    host_loop_methods(L, POOL);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    db_push_again(L);
    lua_setfield(L, -2, "AGAIN");
    return 1;
}
