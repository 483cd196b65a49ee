/* How many connections there are: opened when work waits or min asks for them,
 * closed when they are old, idle, too many, or wanted by a worker that has none.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "base/log.h"
#include "pg/wire.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOW_TICK_MS = 100, OPENING_MOST = 4, THREADS = 2, STOP_MS = 60000 };

static uint64_t now_ms(const struct pg_pool *pool)
{
    return pool->all->io->now_ms;
}

static bool is_used(const struct pg_pool *pool)
{
    return pool->refs > 0;
}

/* ---- opening ---- */

static void schedule_retry(struct pg_pool *pool)
{
    wheel_set(&pool->all->io->wheel, &pool->retry, pool->retry_ms);
}

static void on_retry(struct timer *t)
{
    struct pg_pool *pool = (struct pg_pool *)((char *)t - offsetof(struct pg_pool, retry));
    struct pg *all = pool->all;
    pool_dispatch(pool);
    pool_deliver(all);
}

void pool_grow(struct pg_pool *pool)
{
    uint32_t worker = pool->all->worker;
    if (pool->denied || pool->opening >= OPENING_MOST || atomic_load(&pool->all->stopping) ||
        atomic_load_explicit(&pool->shared->forced, memory_order_relaxed))
        return;
    if (pool->down_ms && pool->opening)
        return; /* one that knocks is enough */
    if (now_ms(pool) < pool->retry_ms) {
        schedule_retry(pool);
        return;
    }
    bool placed = pool_hold(pool->shared, worker, pool_max(pool->shared));
    pool->denied = !placed;
    atomic_store_explicit(&pool->lane->starved, !placed, memory_order_relaxed);
    struct pg_conn *c = placed ? pg_conn_new(pool) : NULL;
    if (c && connect_start(c)) {
        struct pg_conn **end = &pool->conns;
        while (*end) {
            c->prev = *end;
            end = &(*end)->next;
        }
        *end = c;
        pool->conn_count++;
        pool->opening++;
    } else if (placed) {
        free(c);
        pool_release(pool->shared, worker);
    }
}

void pool_opened(struct pg_conn *c, PGconn *pq)
{
    struct pg_pool *pool = c->pool;
    struct pg *all = pool->all;
    struct pg_error why = {0};
    io_now(all->io);
    if (!pg_conn_begin(c, pq)) {
        PQfinish(pq);
        pg_error_set(&why, "53000", "out of descriptors");
        pool_refused(c, &why);
        pg_error_clear(&why);
        return;
    }
    pool->opening--;
    lane_add(&pool->lane->opened, 1);
    if (pool->down_ms)
        log_line(LOG_INFO, "database %s is reached again (%s)", pool->spec.name, pool->where);
    pool->down_ms = pool->backoff_ms = pool->retry_ms = 0;
    pg_error_clear(&pool->down);
    pool_set_health(pool->shared, POOL_UP, "");
    pool_dispatch(pool);
    pool_deliver(all);
}

void pool_refused(struct pg_conn *c, const struct pg_error *why)
{
    struct pg_pool *pool = c->pool;
    struct pg *all = pool->all;
    bool has_others = pool->conn_count > pool->opening;
    uint64_t first = (uint64_t)pg_setting(pool, SETTING_POOL_DB_BACKOFF_MS);
    uint64_t most = (uint64_t)pg_setting(pool, SETTING_POOL_DB_BACKOFF_MAX_MS);
    char shown[POOL_REASON];
    io_now(all->io);
    pool->opening--;
    pg_conn_unopened(c);
    if (atomic_load(&all->stopping))
        return;
    lane_add(&pool->lane->refused, 1);
    pool->backoff_ms = pool->backoff_ms ? pool->backoff_ms * 2 : first;
    if (pool->backoff_ms > most)
        pool->backoff_ms = most;
    pool->retry_ms = now_ms(pool) + pool->backoff_ms;
    pg_error_set(&pool->down, why->sqlstate, "%s", why->message ? why->message : "?");
    snprintf(shown, sizeof shown, "%s", pool->down.message ? pool->down.message : "");
    if (!has_others) {
        if (!pool->down_ms) {
            pool->down_ms = now_ms(pool);
            log_line(LOG_WARN, "database %s cannot be reached (%s): %s", pool->spec.name, pool->where, shown);
        }
        pool_set_health(pool->shared, POOL_DOWN, shown);
    }
    if (pool_is_hopeless(pool))
        pool_fail_all(pool);
    pool_dispatch(pool);
    pool_deliver(all);
}

