// SPDX-License-Identifier: MIT
/* A tier is a ring of bytes addressed by positions that only grow (position
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
 * what happened in it is lost, nothing is counted twice. */
#include "stats/history.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    RECORD_HOST = 1,
    RECORD_THING = 2,
    RECORD_PAD = 3,
    ALIGNMENT = 8,
    RING_MIN = 128 << 10,
    FRAMES_MAX = 900, /* merged at a time, where a coarser tier would do */
};

static const uint32_t period_s[HISTORY_TIERS] = {1, 10, 60};
static const uint32_t share_eighths[HISTORY_TIERS] = {2, 2, 4};

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
    uint64_t now_ms; /* of the last tick */
    float cpu_share, memory_share, disk_share, load;
    struct tier tiers[HISTORY_TIERS];
    struct pool_name pools[HISTORY_POOLS];
    struct stats_route scratch; /* for a tick: it allocates nothing */
    unsigned char payload[FRAME_BYTES_MOST];
};

static size_t round_up(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

struct history *history_new(struct board *board, size_t bytes)
{
    size_t readings = round_up((board->routes_max + POOLS_MAX) * sizeof(struct stats_route), 4096);
    size_t total = round_up(sizeof(struct history), 4096);
    size_t ring[HISTORY_TIERS], rings = 0;
    for (int i = 0; i < HISTORY_TIERS; i++) {
        ring[i] = bytes / 8 * share_eighths[i];
        ring[i] = ring[i] < RING_MIN ? RING_MIN : round_up(ring[i], 4096);
        rings += ring[i];
        total += ring[i] + readings;
    }
    struct history *h =
        mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h == MAP_FAILED)
        return NULL;
    h->board = board;
    h->mapped_bytes = total;
    h->ring_bytes = rings;
    h->cpu_share = h->memory_share = h->disk_share = h->load = NAN;
    size_t offset = round_up(sizeof(struct history), 4096);
    for (int i = 0; i < HISTORY_TIERS; i++) {
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

/* ---- reading the lanes ---------------------------------------------------- */

static uint64_t lanes_requests(struct board *board, uint32_t route)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < board->lanes; w++)
        sum += atomic_load_explicit(&board_lane(board, w)->routes[route].requests,
                                    memory_order_acquire);
    return sum;
}

static void add_lane_phase(const struct route_lane *lane, int phase, struct stats_route *out)
{
    uint64_t count = lane_get(&lane->phase_count[phase]);
    if (!count)
        return;
    out->phase_count[phase] += count;
    out->phase_sum_ns[phase] += lane_get(&lane->phase_sum_ns[phase]);
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        out->phases[phase][i] +=
            atomic_load_explicit(&lane->phases[phase].bucket[i], memory_order_relaxed);
}

static void add_lane(const struct route_lane *lane, struct stats_route *out)
{
    uint64_t requests = atomic_load_explicit(&lane->requests, memory_order_acquire);
    if (!requests)
        return;
    out->requests += requests;
    for (int i = 0; i < 6; i++)
        out->status[i] += lane_get(&lane->status[i]);
    out->bytes_in += lane_get(&lane->bytes_in);
    out->bytes_out += lane_get(&lane->bytes_out);
    for (int i = 0; i < SIZE_COUNT; i++)
        out->sizes[i] += lane_get(&lane->sizes[i]);
    out->latency_sum_ns += lane_get(&lane->latency_sum_ns);
    for (int i = 0; i < SKETCH_BUCKETS; i++)
        out->latency[i] += atomic_load_explicit(&lane->latency.bucket[i], memory_order_relaxed);
    for (int i = 0; i < PHASE_COUNT; i++)
        add_lane_phase(lane, i, out);
}

static void read_route(struct board *board, uint32_t route, struct stats_route *out)
{
    memset(out, 0, sizeof *out);
    out->route = route;
    for (uint32_t w = 0; w < board->lanes; w++)
        add_lane(&board_lane(board, w)->routes[route], out);
}

