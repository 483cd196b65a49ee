/* mat.h - a matrix of doubles, rows are samples: the shape all kernels take.
 *
 * Plain and row-major, so that a slice of rows is a matrix again. Kernels
 * never free or resize what they are given.
 *
 * Owner:   whoever called mat_new(); ends with mat_free(). Views own nothing.
 * Threads: as of its owner.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct mat {
    size_t rows, cols;
    double *v;
};

enum { MAT_COLS_MOST = 65536 };

/* Zeroes of a shape. 0, or ERR_NOMEM; ERR_TOO_LARGE when the product overflows. */
int mat_new(struct mat *out, size_t rows, size_t cols);
void mat_free(struct mat *m);

static inline double *mat_row(const struct mat *m, size_t row)
{
    return m->v + row * m->cols;
}

/* Rows [from, to) of m, sharing its memory. */
static inline struct mat mat_rows(const struct mat *m, size_t from, size_t to)
{
    return (struct mat){to - from, m->cols, m->v + from * m->cols};
}