/* ---- upkeep ---- */

static uint32_t share_of(uint32_t total, uint32_t worker, uint32_t workers)
{
    return total / workers + (worker < total % workers);
}

/* Gives places to workers that have none: what is above our share, idle ones first. */
static void share_places(struct pg_pool *pool)
{
    const struct pg *all = pool->all;
    uint32_t share = pool_max(pool->shared) / all->board->workers;
    if (pool->conn_count <= share || !pool_others_starve(pool->shared, all->worker))
        return;
    struct pg_conn *best = NULL;
    for (struct pg_conn *c = pool->conns; c; c = c->next) {
        if (c->draining)
            return; /* one at a time */
        if (c->state == CONN_READY && (!best || pg_conn_is_idle(c)))
            best = c;
    }
    if (best)
        best->draining = true;
}

/* Whether it has reached the lifetime, as that is now: it may have been changed. */
static bool is_old(const struct pg_pool *pool, const struct pg_conn *c)
{
    double ms = pool->spec.lifetime_ms ? (double)pool->spec.lifetime_ms : pg_setting(pool, SETTING_POOL_DB_LIFETIME_MS);
    return (double)(now_ms(pool) - c->opened_ms) >= ms * c->life;
}

/* Of those that are old one goes with each tick: a lower lifetime must not end them all at once. */
static void keep_conn(struct pg_pool *pool, struct pg_conn *c, uint32_t least, bool *replaced)
{
    uint64_t idle = pool->spec.idle_ms ? (uint64_t)pool->spec.idle_ms : (uint64_t)pg_setting(pool, SETTING_POOL_DB_IDLE_MS);
    uint64_t check = (uint64_t)pg_setting(pool, SETTING_RESOURCE_HEALTH_INTERVAL_S) * 1000;
    if (c->state != CONN_READY)
        return;
    c->draining = c->draining || !is_used(pool);
    if (!c->draining && !*replaced && is_old(pool, c))
        c->draining = *replaced = true;
    if (!pg_conn_is_idle(c))
        return;
    uint64_t quiet = now_ms(pool) - c->idle_ms;
    if (pool->conn_count > least && quiet >= idle)
        c->draining = true;
    else if (quiet >= check && !c->draining)
        pg_conn_check(c);
}

static void show(struct pg_pool *pool)
{
    uint32_t idle = 0;
    for (const struct pg_conn *c = pool->conns; c; c = c->next)
        idle += pg_conn_is_idle(c);
    atomic_store_explicit(&pool->lane->idle, idle, memory_order_relaxed);
    atomic_store_explicit(&pool->lane->waiting, pool->waiting.count + pool->lease_count, memory_order_relaxed);
    if (!pool->waiting.count && !pool->lease_count)
        atomic_store_explicit(&pool->lane->starved, 0, memory_order_relaxed);
}

static void show_ms(_Atomic uint64_t *shown, const struct pg_pool *pool, int64_t own, enum setting_id setting)
{
    atomic_store_explicit(shown, own ? (uint64_t)own : (uint64_t)pg_setting(pool, setting), memory_order_relaxed);
}

