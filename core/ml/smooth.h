/* smooth.h - moving averages: exponential, and over a window.
 *
 * Source:  Brown: Smoothing, forecasting and prediction of discrete time
 *          series, 1963. Zumbach, Müller: Operators on inhomogeneous time
 *          series, 2001 (for uneven steps).
 * Owner:   the caller; plain memory, nothing to free.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

struct ewma {
    double span; /* time constant, in the unit of the steps: a step's weight falls to 1/e over it */
    double mean; /* NaN before the first sample */
    double variance;
};

void ewma_init(struct ewma *e, double span);

/* A sample that is `step` after the one before (1 for even ones). One that is not finite
 * changes nothing. Returns the mean. */
double ewma_add(struct ewma *e, double x, double step);

/* out[i] = the mean of the finite samples among the last `window` up to i; NaN when there are
 * none. Linear time; out must not be x. */
void moving_average(const double *x, size_t n, size_t window, double *out);
