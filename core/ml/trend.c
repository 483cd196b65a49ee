// SPDX-License-Identifier: MIT
#include "ml/trend.h"

#include "base/err.h"
#include "ml/robust.h"

#include <math.h>
#include <stdlib.h>

struct points {
    size_t n;
    double t[TREND_SAMPLES], y[TREND_SAMPLES], work[TREND_SAMPLES];
};

/* Median of the finite samples of each of so many equal stretches. */
static void reduce(struct points *p, const double *x, size_t n, double *work)
{
    size_t blocks = n < TREND_SAMPLES ? n : TREND_SAMPLES;
    p->n = 0;
    for (size_t b = 0; b < blocks; b++) {
        size_t from = (size_t)((unsigned __int128)n * b / blocks);
        size_t to = (size_t)((unsigned __int128)n * (b + 1) / blocks);
        size_t kept = robust_finite(x + from, to - from, work);
        if (!kept)
            continue;
        p->t[p->n] = (double)(from + to - 1) / 2;
        p->y[p->n++] = robust_quantile(work, kept, 0.5);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Kendall's S over all pairs; their slopes go to slopes[]. */
static double kendall(const struct points *p, double *slopes)
{
    double s = 0;
    size_t k = 0;
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = i + 1; j < p->n; j++) {
            s += (p->y[j] > p->y[i]) - (p->y[j] < p->y[i]);
            slopes[k++] = (p->y[j] - p->y[i]) / (p->t[j] - p->t[i]);
        }
    return s;
}

static double variance_of_s(struct points *p)
{
    double n = (double)p->n, v = n * (n - 1) * (2 * n + 5);
    for (size_t i = 0; i < p->n; i++)
        p->work[i] = p->y[i];
    qsort(p->work, p->n, sizeof *p->work, ascending);
    for (size_t i = 0, j; i < p->n; i = j) {
        for (j = i; j < p->n && p->work[j] == p->work[i];)
            j++;
        double ties = (double)(j - i);
        v -= ties * (ties - 1) * (2 * ties + 5);
    }
    return v / 18;
}

/* What is left around the line: its level, robust spread and autocorrelation. */
static void look_around(struct points *p, size_t n, struct trend *out)
{
    double products = 0, squares = 0, last = 0;
    for (size_t i = 0; i < p->n; i++)
        p->work[i] = p->y[i] - out->slope * p->t[i];
    double offset = robust_quantile(p->work, p->n, 0.5);
    out->level = offset + out->slope * (double)(n - 1);
    for (size_t i = 0; i < p->n; i++) {
        double e = p->y[i] - out->slope * p->t[i] - offset;
        products += i ? e * last : 0;
        squares += e * e;
        last = e;
        p->work[i] = fabs(e);
    }
    out->spread = 1.4826 * robust_quantile(p->work, p->n, 0.5);
    double r = squares > 0 ? products / squares : 0;
    r += (1 + 3 * r) / (double)p->n; /* the estimate's bias */
    out->r = p->n > 3 ? fmin(0.95, fmax(0, r)) : 0;
}

static void judge(struct points *p, size_t n, double *slopes, struct trend *out)
{
    double s = kendall(p, slopes), count = (double)p->n * (double)(p->n - 1) / 2;
    size_t pairs = (size_t)count;
    out->slope = robust_quantile(slopes, pairs, 0.5);
    look_around(p, n, out);
    double sd = sqrt(variance_of_s(p) * (1 + out->r) / (1 - out->r));
    double z = s == 0 || !(sd > 0) ? 0 : (fabs(s) - 1) / sd;
    out->tau = s / count;
    out->p = erfc(z / sqrt(2));
    double half = 1.96 * sd / count / 2; /* as a share of the sorted slopes */
    out->lo = robust_quantile(slopes, pairs, 0.5 - half);
    out->hi = robust_quantile(slopes, pairs, 0.5 + half);
}

int trend_fit(const double *x, size_t n, struct trend *out)
{
    *out = (struct trend){.slope = NAN, .lo = NAN, .hi = NAN, .level = NAN, .p = 1, .spread = NAN};
    struct points *p = malloc(sizeof *p);
    size_t longest = n / TREND_SAMPLES + 2, pairs = TREND_SAMPLES * (TREND_SAMPLES - 1) / 2;
    double *work = malloc((longest > pairs ? longest : pairs) * sizeof *work);
    if (!p || !work) {
        free(p);
        free(work);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++)
        out->n += isfinite(x[i]) != 0;
    reduce(p, x, n, work);
    if (p->n >= 3)
        judge(p, n, work, out);
    free(work);
    free(p);
    return 0;
}

static double steps_to(double distance, double slope)
{
    return slope > 0 ? distance / slope : INFINITY;
}

struct crossing trend_crossing(const struct trend *t, double threshold, bool rising)
{
    double sign = rising ? 1 : -1, distance = sign * (threshold - t->level);
    double fast = rising ? t->hi : -t->lo, slow = rising ? t->lo : -t->hi;
    if (isnan(distance))
        return (struct crossing){false, INFINITY, INFINITY, INFINITY};
    if (distance <= 0)
        return (struct crossing){.crosses = true};
    double steps = steps_to(distance, sign * t->slope);
    return (struct crossing){isfinite(steps), steps, steps_to(distance, fast),
                             steps_to(distance, slow)};
}
