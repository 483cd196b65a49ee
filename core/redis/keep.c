/* How many connections there are: opened when work waits or min asks for them,
 * closed when they are old, idle, too many, or wanted by a worker that has none.
 */
// SPDX-License-Identifier: MIT
#include "redis/parts.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLOW_TICK_MS = 100, OPENING_MOST = 4 };

static bool is_used(const struct redis_pool *pool)
{
    return pool->refs > 0;
}

/* Spreads what would happen at once everywhere: a number from 0 to 1. */
static double jitter(const struct redis_pool *pool, const void *of)
{
    const struct redis *all = pool->all;
    uint64_t seed = all->io->now_ns ^ (uintptr_t)of;
    return (double)(board_hash(all->board, (struct str){(const char *)&seed, sizeof seed}, all->worker) % 1024) / 1024;
}

/* ---- opening ---- */

static void on_retry(struct timer *t)
{
    struct redis_pool *pool = (struct redis_pool *)((char *)t - offsetof(struct redis_pool, retry));
    struct redis *all = pool->all;
    redis_pool_dispatch(pool);
    redis_pool_deliver(all);
}

/* Places that workers without any connection will want for their first. */
static uint32_t wanted_by_others(const struct redis_pool *pool)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < pool->all->board->workers; i++)
        n += i != pool->all->worker && atomic_load(&pool->shared->lanes[i].held) == 0;
    return n;
}

void redis_pool_grow(struct redis_pool *pool, bool spare)
{
    uint32_t worker = pool->all->worker, max = pool_max(pool->shared), others = spare ? wanted_by_others(pool) : 0;
    if (pool->denied || pool->opening >= OPENING_MOST || pool->all->stopping ||
        atomic_load_explicit(&pool->shared->forced, memory_order_relaxed))
        return;
    if (pool->down_ms && pool->opening)
        return; /* one that knocks is enough */
    if (redis_now_ms(pool) < pool->retry_ms) {
        wheel_set(&pool->all->io->wheel, &pool->retry, pool->retry_ms);
        return;
    }
    bool placed = max > others && pool_hold(pool->shared, worker, max - others);
    pool->denied = !placed;
    atomic_store_explicit(&pool->lane->starved, !placed && !spare, memory_order_relaxed);
    if (placed && !redis_conn_open(pool))
        pool_release(pool->shared, worker);
}

void redis_pool_opened(struct redis_conn *c)
{
    struct redis_pool *pool = c->pool;
    c->life = 0.9 + 0.2 * jitter(pool, c); /* so that those opened together do not end together */
    pool->opening--;
    lane_add(&pool->lane->opened, 1);
    if (pool->down_ms)
        log_line(LOG_INFO, "Redis %s is reached again (%s)", pool->spec.name, pool->where);
    pool->down_ms = pool->backoff_ms = pool->retry_ms = 0;
    redis_error_clear(&pool->down);
    pool_set_health(pool->shared, POOL_UP, "");
    redis_pool_dispatch(pool);
}

void redis_pool_refused(struct redis_pool *pool, const struct redis_error *why)
{
    bool has_others = pool->conn_count > pool->opening;
    uint64_t first = (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_BACKOFF_MS);
    uint64_t most = (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_BACKOFF_MAX_MS);
    char shown[POOL_REASON];
    if (pool->all->stopping)
        return;
    lane_add(&pool->lane->refused, 1);
    pool->backoff_ms = pool->backoff_ms ? pool->backoff_ms * 2 : first;
    if (pool->backoff_ms > most)
        pool->backoff_ms = most;
    /* From half of it on, so that a fleet does not knock in step. */
    pool->retry_ms = redis_now_ms(pool) + (uint64_t)((double)pool->backoff_ms * (0.5 + 0.5 * jitter(pool, pool)));
    redis_error_set(&pool->down, why->code, "%s", why->message ? why->message : "?");
    snprintf(shown, sizeof shown, "%s", pool->down.message ? pool->down.message : "");
    if (!has_others) {
        if (!pool->down_ms) {
            pool->down_ms = redis_now_ms(pool);
            log_line(LOG_WARN, "Redis %s cannot be reached (%s): %s", pool->spec.name, pool->where, shown);
        }
        pool_set_health(pool->shared, POOL_DOWN, shown);
    }
    if (redis_pool_is_hopeless(pool))
        redis_pool_fail_all(pool);
    redis_pool_dispatch(pool);
}

/* ---- upkeep ---- */

static uint32_t share_of(uint32_t total, uint32_t worker, uint32_t workers)
{
    return total / workers + (worker < total % workers);
}

static struct redis_conn *first_to_go(const struct redis_pool *pool)
{
    struct redis_conn *best = NULL;
    for (struct redis_conn *c = pool->conns; c; c = c->next) {
        if (c->draining)
            return NULL; /* one at a time */
        if (c->state == CONN_READY && !c->lease && (!best || redis_conn_is_idle(c)))
            best = c;
    }
    return best;
}

