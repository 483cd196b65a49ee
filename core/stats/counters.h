/* counters.h - the registry of what is counted beside requests: one list.
 *
 * A counter only grows, one writer per worker's lane. Statistics show the sum
 * over all workers since the start; /metrics names it perilune_NAME_total.
 */
// SPDX-License-Identifier: MIT
#pragma once

/*    id, name, doc */
#define COUNTER_LIST(X)                                                                            \
    X(TUNNELS, "tunnels", "connections that became a WebSocket tunnel")                            \
    X(CLIENT_REFUSED, "client_refused", "connections over the cap of their client")                 \
    X(RATE_REFUSED, "rate_refused", "requests answered 429 by a rate limit")                       \
    X(RATE_OBSERVED, "rate_observed", "requests over a rate limit that only observes")                 \
    X(LIMIT_REFUSED, "limit_refused", "requests answered 503 by a concurrency limit")                \
    X(LIMIT_OBSERVED, "limit_observed", "requests over a concurrency limit that only observes") \
    X(CACHE_HITS, "cache_hits", "requests answered by a fresh entry of the cache")                 \
    X(CACHE_MISSES, "cache_misses", "requests of cached routes that went to their origin")         \
    X(CACHE_STALE, "cache_stale", "requests answered by an entry that was no longer fresh")        \
    X(CACHE_REVALIDATED, "cache_revalidated", "entries that their origin confirmed with a 304")    \
    X(CACHE_STORED, "cache_stored", "answers handed to the cache's store")                         \
    X(CACHE_BYPASSED, "cache_bypassed", "requests of cached routes that the cache does not answer") \
    X(CACHE_COLLAPSED, "cache_collapsed", "requests answered by the fetch of another one")         \
    X(CACHE_REFRESHED, "cache_refreshed", "entries fetched again in the background")               \
    X(CACHE_DROPPED, "cache_dropped", "answers not stored because the cache's queue was full")     \
    X(CACHE_INVALIDATED, "cache_invalidated", "targets dropped after an unsafe request")           \
    X(LOG_LINES, "access_log_lines", "lines handed to the access log")                              \
    X(LOG_LOST, "access_log_lost", "lines that the access log had no room for, or the disk did not take")

enum counter_id {
#define X(id, name, doc) COUNTER_##id,
    COUNTER_LIST(X)
#undef X
        COUNTER_COUNT
};

struct counter_info {
    const char *name, *doc;
};

extern const struct counter_info counter_infos[COUNTER_COUNT];
