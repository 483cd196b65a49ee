// SPDX-License-Identifier: MIT
#include "watch/watch.h"

#include "base/clock.h"
#include "sys/process_info.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What only grows, as of the tick before. */
struct host_reading {
    uint64_t counters[COUNTER_COUNT];
    uint64_t tasks, task_wait_ns;
    struct {
        int32_t pid;
        double cpu_s, wait_s; /* wait_s NAN: not known */
    } workers[BOARD_WORKERS_MAX];
};

static const double COMPANY_ALPHA = 0.1 /* of a signal's, which must also lie three spreads away */, BUSY_SMOOTH = 0.1, ERRORS_S = 30;

struct watch {
    struct board *board;
    struct history *history;
    const struct resources *resources;
    uint32_t ring; /* samples a series keeps */
    uint64_t seen_ms; /* end of the last frame */
    uint64_t held_until_ms; /* till then nothing is learnt */
    bool held;
    struct watched *things[1 + POOLS_MAX + LANE_ROUTES_MAX];
    unsigned count;
    struct watched *routes[LANE_ROUTES_MAX], *pools[POOLS_MAX];
    struct host_reading host;
    uint32_t pool_incarnations[POOLS_MAX];
    struct companies companies;
    uint64_t ticks;
    double last_ms, sum_ms;
};

/* ---- things ---- */

static void thing_free(struct watched *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < watch_signals(t->kind); i++)
        series_done(&t->signals[i]);
    company_free(t->company);
    free(t->open);
    free(t);
}

static struct watched *thing_new(struct watch *w, enum watch_kind kind, uint32_t index)
{
    struct watched *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->kind = kind;
    t->index = index;
    bool ok = kind != WATCH_ROUTE || (t->open = calloc(1, sizeof *t->open));
    for (unsigned i = 0; ok && i < watch_signals(kind); i++)
        ok = series_init(&t->signals[i], w->ring);
    if (!ok) {
        thing_free(t);
        return NULL;
    }
    w->things[w->count++] = t;
    return t;
}

static void thing_drop(struct watch *w, struct watched *t)
{
    unsigned i = 0;
    while (w->things[i] != t)
        i++;
    for (w->count--; i < w->count; i++)
        w->things[i] = w->things[i + 1];
    thing_free(t);
}

struct watch *watch_new(struct board *board, struct history *history, const struct resources *resources)
{
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->board = board;
    w->history = history;
    w->resources = resources;
    int64_t window = setting_integer(&board->settings, SETTING_ANALYSIS_WINDOW);
    w->ring = (uint32_t)window;
    if (!thing_new(w, WATCH_HOST, 0)) {
        free(w);
        return NULL;
    }
    return w;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < w->count; i++)
        thing_free(w->things[i]);
    free(w);
}

const struct watched *watch_at(const struct watch *w, unsigned i)
{
    return i < w->count ? w->things[i] : NULL;
}

struct series_opts watch_series_opts(const struct watch *w, enum watch_kind kind, unsigned i)
{
    const struct settings *s = &w->board->settings;
    return (struct series_opts){.alpha = setting_number(s, SETTING_ANALYSIS_THRESHOLD),
                                .floor = watch_signal(kind, i).floor,
                                .least = (uint32_t)setting_integer(s, SETTING_ANALYSIS_MIN_SAMPLES),
                                .adopt_ms = (uint64_t)setting_integer(s, SETTING_ANALYSIS_ADOPT_S) * 1000};
}

/* ---- the end of a sample ---- */

static double in_scale(enum watch_kind kind, unsigned i, double value)
{
    struct signal_info info = watch_signal(kind, i);
    return info.scale == SCALE_LOG ? log(value + info.low) : value;
}

static struct company_opts company_opts(const struct watch *w)
{
    const struct settings *s = &w->board->settings;
    return (struct company_opts){.alpha = setting_number(s, SETTING_ANALYSIS_THRESHOLD) * COMPANY_ALPHA,
                                 .adopt_ms = (uint64_t)setting_integer(s, SETTING_ANALYSIS_ADOPT_S) * 1000};
}

