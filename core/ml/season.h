/* season.h - which period does a series repeat with?
 *
 * The autocorrelation of the series without its line peaks at its period and at
 * the multiples; the lowest peak that comes near the highest is taken. A weak
 * one (see `least`) is none: forecasts are then better off without.
 *
 * Source:  Hyndman, Athanasopoulos: Forecasting, principles and practice, 2.8.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

enum { SEASON_SAMPLES = 4096, SEASON_MOST = 1024 };

struct season {
    size_t period;   /* in samples; 0: none */
    double strength; /* autocorrelation at the period, 0 to 1 */
};

/* Looks at the last SEASON_SAMPLES, for periods from 2 to a third of the series and at most
 * SEASON_MOST. `least`: autocorrelation needed; 0: 0.3. 0 or ERR_NOMEM. */
int season_find(const double *x, size_t n, double least, struct season *out);

enum { SEASON_CANDIDATES = 3 };

/* The same, and what else it may be: a shorter season within it (the day in the week) and the
 * highest peak of all. Fills out[] with at most SEASON_CANDIDATES different ones, the one of
 * season_find() first. Returns how many, or ERR_NOMEM. */
int season_candidates(const double *x, size_t n, double least,
                      struct season out[SEASON_CANDIDATES]);

/* Lag-k autocorrelation around the mean; pairs with a sample that is not finite are left out. */
double autocorrelation(const double *x, size_t n, size_t lag);
