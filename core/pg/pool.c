/* Who gets a connection.
 *
 * Two queues, each first in first out: jobs, which share connections, and leases,
 * which need one that has nothing to do. The older of both heads goes first; a
 * lease that finds none idle reserves one, which then takes no more jobs until it
 * is empty. Jobs fill the first connections up to pool.db.spread_ms of the server's
 * time before the next ones are used, since few deep pipelines cost less than many
 * shallow ones; they keep away from connections whose statement takes long.
 */
// SPDX-License-Identifier: MIT
#include "pg/parts.h"

#include "pg/wire.h"

#include <stdlib.h>

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

/* ---- results ---- */

static void count_statement(const struct pg_job *job, uint64_t ns)
{
    const struct pg *all = job->pool->all;
    if (job->mode == PG_DESCRIBE || all->worker == POOL_CONTROL)
        return;
    struct statement_lane *lane = statements_lane(&all->board->statements, job->statement->shape, all->worker);
    lane_add(&lane->calls, 1);
    lane_add(&lane->rows, job->row_count);
    lane_add(&lane->errors, job->error.sqlstate[0] != 0);
    lane_add(&lane->time_sum_ns, ns);
    sketch_coarse_record(&lane->time, ns);
}

/* A connection was waited for; a statement of a lease has had its own before. */
static void note_wait(struct pg_pool *pool, uint64_t ns)
{
    sketch_coarse_record(&pool->lane->wait, ns);
    lane_add(&pool->lane->wait_sum_ns, ns);
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
    if (!job->lease)
        note_wait(pool, job->sent_ns - job->queued_ns);
    sketch_coarse_record(&lane->use, now_ns - job->sent_ns);
    lane_add(&lane->use_sum_ns, now_ns - job->sent_ns);
    count_statement(job, now_ns - job->sent_ns);
}

static void grant(struct pg_lease *lease)
{
    struct pg *all = lease->pool->all;
    wheel_clear(&lease->timer);
    lease->given = true;
    lease->given_ns = all->io->now_ns;
    if (lease->conn)
        note_wait(lease->pool, lease->given_ns - lease->queued_ns);
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
bool pool_is_hopeless(const struct pg_pool *pool)
{
    if (!pool->down_ms || pool->conn_count > pool->opening)
        return false;
    return now_ms(pool) - pool->down_ms >= (uint64_t)pg_setting(pool, SETTING_POOL_DB_GRACE_MS);
}

void pool_fail_all(struct pg_pool *pool)
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

/* A statement not seen before is thought to fill a connection. */
double pool_expected_ms(const struct pg_job *job)
{
    return job->statement->mean_ms > 0 ? job->statement->mean_ms : pg_setting(job->pool, SETTING_POOL_DB_SPREAD_MS);
}

static bool is_filled(const struct pg_conn *c)
{
    return c->jobs.count && c->expected_ms >= pg_setting(c->pool, SETTING_POOL_DB_SPREAD_MS);
}

/* The connection that a job goes to: the first that is not filled, else the one
 * with the least to do. */
static struct pg_conn *find_shared(struct pg_pool *pool, const struct pg_job *job)
{
    bool alone = job->statement->mean_ms > slow_ms(pool);
    unsigned deep = alone ? 1 : (unsigned)pg_setting(pool, SETTING_POOL_DB_PIPELINE);
    struct pg_conn *best = NULL;
    for (struct pg_conn *c = pool->conns; c; c = c->next) {
        if (!is_free_for_jobs(c) || c->jobs.count >= deep || is_held_up(c))
            continue;
        if (!is_filled(c))
            return c;
        if (!best || c->expected_ms < best->expected_ms)
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
            pool_grow(pool);
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
    if ((!c || is_filled(c)) && !pool->opening)
        pool_grow(pool);
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
    if (pool_is_hopeless(pool)) {
        fail_job(job);
        pool_grow(pool);
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
    if (pool_is_hopeless(pool)) {
        fail_lease(lease);
        pool_grow(pool);
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
