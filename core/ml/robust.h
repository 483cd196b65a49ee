/* robust.h - location, spread, volatility and growth that outliers do not move.
 *
 * Medians in linear time. Samples that are not finite are left out everywhere;
 * with none left an answer is NaN.
 *
 * Source:  Rousseeuw, Croux: Alternatives to the median absolute deviation,
 *          JASA 88, 1993.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

/* The q-quantile (0 to 1) of v[n], between two values linearly; reorders v. */
double robust_quantile(double *v, size_t n, double q);

/* Copies the finite samples of x to v and returns how many. */
size_t robust_finite(const double *x, size_t n, double *v);

struct robust_level {
    size_t n;      /* finite samples */
    double median; /* NaN without any */
    double spread; /* 1.4826 x median absolute deviation: the sd of normal samples */
};

/* `work` holds n doubles. */
struct robust_level robust_level(const double *x, size_t n, double *work);

/* The sd of a step: what changes from sample to sample, free of slow drift. In the unit of x;
 * a random walk's is that of its steps, white noise's is sqrt(2) times its sd. Work: n. */
double robust_volatility(const double *x, size_t n, double *work);

/* Relative change from the median of the `window` samples before the last `window` to theirs: 0.10
 * is 10 % more. NaN when there are fewer than 2 windows or the earlier median is not above 0. */
double robust_growth(const double *x, size_t n, size_t window, double *work);
