// SPDX-License-Identifier: MIT
#include "ml/robust.h"

#include <math.h>

static void swap(double *v, size_t i, size_t j)
{
    double x = v[i];
    v[i] = v[j];
    v[j] = x;
}

/* Puts the value of rank k at v[k], smaller ones before it (Hoare's selection,
 * median of three, so sorted and constant input stay linear). */
static double select(double *v, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2, i = low, j = high;
        if (v[middle] < v[low])
            swap(v, middle, low);
        if (v[high] < v[low])
            swap(v, high, low);
        if (v[high] < v[middle])
            swap(v, high, middle);
        double pivot = v[middle];
        while (i <= j) {
            while (v[i] < pivot)
                i++;
            while (v[j] > pivot)
                j--;
            if (i > j)
                break;
            swap(v, i++, j);
            if (j-- == 0)
                break;
        }
        if (k <= j && j < high)
            high = j;
        else if (k >= i)
            low = i;
        else
            break;
    }
    return v[k];
}

double robust_quantile(double *v, size_t n, double q)
{
    if (!n)
        return NAN;
    double place = fmin(1, fmax(0, q)) * (double)(n - 1);
    size_t k = (size_t)place;
    double below = select(v, n, k), part = place - (double)k, above = INFINITY;
    if (part <= 0)
        return below;
    for (size_t i = k + 1; i < n; i++)
        above = fmin(above, v[i]);
    return below * (1 - part) + above * part;
}

size_t robust_finite(const double *x, size_t n, double *v)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            v[kept++] = x[i];
    return kept;
}

struct robust_level robust_level(const double *x, size_t n, double *work)
{
    struct robust_level level = {.n = robust_finite(x, n, work)};
    level.median = robust_quantile(work, level.n, 0.5);
    for (size_t i = 0; i < level.n; i++)
        work[i] = fabs(work[i] - level.median);
    level.spread = 1.4826 * robust_quantile(work, level.n, 0.5);
    return level;
}

double robust_volatility(const double *x, size_t n, double *work)
{
    size_t kept = 0;
    for (size_t i = 1; i < n; i++)
        if (isfinite(x[i] - x[i - 1]))
            work[kept++] = x[i] - x[i - 1];
    return robust_level(work, kept, work).spread;
}

double robust_growth(const double *x, size_t n, size_t window, double *work)
{
    if (!window || window > n / 2)
        return NAN;
    const double *late = x + n - window, *early = late - window;
    double after = robust_quantile(work, robust_finite(late, window, work), 0.5);
    double before = robust_quantile(work, robust_finite(early, window, work), 0.5);
    return before > 0 ? after / before - 1 : NAN;
}
