/* experiment.h - may a difference between a canary and its control be called real?
 *
 * A paired difference-in-differences: each window gives one value per arm (the
 * log of a latency, of CPU per request, ...; smaller is better), their
 * difference removes what moves both, and the mean difference of the windows
 * before the change removes what always was between them. The test is a
 * mixture sequential probability ratio test, so it may be looked at after every
 * window without spending its error budget, and so may its confidence sequence.
 *
 * Windows of a service are not independent: the variance is that of the
 * windows before the change times (1 + r)/(1 - r), r being their lag-1
 * autocorrelation plus an inflation for its own uncertainty. Where r is too
 * high for that (`usable` is false), only harm is called; use switchback.h.
 *
 * Source:  Johari, Koomen, Pekelis, Walsh: Always valid inference, Operations
 *          Research 70(3), 2022. Robbins: Statistical methods related to the
 *          law of the iterated logarithm, 1970.
 * Owner:   the caller; plain memory, nothing to free.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>

enum experiment_verdict {
    EXPERIMENT_RUNNING,
    EXPERIMENT_BETTER,       /* real, and at least the least effect worth having */
    EXPERIMENT_WORSE,        /* real harm: roll back */
    EXPERIMENT_NO_EFFECT,    /* at the horizon, and harm is excluded */
    EXPERIMENT_INCONCLUSIVE, /* at the horizon, and harm is not excluded */
};
const char *experiment_verdict_name(enum experiment_verdict v);

struct experiment_opts {
    double alpha;     /* share of changes without effect that may be called one; 0: 0.05 */
    double tau;       /* spread of the effects expected, in log units; 0: 0.10 */
    double mde;       /* least improvement that is called better; 0: 0.03 */
    double harm;      /* harm that "no effect" must exclude; 0: 0.02 */
    double inflation; /* added to the autocorrelation; 0: 0.10 */
    double r_usable;  /* autocorrelation (not inflated, bias removed) above which the test does not
                         suit; 0: 0.8 */
    double sd_floor;  /* least spread of a window: the metric's resolution; 0: 0.005 */
    unsigned before;  /* windows before the change that are needed; 0: 24 */
    unsigned least;   /* windows before a verdict; 0: 12 */
    unsigned most;    /* horizon in windows; 0: 120 */
};

struct experiment_result {
    enum experiment_verdict verdict;
    bool usable;        /* enough windows before, and not too autocorrelated */
    double estimate;    /* of the effect in log units: -0.10 is 10 % less */
    double lo, hi;      /* covers the effect at all times together with probability 1 - alpha */
    double lambda;      /* likelihood ratio; real from 1/alpha on */
    double r;           /* autocorrelation used, inflated */
    double sd;          /* long-run spread of one window */
    unsigned n, before; /* windows that counted */
};

/* Sums of a series: mean, variance and lag-1 autocorrelation in constant memory. */
struct experiment_sums {
    unsigned n;
    double shift, sum, squares, products; /* of values minus the first */
    double last;
};

struct experiment {
    struct experiment_opts opts;
    struct experiment_sums before, after;
    struct experiment_result result;
};

void experiment_init(struct experiment *e, const struct experiment_opts *opts);

/* A window before the change. One with a NaN or an infinity does not count,
 * and neither does one that comes after the first experiment_add(). */
void experiment_before(struct experiment *e, double canary, double control);

/* A window after it. Returns the verdict so far; once there is one it stays,
 * with the figures that led to it. */
enum experiment_verdict experiment_add(struct experiment *e, double canary, double control);