static void hold_sample(struct watched *t, uint64_t now_ms)
{
    t->held_ms = now_ms;
    if (t->company)
        company_pause(t->company);
}

/* `values` in their units; NaN: not known this time. */
static void end_sample(struct watch *w, struct watched *t, const double *values, uint64_t now_ms)
{
    double scaled[SIGNALS_MOST];
    bool moved = false;
    if (w->held) {
        hold_sample(t, now_ms);
        return;
    }
    t->samples++;
    t->sample_ms = now_ms;
    t->learnt = 0;
    for (unsigned i = 0; i < watch_signals(t->kind); i++) {
        struct series_opts opts = watch_series_opts(w, t->kind, i);
        scaled[i] = in_scale(t->kind, i, values[i]);
        series_add(&t->signals[i], &opts, scaled[i], now_ms);
        moved = moved || t->signals[i].moved;
        if (watch_accumulates(t->kind, i))
            scaled[i] = NAN; /* to its company */
        if (t->signals[i].count > t->learnt)
            t->learnt = t->signals[i].count;
    }
    struct company_opts opts = company_opts(w);
    if (t->company)
        company_add(t->company, &opts, scaled, !moved, now_ms);
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : NAN;
}

/* ---- routes ---- */

/* In their units, in the order of the registry. */
static void route_values(const struct stats_route *r, double span_s, double values[ROUTE_SIGNALS])
{
    double n = (double)r->requests;
    values[ROUTE_RPS] = share(n, span_s);
    values[ROUTE_MEAN_MS] = (double)r->latency_sum_ns / n / 1e6;
    values[ROUTE_P50_MS] = sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, .50) / 1e6;
    values[ROUTE_P95_MS] = sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, .95) / 1e6;
    values[ROUTE_P99_MS] = sketch_quantile_ns(r->latency, SKETCH_BUCKETS, SKETCH_SCALE, .99) / 1e6;
    values[ROUTE_ERROR_RATE] = (double)r->status[5] / n;
    values[ROUTE_REFUSED_RATE] = (double)r->status[4] / n;
    values[ROUTE_ABORTED_RATE] = (double)r->status[0] / n;
    values[ROUTE_BYTES_OUT] = (double)r->bytes_out / n;
    for (int p = 0; p < PHASE_COUNT; p++)
        values[ROUTE_PHASES + p] = (double)r->phase_sum_ns[p] / n / 1e6;
}

static bool is_sample(const struct settings *s, uint64_t requests, double span_s)
{
    return requests >= (uint64_t)setting_integer(s, SETTING_ANALYSIS_SAMPLE_REQUESTS) ||
           span_s >= (double)setting_integer(s, SETTING_ANALYSIS_SAMPLE_S);
}

static void end_route(struct watch *w, struct watched *t, uint64_t now_ms)
{
    double values[ROUTE_SIGNALS];
    route_values(t->open, t->open_s, values);
    t->requests = t->open->requests;
    t->span_s = t->open_s;
    t->errors = t->errors * exp(-t->open_s / ERRORS_S) + (double)t->open->status[5];
    t->busy += BUSY_SMOOTH * (share((double)t->open->latency_sum_ns / 1e9, t->open_s) - t->busy);
    end_sample(w, t, values, now_ms);
    memset(t->open, 0, sizeof *t->open);
    t->open_ms = 0;
    t->open_s = 0;
}

static void watch_routes(struct watch *w, const struct stats_view *view)
{
    const struct settings *s = &w->board->settings;
    for (uint32_t i = 0; i < view->route_count; i++) {
        const struct stats_route *r = &view->routes[i];
        if (r->route >= LANE_ROUTES_MAX)
            continue;
        struct watched *t = w->routes[r->route];
        if (!t && !(t = w->routes[r->route] = thing_new(w, WATCH_ROUTE, r->route)))
            continue;
        stats_route_add(t->open, r);
        if (!t->open_ms)
            t->open_ms = view->from_ms;
    }
    for (uint32_t i = 0; i < LANE_ROUTES_MAX; i++) {
        struct watched *t = w->routes[i];
        if (!t || !t->open_ms)
            continue;
        t->open_s = (double)(view->to_ms - t->open_ms) / 1000;
        if (is_sample(s, t->open->requests, t->open_s))
            end_route(w, t, view->to_ms);
    }
}

