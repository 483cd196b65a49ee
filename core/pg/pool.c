/* Who gets a connection, and when there are more or fewer of them.
 *
 * Two queues, each first in first out: jobs, which share connections, and leases,
 * which need one that has nothing to do. The older of both heads goes first; a
 * lease that finds none idle reserves one, which then takes no more jobs until it
 * is empty. Jobs fill the first connections up to pool.db.spread before the next
 * ones are used, since few deep pipelines cost less than many shallow ones; they
 * keep away from connections whose statement takes long.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "base/log.h"
#include "pg/wire.h"

#include <stdlib.h>
#include <stdio.h>

enum { SLOW_TICK_MS = 100, OPENING_MOST = 4, THREADS = 2 };

static const struct pg_error *down_reason(const struct pg_pool *pool)
{
    return pool->down.sqlstate[0] ? &pool->down : NULL;
}

static uint64_t now_ms(const struct pg_pool *pool)
{
    return pool->all->io->now_ms;
}

static uint64_t wait_ms(const struct pg_pool *pool)
{
    return pool->spec.wait_ms ? (uint64_t)pool->spec.wait_ms : (uint64_t)pg_setting(pool, SETTING_POOL_DB_WAIT_MS);
}

uint64_t pool_statement_ms(const struct pg_pool *pool, const struct pg_job *job)
{
    if (job->statement_ms)
        return job->statement_ms;
    return pool->spec.statement_ms ? (uint64_t)pool->spec.statement_ms
                                   : (uint64_t)pg_setting(pool, SETTING_POOL_DB_STATEMENT_MS);
}

static bool is_used(const struct pg_pool *pool)
{
    return pool->refs > 0;
}

/* ---- results ---- */

static void count_statement(const struct pg_job *job, uint64_t ns)
{
    const struct pg *all = job->pool->all;
    struct statement_lane *lane = statements_lane(&all->board->statements, job->statement->shape, all->worker);
    if (job->mode == PG_DESCRIBE)
        return;
    lane_add(&lane->calls, 1);
    lane_add(&lane->rows, job->row_count);
    lane_add(&lane->errors, job->error.sqlstate[0] != 0);
    lane_add(&lane->time_sum_ns, ns);
    sketch_coarse_record(&lane->time, ns);
}

void pool_finish(struct pg_job *job)
{
    struct pg_pool *pool = job->pool;
    struct pool_lane *lane = pool->lane;
    uint64_t now_ns = pool->all->io->now_ns;
    wheel_clear(&job->timer);
    job->state = JOB_FINISHED;
    job->done_ns = now_ns;
    jobs_add(&pool->all->finished, job);
    lane_add(&lane->statements, 1);
    lane_add(&lane->rows, job->row_count);
    lane_add(&lane->errors, job->error.sqlstate[0] != 0);
    if (!job->sent_ns)
        return;
    sketch_coarse_record(&lane->wait, job->sent_ns - job->queued_ns);
    sketch_coarse_record(&lane->use, now_ns - job->sent_ns);
    lane_add(&lane->wait_sum_ns, job->sent_ns - job->queued_ns);
    lane_add(&lane->use_sum_ns, now_ns - job->sent_ns);
    count_statement(job, now_ns - job->sent_ns);
}

static void grant(struct pg_lease *lease)
{
    struct pg *all = lease->pool->all;
    wheel_clear(&lease->timer);
    lease->given = true;
    lease->given_ns = all->io->now_ns;
    lease->next = NULL;
    *all->granted_end = lease;
    all->granted_end = &lease->next;
}

static bool ungrant(struct pg_lease *lease)
{
    struct pg *all = lease->pool->all;
    for (struct pg_lease **at = &all->granted; *at; at = &(*at)->next)
        if (*at == lease) {
            *at = lease->next;
            if (all->granted_end == &lease->next)
                all->granted_end = at;
            return true;
        }
    return false;
}