static void show_bounds(struct pg_pool *pool)
{
    const struct pg_spec *spec = &pool->spec;
    show_ms(&pool->shared->wait_ms, pool, spec->wait_ms, SETTING_POOL_DB_WAIT_MS);
    show_ms(&pool->shared->statement_ms, pool, spec->statement_ms, SETTING_POOL_DB_STATEMENT_MS);
    show_ms(&pool->shared->connect_ms, pool, spec->connect_ms, SETTING_POOL_DB_CONNECT_MS);
    show_ms(&pool->shared->idle_ms, pool, spec->idle_ms, SETTING_POOL_DB_IDLE_MS);
    show_ms(&pool->shared->lifetime_ms, pool, spec->lifetime_ms, SETTING_POOL_DB_LIFETIME_MS);
    atomic_store_explicit(&pool->shared->max, spec->max ? (uint32_t)spec->max : (uint32_t)pg_setting(pool, SETTING_POOL_DB_MAX),
                          memory_order_relaxed);
    atomic_store_explicit(&pool->shared->min, spec->min >= 0 ? (uint32_t)spec->min : (uint32_t)pg_setting(pool, SETTING_POOL_DB_MIN),
                          memory_order_relaxed);
}

/* Whether this worker tries the server of a pool of which nothing is known yet. */
static bool knocks(const struct pg_pool *pool)
{
    return !pool->all->worker && atomic_load_explicit(&pool->shared->health, memory_order_relaxed) == POOL_UNKNOWN;
}

static void keep(struct pg_pool *pool)
{
    const struct pg *all = pool->all;
    pool->denied = false;
    if (is_used(pool))
        show_bounds(pool);
    uint32_t least = all->worker == POOL_CONTROL ? 0 : share_of(pool_min(pool->shared), all->worker, all->board->workers);
    bool replaced = false;
    for (struct pg_conn *c = pool->conns; c; c = c->next)
        keep_conn(pool, c, least, &replaced);
    if (pool_held(pool->shared) > pool_max(pool->shared) && pool->conns && pool->conns->state == CONN_READY)
        pool->conns->draining = true; /* the cap was lowered */
    share_places(pool);
    if (atomic_load_explicit(&pool->shared->forced, memory_order_relaxed))
        while (pool->conns)
            pg_conn_close(pool->conns, "57P01", "the pool was deleted");
    else if (is_used(pool) && pool->conn_count < (least || !knocks(pool) ? least : 1))
        pool_grow(pool);
    if (pool_is_hopeless(pool))
        pool_fail_all(pool);
    pool_dispatch(pool);
    show(pool);
}

static void pool_free(struct pg_pool *pool)
{
    if (pool->shared)
        pool_close(pool->shared, pool->all->worker);
    wheel_clear(&pool->retry);
    texts_done(&pool->texts);
    pg_error_clear(&pool->down);
    free(pool->strings);
    free(pool->where);
    free(pool);
}

void pg_tick(struct pg *all)
{
    if (all->io->now_ms < all->second)
        return;
    all->second = all->io->now_ms + SLOW_TICK_MS;
    for (struct pg_pool *pool = all->pools; pool; pool = pool->next)
        keep(pool);
    pool_deliver(all);
    for (struct pg_pool **at = &all->pools; *at;) {
        struct pg_pool *pool = *at;
        if (is_used(pool) || pool->conn_count || pool->waiting.count || pool->leases) {
            at = &pool->next;
            continue;
        }
        *at = pool->next;
        pool_free(pool);
    }
}

/* ---- life ---- */

static void on_prepare(uv_prepare_t *prepare)
{
    struct pg *all = prepare->data;
    pool_deliver(all);
    while (all->dirty) {
        struct pg_conn *c = all->dirty;
        all->dirty = c->next_dirty;
        c->dirty = false;
        pg_conn_resume(c);
        if (c->state == CONN_READY)
            pg_conn_flush(c);
        pool_deliver(all);
    }
}

