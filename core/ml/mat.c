// SPDX-License-Identifier: MIT
#include "ml/mat.h"

#include "base/err.h"

#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, HUGE_FROM = 4 << 20 };

/* Zeroes. Large ones lie on huge pages where the system has them: kernels that draw rows
 * at random would else wait for the page tables more than for the rows. */
static double *allocate(size_t bytes)
{
    if (bytes < HUGE_FROM)
        return calloc(1, bytes + !bytes);
    size_t whole = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    double *v = aligned_alloc(HUGE_PAGE, whole);
    if (!v)
        return NULL;
    madvise(v, whole, MADV_HUGEPAGE);
    return memset(v, 0, whole);
}

int mat_new(struct mat *out, size_t rows, size_t cols)
{
    size_t count;
    *out = (struct mat){0};
    if (cols > MAT_COLS_MOST || __builtin_mul_overflow(rows, cols, &count) ||
        count > SIZE_MAX / 2 / sizeof(double))
        return ERR_TOO_LARGE;
    double *v = allocate(count * sizeof *v);
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
