/* Candidates for the last change before t stay in a list. One that loses to t
 * as a change cannot win later (PELT's pruning), but because t only becomes
 * usable `segment` samples on, it leaves the list only then. */
// SPDX-License-Identifier: MIT
#include "ml/changepoint.h"

#include "base/err.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Least variance of a segment, of a series scaled to variance 1: a constant stretch
 * must not cost minus infinity. */
static const double VARIANCE_FLOOR = 1e-3;

struct series {
    struct changepoint_opts opts;
    size_t n;                      /* samples or blocks */
    double mean, sd;               /* of the original */
    double *z;                     /* scaled */
    double *sum, *sum2;            /* running, n + 1 */
    double *inverse;               /* 1 / length, n + 1 */
    double *best;                  /* least cost of the first t samples, n + 1 */
    double *costs;                 /* of the candidates */
    uint32_t *from;                /* last change before t, n + 1 */
    uint32_t *candidates, *leaves; /* and when they leave the list */
    uint32_t *ends;                /* of segments */
    size_t segments;
    size_t *index; /* of the first original sample */
};

static double scatter(const struct series *s, size_t from, size_t to)
{
    double sum = s->sum[to] - s->sum[from];
    double squares = s->sum2[to] - s->sum2[from] - sum * sum * s->inverse[to - from];
    return squares > 0 ? squares : 0;
}

static double cost(const struct series *s, size_t from, size_t to)
{
    double variance = scatter(s, from, to) * s->inverse[to - from];
    return (double)(to - from) * log(variance > VARIANCE_FLOOR ? variance : VARIANCE_FLOOR);
}

/* Fills best and from of t; costs[] gets what each candidate comes to without the penalty. */
static void cheapest(struct series *s, size_t t, size_t candidates, double penalty)
{
    double least = INFINITY;
    for (size_t i = 0; i < candidates; i++) {
        double c = s->costs[i] = s->best[s->candidates[i]] + cost(s, s->candidates[i], t);
        if (c < least) {
            least = c;
            s->from[t] = s->candidates[i];
        }
    }
    s->best[t] = least + penalty;
}

/* Returns how many candidates stay after t. */
static size_t prune(struct series *s, size_t t, size_t candidates)
{
    size_t kept = 0;
    for (size_t i = 0; i < candidates; i++) {
        uint32_t from = s->candidates[i];
        if (s->leaves[from] == UINT32_MAX && s->costs[i] >= s->best[t])
            s->leaves[from] = (uint32_t)t + s->opts.segment;
        if (s->leaves[from] > t)
            s->candidates[kept++] = from;
    }
    return kept;
}

static void segment(struct series *s, double penalty)
{
    size_t least = s->opts.segment, candidates = 0;
    s->best[0] = -penalty;
    memset(s->leaves, 0xff, (s->n + 1) * sizeof *s->leaves);
    for (size_t t = least; t <= s->n; t++) {
        if (t == least || t >= 2 * least)
            s->candidates[candidates++] = (uint32_t)(t - least);
        cheapest(s, t, candidates, penalty);
        candidates = prune(s, t, candidates);
    }
    s->segments = 0;
    for (size_t t = s->n; t > 0; t = s->from[t])
        s->ends[s->segments++] = (uint32_t)t;
    for (size_t i = 0, j = s->segments - 1; i < j; i++, j--) {
        uint32_t end = s->ends[i];
        s->ends[i] = s->ends[j];
        s->ends[j] = end;
    }
}

/* Lag-1 autocorrelation of the residuals, each in spreads of its segment. */
static double residual_lag1(const struct series *s)
{
    double products = 0, squares = 0, last = 0;
    size_t from = 0;
    for (size_t i = 0; i < s->segments; from = s->ends[i++]) {
        double length = s->ends[i] - from, mean = (s->sum[s->ends[i]] - s->sum[from]) / length;
        double sd = sqrt(fmax(VARIANCE_FLOOR, scatter(s, from, s->ends[i]) / length));
        for (size_t t = from; t < s->ends[i]; t++) {
            double e = (s->z[t] - mean) / sd;
            products += t > from ? e * last : 0;
            squares += e * e;
            last = e;
        }
    }
    return squares > 0 ? products / squares : 0;
}