struct pg *pg_new(struct io *io, struct board *board, uint32_t worker)
{
    struct pg *all = calloc(1, sizeof *all);
    struct tasks_opts opts = {.io = io, .threads = THREADS, .lane = &board->tasks.processes[worker == POOL_CONTROL ? TASK_CONTROL : worker]};
    if (!all)
        return NULL;
    all->io = io;
    all->board = board;
    all->worker = worker;
    all->granted_end = &all->granted;
    all->tasks = tasks_new(&opts);
    if (!all->tasks) {
        free(all);
        return NULL;
    }
    uv_prepare_init(&io->loop, &all->prepare);
    all->prepare.data = all;
    uv_prepare_start(&all->prepare, on_prepare);
    uv_unref((uv_handle_t *)&all->prepare);
    return all;
}

bool pg_stop(struct pg *all, unsigned grace_ms)
{
    atomic_store(&all->stopping, true);
    if (!tasks_stop(all->tasks, grace_ms ? grace_ms : STOP_MS))
        return false;
    for (struct pg_pool *pool = all->pools; pool; pool = pool->next)
        while (pool->conns)
            pg_conn_close(pool->conns, "57P01", "shutting down");
    for (struct pg_job *job; (job = all->finished.first);) {
        jobs_remove(&all->finished, job);
        pg_job_free(job);
    }
    uv_prepare_stop(&all->prepare);
    return true;
}

void pg_free(struct pg *all)
{
    if (!all)
        return;
    tasks_free(all->tasks);
    while (all->pools) {
        struct pg_pool *pool = all->pools;
        all->pools = pool->next;
        pool_free(pool);
    }
    free(all);
}

static bool is_same_text(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool is_same(const struct pg_spec *a, const struct pg_spec *b)
{
    return is_same_text(a->name, b->name) && is_same_text(a->dsn, b->dsn) && a->pooler == b->pooler;
}

/* Numbers change in place; connections stay. */
static void take_numbers(struct pg_spec *to, const struct pg_spec *from)
{
    const char *name = to->name, *dsn = to->dsn;
    *to = *from;
    to->name = name;
    to->dsn = dsn;
}

static bool copy_spec(struct pg_pool *pool, const struct pg_spec *spec)
{
    char where[PG_WHY];
    size_t name = strlen(spec->name) + 1, dsn = strlen(spec->dsn) + 1;
    pg_dsn_show(spec->dsn, where, sizeof where);
    pool->where = strdup(where);
    pool->strings = malloc(name + dsn);
    if (!pool->strings || !pool->where)
        return false;
    pool->spec = *spec;
    pool->spec.name = memcpy(pool->strings, spec->name, name);
    pool->spec.dsn = memcpy(pool->strings + name, spec->dsn, dsn);
    return true;
}

struct pg_pool *pg_open(struct pg *all, const struct pg_spec *spec)
{
    for (struct pg_pool *pool = all->pools; pool; pool = pool->next)
        if (is_same(&pool->spec, spec)) {
            take_numbers(&pool->spec, spec);
            show_bounds(pool);
            pool->refs++;
            return pool;
        }
    struct pg_pool *pool = calloc(1, sizeof *pool);
    if (!pool || !copy_spec(pool, spec) || !(pool->shared = pools_open(&all->board->pools, str_from(spec->name), all->worker, pool->where))) {
        if (pool)
            pool_free(pool);
        return NULL;
    }
    atomic_store_explicit(&pool->shared->kind, POOL_POSTGRES, memory_order_relaxed);
    pool->all = all;
    pool->refs = 1;
    pool->lane = &pool->shared->lanes[all->worker];
    pool->retry.on_fire = on_retry;
    pool->next = all->pools;
    all->pools = pool;
    show_bounds(pool);
    return pool;
}

void pg_release(struct pg_pool *pool)
{
    pool->refs--; /* its end comes with a tick: somebody may be in the middle of it */
}

const struct pg_spec *pg_pool_spec(const struct pg_pool *pool)
{
    return &pool->spec;
}
