/* kmeans.h - groups of rows that are alike.
 *
 * Centres are seeded by k-means++ (each next one far from those before), moved by
 * Lloyd's steps until no more than a thousandth changes hands or the steps are
 * used up, and the best of some starts is kept. The distance to all centres is one
 * block of products in single precision: rows are taken one after the other, eight
 * centres side by side.
 *
 * How many groups there are is the k of the best mean silhouette; a set that no k
 * splits well (silhouette below 0.25) is one group.
 *
 * A NaN or infinity counts as its column's mean. Scale the columns before, or the one
 * with the largest numbers decides alone. Same seed, same groups.
 *
 * Source:  Arthur, Vassilvitskii: k-means++, SODA 2007. Lloyd: Least squares
 *          quantization in PCM, 1982. Rousseeuw: Silhouettes, 1987.
 * Owner:   whoever called kmeans_fit(); ends with kmeans_free().
 * Threads: a result is only read: any number at once.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

struct kmeans {
    size_t k, cols;
    float *centers;    /* k x cols */
    uint32_t *group;   /* of each row of the training, 0 to k - 1 */
    size_t *sizes;     /* rows of each group */
    double inertia;    /* sum of squared distances */
    double silhouette; /* mean, -1 to 1; NaN for one group */
    unsigned steps;    /* Lloyd's steps of the start that was kept */
    double step_s;     /* time of one of them */
};

struct kmeans_opts {
    size_t k;        /* groups, 1 to 256; 0: chosen, 1 to k_most */
    size_t k_most;   /* 0: 8 */
    unsigned steps;  /* at most; 0: 100 */
    unsigned starts; /* 0: 3 */
    uint64_t seed;
};

/* 0, ERR_INVAL (no rows or columns, k above the number of rows), ERR_TOO_LARGE or ERR_NOMEM. */
int kmeans_fit(struct kmeans **out, const struct mat *rows, const struct kmeans_opts *opts);
void kmeans_free(struct kmeans *m);

/* The group of a row of as many columns, and its distance from the centre if asked for. */
uint32_t kmeans_group(const struct kmeans *m, const double *row, double *distance);

/* Mean silhouette of a grouping, over at most 1,000 of the rows. NaN for one group. */
double kmeans_silhouette(const struct kmeans *m, const struct mat *rows, uint64_t seed);