/* ---- routes of long ago ---- */

void watch_samples_add(struct watch_samples *s, const struct settings *settings,
                       const struct stats_route *frame, double span_s)
{
    if (!frame->requests && !s->open.requests)
        return; /* a sample begins with a request */
    stats_route_add(&s->open, frame);
    s->open_s += span_s;
    if (!is_sample(settings, s->open.requests, s->open_s))
        return;
    route_values(&s->open, s->open_s, s->values[s->count++ % WATCH_RECALLED]);
    memset(&s->open, 0, sizeof s->open);
    s->open_s = 0;
}

unsigned watch_recall(struct watch *w, uint32_t route, const struct watch_samples *samples)
{
    struct watched *t = route < LANE_ROUTES_MAX ? w->routes[route] : NULL;
    uint32_t n = samples->count, first = n > WATCH_RECALLED ? n - WATCH_RECALLED : 0;
    for (unsigned i = 0; t && i < ROUTE_SIGNALS; i++) {
        struct series_opts opts = watch_series_opts(w, WATCH_ROUTE, i);
        if (series_knows(&t->signals[i], &opts))
            continue;
        for (uint32_t k = first; k < n; k++)
            series_recall(&t->signals[i], in_scale(WATCH_ROUTE, i, samples->values[k % WATCH_RECALLED][i]));
    }
    return t ? n - first : 0;
}

/* ---- pools ---- */

static double p95_ms(const struct stats_route *frame, enum phase phase)
{
    return frame->phase_count[phase] ? sketch_quantile_ns(frame->phases[phase], SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, .95) / 1e6 : NAN;
}

/* `frame`: what it did in the last windows, as in pool_frame.h. */
static void end_pool(struct watch *w, struct watched *t, const struct board_pool *p, const struct stats_route *frame, double span_s, uint64_t now_ms)
{
    double values[POOL_SIGNALS], calls = (double)frame->requests;
    double waits = (double)frame->phase_count[PHASE_POOL_WAIT], uses = (double)frame->phase_count[PHASE_DB];
    uint32_t held = 0, idle = 0;
    for (uint32_t i = 0; i < w->board->workers; i++) {
        held += atomic_load(&p->lanes[i].held);
        idle += atomic_load(&p->lanes[i].idle);
    }
    values[POOLED_CALLS] = share(calls, span_s);
    values[POOLED_WAIT_MS] = share((double)frame->phase_sum_ns[PHASE_POOL_WAIT] / 1e6, waits);
    values[POOLED_WAIT_P95_MS] = p95_ms(frame, PHASE_POOL_WAIT);
    values[POOLED_USE_MS] = share((double)frame->phase_sum_ns[PHASE_DB] / 1e6, uses);
    values[POOLED_USE_P95_MS] = p95_ms(frame, PHASE_DB);
    values[POOLED_BUSY_SHARE] = share(held > idle ? held - idle : 0, pool_max(p));
    values[POOLED_ERROR_RATE] = share((double)frame->status[5], calls);
    values[POOLED_OPENED] = share((double)frame->bytes_in, span_s);
    t->requests = frame->requests;
    t->span_s = span_s;
    end_sample(w, t, values, now_ms);
}

static const struct stats_route *frame_of_pool(const struct watch *w, const struct stats_view *view, const struct board_pool *p)
{
    static const struct stats_route nothing;
    int thing = history_pool(w->history, p->name);
    for (uint32_t i = 0; i < view->pool_count; i++)
        if (view->pools[i].route == (uint32_t)thing)
            return &view->pools[i];
    return &nothing;
}