void pool_deliver(struct pg *all)
{
    if (all->delivering)
        return;
    all->delivering = true;
    while (all->finished.first || all->granted) {
        struct pg_job *job = all->finished.first;
        struct pg_lease *lease = all->granted;
        if (job) {
            jobs_remove(&all->finished, job);
            if (job->done)
                job->done(job);
            pg_job_free(job);
        } else {
            ungrant(lease);
            lease->done(lease);
        }
    }
    all->delivering = false;
}

/* ---- the queue of leases ---- */

static void lease_add(struct pg_pool *pool, struct pg_lease *lease)
{
    lease->prev = pool->last_lease;
    *(pool->last_lease ? &pool->last_lease->next : &pool->leases) = lease;
    pool->last_lease = lease;
    pool->lease_count++;
}

static void lease_remove(struct pg_pool *pool, struct pg_lease *lease)
{
    *(lease->prev ? &lease->prev->next : &pool->leases) = lease->next;
    *(lease->next ? &lease->next->prev : &pool->last_lease) = lease->prev;
    lease->next = lease->prev = NULL;
    pool->lease_count--;
}

/* ---- giving up ---- */

static void say_late(struct pg_pool *pool, struct pg_error *e)
{
    const struct pg_error *down = down_reason(pool);
    if (down)
        pg_error_set(e, down->sqlstate, "database %s cannot be reached: %s", pool->spec.name, down->message);
    else
        pg_error_set(e, "53300", "no connection to database %s became free within %llu ms (at most %u are open)",
                     pool->spec.name, (unsigned long long)wait_ms(pool), pool_max(pool->shared));
}

static void fail_job(struct pg_job *job)
{
    say_late(job->pool, &job->error);
    lane_add(&job->pool->lane->rejected, 1);
    pool_finish(job);
}

static void fail_lease(struct pg_lease *lease)
{
    say_late(lease->pool, &lease->error);
    lane_add(&lease->pool->lane->rejected, 1);
    grant(lease);
}

static void on_job_late(struct timer *t)
{
    struct pg_job *job = (struct pg_job *)((char *)t - offsetof(struct pg_job, timer));
    struct pg *all = job->pool->all;
    jobs_remove(&job->pool->waiting, job);
    fail_job(job);
    pool_deliver(all);
}

static void on_lease_late(struct timer *t)
{
    struct pg_lease *lease = (struct pg_lease *)((char *)t - offsetof(struct pg_lease, timer));
    struct pg *all = lease->pool->all;
    lease_remove(lease->pool, lease);
    fail_lease(lease);
    pool_deliver(all);
}

/* The server is away for longer than anybody should wait. */
static bool is_hopeless(const struct pg_pool *pool)
{
    if (!pool->down_ms || pool->conn_count > pool->opening)
        return false;
    return now_ms(pool) - pool->down_ms >= (uint64_t)pg_setting(pool, SETTING_POOL_DB_GRACE_MS);
}