static void read_host(struct history *h, struct stats_host *out)
{
    *out = (struct stats_host){
        .cpu_share = h->cpu_share,
        .memory_share = h->memory_share,
        .disk_share = h->disk_share,
        .load = h->load,
    };
    for (uint32_t w = 0; w < h->board->lanes; w++) {
        const struct lane *lane = board_lane(h->board, w);
        out->in_flight += lane_in_flight(lane);
        out->started += lane_get(&lane->started);
        out->finished += lane_get(&lane->finished);
        out->aborted += lane_get(&lane->aborted);
        out->refused += lane_get(&lane->refused);
        out->connections_accepted += lane_get(&lane->connections_accepted);
        out->connections_open += lane_get(&lane->connections_open);
        out->script_errors += lane_get(&lane->script_errors);
        out->script_interrupts += lane_get(&lane->script_interrupts);
    }
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

static void *at(struct history *h, const struct tier *t, uint64_t position)
{
    return (char *)h + t->ring_offset + position % t->size;
}

static struct host_record *window_at(struct history *h, const struct tier *t, uint64_t position)
{
    return at(h, t, position);
}

static uint64_t newest(const struct tier *t)
{
    return atomic_load_explicit(&t->newest, memory_order_acquire);
}

/* One past the newest window. */
static uint64_t head(struct history *h, const struct tier *t)
{
    uint64_t position = newest(t);
    return position ? position + window_at(h, t, position)->window_bytes : t->tail;
}

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
        struct record *pad = at(h, t, *position);
        *pad = (struct record){.size = (uint32_t)left, .kind = RECORD_PAD};
    }
    *position = start + size;
    struct record *record = at(h, t, start);
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
    return lanes_requests(h->board, route) != readings(h, t)[route].requests;
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

int history_pool(const struct history *h, const char *name)
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
    int found = history_pool(h, name);
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

static bool is_anothers(const struct history *h, uint32_t thing, uint64_t to_ms)
{
    return thing >= HISTORY_POOL && to_ms <= h->pools[thing - HISTORY_POOL].since_ms;
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
    *(struct record *)at(h, t, start) = (struct record){.size = (uint32_t)left, .kind = RECORD_PAD};
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
    read_host(h, &now);
    host->host = host_difference(&t->reading, &now);
    t->reading = now;
    host->from_ms = t->last_ms;
    host->to_ms = now_ms;
    uint32_t routes = atomic_load_explicit(&h->board->route_count, memory_order_acquire);
    for (uint32_t i = 0; i < routes; i++)
        if (i != ROUTE_BENCHMARK && route_changed(h, t, i)) {
            read_route(h->board, i, &h->scratch);
            write_thing(h, t, i, &readings(h, t)[i], &position);
        }
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
        read_route(h->board, i, &readings(h, t)[i]);
    for (uint32_t i = 0; i < POOLS_MAX; i++)
        if (read_pool(h, t, i) >= 0)
            *pool_reading(h, t, i) = h->scratch;
    read_host(h, &t->reading);
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
    for (int i = 0; i < HISTORY_TIERS; i++)
        tick_tier(h, &h->tiers[i], now_unix_ms, true);
}

void history_end(struct history *h, uint64_t now_unix_ms)
{
    h->now_ms = now_unix_ms;
    for (int i = 0; i < HISTORY_TIERS; i++)
        tick_tier(h, &h->tiers[i], now_unix_ms, false);
}

/* ---- queries -------------------------------------------------------------- */

/* The entry of a thing in a view, made when it is not there. */
static struct stats_route *view_thing(struct stats_view *view, uint32_t *index, uint32_t thing)
{
    struct stats_route **list = thing < HISTORY_POOL ? &view->routes : &view->pools;
    uint32_t *count = thing < HISTORY_POOL ? &view->route_count : &view->pool_count, n = *count;
    if (index[thing])
        return &(*list)[index[thing] - 1];
    if ((n & (n - 1)) == 0) { /* full at 0, 1, 2, 4, .. */
        struct stats_route *more = realloc(*list, (n ? 2 * n : 1) * sizeof *more);
        if (!more)
            return NULL;
        *list = more;
    }
    index[thing] = ++*count;
    memset(&(*list)[n], 0, sizeof **list);
    (*list)[n].route = thing;
    return &(*list)[n];
}

