// SPDX-License-Identifier: MIT
#include "stats/history_ring.h"
#include "stats/readings.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { RING_MIN = 128 << 10 };

static const uint32_t period_s[HISTORY_TIERS] = {1, 10, 60};
static const uint32_t share_eighths[HISTORY_TIERS] = {2, 2, 4};

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

static struct history *make(struct board *board, size_t bytes, uint64_t lanes, int tiers_used)
{
    size_t readings = round_up((board->routes_max + POOLS_MAX) * sizeof(struct stats_route), 4096);
    size_t total = round_up(sizeof(struct history), 4096);
    size_t ring[HISTORY_TIERS], rings = 0;
    for (int i = 0; i < tiers_used; i++) {
        ring[i] = tiers_used == 1 ? bytes : bytes / 8 * share_eighths[i];
        ring[i] = ring[i] < RING_MIN ? RING_MIN : round_up(ring[i], 4096);
        rings += ring[i];
        total += ring[i] + readings;
    }
    struct history *h =
        mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h == MAP_FAILED)
        return NULL;
    h->board = board;
    h->lanes = lanes;
    h->tiers_used = tiers_used;
    h->mapped_bytes = total;
    h->ring_bytes = rings;
    h->cpu_share = h->memory_share = h->disk_share = h->load = NAN;
    size_t offset = round_up(sizeof(struct history), 4096);
    for (int i = 0; i < tiers_used; i++) {
        struct tier *t = &h->tiers[i];
        t->period_ms = period_s[i] * 1000;
        t->size = ring[i];
        t->tail = t->size; /* 0 means none */
        t->ring_offset = offset;
        t->readings_offset = offset + ring[i];
        offset += ring[i] + readings;
    }
    return h;
}

struct history *history_new(struct board *board, size_t bytes)
{
    return make(board, bytes, LANES_ALL, HISTORY_TIERS);
}

struct history *history_of_workers(struct board *board, size_t bytes, uint64_t workers)
{
    struct history *h = make(board, bytes, workers, 1);
    if (h) /* what the lanes have counted so far is in no window: as after a crash in the middle of one */
        atomic_store(&h->tiers[0].updating, 1);
    return h;
}

void history_free(struct history *h)
{
    if (h)
        munmap(h, h->mapped_bytes);
}

void history_note_machine(struct history *h, float cpu_share, float memory_share, float disk_share,
                          float load)
{
    h->cpu_share = cpu_share;
    h->memory_share = memory_share;
    h->disk_share = disk_share;
    h->load = load;
}

void history_read_host(const struct history *h, struct stats_host *out)
{
    *out = (struct stats_host){
        .cpu_share = h->cpu_share,
        .memory_share = h->memory_share,
        .disk_share = h->disk_share,
        .load = h->load,
    };
    reading_host(h->board, h->lanes, out);
}

/* b - a; gauges as in b. */
static struct stats_host host_difference(const struct stats_host *a, const struct stats_host *b)
{
    struct stats_host d = *b;
    d.started -= a->started;
    d.finished -= a->finished;
    d.aborted -= a->aborted;
    d.refused -= a->refused;
    d.connections_accepted -= a->connections_accepted;
    d.script_errors -= a->script_errors;
    d.script_interrupts -= a->script_interrupts;
    return d;
}

/* ---- the ring ------------------------------------------------------------- */

/* Evicts the oldest windows until the ring may be written up to `end`. */
static bool make_room(struct history *h, struct tier *t, uint64_t end)
{
    uint64_t last = newest(t);
    while (end - t->tail > t->size) {
        if (!last || t->tail > last)
            return false; /* only the window being written is left */
        t->tail += window_at(h, t, t->tail)->window_bytes;
        t->evicted = 1;
        /* In memory before what it frees is overwritten. */
        atomic_thread_fence(memory_order_release);
        if (t->tail > last) {
            atomic_store_explicit(&t->newest, 0, memory_order_release);
            return end - t->tail <= t->size;
        }
    }
    return true;
}

/* Finds the place for a record of `size` at or behind *position, padding when
 * it does not fit before the end of the ring. NULL when there is no room. */
