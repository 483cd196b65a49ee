/* Who gets a connection.
 *
 * Two queues, each first in first out: jobs, which share connections, and leases,
 * which need one that has nothing to do. Jobs go down pool.redis.shared
 * connections of a worker (one: a server does one thing at a time anyway, and the
 * more commands one write holds, the fewer reads it needs). A lease never takes
 * the last connection that jobs could use, unless it is short and no more may be
 * opened.
 */
// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void redis_error_set(struct redis_error *e, const char *code, const char *format, ...)
{
    va_list args;
    char *message = NULL;
    va_start(args, format);
    if (vasprintf(&message, format, args) < 0)
        message = NULL;
    va_end(args);
    snprintf(e->code, sizeof e->code, "%s", code);
    free(e->message);
    e->message = message;
}

void redis_error_clear(struct redis_error *e)
{
    free(e->message);
    *e = (struct redis_error){0};
}

uint64_t redis_pool_wait_ms(const struct redis_pool *pool)
{
    return pool->spec.wait_ms ? (uint64_t)pool->spec.wait_ms : (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_WAIT_MS);
}

static uint64_t command_ms(const struct redis_pool *pool)
{
    return pool->spec.command_ms ? (uint64_t)pool->spec.command_ms : (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_COMMAND_MS);
}

/* ---- results ---- */

void redis_pool_count(const struct redis_job *job, unsigned command, bool failed)
{
    const struct redis *all = job->pool->all;
    uint64_t ns = all->io->now_ns - job->sent_ns;
    if (job->own || all->worker == POOL_CONTROL)
        return;
    struct statement_lane *lane = statements_lane(&all->board->statements, job->shapes[command], all->worker);
    lane_add(&lane->calls, 1);
    lane_add(&lane->errors, failed);
    lane_add(&lane->time_sum_ns, ns);
    sketch_coarse_record(&lane->time, ns);
    lane_add(&job->pool->lane->errors, failed);
}

static void measure(struct redis_job *job)
{
    struct pool_lane *lane = job->pool->lane;
    job->done_ns = job->pool->all->io->now_ns;
    lane_add(&lane->statements, job->commands);
    lane_add(&lane->errors, job->error.code[0] != 0);
    if (!job->sent_ns)
        return;
    sketch_coarse_record(&lane->wait, job->sent_ns - job->queued_ns);
    sketch_coarse_record(&lane->use, job->done_ns - job->sent_ns);
    lane_add(&lane->wait_sum_ns, job->sent_ns - job->queued_ns);
    lane_add(&lane->use_sum_ns, job->done_ns - job->sent_ns);
}

void redis_pool_finish(struct redis_job *job)
{
    wheel_clear(&job->timer);
    job->state = JOB_FINISHED;
    measure(job);
    redis_jobs_add(&job->pool->all->finished, job);
}

void redis_pool_answer(struct redis_job *job)
{
    wheel_clear(&job->timer);
    job->state = JOB_FINISHED;
    if (job->done) {
        if (!job->own)
            measure(job);
        job->done(job);
    }
    redis_job_free(job);
}

static void grant(struct redis_lease *lease)
{
    struct redis *all = lease->pool->all;
    wheel_clear(&lease->timer);
    lease->given = true;
    lease->given_ns = all->io->now_ns;
    lease->next = NULL;
    *all->granted_end = lease;
    all->granted_end = &lease->next;
}

static void ungrant(struct redis_lease *lease)
{
    struct redis *all = lease->pool->all;
    for (struct redis_lease **at = &all->granted; *at; at = &(*at)->next)
        if (*at == lease) {
            *at = lease->next;
            if (all->granted_end == &lease->next)
                all->granted_end = at;
            return;
        }
}

void redis_pool_deliver(struct redis *all)
{
    if (all->delivering)
        return;
    all->delivering = true;
    while (all->finished.first || all->granted) {
        struct redis_job *job = all->finished.first;
        struct redis_lease *lease = all->granted;
        if (job) {
            redis_jobs_remove(&all->finished, job);
            if (job->done)
                job->done(job);
            redis_job_free(job);
        } else {
            ungrant(lease);
            lease->done(lease);
        }
    }
    all->delivering = false;
}

/* ---- giving up ---- */

static void lease_add(struct redis_pool *pool, struct redis_lease *lease)
{
    lease->prev = pool->last_lease;
    *(pool->last_lease ? &pool->last_lease->next : &pool->leases) = lease;
    pool->last_lease = lease;
    pool->lease_count++;
}

