/* changepoint.h - when did a series change its level or its spread?
 *
 * PELT: the segmentation with the least sum of Gaussian costs
 * (length x log variance) plus a penalty per change, exactly. The usual penalty
 * assumes independent samples and finds changes everywhere in latencies; here
 * it is 5 log n (1 + r)/(1 - r), r being the lag-1 autocorrelation of what the
 * segments leave over, found in three passes that start from independence.
 *
 * A series above CHANGEPOINT_SAMPLES is cut into so many blocks and their means
 * are looked at, so time and memory are bounded; a change is then known to a
 * block. Samples that are not finite are left out.
 *
 * Source:  Killick, Fearnhead, Eckley: Optimal detection of changepoints with a
 *          linear computational cost, JASA 107, 2012.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

enum { CHANGEPOINT_SAMPLES = 4096 };

struct changepoint_opts {
    double penalty;   /* factor of log n; 0: 5 */
    unsigned passes;  /* 0: 3 */
    unsigned segment; /* least samples between changes; 0: 5 */
    double r_most;    /* the autocorrelation counts at most so much; 0: 0.95 */
};

struct changepoint {
    size_t at; /* index of the first sample after the change */
    double mean_before, mean_after;
    double sd_before, sd_after;
    double weight; /* cost without this change minus cost with it, in penalties: above 1 */
};

struct changepoint_report {
    size_t count; /* of changes found, even those beyond `most` */
    size_t used;  /* finite samples */
    double r;     /* autocorrelation the last penalty was made from */
    double penalty;
};

/* Fills the first `most` changes in order of time. 0 or ERR_NOMEM. */
int changepoint_find(const double *x, size_t n, const struct changepoint_opts *opts,
                     struct changepoint *out, size_t most, struct changepoint_report *report);
