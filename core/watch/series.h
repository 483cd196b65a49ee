/* series.h - one signal: what is usual, and whether it has left that.
 *
 * What is usual are the last `size` samples that were not remarkable, so it follows
 * a day's curve and is not spoilt by what it shall find. A sample is remarkable when
 * it ranks among the share alpha of them at one end (the conformal p-value, which
 * asks nothing of their distribution) and lies three spreads (MAD) beyond their
 * median, the spread being at least the signal's floor. Three of four such samples
 * mean that the signal has moved, at most one that it is back. A signal
 * that stays away for long is learnt anew: then that is what is usual.
 *
 * Source:  Laxhammar, Falkman: Sequential conformal anomaly detection in
 *          trajectories, 2011. Hampel: The influence curve and its role in robust
 *          estimation, 1974 (MAD).
 * Owner:   whoever called series_init(); ends with series_done().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SERIES_RECENT = 4 };

struct series {
    float *ring;
    uint32_t size, count, next;
    float median, spread;    /* of the ring */
    uint32_t stale;          /* samples since they were taken */
    float recent[SERIES_RECENT]; /* the last samples; NaN: none */
    uint32_t recent_next;
    float p;                 /* of the last sample, the lesser of both ends */
    signed char moved;       /* 1 up, -1 down, 0 as usual */
    unsigned char up, down;  /* bits: the last samples were remarkable */
    uint64_t moved_ms;       /* when it left */
};

struct series_opts {
    double alpha;      /* 0 to 1 */
    double floor;      /* least spread */
    uint32_t least;    /* samples to learn from first */
    uint64_t adopt_ms; /* away for so long: learn anew */
};

/* Keeps `size` samples. False: no memory. */
bool series_init(struct series *s, uint32_t size);
void series_done(struct series *s);

/* A sample in the signal's scale; NaN: it has none this time. */
void series_add(struct series *s, const struct series_opts *opts, double x, uint64_t now_ms);

/* A sample of long ago: it is learnt as usual and judged by nobody. */
void series_recall(struct series *s, double x);

/* Mean of the last samples; NaN: there are none. */
double series_recent(const struct series *s);

/* Whether it has learnt enough to be judged. */
bool series_knows(const struct series *s, const struct series_opts *opts);