static void lease_remove(struct redis_pool *pool, struct redis_lease *lease)
{
    *(lease->prev ? &lease->prev->next : &pool->leases) = lease->next;
    *(lease->next ? &lease->next->prev : &pool->last_lease) = lease->prev;
    lease->next = lease->prev = NULL;
    pool->lease_count--;
}

static bool say_down(const struct redis_pool *pool, struct redis_error *e)
{
    if (!pool->down.code[0])
        return false;
    redis_error_set(e, pool->down.code, "Redis %s cannot be reached (%s): %s", pool->spec.name, pool->where,
                    pool->down.message ? pool->down.message : "?");
    return true;
}

static void fail_waiting(struct redis_job *job)
{
    struct redis_pool *pool = job->pool;
    if (!say_down(pool, &job->error))
        redis_error_set(&job->error, "timeout", "the command could not be sent to Redis %s within its time", pool->spec.name);
    lane_add(&pool->lane->rejected, 1);
    redis_pool_finish(job);
}

static void fail_lease(struct redis_lease *lease)
{
    struct redis_pool *pool = lease->pool;
    if (!say_down(pool, &lease->error))
        redis_error_set(&lease->error, "busy", "no connection to Redis %s became free within %llu ms (at most %u are open, and one stays for requests to share)",
                        pool->spec.name, (unsigned long long)redis_pool_wait_ms(pool), pool_max(pool->shared));
    lane_add(&pool->lane->rejected, 1);
    grant(lease);
}

/* A job that was sent is answered now; another that nobody waits for takes its
 * place in the line. */
static void time_out(struct redis_job *job)
{
    struct redis_conn *c = job->conn;
    struct redis_pool *pool = job->pool;
    struct redis_job *late = redis_job_new(pool, (struct str){"", 0}, job->shapes, job->commands);
    lane_add(&pool->lane->timeouts, 1);
    if (!late) {
        redis_conn_close(c, "no_memory", "out of memory");
        return;
    }
    late->conn = c;
    late->state = JOB_SENT;
    late->sent_ns = job->sent_ns;
    late->offset = job->offset;
    late->answered = job->answered;
    redis_jobs_replace(&c->jobs, job, late);
    if (c->jobs.first == late)
        c->reply.drop = true;
    job->conn = NULL;
    redis_error_set(&job->error, "timeout", "Redis %s did not answer within %llu ms", pool->spec.name,
                    (unsigned long long)(job->timeout_ms ? job->timeout_ms : command_ms(pool)));
    redis_pool_finish(job);
}

static void on_job_late(struct timer *t)
{
    struct redis_job *job = (struct redis_job *)((char *)t - offsetof(struct redis_job, timer));
    struct redis *all = job->pool->all;
    if (job->state == JOB_WAITING) {
        redis_jobs_remove(&job->pool->waiting, job);
        fail_waiting(job);
    } else if (job->state == JOB_SENT) {
        time_out(job);
    }
    redis_pool_deliver(all);
}

static void on_lease_late(struct timer *t)
{
    struct redis_lease *lease = (struct redis_lease *)((char *)t - offsetof(struct redis_lease, timer));
    struct redis *all = lease->pool->all;
    lease_remove(lease->pool, lease);
    fail_lease(lease);
    redis_pool_deliver(all);
}

/* The server is away for longer than anybody should wait. */
bool redis_pool_is_hopeless(const struct redis_pool *pool)
{
    if (!pool->down_ms || pool->conn_count > pool->opening)
        return false;
    return redis_now_ms(pool) - pool->down_ms >= (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_GRACE_MS);
}

void redis_pool_fail_all(struct redis_pool *pool)
{
    struct redis_job *job;
    struct redis_lease *lease;
    while ((job = pool->waiting.first)) {
        redis_jobs_remove(&pool->waiting, job);
        fail_waiting(job);
    }
    while ((lease = pool->leases)) {
        lease_remove(pool, lease);
        fail_lease(lease);
    }
}

/* ---- dispatch ---- */

/* One that jobs may use, now or soon. */
static bool is_for_jobs(const struct redis_conn *c)
{
    return c->state != CONN_CLOSED && !c->lease && !c->draining && !c->reserved;
}

static unsigned count_for_jobs(const struct redis_pool *pool, bool ready)
{
    unsigned n = 0;
    for (const struct redis_conn *c = pool->conns; c; c = c->next)
        n += is_for_jobs(c) && (!ready || c->state == CONN_READY);
    return n;
}