/* Blocks of finite samples, their means, scaled to mean 0 and variance 1. */
static bool scale(struct series *s, const double *x, size_t n, size_t block)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = isfinite(x[i]) ? fmax(most, fabs(x[i])) : most;
    size_t in_block = 0;
    s->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            continue;
        if (in_block == 0) {
            s->index[s->n] = i;
            s->z[s->n] = 0;
        }
        s->z[s->n] += most > 0 ? x[i] / most / (double)block : 0;
        if (++in_block == block) {
            s->n++;
            in_block = 0;
        }
    }
    double mean = 0, squares = 0;
    for (size_t t = 0; t < s->n; t++)
        mean += s->z[t] / (double)s->n;
    for (size_t t = 0; t < s->n; t++)
        squares += (s->z[t] - mean) * (s->z[t] - mean) / (double)s->n;
    double sd = sqrt(squares);
    s->mean = mean * most;
    s->sd = sd * most;
    for (size_t t = 0; t < s->n; t++) {
        s->inverse[t + 1] = 1 / (double)(t + 1);
        s->z[t] = sd > 1e-12 ? (s->z[t] - mean) / sd : 0;
        s->sum[t + 1] = s->sum[t] + s->z[t];
        s->sum2[t + 1] = s->sum2[t] + s->z[t] * s->z[t];
    }
    return sd > 1e-12;
}

static void describe(const struct series *s, size_t i, double penalty, struct changepoint *out)
{
    size_t a = i ? s->ends[i - 1] : 0, b = s->ends[i], c = s->ends[i + 1];
    double before = (double)(b - a), after = (double)(c - b);
    *out = (struct changepoint){
        .at = s->index[b],
        .mean_before = s->mean + s->sd * (s->sum[b] - s->sum[a]) / before,
        .mean_after = s->mean + s->sd * (s->sum[c] - s->sum[b]) / after,
        .sd_before = s->sd * sqrt(scatter(s, a, b) / before),
        .sd_after = s->sd * sqrt(scatter(s, b, c) / after),
        .weight = (cost(s, a, c) - cost(s, a, b) - cost(s, b, c)) / penalty,
    };
}

static void find(struct series *s, struct changepoint *out, size_t most,
                 struct changepoint_report *report)
{
    double r = 0, penalty = 0;
    for (unsigned pass = 0; pass < s->opts.passes; pass++) {
        report->r = fmin(s->opts.r_most, fmax(0, r));
        penalty = s->opts.penalty * log((double)s->n) * (1 + report->r) / (1 - report->r);
        segment(s, penalty);
        r = residual_lag1(s);
    }
    report->penalty = penalty;
    report->count = s->segments - 1;
    for (size_t i = 0; i < report->count && i < most; i++)
        describe(s, i, penalty, &out[i]);
}

/* One allocation for all arrays: they are sized by the blocks. */
static char *lay_out(struct series *s, size_t blocks)
{
    size_t m = blocks + 1;
    char *memory = calloc(m, 6 * sizeof(double) + sizeof(size_t) + 4 * sizeof(uint32_t));
    if (!memory)
        return NULL;
    s->z = (double *)memory;
    s->sum = s->z + m;
    s->sum2 = s->sum + m;
    s->inverse = s->sum2 + m;
    s->best = s->inverse + m;
    s->costs = s->best + m;
    s->index = (size_t *)(s->costs + m);
    s->from = (uint32_t *)(s->index + m);
    s->candidates = s->from + m;
    s->leaves = s->candidates + m;
    s->ends = s->leaves + m;
    return memory;
}

int changepoint_find(const double *x, size_t n, const struct changepoint_opts *opts,
                     struct changepoint *out, size_t most, struct changepoint_report *report)
{
    struct series s = {.opts = opts ? *opts : (struct changepoint_opts){0}};
    s.opts.penalty = s.opts.penalty > 0 ? s.opts.penalty : 5;
    s.opts.passes = s.opts.passes ? s.opts.passes : 3;
    s.opts.segment = s.opts.segment ? s.opts.segment : 5;
    s.opts.r_most = s.opts.r_most > 0 && s.opts.r_most < 1 ? s.opts.r_most : 0.95;
    *report = (struct changepoint_report){0};
    for (size_t i = 0; i < n; i++)
        report->used += isfinite(x[i]) != 0;
    size_t block = report->used / (CHANGEPOINT_SAMPLES + 1) + 1;
    char *memory = lay_out(&s, report->used / block + 1);
    if (!memory)
        return ERR_NOMEM;
    if (scale(&s, x, n, block) && s.n / 2 >= s.opts.segment)
        find(&s, out, most, report);
    free(memory);
    return 0;
}
