// SPDX-License-Identifier: MIT
#include "stats/history_ring.h"
#include "stats/readings.h"

#include <stdlib.h>
#include <string.h>

enum { FRAMES_MAX = 900 /* merged at a time, where a coarser tier would do */ };

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
        if (i == ROUTE_BENCHMARK || !reading_requests(h->board, h->lanes, i))
            continue;
        struct stats_route *entry = view_thing(view, index, i);
        if (!entry)
            return false;
        reading_route(h->board, h->lanes, i, entry);
    }
    history_read_host(h, &view->host);
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
        const struct record *record = history_at(h, t, position);
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
        .lanes_per_route = board_lanes(h->board) * sizeof(struct route_lane),
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
