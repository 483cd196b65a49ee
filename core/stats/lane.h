/* lane.h - what one worker has measured: cumulative, never reset.
 *
 * A lane has one writer (its worker, and the supervisor after that has died)
 * and any reader; values only grow, so a reader that takes differences never
 * loses an event. A replacement worker goes on in the lane of the dead one.
 *
 * Threads: one writer by relaxed stores; any number of readers.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "stats/compression.h"
#include "stats/counters.h"
#include "stats/sketch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The phases of a sample, in the order a request meets them. */
#define PHASE_LIST(X)                                                          \
    X(QUEUE, "queue")                         /* read, waiting for its turn */  \
    X(LUA, "lua")                             /* running Lua */                 \
    X(POOL_WAIT, "pool_wait")                 /* waiting for a pooled resource */ \
    X(DB, "db")                               /* in the database */             \
    X(REDIS, "redis")                         /* in Redis */                    \
    X(TASK, "task")                           /* waiting for a task */          \
    X(CONNECT, "upstream_connect")            /* name, TCP, TLS */              \
    X(FIRST_BYTE, "upstream_first_byte")      /* request sent to first byte */  \
    X(BODY, "upstream_body")                  /* first byte to last */          \
    X(CACHE, "cache")                                                          \
    X(COMPRESS, "compress")                                                    \
    X(WRITE, "write")                         /* answer ready to last byte handed over */

enum phase {
#define X(id, name) PHASE_##id,
    PHASE_LIST(X)
#undef X
        PHASE_COUNT
};

const char *phase_name(enum phase phase);

enum {
    LANE_ROUTES_MAX = 1024, /* upper bound of the setting stats.routes_max */
    LANE_SLOW_MAX = 64,     /* worst recent samples kept per lane */
};

enum response_size { SIZE_SMALL, SIZE_MEDIUM, SIZE_LARGE, SIZE_COUNT }; /* < 10 KiB, < 1 MiB, above */

typedef _Atomic uint64_t lane_counter;

/* One route in one worker. */
struct route_lane {
    lane_counter requests; /* finished */
    lane_counter status[6]; /* by hundreds; [0] is "no answer": the peer went away */
    lane_counter bytes_in;
    lane_counter bytes_out;
    lane_counter sizes[SIZE_COUNT];
    lane_counter latency_sum_ns;
    lane_counter phase_count[PHASE_COUNT];
    lane_counter phase_sum_ns[PHASE_COUNT];
    struct compression_lane compression;
    struct sketch latency;
    struct sketch_coarse phases[PHASE_COUNT];
};

/* A request that was slow; guarded by `sequence` (odd while being written). */
struct slow_sample {
    _Atomic uint32_t sequence;
    uint32_t route; /* index on the board */
    uint32_t status;
    uint64_t at_unix_ms;
    uint64_t latency_ns;
    uint64_t bytes_out;
    uint64_t phase_ns[PHASE_COUNT];
    char trace_id[33];
    char method[16];
};

/* One worker. */
struct lane {
    _Alignas(64) lane_counter started; /* requests begun */
    lane_counter finished;             /* got an answer, even if the client cut it short */
    lane_counter aborted;              /* got none: the client went away, or the worker died */
    lane_counter refused;              /* of the finished: malformed, before a route was known */
    lane_counter connections_accepted;
    lane_counter connections_open; /* gauge */
    lane_counter script_errors;
    lane_counter script_interrupts; /* over its CPU budget or memory cap */
    lane_counter counters[COUNTER_COUNT];
    lane_counter slow_next;         /* ring position in slow[] */
    struct slow_sample slow[LANE_SLOW_MAX];
    struct route_lane routes[]; /* board.routes_max of them */
};

/* Adds to a counter that only the caller writes. */
static inline void lane_add(lane_counter *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline uint64_t lane_get(const lane_counter *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* What one request cost. Built by the worker, recorded once at its end. */
struct sample {
    uint32_t route;  /* index on the board */
    uint32_t status; /* 0: the client went away before an answer */
    uint64_t latency_ns;
    uint64_t bytes_in; /* head and body as read */
    uint64_t bytes_out;
    uint64_t body_out; /* payload bytes of the answer */
    const uint64_t *phase_ns; /* PHASE_COUNT of them, 0: did not happen; or NULL */
    uint64_t at_unix_ms;
    const char *trace_id; /* 32 hex digits, or NULL */
    struct str method;
};

/* Records an ended request: under its route, and as finished, or as aborted
 * when its status is 0. The caller counts `started` when a request begins,
 * and `refused`. `routes_max` bounds sample->route. Samples slower than slow_ns enter the
 * ring of slow ones. */
void lane_record(struct lane *lane, const struct sample *sample, uint32_t routes_max,
                 uint64_t slow_ns);

/* Adds what somebody else has counted of a route (below routes_max), and a slow request of it. */
struct stats_route;
void lane_merge(struct lane *lane, uint32_t route, const struct stats_route *counts);
void lane_merge_slow(struct lane *lane, uint32_t route, const struct slow_sample *slow);

/* Copies a slow sample whole. False when it is empty, or the writer is in it. */
bool lane_slow_read(const struct slow_sample *from, struct slow_sample *out);

/* Requests begun and not yet ended. */
uint64_t lane_in_flight(const struct lane *lane);