static void view_sum(struct stats_view *view)
{
    for (uint32_t i = 0; i < view->route_count; i++)
        stats_route_add(&view->total, &view->routes[i]);
}

static bool merge_lanes(struct history *h, struct stats_view *view)
{
    uint32_t index[LANE_ROUTES_MAX] = {0};
    uint32_t routes = atomic_load_explicit(&h->board->route_count, memory_order_acquire);
    for (uint32_t i = 0; i < routes; i++) {
        if (i == ROUTE_BENCHMARK || !lanes_requests(h->board, i))
            continue;
        struct stats_route *entry = view_thing(view, index, i);
        if (!entry)
            return false;
        read_route(h->board, i, entry);
    }
    read_host(h, &view->host);
    view->from_ms = h->board->started_unix_ms;
    view->to_ms = h->now_ms > view->from_ms ? h->now_ms : view->from_ms;
    return true;
}

/* How far back a tier goes, in ms before its newest window's end. */
static uint64_t held_ms(struct history *h, const struct tier *t)
{
    uint64_t last = newest(t);
    if (!last)
        return 0;
    uint64_t from = window_at(h, t, t->tail)->from_ms, to = window_at(h, t, last)->to_ms;
    return to > from ? to - from : 0;
}

/* Positions of the windows that end behind from_ms, newest first, at most as
 * long together as span_ms, rounded to whole windows, but at least one.
 * Returns how many; *out is malloc'ed, NULL when memory is out. */
static size_t collect(struct history *h, const struct tier *t, uint64_t from_ms, uint64_t span_ms,
                      uint64_t **out)
{
    size_t count = 0, room = 64;
    uint64_t covered = 0;
    uint64_t *list = malloc(room * sizeof *list);
    for (uint64_t p = newest(t); list && p >= t->tail && p;) {
        const struct host_record *w = window_at(h, t, p);
        uint64_t length = w->to_ms - w->from_ms;
        if (count && (w->to_ms <= from_ms || covered + length / 2 > span_ms))
            break;
        if (count == room) {
            uint64_t *more = realloc(list, (room *= 2) * sizeof *list);
            if (!more) {
                free(list);
                list = NULL;
                break;
            }
            list = more;
        }
        list[count++] = p;
        covered += length;
        p = w->previous;
    }
    *out = list;
    return list ? count : 0;
}

static void add_frame(const struct record *record, struct stats_route *out)
{
    const unsigned char *from = (const unsigned char *)(record + 1);
    frame_add(from, (const unsigned char *)record + record->size, out);
}

/* Calls visit(arg, record) for the records of the things of a window. */
static bool each_thing(struct history *h, const struct tier *t, uint64_t window,
                       bool (*visit)(void *arg, const struct record *record), void *arg)
{
    const struct host_record *host = window_at(h, t, window);
    uint64_t position = window + host->head.size, end = window + host->window_bytes;
    while (position < end) {
        const struct record *record = at(h, t, position);
        if (record->kind == RECORD_THING && !is_anothers(h, record->thing, host->to_ms) && !visit(arg, record))
            return false;
        position += record->size;
    }
    return true;
}

/* The finest tier that reaches back far enough, or a coarser one that does so
 * with fewer frames; else the one that reaches back furthest. */
static const struct tier *tier_for(struct history *h, uint64_t span_ms)
{
    const struct tier *covering = NULL, *longest = &h->tiers[0];
    for (int i = 0; i < HISTORY_TIERS; i++) {
        const struct tier *t = &h->tiers[i];
        uint64_t held = held_ms(h, t);
        if (held > held_ms(h, longest))
            longest = t;
        if (!held || (t->evicted && held < span_ms))
            continue;
        covering = t;
        if ((held < span_ms ? held : span_ms) / t->period_ms <= FRAMES_MAX)
            break;
    }
    return covering ? covering : longest;
}

