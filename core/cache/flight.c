/* Collapsing: of requests for one key only the first asks the origin.
 *
 * Inside a process the others wait for its answer in memory. Over processes a
 * lease on the shared table says that a key is being fetched; it ends when the
 * answer is committed to the store, or by itself when its holder dies. Who sees
 * a lease looks into the store each tick. All waiting ends at the policy's
 * collapse_ms, and at once when an answer turns out not to be for others.
 */
// SPDX-License-Identifier: MIT
#include "cache/parts.h"

#include <stdlib.h>

enum { LEASE_MS_BITS = 44 }; /* unix time in ms needs 41 */

static uint64_t hash_of(struct str key)
{
    return record_key(key).low;
}

struct flight *flight_find(struct cache *c, struct str key)
{
    uint64_t hash = hash_of(key);
    struct flight *f = c->flights[hash % FLIGHTS];
    while (f && (f->hash != hash || !str_equal(f->key, key)))
        f = f->next;
    return f;
}

static uint64_t lease_of(uint64_t hash, uint64_t until_ms)
{
    return (hash >> LEASE_MS_BITS) << LEASE_MS_BITS | (until_ms & ((1ULL << LEASE_MS_BITS) - 1));
}

/* Whether somebody fetches this key and has not committed it. */
static bool is_leased(struct cache *c, uint64_t hash)
{
    uint64_t lease = atomic_load(&c->shared->leases[hash % SHARED_SLOTS]);
    uint64_t until_ms = lease & ((1ULL << LEASE_MS_BITS) - 1);
    return lease >> LEASE_MS_BITS == hash >> LEASE_MS_BITS && c->io->unix_ms < until_ms;
}

bool flight_begin(struct cache_visit *v)
{
    struct cache *c = v->cache;
    uint64_t hash = hash_of(v->key);
    _Atomic uint64_t *slot = &c->shared->leases[hash % SHARED_SLOTS];
    uint64_t held = atomic_load(slot);
    struct flight *f = calloc(1, sizeof *f);
    char *key = f ? malloc(v->key.len) : NULL;
    if (!key) {
        free(f);
        return false;
    }
    f->key = (struct str){memcpy(key, v->key.p, v->key.len), v->key.len};
    f->hash = hash;
    f->lease_slot = (uint32_t)(hash % SHARED_SLOTS);
    f->lease = lease_of(hash, c->io->unix_ms + v->policy->collapse_ms);
    uint64_t until_ms = held & ((1ULL << LEASE_MS_BITS) - 1);
    if (c->io->unix_ms < until_ms || !atomic_compare_exchange_strong(slot, &held, f->lease))
        f->lease = 0; /* the slot is another key's for now */
    f->next = c->flights[hash % FLIGHTS];
    c->flights[hash % FLIGHTS] = f;
    return true;
}

/* It waits no more: the time was the cache's, since the fetch is another request's. */
static void has_waited(struct cache_visit *v)
{
    v->ex->phase_ns[PHASE_CACHE] += io_now(v->cache->io) - v->waits_ns;
}

static void on_deadline(struct timer *t)
{
    struct cache_visit *v = (struct cache_visit *)((char *)t - offsetof(struct cache_visit, deadline));
    has_waited(v);
    cache_leave(v);
    v->capture = true;
    v->host->go(v);
}

void flight_join(struct cache_visit *v, struct flight *f)
{
    struct io *io = v->cache->io;
    v->flight = f;
    v->waits_ns = io->now_ns;
    v->next = f->waiting;
    f->waiting = v;
    v->deadline.on_fire = on_deadline;
    wheel_set(&io->wheel, &v->deadline, v->wait_until_ms);
}

static void on_poll(struct timer *t)
{
    struct cache_visit *v = (struct cache_visit *)((char *)t - offsetof(struct cache_visit, deadline));
    has_waited(v);
    visit_again(v);
}

bool flight_await_lease(struct cache_visit *v)
{
    struct io *io = v->cache->io;
    if (!is_leased(v->cache, hash_of(v->key)))
        return false;
    v->waits_ns = io->now_ns;
    v->deadline.on_fire = on_poll;
    wheel_set(&io->wheel, &v->deadline, io->now_ms + 1);
    return true;
}

bool flight_is_leased(struct cache *c, struct str key)
{
    return is_leased(c, hash_of(key));
}

void cache_leave(struct cache_visit *v)
{
    wheel_clear(&v->deadline);
    if (!v->flight)
        return;
    struct cache_visit **at = &v->flight->waiting;
    while (*at && *at != v)
        at = &(*at)->next;
    if (*at)
        *at = v->next;
    v->flight = NULL;
}

static struct flight *take(struct cache *c, struct str key)
{
    struct flight *f = flight_find(c, key), **at;
    if (!f)
        return NULL;
    for (at = &c->flights[f->hash % FLIGHTS]; *at != f;)
        at = &(*at)->next;
    *at = f->next;
    return f;
}

static void give(struct cache_visit *v, enum landing how, const struct record_view *view)
{
    struct cache *c = v->cache;
    if (how == LAND_UNCACHEABLE) {
        v->capture = true;
        v->host->go(v);
    } else if (how == LAND_RECORD && visit_fits(v, view)) {
        struct serve_opts opts = {.policy = v->policy, .head = v->ex->head, .how = SERVE_COLLAPSED};
        struct exchange *ex = v->ex;
        cache_count(c, ex, CACHE_COLLAPSED);
        void (*release)(void *token) = v->host->release;
        void *token = v->host->detach(v); /* keeps the policy until the release */
        serve_record(c, ex, view, &opts);
        release(token);
    } else {
        visit_again(v);
    }
}

void flight_land(struct cache *c, struct str key, enum landing how, struct str record, bool committing)
{
    struct flight *f = take(c, key);
    struct record_view view = {0};
    if (!f)
        return;
    if (how == LAND_RECORD && !record_read(record, (struct str){NULL, 0}, &view))
        how = LAND_FAILED;
    if (how == LAND_UNCACHEABLE) {
        uint64_t ms = setting_integer(&c->board->settings, SETTING_CACHE_UNCACHEABLE_MS);
        c->uncacheable[f->hash % FLIGHTS].hash = f->hash;
        c->uncacheable[f->hash % FLIGHTS].until_ms = c->io->now_ms + ms;
    }
    uint64_t lease = f->lease;
    if (lease && !committing) /* else the writer ends it */
        atomic_compare_exchange_strong(&c->shared->leases[f->lease_slot], &lease, 0);
    while (f->waiting) {
        struct cache_visit *v = f->waiting;
        has_waited(v);
        cache_leave(v);
        give(v, how, &view);
    }
    free((char *)f->key.p);
    free(f);
}

void flight_lease(struct cache *c, struct str key, uint32_t *slot, uint64_t *lease)
{
    struct flight *f = flight_find(c, key);
    *slot = f ? f->lease_slot : 0;
    *lease = f ? f->lease : 0;
}

bool flight_is_uncacheable(struct cache *c, struct str key)
{
    uint64_t hash = hash_of(key);
    return c->uncacheable[hash % FLIGHTS].hash == hash &&
           c->io->now_ms < c->uncacheable[hash % FLIGHTS].until_ms;
}