static void watch_pools(struct watch *w, const struct stats_view *view)
{
    for (uint32_t i = 0; i < POOLS_MAX; i++) {
        const struct board_pool *p = pools_at(&w->board->pools, (int)i);
        uint32_t incarnation = p ? atomic_load(&p->incarnation) : 0;
        if (w->pools[i] && incarnation != w->pool_incarnations[i]) {
            thing_drop(w, w->pools[i]);
            w->pools[i] = NULL;
        }
        if (w->pools[i]) {
            end_pool(w, w->pools[i], p, frame_of_pool(w, view, p), view->span_s, view->to_ms);
        } else if (p) {
            w->pools[i] = thing_new(w, WATCH_POOL, i); /* the window in which it came is no sample */
            w->pool_incarnations[i] = incarnation;
        }
    }
}

/* ---- the host ---- */

static uint64_t counted(struct watch *w, enum counter_id id)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < board_lanes(w->board); i++)
        sum += lane_get(&board_lane(w->board, i)->counters[id]);
    uint64_t since = sum - w->host.counters[id];
    w->host.counters[id] = sum;
    return since;
}

static double known(const struct watch *w, enum resource_id id)
{
    return resource_known(w->resources, id) ? w->resources->value[id] : NAN;
}

/* Memory, CPU time, heaps, lag of the workers. */
static void add_workers(struct watch *w, double *values, double span_s)
{
    double rss = 0, lua = 0, lag = 0, pause = 0, cpu = 0, wait = 0, busy = 0;
    bool whole = true;
    for (uint32_t i = 0; i < w->board->workers; i++) {
        const struct board_process *p = board_worker(w->board, i);
        int32_t pid = atomic_load(&p->pid);
        uint64_t bytes;
        double used, waited;
        if (!pid || !process_rss_bytes("", pid, &bytes) || !process_cpu_s("", pid, &used)) {
            whole = false;
            continue;
        }
        rss += (double)bytes;
        lua += (double)atomic_load(&p->lua_bytes);
        lag = fmax(lag, (double)atomic_load(&p->loop_lag_ns) / 1e6);
        pause = fmax(pause, (double)atomic_load(&p->gc_pause_ns) / 1e6);
        busy = fmax(busy, atomic_load(&w->board->tasks.processes[i].busy_share));
        if (!process_cpu_wait_s("", pid, &waited))
            waited = NAN;
        if (w->host.workers[i].pid == pid) {
            cpu += used - w->host.workers[i].cpu_s;
            wait += fmax(waited - w->host.workers[i].wait_s, 0); /* less, where a thread has ended */
        } else {
            whole = false;
        }
        w->host.workers[i].pid = pid;
        w->host.workers[i].cpu_s = used;
        w->host.workers[i].wait_s = waited;
    }
    values[HOST_RSS_BYTES] = whole ? rss : NAN;
    values[HOST_LUA_BYTES] = whole ? lua : NAN;
    values[HOST_WORKER_CPU] = whole ? share(cpu, span_s) : NAN;
    values[HOST_CPU_WAIT] = whole ? share(wait, span_s) : NAN;
    values[HOST_LOOP_LAG_MS] = lag;
    values[HOST_GC_PAUSE_MS] = pause;
    values[HOST_TASK_BUSY] = busy;
}

static void add_tasks(struct watch *w, double *values)
{
    uint64_t tasks = 0, wait_ns = 0;
    for (uint32_t i = 0; i < w->board->workers; i++)
        for (int kind = 0; kind < TASK_KINDS; kind++)
            for (int priority = 0; priority < TASK_PRIORITIES; priority++) {
                const struct task_lane *lane = &w->board->tasks.processes[i].lanes[kind][priority];
                tasks += lane_get(&lane->done) + lane_get(&lane->failed);
                wait_ns += lane_get(&lane->wait_sum_ns);
            }
    double n = (double)(tasks - w->host.tasks);
    values[HOST_TASK_WAIT_MS] = n > 0 ? (double)(wait_ns - w->host.task_wait_ns) / n / 1e6 : NAN;
    w->host.tasks = tasks;
    w->host.task_wait_ns = wait_ns;
}