static struct redis_conn *find_shared(struct redis_pool *pool)
{
    unsigned deep = (unsigned)redis_setting(pool, SETTING_POOL_REDIS_PIPELINE), seen = 0;
    unsigned shared = (unsigned)redis_setting(pool, SETTING_POOL_REDIS_SHARED);
    size_t room = (size_t)redis_setting(pool, SETTING_POOL_REDIS_OUTPUT_BYTES);
    struct redis_conn *best = NULL;
    /* From the end: the oldest, so that what was opened for leases becomes idle. */
    const struct redis_conn *last = pool->conns;
    while (last && last->next)
        last = last->next;
    for (struct redis_conn *c = (struct redis_conn *)last; c && seen < shared; c = c->prev) {
        if (c->state != CONN_READY || !is_for_jobs(c))
            continue;
        seen++;
        if (c->jobs.count < deep && buf_len(&c->out) < room && (!best || c->jobs.count < best->jobs.count))
            best = c;
    }
    return best;
}

static bool give_job(struct redis_pool *pool)
{
    struct redis_conn *c = find_shared(pool);
    struct redis_job *job = pool->waiting.first;
    if (count_for_jobs(pool, false) < (unsigned)redis_setting(pool, SETTING_POOL_REDIS_SHARED))
        redis_pool_grow(pool, c != NULL);
    if (!c)
        return false;
    redis_jobs_remove(&pool->waiting, job);
    redis_conn_place(c, job);
    return true;
}

static void reserve(struct redis_pool *pool)
{
    struct redis_conn *best = NULL;
    for (struct redis_conn *c = pool->conns; c; c = c->next) {
        if (c->reserved)
            return; /* one at a time */
        if (c->state == CONN_READY && is_for_jobs(c) && (!best || c->jobs.count < best->jobs.count))
            best = c;
    }
    if (best)
        best->reserved = true;
}

