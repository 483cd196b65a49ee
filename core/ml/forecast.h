/* forecast.h - the next values of a series, with intervals, or that it cannot tell.
 *
 *      damped Holt          level + a trend that fades
 *      Holt-Winters         the same + a season
 *      combined             the mean of these two
 *      seasonal naive       what was one season ago (or just now): the fallback
 *
 * The parameters, and which of the methods to believe, are chosen by what is
 * asked for: the mean absolute error over the horizon, from many origins in the
 * later half of the series, each knowing only what was before. The same errors,
 * step by step, give the intervals. A forecast that does not beat seasonal naive
 * is not worth showing: `beats` is false then, and the path is the naive one.
 *
 * Updates are clipped where a sample is a surprise, so an outlier does not drag
 * level and season along; a sample that is not finite is skipped.
 *
 * Source:  Gardner, McKenzie: Forecasting trends in time series, Management
 *          Science 31, 1985. Gelper, Fried, Croux: Robust forecasting with
 *          exponential and Holt-Winters smoothing, J. Forecasting 29, 2010.
 *          Hyndman, Koehler: Another look at measures of forecast accuracy, 2006.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { FORECAST_SAMPLES = 4096, FORECAST_STEPS = 512, FORECAST_ORIGINS = 64 };

enum forecast_method { FORECAST_NAIVE, FORECAST_HOLT, FORECAST_HOLT_WINTERS, FORECAST_COMBINED };
const char *forecast_method_name(enum forecast_method m);

struct forecast_opts {
    size_t steps;    /* horizon, 1 to FORECAST_STEPS */
    size_t period;   /* season in samples; 0: found by autocorrelation; 1: none */
    double coverage; /* of the intervals; 0: 0.9 */
};

struct forecast_step {
    double value, lo, hi;
};

struct forecast {
    enum forecast_method method;
    bool beats;     /* seasonal naive, on the series' own past */
    double mase;    /* mean absolute error there / that of seasonal naive; NaN: too short to tell */
    size_t period;  /* used; 1: none */
    size_t origins; /* it was tried from */
    double alpha, beta, gamma, phi; /* of level, trend, season; damping. 0 when not used; of a
                                     * combination, Holt-Winters' */
};

/* Fills steps[opts->steps] from the last FORECAST_SAMPLES of x. Without two finite samples all of
 * it is NaN. 0; ERR_INVAL: a horizon outside of its range; ERR_NOMEM. */
int forecast_make(const double *x, size_t n, const struct forecast_opts *opts, struct forecast *out,
                  struct forecast_step *steps);

struct forecast_crossing {
    bool crosses;    /* within the horizon */
    size_t expected; /* step (1 is the next) at which the value reaches it; 0: not within the
                        horizon */
    size_t soonest;  /* at which the interval does; 0: not within the horizon */
    size_t latest;   /* from which on all of the interval has; 0: not within the horizon */
};

/* When the forecast reaches a threshold; `rising`: from below. */
struct forecast_crossing forecast_crossing(const struct forecast_step *steps, size_t count,
                                           double threshold, bool rising);

/* Mean absolute error of a forecast / the mean absolute one-season difference of its past. NaN
 * when either has no finite pair. */
double forecast_mase(const double *past, size_t n, size_t period, const double *actual,
                     const struct forecast_step *steps, size_t count);
