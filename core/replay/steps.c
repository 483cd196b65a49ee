// SPDX-License-Identifier: MIT
#include "replay/steps.h"

#include "base/err.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 5, PASSES = 3 };

static const double PENALTY = 5, R_MOST = 0.95, DISPERSION_LEAST = 1e-4;

struct sums {
    double weight, value, square; /* the latter two weighted */
};

struct series {
    bool shares;
    size_t n, block;                  /* units, and how many of the caller's each is */
    struct sums sum[STEPS_UNITS + 1]; /* running */
    double best[STEPS_UNITS + 1];     /* least cost of the first t units */
    uint32_t from[STEPS_UNITS + 1];   /* last change before t */
    uint32_t ends[STEPS_UNITS + 1];   /* of segments */
    size_t segments;
};

static struct sums between(const struct series *s, size_t from, size_t to)
{
    return (struct sums){s->sum[to].weight - s->sum[from].weight, s->sum[to].value - s->sum[from].value,
                         s->sum[to].square - s->sum[from].square};
}

static double level(const struct series *s, size_t from, size_t to)
{
    struct sums d = between(s, from, to);
    return s->shares ? fmin(1, fmax(0, d.value / d.weight)) : d.value / d.weight;
}

static double entropy(double x)
{
    return x > .5 ? x * log(x) : 0; /* of a count: what is left of none by rounding is none */
}

static double cost(const struct series *s, size_t from, size_t to)
{
    struct sums d = between(s, from, to);
    if (s->shares)
        return 2 * (entropy(d.weight) - entropy(d.value) - entropy(d.weight - d.value));
    return fmax(0, d.square - d.value * d.value / d.weight);
}

/* Without pruning: it drops candidates only behind a change, and most logs have few. */
static void segment(struct series *s, double penalty)
{
    s->best[0] = -penalty;
    for (size_t t = SEGMENT; t <= s->n; t++) {
        double least = INFINITY;
        for (size_t from = 0; from + SEGMENT <= t; from = from ? from + 1 : SEGMENT) {
            double c = s->best[from] + cost(s, from, t);
            if (c < least) {
                least = c;
                s->from[t] = (uint32_t)from;
            }
        }
        s->best[t] = least + penalty;
    }
    s->segments = 0;
    for (size_t t = s->n; t > 0; t = s->from[t])
        s->segments++;
    for (size_t t = s->n, i = s->segments; t > 0; t = s->from[t])
        s->ends[--i] = (uint32_t)t;
}

/* Of what the segments leave over: its dispersion, stretched by its lag-1 autocorrelation. */
static double spread(const struct series *s)
{
    double products = 0, squares = 0, last = 0;
    for (size_t i = 0, from = 0; i < s->segments; from = s->ends[i++]) {
        double mean = level(s, from, s->ends[i]), variance = s->shares ? mean * (1 - mean) : 1;
        for (size_t t = from; t < s->ends[i]; t++) {
            struct sums d = between(s, t, t + 1);
            double e = variance > 1e-9 ? sqrt(d.weight / variance) * (d.value / d.weight - mean) : 0;
            products += t > from ? e * last : 0;
            squares += e * e;
            last = e;
        }
    }
    double dispersion = squares / (double)(s->n - s->segments), r = squares > 0 ? products / squares : 0;
    r = fmin(R_MOST, fmax(0, r));
    return fmax(dispersion, s->shares ? 1 : DISPERSION_LEAST) * (1 + r) / (1 - r);
}

static void join(struct series *s, const struct step_unit *units, size_t n)
{
    s->block = (n + STEPS_UNITS - 1) / STEPS_UNITS;
    for (size_t i = 0; i < n; i += s->block) {
        struct sums sum = {0};
        for (size_t k = i; k < i + s->block && k < n; k++) {
            sum.weight += units[k].weight;
            sum.value += units[k].weight * units[k].value;
        }
        sum.square = sum.value * sum.value / sum.weight;
        const struct sums *before = &s->sum[s->n++];
        s->sum[s->n] = (struct sums){before->weight + sum.weight, before->value + sum.value, before->square + sum.square};
    }
}

/* Takes the place of the lightest when there are `most`. */
static void keep(struct step *out, size_t most, size_t *count, struct step one)
{
    if (*count == most) {
        size_t lightest = 0;
        for (size_t i = 1; i < most; i++)
            if (out[i].weight < out[lightest].weight)
                lightest = i;
        if (out[lightest].weight >= one.weight)
            return;
        memmove(out + lightest, out + lightest + 1, (most - 1 - lightest) * sizeof *out);
        --*count;
    }
    out[(*count)++] = one;
}

int steps_find(const struct step_unit *units, size_t n, bool shares, double least, struct step *out, size_t most, size_t *count)
{
    *count = 0;
    if (n / 2 < SEGMENT || !most)
        return 0;
    struct series *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->shares = shares;
    join(s, units, n);
    double penalty = PENALTY * log((double)s->n) * (shares ? 1 : fmax(DISPERSION_LEAST, cost(s, 0, s->n) / (double)s->n));
    segment(s, penalty);
    for (int pass = 1; pass < PASSES; pass++) {
        penalty = PENALTY * log((double)s->n) * spread(s);
        segment(s, penalty);
    }
    for (size_t i = 0, a = 0; i + 1 < s->segments; a = s->ends[i++]) {
        size_t b = s->ends[i], c = s->ends[i + 1];
        struct step one = {b * s->block, level(s, a, b), level(s, b, c), (cost(s, a, c) - cost(s, a, b) - cost(s, b, c)) / penalty};
        if (fabs(one.after - one.before) >= least)
            keep(out, most, count, one);
    }
    free(s);
    return 0;
}
