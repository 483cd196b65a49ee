// SPDX-License-Identifier: MIT
#include "bench/usl.h"

#include <math.h>
#include <string.h>

enum { TERMS = 3, SUBSETS = 1 << TERMS };

/* The normal equations of R = r0 + r1 N + r2 N^2, each point divided by its own R. */
struct sums {
    double a[TERMS][TERMS], b[TERMS], squares;
};

static struct sums sum_up(const struct usl_point *points, unsigned n)
{
    struct sums s = {0};
    for (unsigned i = 0; i < n; i++) {
        double in_flight = points[i].per_second * points[i].mean_s;
        double row[TERMS] = {1 / points[i].mean_s, in_flight / points[i].mean_s, in_flight * in_flight / points[i].mean_s};
        for (int j = 0; j < TERMS; j++) {
            s.b[j] += row[j];
            for (int k = 0; k < TERMS; k++)
                s.a[j][k] += row[j] * row[k];
        }
        s.squares += 1;
    }
    return s;
}

/* Gauss with pivots on the terms of a subset. False: they depend on one another. */
static bool solve(const struct sums *s, unsigned subset, double r[TERMS])
{
    int of[TERMS], m = 0;
    double a[TERMS][TERMS + 1];
    for (int j = 0; j < TERMS; j++)
        if (subset >> j & 1)
            of[m++] = j;
    for (int j = 0; j < m; j++) {
        for (int k = 0; k < m; k++) /* scaled, since N^2 and 1 differ by many digits */
            a[j][k] = s->a[of[j]][of[k]] / sqrt(s->a[of[j]][of[j]] * s->a[of[k]][of[k]]);
        a[j][m] = s->b[of[j]] / sqrt(s->a[of[j]][of[j]]);
    }
    for (int j = 0; j < m; j++) {
        int best = j;
        for (int k = j + 1; k < m; k++)
            best = fabs(a[k][j]) > fabs(a[best][j]) ? k : best;
        if (fabs(a[best][j]) < 1e-10)
            return false;
        double row[TERMS + 1];
        memcpy(row, a[j], sizeof row);
        memcpy(a[j], a[best], sizeof row);
        memcpy(a[best], row, sizeof row);
        for (int k = 0; k < m; k++) {
            double times = k == j ? 0 : a[k][j] / a[j][j];
            for (int c = j; times != 0 && c <= m; c++)
                a[k][c] -= times * a[j][c];
        }
    }
    memset(r, 0, TERMS * sizeof *r);
    for (int j = 0; j < m; j++)
        r[of[j]] = a[j][m] / a[j][j] / sqrt(s->a[of[j]][of[j]]);
    return true;
}

static double left_over(const struct sums *s, const double r[TERMS])
{
    double left = s->squares;
    for (int j = 0; j < TERMS; j++) {
        left -= 2 * r[j] * s->b[j];
        for (int k = 0; k < TERMS; k++)
            left += r[j] * r[k] * s->a[j][k];
    }
    return left;
}

/* Least squares without negative coefficients: with three, all that could be zero are tried. */
static double fit(const struct sums *s, double best[TERMS])
{
    double least = INFINITY;
    for (unsigned subset = 1; subset < SUBSETS; subset++) {
        double r[TERMS];
        if (!solve(s, subset, r) || r[0] < 0 || r[1] < 0 || r[2] < 0)
            continue;
        double left = left_over(s, r);
        if (left < least) {
            least = left;
            memcpy(best, r, TERMS * sizeof *best);
        }
    }
    return least;
}

const double usl_r2 = 0.7;

static double rate_at(const double r[TERMS], double in_flight)
{
    return in_flight / (r[0] + r[1] * in_flight + r[2] * in_flight * in_flight);
}

static double highest(const struct usl_point *points, unsigned n)
{
    double most = 0;
    for (unsigned i = 0; i < n; i++)
        most = fmax(most, points[i].per_second);
    return most;
}

bool usl_fit(const struct usl_point *points, unsigned n, struct usl *out)
{
    double r[TERMS] = {0}, constant[TERMS] = {0};
    if (n < USL_LEAST)
        return false;
    struct sums s = sum_up(points, n);
    double left = fit(&s, r), one = r[0] + r[1] + r[2];
    constant[0] = s.b[0] / s.a[0][0];
    double flat = left_over(&s, constant);
    *out = (struct usl){.lambda = 1 / one, .sigma = (r[1] + r[2]) / one, .kappa = r[2] / one, .r2 = flat > 1e-12 ? 1 - left / flat : 1};
    /* X / R = N / R^2 is highest where R = 2 N R', the peak of X = N / R where R = N R'. */
    if (r[1] > 0 || r[2] > 0) {
        double knee = r[2] > 0 ? (sqrt(r[1] * r[1] + 12 * r[0] * r[2]) - r[1]) / (6 * r[2]) : r[0] / r[1];
        out->knee_in_flight = knee;
        out->knee_per_second = knee > 0 ? rate_at(r, knee) : 0;
    }
    if (r[2] > 0) {
        out->peak_in_flight = sqrt(r[0] / r[2]);
        out->most_per_second = r[0] > 0 ? rate_at(r, out->peak_in_flight) : r[1] > 0 ? 1 / r[1] : 0;
    } else if (r[1] > 0) {
        out->most_per_second = 1 / r[1];
    }
    return out->r2 >= usl_r2 && (out->most_per_second == 0 || out->most_per_second >= highest(points, n));
}
