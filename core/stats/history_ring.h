/* history_ring.h - how the history lies in memory: what history.c writes and history_read.c reads.
 *
 * A tier is a ring of bytes addressed by positions that only grow (position
 * modulo size is the place), so 0 can mean "none" and order is plain "<".
 *
 *      tail                                   newest           head
 *       v                                       v               v
 *     +------+-------+-------+-----+------+--//-+------+-------+
 *     | host | route | route | pad | host |  // | host | route |
 *     +------+-------+-------+-----+------+--//-+------+-------+
 *       ^-- a window ----------------^  `previous` links the host records
 *
 * A window is a host record and a record per route or pool that did something. Records
 * do not wrap; a pad fills up the end of the ring. Everything of a window is
 * written behind `head`, then one store to `newest` makes it exist: its host
 * record says how long it is, so head follows from newest.
 *
 * The readings (what the lanes said when the last window of the tier ended) are
 * replaced while the window is being written. `updating` is set meanwhile; a
 * successor that finds it set renews the readings without writing a window:
 * what happened in it is lost, nothing is counted twice.
 *
 * Threads: as of history.h.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/history.h"

enum {
    RECORD_HOST = 1,
    RECORD_THING = 2,
    RECORD_PAD = 3,
    ALIGNMENT = 8,
};

struct record {
    uint32_t size; /* with this head, multiple of ALIGNMENT */
    uint16_t kind;
    uint16_t thing;
};

struct host_record {
    struct record head;
    uint64_t from_ms, to_ms;
    uint64_t previous;     /* position of the window before, or 0 */
    uint64_t window_bytes; /* of this window, with pads */
    struct stats_host host;
};

struct tier {
    uint32_t period_ms;
    size_t size;
    uint64_t tail;           /* position of the oldest window */
    _Atomic uint64_t newest; /* position of the newest window; 0: none. Published last */
    uint64_t last_ms;        /* when the readings were taken; 0: never */
    uint32_t evicted;        /* whether any window was */
    _Atomic uint32_t updating;
    uint64_t windows, dropped;
    struct stats_host reading;
    uint32_t incarnations[POOLS_MAX]; /* of the pools that were read */
    size_t ring_offset;     /* in the mapping */
    size_t readings_offset; /* of struct stats_route: routes_max, then POOLS_MAX */
};

struct pool_name {
    char name[POOL_NAME]; /* "": free */
    uint64_t since_ms;    /* frames before are another's */
    uint64_t seen_ms;     /* when it was there last */
};

struct history {
    struct board *board; /* same address in all processes: mapped before the fork */
    size_t mapped_bytes, ring_bytes;
    uint64_t lanes; /* that it reads, LANES_ALL or a bit each */
    int tiers_used;
    uint64_t now_ms; /* of the last tick */
    float cpu_share, memory_share, disk_share, load;
    struct tier tiers[HISTORY_TIERS];
    struct pool_name pools[HISTORY_POOLS];
    struct stats_route scratch; /* for a tick: it allocates nothing */
    unsigned char payload[FRAME_BYTES_MOST];
};

static inline void *history_at(struct history *h, const struct tier *t, uint64_t position)
{
    return (char *)h + t->ring_offset + position % t->size;
}

static inline struct host_record *window_at(struct history *h, const struct tier *t, uint64_t position)
{
    return history_at(h, t, position);
}

static inline uint64_t newest(const struct tier *t)
{
    return atomic_load_explicit(&t->newest, memory_order_acquire);
}

/* One past the newest window. */
static inline uint64_t head(struct history *h, const struct tier *t)
{
    uint64_t position = newest(t);
    return position ? position + window_at(h, t, position)->window_bytes : t->tail;
}

/* Whether frames of that time are of the pool that had the place before. */
static inline bool is_anothers(const struct history *h, uint32_t thing, uint64_t to_ms)
{
    return thing >= HISTORY_POOL && to_ms <= h->pools[thing - HISTORY_POOL].since_ms;
}

/* What belongs to no route, as it is now. */
void history_read_host(const struct history *h, struct stats_host *out);
