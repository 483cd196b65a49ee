/* forest.h - isolation forest: what few random cuts set apart is unusual.
 *
 * Each tree splits a small random sample of the rows at random places until rows
 * stand alone; the shorter the mean path of a row over all trees, the more it is
 * an outlier. Trees have at most 8 levels (a sample of 256) and are kept
 * complete, so a walk is eight steps without a branch, and the walks of eight rows
 * hide each other's waits.
 *
 * A NaN counts as its column's mean over the samples. Same seed, same forest.
 *
 * Source:  Liu, Ting, Zhou: Isolation Forest, ICDM 2008.
 * Owner:   whoever called forest_fit(); ends with forest_free().
 * Threads: scoring changes nothing: any number at once.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

struct forest;

struct forest_opts {
    uint32_t trees;  /* 1 to 10000; 0: 100 */
    uint32_t sample; /* rows a tree is made of, 2 to 256; 0: 256 */
    uint64_t seed;
};

/* Learns from rows (samples x columns). 0, ERR_INVAL (no rows or columns, options out of
 * bounds), ERR_TOO_LARGE (more than MAT_COLS_MOST columns) or ERR_NOMEM. */
int forest_fit(struct forest **out, const struct mat *train, const struct forest_opts *opts);
void forest_free(struct forest *f);

size_t forest_cols(const struct forest *f);

/* Scores rows: out[rows], 0 to 1; about 0.5 is ordinary, towards 1 isolated. The matrix
 * has as many columns as that of the training. 0 or ERR_INVAL, ERR_NOMEM. */
int forest_score(const struct forest *f, const struct mat *rows, double *out);

/* The same for one row, one step after the other: what forest_score() is tested against. */
double forest_score_one(const struct forest *f, const double *row);
