/* residual.h - how much of a sample the usual correlations do not explain.
 *
 * Signals of a healthy service move together. The model keeps the directions
 * that hold most of the variance of a clean training set (PCA); what is left
 * of a new sample outside of them is its residual (the Q or SPE statistic).
 * The same matrix, shrunk towards a multiple of the identity, gives the
 * Mahalanobis distance, which also sees a sample that is far out along a usual
 * direction.
 *
 * Columns are standardised (spread floored, values clipped) before; a NaN
 * counts as the column's mean. A constant column has the floor as spread.
 *
 * Source:  Jackson, Mudholkar: Control procedures for residuals associated
 *          with principal component analysis, 1979. Ledoit, Wolf: A
 *          well-conditioned estimator for large covariance matrices, 2004.
 * Owner:   whoever called residual_fit(); ends with residual_free().
 * Threads: scoring changes nothing: any number at once, each with its work.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

#include <stdbool.h>

struct residual;

struct residual_opts {
    double keep;   /* share of the variance that is explained; 0: 0.95 */
    double floor;  /* least spread of a column, in its unit; 0: 0.01 */
    double clip;   /* most spreads a value counts; 0: 10 */
    double shrink; /* share of the identity in the covariance; 0: chosen (Ledoit-Wolf) */
};

struct residual_score {
    double residual;    /* sum of squares outside the kept directions */
    double mahalanobis; /* squared distance from the mean */
};

/* Learns from rows of clean samples. 0, ERR_INVAL (no rows or columns),
 * ERR_TOO_LARGE (more than 1024 columns) or ERR_NOMEM. */
int residual_fit(struct residual **out, const struct mat *train, const struct residual_opts *opts);
void residual_free(struct residual *r);

size_t residual_cols(const struct residual *r);
size_t residual_kept(const struct residual *r); /* directions */

size_t residual_bytes(const struct residual *r);

/* The standardised row: z[cols]. */
void residual_standardize(const struct residual *r, const double *row, double *z);

/* Scores a row; work holds cols doubles and gets the standardised row. */
struct residual_score residual_of(const struct residual *r, const double *row, double *work);

/* Whose it is: parts[cols] add up to residual_of()'s residual or, `whole`, to its Mahalanobis
 * distance; of that, a part below 0 is a column that makes the others less odd. False: no memory. */
bool residual_parts(const struct residual *r, const double *row, bool whole, double *parts);