struct merge {
    struct stats_view *view;
    uint32_t index[HISTORY_THINGS]; /* 1 + place in view->routes or view->pools */
    bool pools;
};

static bool merge_record(void *arg, const struct record *record)
{
    struct merge *m = arg;
    if (record->thing >= HISTORY_POOL && !m->pools)
        return true;
    struct stats_route *entry = view_thing(m->view, m->index, record->thing);
    if (entry)
        add_frame(record, entry);
    return entry != NULL;
}

static bool merge_frames(struct history *h, const struct tier *t, uint64_t after_ms, uint64_t span_ms, bool pools,
                         struct stats_view *view)
{
    uint64_t *windows, covered = 0;
    struct merge m = {.view = view, .pools = pools};
    size_t count = collect(h, t, after_ms, span_ms, &windows);
    bool ok = windows != NULL;
    if (windows && count && window_at(h, t, windows[0])->to_ms <= after_ms)
        count = 0;
    for (size_t i = count; i > 0 && ok; i--) {
        const struct host_record *w = window_at(h, t, windows[i - 1]);
        if (i == count) {
            view->from_ms = w->from_ms;
            view->host = w->host;
        } else {
            stats_host_add(&view->host, &w->host);
        }
        covered += w->to_ms - w->from_ms;
        view->to_ms = w->to_ms;
        ok = each_thing(h, t, windows[i - 1], merge_record, &m);
    }
    view->span_s = (double)covered / 1000;
    free(windows);
    return ok;
}

bool history_merge(struct history *h, double span_s, struct stats_view *view)
{
    memset(view, 0, sizeof *view);
    bool ok;
    if (span_s > 0) {
        uint64_t span_ms = (uint64_t)(span_s * 1000);
        ok = merge_frames(h, tier_for(h, span_ms), 0, span_ms, false, view);
    } else {
        ok = merge_lanes(h, view);
        view->span_s = (double)(view->to_ms - view->from_ms) / 1000;
    }
    if (ok)
        view_sum(view);
    else
        stats_view_free(view);
    return ok;
}

bool history_after(struct history *h, uint64_t after_ms, struct stats_view *view)
{
    memset(view, 0, sizeof *view);
    bool ok = merge_frames(h, &h->tiers[0], after_ms, UINT64_MAX / 2, true, view);
    if (!ok)
        stats_view_free(view);
    return ok;
}

void stats_view_free(struct stats_view *view)
{
    free(view->routes);
    free(view->pools);
    view->routes = view->pools = NULL;
    view->route_count = view->pool_count = 0;
}

struct series {
    int thing;
    struct stats_route counts;
    struct stats_host host;
};

static bool series_record(void *arg, const struct record *record)
{
    struct series *s = arg;
    if (s->thing < 0 ? record->thing < HISTORY_POOL : s->thing == record->thing)
        add_frame(record, &s->counts);
    return true;
}

/* The coarsest tier that resolves the step and reaches back far enough; else
 * the one that reaches back furthest. */
static const struct tier *tier_for_series(struct history *h, uint64_t from_ms, uint32_t step_s)
{
    const struct tier *longest = &h->tiers[0];
    for (int i = HISTORY_TIERS - 1; i >= 0; i--) {
        const struct tier *t = &h->tiers[i];
        if (held_ms(h, t) > held_ms(h, longest))
            longest = t;
        if (t->period_ms / 1000 > step_s || !newest(t))
            continue;
        if (!t->evicted || window_at(h, t, t->tail)->from_ms <= from_ms)
            return t;
    }
    return longest;
}

/* A window ended behind a multiple of its period, and that instant closes the
 * step the window belongs to. */
static uint64_t step_of(const struct tier *t, const struct host_record *w, uint64_t step_ms)
{
    uint64_t boundary = w->to_ms / t->period_ms * t->period_ms;
    return (boundary ? boundary - 1 : 0) / step_ms * step_ms;
}

