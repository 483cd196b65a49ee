// SPDX-License-Identifier: MIT
#include "ml/mat.h"

#include "base/err.h"

int mat_new(struct mat *out, size_t rows, size_t cols)
{
    size_t count;
    *out = (struct mat){0};
    if (cols > MAT_COLS_MOST || __builtin_mul_overflow(rows, cols, &count) ||
        count > SIZE_MAX / 2 / sizeof(double))
        return ERR_TOO_LARGE;
    double *v = calloc(count + !count, sizeof *v);
    if (!v)
        return ERR_NOMEM;
    *out = (struct mat){rows, cols, v};
    return 0;
}

void mat_free(struct mat *m)
{
    free(m->v);
    *m = (struct mat){0};
}