static struct record *place(struct history *h, struct tier *t, uint64_t *position, size_t size)
{
    size_t left = t->size - (size_t)(*position % t->size);
    uint64_t start = *position + (left < size ? left : 0);
    if (!make_room(h, t, start + size))
        return NULL;
    if (start != *position) {
        struct record *pad = history_at(h, t, *position);
        *pad = (struct record){.size = (uint32_t)left, .kind = RECORD_PAD};
    }
    *position = start + size;
    struct record *record = history_at(h, t, start);
    record->size = (uint32_t)size;
    return record;
}

static struct stats_route *readings(struct history *h, const struct tier *t)
{
    return (struct stats_route *)((char *)h + t->readings_offset);
}

static struct stats_route *pool_reading(struct history *h, const struct tier *t, uint32_t entry)
{
    return &readings(h, t)[h->board->routes_max + entry];
}

static bool route_changed(struct history *h, const struct tier *t, uint32_t route)
{
    return reading_requests(h->board, h->lanes, route) != readings(h, t)[route].requests;
}

/* Appends the record of a thing: what is between its last reading and the new one in h->scratch. */
static void write_thing(struct history *h, struct tier *t, uint32_t thing, struct stats_route *before, uint64_t *position)
{
    size_t bytes = frame_put(h->payload, before, &h->scratch);
    assert(bytes <= sizeof h->payload);
    struct record *record =
        place(h, t, position, round_up(sizeof(struct record) + bytes, ALIGNMENT));
    if (record) {
        record->kind = RECORD_THING;
        record->thing = (uint16_t)thing;
        memcpy(record + 1, h->payload, bytes);
    } else {
        t->dropped++;
    }
    *before = h->scratch;
}

/* ---- pools ---- */

static int find_pool(const struct history *h, const char *name)
{
    for (int i = 0; i < HISTORY_POOLS; i++)
        if (h->pools[i].name[0] && strcmp(h->pools[i].name, name) == 0)
            return HISTORY_POOL + i;
    return -1;
}

const char *history_pool_name(const struct history *h, uint32_t thing)
{
    return h->pools[thing - HISTORY_POOL].name;
}

/* The pool of a name as a thing; a new one takes the place of the one that is longest gone. */
static uint32_t pool_thing(struct history *h, const char *name)
{
    int found = find_pool(h, name);
    struct pool_name *p = h->pools;
    for (int i = 1; i < HISTORY_POOLS && found < 0; i++)
        if (h->pools[i].seen_ms < p->seen_ms)
            p = &h->pools[i];
    if (found < 0) {
        memcpy(p->name, name, sizeof p->name);
        p->since_ms = h->tiers[0].last_ms;
        found = HISTORY_POOL + (int)(p - h->pools);
    }
    h->pools[found - HISTORY_POOL].seen_ms = h->now_ms;
    return (uint32_t)found;
}

int history_pool(struct history *h, const char *name)
{
    int found = find_pool(h, name);
    for (int i = 0; i < POOLS_MAX && found < 0; i++) { /* one that came since the last window */
        const struct board_pool *p = pools_at(&h->board->pools, i);
        if (p && strcmp(p->name, name) == 0)
            found = (int)pool_thing(h, p->name);
    }
    return found;
}

/* Reads the pool of an entry into h->scratch: its thing, or -1 when there is none. One that has another's entry is counted
 * from zero, as its lanes were. */
static int read_pool(struct history *h, struct tier *t, uint32_t entry)
{
    const struct board_pool *p = pools_at(&h->board->pools, (int)entry);
    struct stats_route *before = pool_reading(h, t, entry);
    if (!p)
        return -1;
    uint32_t incarnation = atomic_load(&p->incarnation);
    char name[POOL_NAME];
    memcpy(name, p->name, sizeof name);
    if (t->incarnations[entry] != incarnation)
        memset(before, 0, sizeof *before);
    t->incarnations[entry] = incarnation;
    pool_frame_read(h->board, entry, before, &h->scratch);
    if (!pools_at(&h->board->pools, (int)entry) || atomic_load(&p->incarnation) != incarnation)
        return -1;
    return (int)pool_thing(h, name);
}

