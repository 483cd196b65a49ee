// SPDX-License-Identifier: MIT
#include "ml/cause.h"

#include "base/err.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { SPAN = 60, ROWS_LEAST = 64, SORTED_MOST = 4096, COLS_MOST = 4096 };

static const double SPREAD_LEAST = 0.01, CHANGE_MOST = 1000;

struct cause {
    size_t cols, sorted_count;
    double *sorted;     /* per column: training values in order */
    double *inverse_sd; /* per column: of the distance from the mean of the span */
    double *ring, *sum; /* per column: the last SPAN values, and their sum */
    uint32_t *seen;     /* per column */
};

size_t cause_cols(const struct cause *c)
{
    return c->cols;
}

void cause_free(struct cause *c)
{
    if (!c)
        return;
    free(c->sorted);
    free(c->inverse_sd);
    free(c->ring);
    free(c->sum);
    free(c->seen);
    free(c);
}

static void forget(struct cause *c)
{
    memset(c->sum, 0, c->cols * sizeof *c->sum);
    memset(c->seen, 0, c->cols * sizeof *c->seen);
}

static double past_mean(const struct cause *c, size_t j, double otherwise)
{
    uint32_t n = c->seen[j] < SPAN ? c->seen[j] : SPAN;
    return n ? c->sum[j] / n : otherwise;
}

static void remember(struct cause *c, size_t j, double x)
{
    double *place = &c->ring[j * SPAN + c->seen[j] % SPAN];
    c->sum[j] += x - (c->seen[j] >= SPAN ? *place : 0);
    *place = x;
    c->seen[j]++;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Every so many rows, so that a long training costs no more memory. */
static void learn_tails(struct cause *c, const struct mat *train)
{
    for (size_t j = 0; j < c->cols; j++) {
        double *sorted = c->sorted + j * c->sorted_count, last = 0;
        for (size_t i = 0; i < c->sorted_count; i++) {
            double x = mat_row(train, i * train->rows / c->sorted_count)[j];
            sorted[i] = last = isfinite(x) ? x : last;
        }
        qsort(sorted, c->sorted_count, sizeof *sorted, rising);
    }
}

static void learn_changes(struct cause *c, const struct mat *train)
{
    for (size_t j = 0; j < c->cols; j++) {
        double squares = 0;
        size_t n = 0;
        for (size_t i = 0; i < train->rows; i++) {
            double x = mat_row(train, i)[j];
            if (!isfinite(x))
                continue;
            double d = x - past_mean(c, j, x);
            squares += d * d;
            n++;
            remember(c, j, x);
        }
        double sd = n ? sqrt(squares / (double)n) : 0;
        c->inverse_sd[j] = 1 / (sd > SPREAD_LEAST ? sd : SPREAD_LEAST);
    }
    forget(c);
}

int cause_fit(struct cause **out, const struct mat *train)
{
    *out = NULL;
    if (train->rows < ROWS_LEAST || !train->cols)
        return ERR_INVAL;
    if (train->cols > COLS_MOST)
        return ERR_TOO_LARGE;
    struct cause *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    c->cols = train->cols;
    c->sorted_count = train->rows < SORTED_MOST ? train->rows : SORTED_MOST;
    c->sorted = malloc(c->cols * c->sorted_count * sizeof *c->sorted);
    c->inverse_sd = malloc(c->cols * sizeof *c->inverse_sd);
    c->ring = malloc(c->cols * SPAN * sizeof *c->ring);
    c->sum = calloc(c->cols, sizeof *c->sum);
    c->seen = calloc(c->cols, sizeof *c->seen);
    if (!c->sorted || !c->inverse_sd || !c->ring || !c->sum || !c->seen) {
        cause_free(c);
        return ERR_NOMEM;
    }
    learn_tails(c, train);
    learn_changes(c, train);
    *out = c;
    return 0;
}

/* Training values below x. */
static size_t below(const struct cause *c, size_t j, double x, bool or_equal)
{
    const double *sorted = c->sorted + j * c->sorted_count;
    size_t low = 0, high = c->sorted_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sorted[middle] < x || (or_equal && sorted[middle] == x))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static double tail(const struct cause *c, size_t j, double x)
{
    double n = (double)c->sorted_count;
    double at_most = (double)below(c, j, x, true), at_least = n - (double)below(c, j, x, false);
    double p = fmin(1, 2 * (fmin(at_most, at_least) + 1) / (n + 1));
    return -log(p);
}

void cause_next(struct cause *c, const double *row, double *blame)
{
    for (size_t j = 0; j < c->cols; j++) {
        double x = row[j];
        blame[j] = 0;
        if (!isfinite(x))
            continue;
        double change = fabs(x - past_mean(c, j, x)) * c->inverse_sd[j];
        change = fmin(change, CHANGE_MOST);
        blame[j] = change * change * (1 + tail(c, j, x));
        remember(c, j, x);
    }
}
