// SPDX-License-Identifier: MIT
#include "ml/correlate.h"

#include "base/err.h"

#include <math.h>
#include <stdlib.h>

struct ranked {
    double value;
    size_t at;
};

static int ascending(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->value, y = ((const struct ranked *)b)->value;
    return x < y ? -1 : x > y;
}

/* v[n] becomes its ranks, ties their mean. */
static void to_ranks(double *v, size_t n, struct ranked *work)
{
    for (size_t i = 0; i < n; i++)
        work[i] = (struct ranked){v[i], i};
    qsort(work, n, sizeof *work, ascending);
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && work[j].value == work[i].value;)
            j++;
        for (size_t k = i; k < j; k++)
            v[work[k].at] = (double)(i + j - 1) / 2;
    }
}

/* v[n] becomes mean 0 and largest 1; false when it is constant. Returns its lag-1 autocorrelation
 * in *r1. */
static bool standardize(double *v, size_t n, double *r1)
{
    double most = 0, mean = 0, products = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(v[i]));
    for (size_t i = 0; i < n && most > 0; i++)
        mean += (v[i] /= most) / (double)n;
    for (size_t i = 0; i < n; i++) {
        v[i] -= mean;
        squares += v[i] * v[i];
        products += i ? v[i] * v[i - 1] : 0;
    }
    *r1 = squares > 0 ? products / squares : 0;
    return squares > 1e-24 * (double)n;
}

/* x and y are overwritten; both are finite. */
static void relate(double *x, double *y, size_t n, struct correlation *out)
{
    double rx, ry, xx = 0, yy = 0, xy = 0;
    bool varies = n >= 3;
    varies = standardize(x, n, &rx) && varies;
    varies = standardize(y, n, &ry) && varies;
    if (!varies)
        return;
    for (size_t i = 0; i < n; i++) {
        xx += x[i] * x[i];
        yy += y[i] * y[i];
        xy += x[i] * y[i];
    }
    out->r = fmin(1, fmax(-1, xy / sqrt(xx * yy)));
    double both = fmin(0.99, fmax(0, rx * ry)), independent = (double)n * (1 - both) / (1 + both);
    double z = atanh(fmin(fabs(out->r), 1 - 1e-12)) * sqrt(fmax(0, independent - 3));
    out->p = erfc(z / sqrt(2));
}

struct pairs {
    double *x, *y;
    struct ranked *work;
};

/* y[i + lag] beside x[i]. */
static struct correlation at_lag(struct pairs *p, const double *x, const double *y, size_t n,
                                 long lag, bool ranks)
{
    struct correlation c = {0, 1, 0, lag};
    size_t from_x = lag < 0 ? (size_t)-lag : 0, from_y = lag > 0 ? (size_t)lag : 0;
    for (size_t i = 0; i + from_x + from_y < n; i++)
        if (isfinite(x[from_x + i]) && isfinite(y[from_y + i])) {
            p->x[c.n] = x[from_x + i];
            p->y[c.n++] = y[from_y + i];
        }
    if (ranks) {
        to_ranks(p->x, c.n, p->work);
        to_ranks(p->y, c.n, p->work);
    }
    relate(p->x, p->y, c.n, &c);
    return c;
}

int correlate_lagged(const double *x, const double *y, size_t n, size_t most, bool ranks,
                     struct correlation *out)
{
    struct pairs p;
    p.x = malloc((n + 1) * (2 * sizeof(double) + sizeof *p.work));
    if (!p.x)
        return ERR_NOMEM;
    p.y = p.x + n;
    p.work = (struct ranked *)(p.y + n);
    most = most < n / 2 ? most : n / 2;
    *out = at_lag(&p, x, y, n, 0, ranks);
    for (long lag = 1; lag <= (long)most; lag++)
        for (int side = 1; side >= -1; side -= 2) {
            struct correlation c = at_lag(&p, x, y, n, side * lag, ranks);
            if (fabs(c.r) > fabs(out->r))
                *out = c;
        }
    out->p = fmin(1, out->p * (double)(2 * most + 1));
    free(p.x);
    return 0;
}

int correlate(const double *x, const double *y, size_t n, bool ranks, struct correlation *out)
{
    return correlate_lagged(x, y, n, 0, ranks, out);
}
