// SPDX-License-Identifier: MIT
#include "board/limiter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW = 2, MANY = 4 }; /* alpha and beta of Vegas, in units of log10(limit) */

static const double RTT0_QUANTILE = 0.05, PEAKS = 3, BRAKE = 0.9, BRAKE_LEAST_US = 1000;

struct limiter *limiter_get(struct limiters *all, uint64_t key, const struct limiter_opts *opts)
{
    for (int i = 0; i < LIMITER_CLASSES; i++) {
        struct limiter *l = &all->classes[i];
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&l->key, &there, key)) {
            snprintf(l->name, sizeof l->name, "%s", opts->name);
            atomic_store(&l->limit, opts->initial);
            there = key;
        }
        if (there != key)
            continue;
        atomic_store(&l->least, opts->least);
        atomic_store(&l->most, opts->most);
        atomic_store(&l->adaptive, opts->adaptive);
        if (!opts->adaptive)
            atomic_store(&l->limit, opts->most);
        return l;
    }
    return NULL;
}

uint32_t limiter_inflight(const struct limiter *l, uint32_t workers)
{
    uint32_t sum = 0;
    for (uint32_t w = 0; w < workers; w++)
        sum += atomic_load_explicit(&l->lanes[w].inflight, memory_order_relaxed);
    return sum;
}

void limiters_forget_worker(struct limiters *all, uint32_t worker)
{
    for (int i = 0; i < LIMITER_CLASSES; i++)
        atomic_store(&all->classes[i].lanes[worker].inflight, 0);
}

/* ---- one step ---- */

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* What a request takes when nothing waits, as far as it was ever seen. */
static double rtt0(const struct limiter_memory *m)
{
    float sorted[LIMITER_HISTORY];
    uint32_t n = m->mean_count < LIMITER_HISTORY ? m->mean_count : LIMITER_HISTORY;
    memcpy(sorted, m->means, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    return n ? sorted[(uint32_t)(RTT0_QUANTILE * (n - 1))] : 0;
}

static void remember(struct limiter_memory *m, const struct limiter_window *w)
{
    m->means[m->mean_count++ % LIMITER_HISTORY] = (float)w->rtt_us;
    m->peaks[m->recent_count % LIMITER_RECENT] = (float)w->peak;
    m->done[m->recent_count++ % LIMITER_RECENT] = (float)w->finished;
}

static double highest_peak(const struct limiter_memory *m)
{
    float most = 0;
    for (uint32_t i = 0; i < LIMITER_RECENT; i++)
        most = fmaxf(most, m->peaks[i]);
    return most;
}

/* Whether more under way has gone with less done: the sign of their correlation. */
static bool is_congested(const struct limiter_memory *m)
{
    uint32_t n = m->recent_count < LIMITER_RECENT ? m->recent_count : LIMITER_RECENT;
    double peak = 0, done = 0, together = 0;
    if (n < LIMITER_SAMPLES)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        peak += m->peaks[i];
        done += m->done[i];
    }
    for (uint32_t i = 0; i < n; i++)
        together += (m->peaks[i] - peak / n) * (m->done[i] - done / n);
    return together < 0;
}

static double clamp(double value, double least, double most)
{
    return value < least ? least : value > most ? most : value;
}

double limiter_step(struct limiter_memory *m, const struct limiter_window *w, uint32_t least, uint32_t most)
{
    double limit = m->limit;
    m->settled++;
    if (w->finished < LIMITER_SAMPLES || m->settled < 2) /* the first window holds what came before the change */
        return limit;
    remember(m, w);
    double step = fmax(1, log10(limit));
    double waiting = limit * (1 - fmin(1, rtt0(m) / w->rtt_us));
    if (w->lag_us > fmax(BRAKE_LEAST_US, w->rtt_us / 2))
        limit *= BRAKE;
    else if (waiting > MANY * step)
        limit -= step;
    else if (waiting < FEW * step && w->peak > limit / 2 && !is_congested(m))
        limit += step;
    limit = fmin(limit, fmax(least, PEAKS * highest_peak(m)));
    limit = clamp(limit, least, most);
    if (limit != m->limit)
        m->settled = 0;
    m->limit = limit;
    return limit;
}

/* ---- all classes ---- */

static struct limiter_window look(struct limiter *l, struct limiter_memory *m, uint32_t workers)
{
    uint64_t finished = 0, latency_us = 0, lag_us = 0;
    struct limiter_window w = {0};
    for (uint32_t i = 0; i < workers; i++) {
        struct limiter_lane *lane = &l->lanes[i];
        finished += atomic_load_explicit(&lane->finished, memory_order_relaxed);
        latency_us += atomic_load_explicit(&lane->latency_us, memory_order_relaxed);
        lag_us += atomic_load_explicit(&lane->lag_us, memory_order_relaxed);
        w.peak += atomic_exchange_explicit(&lane->peak, 0, memory_order_relaxed);
    }
    w.finished = (uint32_t)(finished - m->finished);
    if (w.finished) {
        w.rtt_us = fmax(1, (double)(latency_us - m->latency_us) / w.finished);
        w.lag_us = (double)(lag_us - m->lag_us) / w.finished;
    }
    m->finished = finished;
    m->latency_us = latency_us;
    m->lag_us = lag_us;
    return w;
}

void limiters_tick(struct limiters *all, struct limiter_memory *memory, uint32_t workers)
{
    for (int i = 0; i < LIMITER_CLASSES && atomic_load(&all->classes[i].key); i++) {
        struct limiter *l = &all->classes[i];
        struct limiter_memory *m = &memory[i];
        struct limiter_window w = look(l, m, workers);
        if (!atomic_load(&l->adaptive))
            continue;
        m->limit = m->limit > 0 ? m->limit : atomic_load(&l->limit);
        double limit = limiter_step(m, &w, atomic_load(&l->least), atomic_load(&l->most));
        atomic_store(&l->limit, (uint32_t)limit);
        atomic_store(&l->rtt0_us, (uint32_t)rtt0(m));
    }
}