static void fail_all(struct pg_pool *pool)
{
    struct pg_job *job;
    struct pg_lease *lease;
    while ((job = pool->waiting.first)) {
        jobs_remove(&pool->waiting, job);
        fail_job(job);
    }
    while ((lease = pool->leases)) {
        lease_remove(pool, lease);
        fail_lease(lease);
    }
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

static void grow(struct pg_pool *pool)
{
    uint32_t worker = pool->all->worker;
    if (pool->denied || pool->opening >= OPENING_MOST || atomic_load(&pool->all->stopping))
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
    pg_conn_close(c, "", "");
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
    if (is_hopeless(pool))
        fail_all(pool);
    pool_dispatch(pool);
    pool_deliver(all);
}

/* ---- dispatch ---- */

static double slow_ms(const struct pg_pool *pool)
{
    return pg_setting(pool, SETTING_POOL_DB_SLOW_MS);
}

static bool is_free_for_jobs(const struct pg_conn *c)
{
    return c->state == CONN_READY && !c->lease && !c->reserved && !c->draining && !c->ending && !c->cancelling && !c->cancelled;
}

/* Whether its statement takes so long that nobody should stand behind it. */
static bool is_held_up(const struct pg_conn *c)
{
    const struct pg_job *head = c->jobs.first;
    if (!head)
        return false;
    double slow = slow_ms(c->pool);
    return head->statement->mean_ms > slow || (double)(c->pool->all->io->now_ns - c->head_ns) / 1e6 > slow;
}

/* The connection that a job goes to: the first with few under way, else the one
 * with the fewest. */
static struct pg_conn *find_shared(struct pg_pool *pool, const struct pg_job *job)
{
    bool alone = job->statement->mean_ms > slow_ms(pool);
    unsigned deep = alone ? 1 : (unsigned)pg_setting(pool, SETTING_POOL_DB_PIPELINE);
    unsigned spread = (unsigned)pg_setting(pool, SETTING_POOL_DB_SPREAD);
    struct pg_conn *best = NULL;
    for (struct pg_conn *c = pool->conns; c; c = c->next) {
        if (!is_free_for_jobs(c) || c->jobs.count >= deep || is_held_up(c))
            continue;
        if (c->jobs.count < spread)
            return c;
        if (!best || c->jobs.count < best->jobs.count)
            best = c;
    }
    return best;
}

static struct pg_conn *find_idle(struct pg_pool *pool)
{
    struct pg_conn *best = NULL;
    for (struct pg_conn *c = pool->conns; c; c = c->next)
        if (pg_conn_is_idle(c) && !c->draining && (!best || c->reserved))
            best = c;
    return best;
}

/* Keeps one busy connection from taking more, for a lease. */
static void reserve(struct pg_pool *pool)
{
    struct pg_conn *best = NULL;
    unsigned reserved = 0;
    for (struct pg_conn *c = pool->conns; c; c = c->next) {
        reserved += c->reserved;
        if (is_free_for_jobs(c) && c->jobs.count && (!best || c->jobs.count < best->jobs.count))
            best = c;
    }
    if (best && reserved < pool->lease_count)
        best->reserved = true;
}

static void unreserve(struct pg_pool *pool)
{
    for (struct pg_conn *c = pool->conns; c; c = c->next)
        c->reserved = false;
}

static bool give_lease(struct pg_pool *pool)
{
    struct pg_lease *lease = pool->leases;
    struct pg_conn *c = find_idle(pool);
    if (!c) {
        if (pool->opening < pool->lease_count)
            grow(pool);
        reserve(pool);
        return false;
    }
    lease_remove(pool, lease);
    c->reserved = false;
    c->lease = lease;
    lease->conn = c;
    grant(lease);
    return true;
}

static bool give_job(struct pg_pool *pool)
{
    struct pg_job *job = pool->waiting.first;
    struct pg_conn *c = find_shared(pool, job);
    if (!c || c->jobs.count >= (unsigned)pg_setting(pool, SETTING_POOL_DB_SPREAD))
        if (!pool->opening)
            grow(pool);
    if (!c)
        return false;
    jobs_remove(&pool->waiting, job);
    wheel_clear(&job->timer);
    pg_conn_place(c, job);
    return true;
}

void pool_dispatch(struct pg_pool *pool)
{
    bool leases_wait = false;
    if (!pool->lease_count)
        unreserve(pool);
    for (;;) {
        const struct pg_lease *lease = leases_wait ? NULL : pool->leases;
        const struct pg_job *job = pool->waiting.first;
        if (lease && (!job || lease->order < job->order)) {
            leases_wait = !give_lease(pool);
        } else if (job) {
            if (give_job(pool))
                continue;
            if (lease && give_lease(pool))
                continue;
            break;
        } else {
            break;
        }
    }
    for (struct pg_conn *c = pool->conns, *next; c; c = next) {
        next = c->next;
        if (c->draining && pg_conn_is_idle(c))
            pg_conn_close(c, "", "");
    }
}

/* ---- jobs ---- */

struct pg_job *pg_job_new(struct pg_pool *pool, struct pg_statement *st, enum pg_mode mode)
{
    struct pg_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->pool = pool;
    job->statement = st;
    pg_statement_hold(st);
    job->mode = mode;
    job->timer.on_fire = on_job_late;
    return job;
}

void pg_job_free(struct pg_job *job)
{
    if (!job)
        return;
    wheel_clear(&job->timer);
    pg_statement_put(job->statement);
    pg_columns_put(job->columns);
    pg_error_clear(&job->error);
    buf_done(&job->params);
    buf_done(&job->rows);
    free(job);
}

static void submit_to_lease(struct pg_job *job)
{
    struct pg_conn *c = job->lease->conn;
    if (c && !c->jobs.first) {
        pg_conn_place(c, job);
        return;
    }
    pg_error_set(&job->error, c ? "55006" : "08003",
                 c ? "another statement of this transaction is still under way" : "the connection of this transaction is lost");
    pool_finish(job);
}

void pg_submit(struct pg_job *job)
{
    struct pg_pool *pool = job->pool;
    job->queued_ns = pool->all->io->now_ns;
    job->order = ++pool->next_order;
    if (!buf_ok(&job->params)) {
        pg_error_set(&job->error, "53200", "out of memory");
        pool_finish(job);
        return;
    }
    if (job->lease) {
        submit_to_lease(job);
        return;
    }
    if (is_hopeless(pool)) {
        fail_job(job);
        grow(pool);
        return;
    }
    if (pool->waiting.count + pool->lease_count >= (unsigned)pg_setting(pool, SETTING_POOL_DB_QUEUE)) {
        lane_add(&pool->lane->rejected, 1);
        pg_error_set(&job->error, "53300", "too many requests wait for database %s (pool.db.queue)", pool->spec.name);
        pool_finish(job);
        return;
    }
    job->state = JOB_WAITING;
    jobs_add(&pool->waiting, job);
    wheel_set(&pool->all->io->wheel, &job->timer, now_ms(pool) + wait_ms(pool));
    pool_dispatch(pool);
}

void pool_again(struct pg_job *job)
{
    struct pg_pool *pool = job->pool;
    job->repeats++;
    job->alone = true;
    job->state = JOB_WAITING;
    job->row_count = 0;
    buf_clear(&job->rows);
    pg_columns_put(job->columns);
    job->columns = NULL;
    lane_add(&pool->lane->repeats, 1);
    if (!job->done) {
        pg_job_free(job);
        return;
    }
    jobs_add_first(&pool->waiting, job);
    wheel_set(&pool->all->io->wheel, &job->timer, job->queued_ns / 1000000 + wait_ms(pool));
}

void pg_abandon(struct pg_job *job)
{
    struct pg_pool *pool = job->pool;
    job->done = NULL;
    job->more = NULL;
    if (job->state == JOB_WAITING) {
        jobs_remove(&pool->waiting, job);
        pg_job_free(job);
    } else if (job->state == JOB_SENT && job->conn) {
        struct pg_conn *c = job->conn;
        pg_job_more(job); /* a paused stream goes on, to nowhere */
        if (c->jobs.first == job)
            pg_conn_time(c);
    }
}

/* ---- leases ---- */

struct pg_lease *pg_lease_new(struct pg_pool *pool, void (*done)(struct pg_lease *lease), void *user)
{
    struct pg_lease *lease = calloc(1, sizeof *lease);
    if (!lease)
        return NULL;
    lease->pool = pool;
    lease->done = done;
    lease->user = user;
    lease->queued_ns = pool->all->io->now_ns;
    lease->order = ++pool->next_order;
    lease->timer.on_fire = on_lease_late;
    if (is_hopeless(pool)) {
        fail_lease(lease);
        grow(pool);
        return lease;
    }
    lease_add(pool, lease);
    wheel_set(&pool->all->io->wheel, &lease->timer, now_ms(pool) + wait_ms(pool));
    pool_dispatch(pool);
    return lease;
}

void pg_lease_end(struct pg_lease *lease)
{
    struct pg_pool *pool = lease->pool;
    struct pg_conn *c = lease->conn;
    if (lease->given)
        ungrant(lease);
    else
        lease_remove(pool, lease);
    wheel_clear(&lease->timer);
    pg_error_clear(&lease->error);
    if (c) {
        c->lease = NULL;
        struct pg_job *job = c->jobs.first;
        if (job) {
            job->lease = NULL;
            pg_abandon(job);
        }
        pg_conn_end_lease(c);
    }
    free(lease);
    pool_dispatch(pool);
}

char pg_lease_status(const struct pg_lease *lease)
{
    return lease->conn ? lease->conn->status : 0;
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

static void keep_conn(struct pg_pool *pool, struct pg_conn *c, uint32_t least)
{
    uint64_t idle = pool->spec.idle_ms ? (uint64_t)pool->spec.idle_ms : (uint64_t)pg_setting(pool, SETTING_POOL_DB_IDLE_MS);
    uint64_t check = (uint64_t)pg_setting(pool, SETTING_RESOURCE_HEALTH_INTERVAL_S) * 1000;
    if (c->state != CONN_READY)
        return;
    c->draining = c->draining || now_ms(pool) >= c->die_ms || !is_used(pool);
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

static void show_bounds(struct pg_pool *pool)
{
    const struct pg_spec *spec = &pool->spec;
    atomic_store_explicit(&pool->shared->max, spec->max ? (uint32_t)spec->max : (uint32_t)pg_setting(pool, SETTING_POOL_DB_MAX),
                          memory_order_relaxed);
    atomic_store_explicit(&pool->shared->min, spec->min >= 0 ? (uint32_t)spec->min : (uint32_t)pg_setting(pool, SETTING_POOL_DB_MIN),
                          memory_order_relaxed);
}

static void keep(struct pg_pool *pool)
{
    const struct pg *all = pool->all;
    pool->denied = false;
    if (is_used(pool))
        show_bounds(pool);
    uint32_t least = share_of(pool_min(pool->shared), all->worker, all->board->workers);
    for (struct pg_conn *c = pool->conns; c; c = c->next)
        keep_conn(pool, c, least);
    if (pool_held(pool->shared) > pool_max(pool->shared) && pool->conns && pool->conns->state == CONN_READY)
        pool->conns->draining = true; /* the cap was lowered */
    share_places(pool);
    if (is_used(pool) && pool->conn_count < least)
        grow(pool);
    if (is_hopeless(pool))
        fail_all(pool);
    pool_dispatch(pool);
    show(pool);
}

static void pool_free(struct pg_pool *pool)
{
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
    struct tasks_opts opts = {.io = io, .threads = THREADS};
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

void pg_stop(struct pg *all)
{
    atomic_store(&all->stopping, true);
    tasks_stop(all->tasks);
    for (struct pg_pool *pool = all->pools; pool; pool = pool->next)
        while (pool->conns)
            pg_conn_close(pool->conns, "57P01", "shutting down");
    for (struct pg_job *job; (job = all->finished.first);) {
        jobs_remove(&all->finished, job);
        pg_job_free(job);
    }
    uv_prepare_stop(&all->prepare);
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
    return is_same_text(a->name, b->name) && is_same_text(a->dsn, b->dsn) && a->min == b->min && a->max == b->max &&
           a->wait_ms == b->wait_ms && a->statement_ms == b->statement_ms && a->connect_ms == b->connect_ms &&
           a->idle_ms == b->idle_ms && a->lifetime_ms == b->lifetime_ms && a->pooler == b->pooler;
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
            pool->refs++;
            return pool;
        }
    struct pg_pool *pool = calloc(1, sizeof *pool);
    if (!pool || !copy_spec(pool, spec) || !(pool->shared = pools_open(&all->board->pools, str_from(spec->name)))) {
        if (pool)
            pool_free(pool);
        return NULL;
    }
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