static bool give_lease(struct redis_pool *pool)
{
    struct redis_lease *lease = pool->leases;
    struct redis_conn *c = NULL;
    unsigned left = count_for_jobs(pool, true);
    for (struct redis_conn *one = pool->conns; one; one = one->next)
        if (redis_conn_is_idle(one) && !one->draining && (!c || one->reserved))
            c = one;
    bool may = c && (c->reserved || left >= 2 || (!lease->keeps && pool->denied));
    if (!may) {
        if (pool->opening < pool->lease_count + (left == 0))
            redis_pool_grow(pool, left != 0);
        if (!lease->keeps && pool->denied)
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

static bool give_one(struct redis_pool *pool, bool *leases_wait)
{
    const struct redis_lease *lease = *leases_wait ? NULL : pool->leases;
    const struct redis_job *job = pool->waiting.first;
    if (lease && (!job || lease->order < job->order)) {
        *leases_wait = !give_lease(pool);
        return true;
    }
    return job && (give_job(pool) || (lease && give_lease(pool)));
}

void redis_pool_dispatch(struct redis_pool *pool)
{
    bool leases_wait = false;
    if (pool->all->stopping)
        return;
    if (!pool->lease_count)
        for (struct redis_conn *c = pool->conns; c; c = c->next)
            c->reserved = false;
    while (pool->waiting.first || pool->leases)
        if (!give_one(pool, &leases_wait))
            break;
    for (struct redis_conn *c = pool->conns, *next; c; c = next) {
        next = c->next;
        if (c->draining && redis_conn_is_idle(c))
            redis_conn_close(c, "", "");
    }
}

/* ---- jobs ---- */

struct redis_job *redis_job_new(struct redis_pool *pool, struct str bytes, const uint32_t *shapes, unsigned commands)
{
    size_t shapes_size = commands * sizeof *shapes;
    struct redis_job *job = malloc(sizeof *job + shapes_size + bytes.len);
    if (!job)
        return NULL;
    memset(job, 0, sizeof *job);
    job->pool = pool;
    job->commands = commands;
    job->shapes = (uint32_t *)(job + 1);
    job->bytes = (char *)(job->shapes + commands);
    job->len = bytes.len;
    memcpy(job->shapes, shapes, shapes_size);
    memcpy(job->bytes, bytes.p, bytes.len);
    job->timer.on_fire = on_job_late;
    return job;
}

void redis_job_free(struct redis_job *job)
{
    if (!job)
        return;
    wheel_clear(&job->timer);
    redis_error_clear(&job->error);
    free(job);
}

static void submit_to_lease(struct redis_job *job)
{
    if (job->lease->conn) {
        redis_conn_place(job->lease->conn, job);
        return;
    }
    redis_error_set(&job->error, "lost", "the connection that this was to go to is lost");
    redis_pool_finish(job);
}

void redis_submit(struct redis_job *job)
{
    struct redis_pool *pool = job->pool;
    job->queued_ns = pool->all->io->now_ns;
    job->order = ++pool->next_order;
    job->deadline_ms = UINT64_MAX;
    if (job->timeout_ms != REDIS_FOREVER) {
        job->deadline_ms = redis_now_ms(pool) + (job->timeout_ms ? job->timeout_ms : command_ms(pool));
        wheel_set(&pool->all->io->wheel, &job->timer, job->deadline_ms);
    }
    if (job->lease) {
        submit_to_lease(job);
    } else if (redis_pool_is_hopeless(pool)) {
        fail_waiting(job);
        redis_pool_grow(pool, false);
    } else if (pool->waiting.count + pool->lease_count >= (unsigned)redis_setting(pool, SETTING_POOL_REDIS_QUEUE)) {
        lane_add(&pool->lane->rejected, 1);
        redis_error_set(&job->error, "busy", "too many requests wait for Redis %s (pool.redis.queue)", pool->spec.name);
        redis_pool_finish(job);
    } else {
        job->state = JOB_WAITING;
        redis_jobs_add(&pool->waiting, job);
        redis_pool_dispatch(pool);
    }
}

void redis_pool_again(struct redis_job *job)
{
    job->repeats++;
    job->state = JOB_WAITING;
    job->sent_ns = 0;
    lane_add(&job->pool->lane->repeats, 1);
    redis_jobs_add_first(&job->pool->waiting, job);
}

void redis_abandon(struct redis_job *job)
{
    job->done = NULL;
    wheel_clear(&job->timer);
    if (job->state == JOB_WAITING) {
        redis_jobs_remove(&job->pool->waiting, job);
        redis_job_free(job);
    } else if (job->state == JOB_SENT) {
        lane_add(&job->pool->lane->cancels, 1);
        job->lease = NULL;
        if (job->conn->jobs.first == job)
            job->conn->reply.drop = true;
    }
}

/* ---- leases ---- */

struct redis_lease *redis_lease_new(struct redis_pool *pool, bool keeps, void (*done)(struct redis_lease *lease), void *user)
{
    struct redis_lease *lease = calloc(1, sizeof *lease);
    if (!lease)
        return NULL;
    lease->pool = pool;
    lease->keeps = keeps;
    lease->done = done;
    lease->user = user;
    lease->queued_ns = pool->all->io->now_ns;
    lease->order = ++pool->next_order;
    lease->timer.on_fire = on_lease_late;
    if (redis_pool_is_hopeless(pool)) {
        fail_lease(lease);
        redis_pool_grow(pool, false);
        return lease;
    }
    lease_add(pool, lease);
    wheel_set(&pool->all->io->wheel, &lease->timer, redis_now_ms(pool) + redis_pool_wait_ms(pool));
    redis_pool_dispatch(pool);
    return lease;
}

void redis_lease_end(struct redis_lease *lease)
{
    struct redis_pool *pool = lease->pool;
    struct redis_conn *c = lease->conn;
    if (lease->given)
        ungrant(lease);
    else
        lease_remove(pool, lease);
    wheel_clear(&lease->timer);
    redis_error_clear(&lease->error);
    if (c) {
        c->lease = NULL;
        c->idle_ms = redis_now_ms(pool);
        if (c->jobs.first || lease->tainted || c->hub)
            redis_conn_close(c, "", "");
    }
    free(lease);
    redis_pool_dispatch(pool);
}

/* ---- names ---- */

uint32_t redis_shape(struct redis_pool *pool, struct str name)
{
    struct board *board = pool->all->board;
    for (unsigned i = 0; i < pool->shape_count; i++) {
        const struct shape_name *s = &pool->shapes[i];
        if (s->len == name.len && memcmp(s->name, name.p, name.len) == 0)
            return s->index;
    }
    if (pool->shape_count == SHAPE_NAMES || name.len > sizeof pool->shapes->name)
        return 0;
    struct str id = str_from(pool->spec.name);
    struct shape_name *s = &pool->shapes[pool->shape_count++];
    memcpy(s->name, name.p, name.len);
    s->len = (uint32_t)name.len;
    s->index = statements_open(&board->statements, board_hash(board, name, board_hash(board, id, 0)), id, name);
    return s->index;
}