bool history_series(struct history *h, int thing, uint64_t from_ms, uint64_t to_ms, uint32_t step_s,
                    history_step_fn *on_step, void *arg)
{
    uint64_t step_ms = (step_s ? step_s : 1) * UINT64_C(1000), *windows;
    const struct tier *t = tier_for_series(h, from_ms, step_s);
    size_t i = collect(h, t, from_ms, UINT64_MAX / 2, &windows);
    struct series *s = malloc(sizeof *s);
    bool ok = windows && s;
    while (ok && i > 0) {
        const struct host_record *w = window_at(h, t, windows[i - 1]);
        uint64_t start = step_of(t, w, step_ms);
        uint64_t covered = 0;
        memset(s, 0, sizeof *s);
        s->thing = thing;
        for (bool first = true; i > 0; i--, first = false) {
            w = window_at(h, t, windows[i - 1]);
            if (step_of(t, w, step_ms) != start)
                break;
            if (first)
                s->host = w->host;
            else
                stats_host_add(&s->host, &w->host);
            covered += w->to_ms - w->from_ms;
            each_thing(h, t, windows[i - 1], series_record, s);
        }
        if (start + step_ms <= from_ms || start >= to_ms)
            continue;
        struct history_step step = {
            .from_ms = start,
            .to_ms = start + step_ms,
            .span_s = (double)covered / 1000,
            .host = &s->host,
            .counts = &s->counts,
        };
        on_step(arg, &step);
    }
    free(s);
    free(windows);
    return ok;
}

uint64_t history_reach_ms(struct history *h, uint64_t from_ms, uint32_t step_s)
{
    const struct tier *t = tier_for_series(h, from_ms, step_s ? step_s : 1);
    return newest(t) ? window_at(h, t, t->tail)->from_ms : 0;
}

struct frames {
    history_frame_fn *on_frame;
    void *arg;
};

static bool pass_frame(void *arg, const struct record *record)
{
    const struct frames *f = arg;
    f->on_frame(f->arg, record->thing, (const unsigned char *)(record + 1),
                record->size - sizeof *record);
    return true;
}

bool history_windows(struct history *h, uint64_t after_ms, history_window_fn *on_window,
                     history_frame_fn *on_frame, void *arg)
{
    const struct tier *t = &h->tiers[0];
    uint64_t *windows;
    struct frames frames = {on_frame, arg};
    size_t i = collect(h, t, after_ms, UINT64_MAX / 2, &windows);
    if (!windows)
        return false;
    for (; i > 0; i--) {
        const struct host_record *w = window_at(h, t, windows[i - 1]);
        struct history_window window = {w->from_ms, w->to_ms, &w->host};
        if (w->to_ms <= after_ms)
            continue; /* collect() gives at least one */
        if (!on_window(arg, &window))
            break;
        each_thing(h, t, windows[i - 1], pass_frame, &frames);
    }
    free(windows);
    return true;
}

void history_memory(const struct history *h, struct history_memory *out)
{
    struct history *mutable = (struct history *)(uintptr_t)h; /* NOLINT(performance-no-int-to-ptr) */
    *out = (struct history_memory){
        .ring_bytes = h->ring_bytes,
        .lanes_per_route = h->board->lanes * sizeof(struct route_lane),
        .readings_per_route = HISTORY_TIERS * sizeof(struct stats_route),
        .routes = atomic_load_explicit(&h->board->route_count, memory_order_relaxed),
        .routes_max = h->board->routes_max,
    };
    for (int i = 0; i < HISTORY_TIERS; i++) {
        const struct tier *t = &h->tiers[i];
        out->tiers[i].period_s = t->period_ms / 1000;
        out->tiers[i].ring_bytes = t->size;
        out->tiers[i].used_bytes = (size_t)(head(mutable, t) - t->tail);
        out->tiers[i].windows = t->windows;
        out->tiers[i].dropped = t->dropped;
        out->tiers[i].held_s = (double)held_ms(mutable, t) / 1000;
    }
}