/* Gives places to workers that have none, and back to the cap when it was lowered. */
static void share_places(struct redis_pool *pool)
{
    const struct redis *all = pool->all;
    uint32_t max = pool_max(pool->shared), share = max / all->board->workers;
    bool too_many = pool_held(pool->shared) > max;
    bool wanted = pool->conn_count > share && pool_others_starve(pool->shared, all->worker);
    struct redis_conn *c = too_many || wanted ? first_to_go(pool) : NULL;
    if (c)
        c->draining = true;
}

/* Whether it has reached the lifetime, as that is now: it may have been changed. */
static bool is_old(const struct redis_pool *pool, const struct redis_conn *c)
{
    double ms = pool->spec.lifetime_ms ? (double)pool->spec.lifetime_ms : redis_setting(pool, SETTING_POOL_REDIS_LIFETIME_MS);
    return (double)(redis_now_ms(pool) - c->opened_ms) >= ms * c->life;
}

/* Of those that are old one goes with each tick: a lower lifetime must not end them all at once. */
static void keep_conn(struct redis_pool *pool, struct redis_conn *c, uint32_t least, bool *replaced)
{
    uint64_t idle = pool->spec.idle_ms ? (uint64_t)pool->spec.idle_ms : (uint64_t)redis_setting(pool, SETTING_POOL_REDIS_IDLE_MS);
    uint64_t check = (uint64_t)redis_setting(pool, SETTING_RESOURCE_HEALTH_INTERVAL_S) * 1000, now = redis_now_ms(pool);
    if (c->state != CONN_READY || c->hub)
        return;
    c->draining = c->draining || !is_used(pool);
    if (!c->draining && !*replaced && is_old(pool, c))
        c->draining = *replaced = true;
    if (!redis_conn_is_idle(c))
        return;
    if (pool->conn_count > least && now - c->idle_ms >= idle)
        c->draining = true;
    else if (now - c->heard_ms >= check && !c->draining)
        redis_conn_check(c);
}

static void show_ms(_Atomic uint64_t *shown, const struct redis_pool *pool, int64_t own, enum setting_id setting)
{
    atomic_store_explicit(shown, own ? (uint64_t)own : (uint64_t)redis_setting(pool, setting), memory_order_relaxed);
}

static void show(struct redis_pool *pool)
{
    const struct redis_spec *spec = &pool->spec;
    uint32_t idle = 0;
    for (const struct redis_conn *c = pool->conns; c; c = c->next)
        idle += redis_conn_is_idle(c);
    atomic_store_explicit(&pool->lane->idle, idle, memory_order_relaxed);
    atomic_store_explicit(&pool->lane->waiting, pool->waiting.count + pool->lease_count, memory_order_relaxed);
    if (!pool->waiting.count)
        atomic_store_explicit(&pool->lane->starved, 0, memory_order_relaxed);
    if (!is_used(pool))
        return;
    show_ms(&pool->shared->wait_ms, pool, spec->wait_ms, SETTING_POOL_REDIS_WAIT_MS);
    show_ms(&pool->shared->statement_ms, pool, spec->command_ms, SETTING_POOL_REDIS_COMMAND_MS);
    show_ms(&pool->shared->connect_ms, pool, spec->connect_ms, SETTING_POOL_REDIS_CONNECT_MS);
    show_ms(&pool->shared->idle_ms, pool, spec->idle_ms, SETTING_POOL_REDIS_IDLE_MS);
    show_ms(&pool->shared->lifetime_ms, pool, spec->lifetime_ms, SETTING_POOL_REDIS_LIFETIME_MS);
    atomic_store_explicit(&pool->shared->max, spec->max ? (uint32_t)spec->max : (uint32_t)redis_setting(pool, SETTING_POOL_REDIS_MAX),
                          memory_order_relaxed);
    atomic_store_explicit(&pool->shared->min,
                          spec->min >= 0 ? (uint32_t)spec->min : (uint32_t)redis_setting(pool, SETTING_POOL_REDIS_MIN), memory_order_relaxed);
}

/* Whether this worker tries the server of a pool of which nothing is known yet. */
static bool knocks(const struct redis_pool *pool)
{
    return !pool->all->worker && atomic_load_explicit(&pool->shared->health, memory_order_relaxed) == POOL_UNKNOWN;
}

static void keep(struct redis_pool *pool)
{
    pool->denied = false;
    show(pool);
    uint32_t least = share_of(pool_min(pool->shared), pool->all->worker, pool->all->board->workers);
    bool replaced = false;
    for (struct redis_conn *c = pool->conns; c; c = c->next)
        keep_conn(pool, c, least, &replaced);
    share_places(pool);
    redis_hub_tick(pool);
    if (atomic_load_explicit(&pool->shared->forced, memory_order_relaxed))
        while (pool->conns)
            redis_conn_close(pool->conns, "lost", "the pool was deleted");
    else if (is_used(pool) && pool->conn_count < (least || !knocks(pool) ? least : 1))
        redis_pool_grow(pool, false);
    if (redis_pool_is_hopeless(pool))
        redis_pool_fail_all(pool);
    redis_pool_dispatch(pool);
}

