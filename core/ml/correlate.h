/* correlate.h - do two series move together, and which one first?
 *
 * Pearson for a linear link, Spearman (on ranks) for any rising or falling one
 * and for data with outliers, and both with one series moved in time. The p-value
 * counts as many samples as are independent: two series that both remember look
 * linked by accident (Bartlett's correction by their lag-1 autocorrelations).
 * Pairs with a value that is not finite are left out.
 *
 * Source:  Bartlett: On the theoretical specification of sampling properties of
 *          autocorrelated time series, JRSS-B 8, 1946.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct correlation {
    double r; /* -1 to 1; 0 when a series is constant or fewer than 3 pairs are left */
    double p; /* two-sided, of no link */
    size_t n; /* pairs used */
    long lag; /* y follows x by so many samples; negative: x follows y */
};

/* 0 or ERR_NOMEM. `ranks`: Spearman instead of Pearson. */
int correlate(const double *x, const double *y, size_t n, bool ranks, struct correlation *out);

/* The strongest (largest |r|) of all lags up to `most` (and n / 2) either way; its p is multiplied
 * by the number of lags. Time n x lags. 0 or ERR_NOMEM. */
int correlate_lagged(const double *x, const double *y, size_t n, size_t most, bool ranks,
                     struct correlation *out);