static void watch_host(struct watch *w, const struct stats_view *view)
{
    struct watched *t = w->things[0];
    double values[HOST_SIGNALS];
    struct stats_route *all = t->open ? t->open : (t->open = calloc(1, sizeof *all));
    if (!all)
        return;
    memset(all, 0, sizeof *all);
    for (uint32_t i = 0; i < view->route_count; i++)
        stats_route_add(all, &view->routes[i]);
    double n = (double)all->requests;
    values[HOST_RPS] = share(n, view->span_s);
    values[HOST_MEAN_MS] = n > 0 ? (double)all->latency_sum_ns / n / 1e6 : NAN;
    values[HOST_P95_MS] = n > 0 ? sketch_quantile_ns(all->latency, SKETCH_BUCKETS, SKETCH_SCALE, .95) / 1e6 : NAN;
    values[HOST_ERROR_RATE] = share((double)all->status[5], n);
    values[HOST_IN_FLIGHT] = (double)view->host.in_flight;
    values[HOST_CONNECTIONS] = (double)view->host.connections_open;
    values[HOST_CPU_SHARE] = known(w, RESOURCE_CPU_SHARE);
    values[HOST_STEAL] = known(w, RESOURCE_CPU_STEAL);
    values[HOST_THROTTLED] = known(w, RESOURCE_CPU_THROTTLED);
    values[HOST_MEMORY_SHARE] = known(w, RESOURCE_MEMORY_SHARE);
    values[HOST_DISK_SHARE] = known(w, RESOURCE_DISK_SHARE);
    add_workers(w, values, view->span_s);
    double hits = (double)(counted(w, COUNTER_CACHE_HITS) + counted(w, COUNTER_CACHE_STALE) + counted(w, COUNTER_CACHE_COLLAPSED));
    double lookups = hits + (double)counted(w, COUNTER_CACHE_MISSES);
    values[HOST_CACHE_LOOKUPS] = share(lookups, view->span_s);
    values[HOST_CACHE_HIT_RATIO] = lookups >= 5 ? hits / lookups : NAN;
    values[HOST_LIMITED] = share((double)(counted(w, COUNTER_LIMIT_REFUSED) + counted(w, COUNTER_RATE_REFUSED)), view->span_s);
    add_tasks(w, values);
    t->requests = all->requests;
    t->span_s = view->span_s;
    if (w->ticks)
        end_sample(w, t, values, view->to_ms);
}

/* ---- the tick ---- */

void watch_tick(struct watch *w, uint64_t now_unix_ms)
{
    struct stats_view view;
    double began = clock_cpu_ms();
    if (!history_after(w->history, w->seen_ms ? w->seen_ms : now_unix_ms, &view))
        return;
    if (!w->seen_ms) {
        w->seen_ms = now_unix_ms;
    } else if (view.to_ms > w->seen_ms) {
        w->seen_ms = view.to_ms;
        w->held = view.to_ms < w->held_until_ms;
        watch_routes(w, &view);
        watch_pools(w, &view);
        watch_host(w, &view);
        if (!w->held)
            companies_tick(&w->companies, w->things, w->count);
        w->ticks += !w->held;
        w->last_ms = clock_cpu_ms() - began;
        w->sum_ms += w->last_ms;
    }
    stats_view_free(&view);
}

void watch_hold(struct watch *w, uint64_t until_unix_ms)
{
    w->held_until_ms = until_unix_ms;
}

void watch_cost(const struct watch *w, struct watch_cost *out)
{
    *out = (struct watch_cost){.bytes = sizeof *w, .fits = w->companies.fits, .fit_ms = w->companies.fit_ms, .ticks = w->ticks, .tick_ms = w->last_ms};
    out->mean_ms = w->ticks ? w->sum_ms / (double)w->ticks : 0;
    for (unsigned i = 0; i < w->count; i++) {
        const struct watched *t = w->things[i];
        out->bytes += sizeof *t + watch_signals(t->kind) * (size_t)w->ring * sizeof(float) + (t->open ? sizeof *t->open : 0);
        out->companies += t->company != NULL;
        out->company_bytes += t->company ? company_bytes(t->company) : 0;
    }
    out->bytes += out->company_bytes;
}