static void write_pools(struct history *h, struct tier *t, uint64_t *position)
{
    for (uint32_t i = 0; i < POOLS_MAX; i++) {
        int thing = read_pool(h, t, i);
        if (thing >= 0 && pool_frame_differs(pool_reading(h, t, i), &h->scratch))
            write_thing(h, t, (uint32_t)thing, pool_reading(h, t, i), position);
    }
}

/* Where the next window begins. Its host record must not wrap: a pad before it
 * goes to the window before. */
static uint64_t window_start(struct history *h, struct tier *t)
{
    uint64_t start = head(h, t);
    size_t left = t->size - (size_t)(start % t->size);
    if (left >= sizeof(struct host_record))
        return start;
    make_room(h, t, start + left);
    if (!newest(t))
        return t->tail = start + left;
    *(struct record *)history_at(h, t, start) = (struct record){.size = (uint32_t)left, .kind = RECORD_PAD};
    window_at(h, t, newest(t))->window_bytes += left;
    return start + left;
}

static void write_window(struct history *h, struct tier *t, uint64_t now_ms)
{
    uint64_t start = window_start(h, t), position = start;
    struct host_record *host =
        (struct host_record *)place(h, t, &position, sizeof(struct host_record));
    host->head.kind = RECORD_HOST;
    struct stats_host now;
    history_read_host(h, &now);
    host->host = host_difference(&t->reading, &now);
    t->reading = now;
    host->from_ms = t->last_ms;
    host->to_ms = now_ms;
    uint32_t routes = atomic_load_explicit(&h->board->route_count, memory_order_acquire);
    for (uint32_t i = 0; i < routes; i++)
        if (i != ROUTE_BENCHMARK && route_changed(h, t, i)) {
            reading_route(h->board, h->lanes, i, &h->scratch);
            write_thing(h, t, i, &readings(h, t)[i], &position);
        }
    if (h->lanes == LANES_ALL)
        write_pools(h, t, &position);
    host->previous = newest(t);
    host->window_bytes = position - start;
    atomic_store_explicit(&t->newest, start, memory_order_release);
    t->windows++;
}

/* After a crash in the middle of a window: readings as of now. */
static void renew_readings(struct history *h, struct tier *t)
{
    uint32_t routes = atomic_load_explicit(&h->board->route_count, memory_order_acquire);
    for (uint32_t i = 0; i < routes; i++)
        reading_route(h->board, h->lanes, i, &readings(h, t)[i]);
    for (uint32_t i = 0; h->lanes == LANES_ALL && i < POOLS_MAX; i++)
        if (read_pool(h, t, i) >= 0)
            *pool_reading(h, t, i) = h->scratch;
    history_read_host(h, &t->reading);
}

static void tick_tier(struct history *h, struct tier *t, uint64_t now_ms, bool whole)
{
    bool broken = atomic_load_explicit(&t->updating, memory_order_acquire);
    if (broken) {
        renew_readings(h, t);
    } else {
        /* A clock that was set back starts a new count of time. */
        if (!t->last_ms || now_ms < t->last_ms)
            t->last_ms = now_ms;
        if (whole ? now_ms / t->period_ms == t->last_ms / t->period_ms : now_ms == t->last_ms)
            return;
        atomic_store(&t->updating, 1);
        write_window(h, t, now_ms);
    }
    t->last_ms = now_ms;
    atomic_store_explicit(&t->updating, 0, memory_order_release);
}

void history_tick(struct history *h, uint64_t now_unix_ms)
{
    h->now_ms = now_unix_ms;
    for (int i = 0; i < h->tiers_used; i++)
        tick_tier(h, &h->tiers[i], now_unix_ms, true);
}

void history_end(struct history *h, uint64_t now_unix_ms)
{
    h->now_ms = now_unix_ms;
    for (int i = 0; i < h->tiers_used; i++)
        tick_tier(h, &h->tiers[i], now_unix_ms, false);
}
