/* shared.h - what all processes know about the cache beside its store: use
 * counts, what was invalidated when, who is fetching what, and statistics.
 *
 * The segment is made before the fork and forgotten at the end; the store on
 * disk stays. A start after the machine went down without the store having
 * been synced begins with an empty store: LMDB without syncs promises nothing
 * then. The kernel's boot id tells.
 *
 * Owner:   the supervisor; cache_shared_new() to cache_shared_free().
 * Threads: any process; plain atomics, statistics have one writer each.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "cache/curve.h"
#include "cache/store.h"

enum { SHARED_SLOTS = 65536, SHARED_FOLDER = 3100 };

/*    id, name */
#define CACHE_COUNT_LIST(X)                                                    \
    X(HITS, "hits")                                                            \
    X(MISSES, "misses")                                                        \
    X(STALE, "stale")             /* served although not fresh */              \
    X(REVALIDATED, "revalidated") /* the origin said 304 */                    \
    X(STORED, "stored")                                                        \
    X(BYPASSED, "bypassed")       /* not a request that the cache answers */   \
    X(COLLAPSED, "collapsed")     /* waited for another's fetch */             \
    X(REFRESHED, "refreshed")     /* fetched in the background */

enum cache_count {
#define X(id, name) CACHE_##id,
    CACHE_COUNT_LIST(X)
#undef X
        CACHE_COUNTS
};

extern const char *const cache_count_names[CACHE_COUNTS];

struct cache_shared {
    uint64_t size_bytes;
    uint64_t bytes;          /* of the store */
    uint32_t workers, routes_max;
    _Atomic uint32_t broken; /* the store took a process down: nobody uses it any more */
    _Atomic uint32_t unusable; /* processes that could not open it */
    _Atomic uint64_t fence_ms; /* unix time: what was asked for up to then is not stored */
    _Atomic uint64_t invalid_ms[SHARED_SLOTS]; /* the same by target, and not served either */
    _Atomic uint64_t leases[SHARED_SLOTS]; /* key's tag << 32 | unix s until when it is fetched */
    _Atomic uint32_t inside[80]; /* by process: it is in the store now */
    uint64_t uses_mask;
    uint64_t uses_offset, counts_offset, curves_offset;
    char folder[SHARED_FOLDER];
};

/* Prepares folder and segment. NULL: the cache is off (bytes 0) or cannot be, which is logged. */
struct cache_shared *cache_shared_new(const char *folder, uint64_t bytes, uint32_t workers,
                                      uint32_t routes_max);

/* After the last process: syncs the store, so that it is warm even after a reboot. */
void cache_shared_free(struct cache_shared *shared);

/* A process has died by a signal. When it was inside of the store, that is given up. */
void cache_shared_died(struct cache_shared *shared, unsigned process, int signal);

static inline _Atomic uint8_t *cache_shared_uses(struct cache_shared *s)
{
    return (_Atomic uint8_t *)((char *)s + s->uses_offset);
}

/* Statistics of one worker: [route][CACHE_COUNTS]. */
static inline _Atomic uint64_t *cache_shared_counts(struct cache_shared *s, uint32_t worker)
{
    return (_Atomic uint64_t *)((char *)s + s->counts_offset) +
           (size_t)worker * s->routes_max * CACHE_COUNTS;
}

/* The miss-ratio curve of a route, of all workers. */
static inline struct curve *cache_shared_curve(struct cache_shared *s, uint32_t route)
{
    return (struct curve *)((char *)s + s->curves_offset) + route;
}

/* Sum over the workers. */
uint64_t cache_shared_count(struct cache_shared *s, uint32_t route, enum cache_count what);

static inline struct store_opts cache_shared_store(struct cache_shared *s)
{
    return (struct store_opts){s->folder, s->bytes, cache_shared_uses(s), s->uses_mask};
}