static void pool_free(struct redis_pool *pool)
{
    if (pool->shared)
        pool_close(pool->shared, pool->all->worker);
    wheel_clear(&pool->retry);
    redis_hub_free(pool->hub);
    redis_error_clear(&pool->down);
    redis_address_done(&pool->address);
    if (pool->strings)
        explicit_bzero(pool->strings, strlen(pool->spec.name) + strlen(pool->spec.url) + 2);
    free(pool->strings);
    free(pool);
}

void redis_tick(struct redis *all)
{
    if (all->io->now_ms < all->slow_ms)
        return;
    all->slow_ms = all->io->now_ms + SLOW_TICK_MS;
    for (struct redis_pool *pool = all->pools; pool; pool = pool->next)
        keep(pool);
    redis_pool_deliver(all);
    for (struct redis_pool **at = &all->pools; *at;) {
        struct redis_pool *pool = *at;
        if (is_used(pool) || pool->conn_count || pool->waiting.count || pool->leases || (pool->hub && redis_hub_is_used(pool->hub))) {
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
    struct redis *all = prepare->data;
    redis_pool_deliver(all);
    for (struct redis_pool *pool = all->pools; pool; pool = pool->next)
        if (pool->hub)
            redis_hub_tell(pool->hub);
    while (all->dirty) {
        struct redis_conn *c = all->dirty;
        all->dirty = c->next_dirty;
        c->dirty = false;
        redis_conn_flush(c);
        redis_pool_deliver(all);
    }
}

struct redis *redis_new(struct io *io, struct board *board, uint32_t worker)
{
    struct redis *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    all->io = io;
    all->board = board;
    all->worker = worker;
    all->granted_end = &all->granted;
    uv_prepare_init(&io->loop, &all->prepare);
    all->prepare.data = all;
    uv_prepare_start(&all->prepare, on_prepare);
    uv_unref((uv_handle_t *)&all->prepare);
    return all;
}

void redis_stop(struct redis *all)
{
    all->stopping = true;
    for (struct redis_pool *pool = all->pools; pool; pool = pool->next) {
        struct redis_job *job;
        while (pool->conns)
            redis_conn_close(pool->conns, "lost", "shutting down");
        while ((job = pool->waiting.first)) {
            redis_jobs_remove(&pool->waiting, job);
            redis_job_free(job);
        }
    }
    for (struct redis_job *job; (job = all->finished.first);) {
        redis_jobs_remove(&all->finished, job);
        redis_job_free(job);
    }
    uv_prepare_stop(&all->prepare);
}

void redis_free(struct redis *all)
{
    if (!all)
        return;
    while (all->pools) {
        struct redis_pool *pool = all->pools;
        all->pools = pool->next;
        pool_free(pool);
    }
    free(all);
}

static bool is_same(const struct redis_spec *a, const struct redis_spec *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->url, b->url) == 0;
}

/* Numbers change in place; connections stay. */
static void take_numbers(struct redis_spec *to, const struct redis_spec *from)
{
    const char *name = to->name, *url = to->url;
    *to = *from;
    to->name = name;
    to->url = url;
}

static bool copy_spec(struct redis_pool *pool, const struct redis_spec *spec)
{
    char why[REDIS_WHY];
    size_t name = strlen(spec->name) + 1, url = strlen(spec->url) + 1;
    pool->strings = malloc(name + url);
    if (!pool->strings)
        return false;
    pool->spec = *spec;
    pool->spec.name = memcpy(pool->strings, spec->name, name);
    pool->spec.url = memcpy(pool->strings + name, spec->url, url);
    if (!redis_address_parse(&pool->address, spec->url, why))
        return false;
    redis_address_show(&pool->address, pool->where, sizeof pool->where);
    return true;
}

struct redis_pool *redis_open(struct redis *all, const struct redis_spec *spec)
{
    for (struct redis_pool *pool = all->pools; pool; pool = pool->next)
        if (is_same(&pool->spec, spec)) {
            take_numbers(&pool->spec, spec);
            show(pool);
            pool->refs++;
            return pool;
        }
    struct redis_pool *pool = calloc(1, sizeof *pool);
    if (!pool || !copy_spec(pool, spec) || !(pool->shared = pools_open(&all->board->pools, str_from(spec->name), all->worker, pool->where))) {
        if (pool)
            pool_free(pool);
        return NULL;
    }
    atomic_store_explicit(&pool->shared->kind, POOL_REDIS, memory_order_relaxed);
    pool->all = all;
    pool->refs = 1;
    pool->lane = &pool->shared->lanes[all->worker];
    pool->retry.on_fire = on_retry;
    pool->next = all->pools;
    all->pools = pool;
    show(pool);
    return pool;
}

void redis_release(struct redis_pool *pool)
{
    pool->refs--; /* its end comes with a tick: somebody may be in the middle of it */
}
