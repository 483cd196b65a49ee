// SPDX-License-Identifier: MIT
#include "ml/eigen.h"

#include <float.h>
#include <math.h>

enum { SWEEPS_MOST = 60 };

static void rotate(double *a, double *vectors, size_t n, size_t p, size_t q)
{
    double theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
    double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    double c = 1 / sqrt(t * t + 1), s = t * c;
    for (size_t k = 0; k < n; k++) {
        double x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for (size_t k = 0; k < n; k++) {
        double x = a[p * n + k], y = a[q * n + k];
        a[p * n + k] = c * x - s * y;
        a[q * n + k] = s * x + c * y;
    }
    for (size_t k = 0; k < n; k++) {
        double x = vectors[p * n + k], y = vectors[q * n + k];
        vectors[p * n + k] = c * x - s * y;
        vectors[q * n + k] = s * x + c * y;
    }
}

static double off_diagonal(const double *a, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            sum += a[i * n + j] * a[i * n + j];
    return sum;
}

static void swap_rows(double *vectors, size_t n, size_t i, size_t j)
{
    for (size_t k = 0; k < n; k++) {
        double x = vectors[i * n + k];
        vectors[i * n + k] = vectors[j * n + k];
        vectors[j * n + k] = x;
    }
}

static void sort_descending(double *values, double *vectors, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++)
            if (values[j] > values[best])
                best = j;
        if (best == i)
            continue;
        double x = values[i];
        values[i] = values[best];
        values[best] = x;
        swap_rows(vectors, n, i, best);
    }
}

void eigen_symmetric(double *a, size_t n, double *values, double *vectors)
{
    double scale = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            vectors[i * n + j] = i == j;
        scale += a[i * n + i] * a[i * n + i];
    }
    double enough = (scale + off_diagonal(a, n)) * DBL_EPSILON * DBL_EPSILON;
    for (int sweep = 0; sweep < SWEEPS_MOST && off_diagonal(a, n) > enough; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++)
                if (a[p * n + q] != 0)
                    rotate(a, vectors, n, p, q);
    for (size_t i = 0; i < n; i++)
        values[i] = a[i * n + i];
    sort_descending(values, vectors, n);
}
