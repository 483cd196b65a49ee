// SPDX-License-Identifier: MIT
#include "ml/detector.h"

#include "base/err.h"
#include "ml/conformal.h"
#include "ml/residual.h"

#include <math.h>
#include <string.h>

enum { EDGE_SPAN = 30, SHIFT_SPAN = 240, HISTORY = 256 /* above all spans and lags */, LAGS = 6, ROWS_LEAST = 64 };

static const size_t lags[LAGS] = {0, 1, 2, 4, 8, 16};
static const size_t spans[] = {EDGE_SPAN, SHIFT_SPAN};
static const double weights[DETECTOR_CHANNELS] = {1, 1, 1.5};

/* The share of alarms is steered outside of events: more than EVENT_ALARMS of the last
 * EVENT_SPAN samples. */
enum { EVENT_SPAN = 10, EVENT_ALARMS = 4, SHARE_BOUND = 5 };
static const double STEER = 0.005;

struct detector {
    struct detector_opts opts;
    size_t cols;
    uint64_t seen;
    struct residual *residual; /* over LAGS x cols columns */
    struct conformal *ranks[DETECTOR_CHANNELS], *together;
    double share;    /* of ranks that alarm, around alpha */
    uint32_t alarms; /* bits: the last samples alarmed */
    double middle[DETECTOR_CHANNELS], width[DETECTOR_CHANNELS]; /* of the training scores */
    double smoothed[DETECTOR_CHANNELS];
    double *inverse_sd[2]; /* of the change against the mean of a span */
    double *history;       /* HISTORY rows, the newest at seen % HISTORY */
    double *sum[2];        /* of the last `span` rows */
    double *parts[2];      /* squares that the last change is the sum of */
    double *lagged, *work; /* LAGS x cols */
};

static double *past_row(const struct detector *d, uint64_t at)
{
    return d->history + (at % HISTORY) * d->cols;
}

/* What the mean of a span is taken over: fewer at the start. */
static double span_count(const struct detector *d, int which)
{
    return fmin((double)d->seen, (double)spans[which]);
}

static void remember(struct detector *d, const double *row)
{
    for (int w = 0; w < 2; w++) {
        bool full = d->seen >= spans[w];
        const double *gone = full ? past_row(d, d->seen - spans[w]) : NULL;
        for (size_t j = 0; j < d->cols; j++)
            d->sum[w][j] += row[j] - (gone ? gone[j] : 0);
    }
    memcpy(past_row(d, d->seen), row, d->cols * sizeof *row);
    d->seen++;
}

/* A value that is not known is taken to be as the one before; `to` may not be `row`. */
static void complete(const struct detector *d, const double *row, double *to)
{
    const double *before = d->seen ? past_row(d, d->seen - 1) : NULL;
    for (size_t j = 0; j < d->cols; j++)
        to[j] = fabs(row[j]) < 1e100 ? row[j] : before ? before[j] : 0;
}

static double change(struct detector *d, int which, const double *row)
{
    double n = span_count(d, which), sum = 0;
    for (size_t j = 0; j < d->cols && n > 0; j++) {
        double z = (row[j] - d->sum[which][j] / n) * d->inverse_sd[which][j];
        z = fmin(fabs(z), 10);
        sum += d->parts[which][j] = z * z;
    }
    return log(sum + 0.1);
}

static void lag(const struct detector *d, const double *row, double *to)
{
    for (size_t k = 0; k < LAGS; k++) {
        const double *from = lags[k] && d->seen >= lags[k] ? past_row(d, d->seen - lags[k]) : row;
        memcpy(to + k * d->cols, from, d->cols * sizeof *to);
    }
}

static void channels(struct detector *d, const double *row, double *score)
{
    score[DETECTOR_EDGE] = change(d, 0, row);
    score[DETECTOR_SHIFT] = change(d, 1, row);
    lag(d, row, d->lagged);
    struct residual_score far = residual_of(d->residual, d->lagged, d->work);
    score[DETECTOR_PATTERN] = log((d->opts.whole ? far.mahalanobis : far.residual) + 1e-3);
}

static void forget(struct detector *d)
{
    d->seen = 0;
    for (int w = 0; w < 2; w++)
        memset(d->sum[w], 0, d->cols * sizeof(double));
}

/* How far a column usually is from its mean of a span. */
static void learn_changes(struct detector *d, const struct mat *train)
{
    double *now = d->work;
    for (size_t i = 0; i < train->rows; i++) {
        complete(d, mat_row(train, i), now);
        for (int w = 0; w < 2 && d->seen; w++)
            for (size_t j = 0; j < d->cols; j++) {
                double x = now[j] - d->sum[w][j] / span_count(d, w);
                d->inverse_sd[w][j] += x * x;
            }
        remember(d, now);
    }
    for (int w = 0; w < 2; w++)
        for (size_t j = 0; j < d->cols; j++) {
            double sd = sqrt(d->inverse_sd[w][j] / (double)train->rows);
            d->inverse_sd[w][j] = 1 / fmax(sd, 0.01);
        }
    forget(d);
}

static int learn_residual(struct detector *d, const struct mat *train)
{
    struct mat all;
    int err = mat_new(&all, train->rows, LAGS * d->cols);
    if (err)
        return err;
    for (size_t i = 0; i < train->rows; i++) {
        complete(d, mat_row(train, i), d->work);
        lag(d, d->work, mat_row(&all, i));
        remember(d, d->work);
    }
    forget(d);
    err = residual_fit(&d->residual, &all, &(struct residual_opts){.keep = 0.995});
    mat_free(&all);
    return err;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Places the channels' scales and fills all ranks. */
static int learn_scores(struct detector *d, const struct mat *train)
{
    struct mat scores;
    double *now = malloc(d->cols * sizeof *now), *sorted = malloc(train->rows * sizeof *sorted);
    int err = mat_new(&scores, train->rows, DETECTOR_CHANNELS);
    err = err ? err : now && sorted ? 0 : ERR_NOMEM;
    for (size_t i = 0; !err && i < train->rows; i++) {
        complete(d, mat_row(train, i), now);
        channels(d, now, mat_row(&scores, i));
        remember(d, now);
    }
    for (size_t k = 0; !err && k < DETECTOR_CHANNELS; k++) {
        for (size_t i = 0; i < train->rows; i++) {
            sorted[i] = mat_row(&scores, i)[k];
            conformal_add(d->ranks[k], sorted[i]);
        }
        qsort(sorted, train->rows, sizeof *sorted, rising);
        d->middle[k] = sorted[train->rows / 2];
        d->width[k] = fmax(sorted[train->rows - 1 - train->rows / 100] - d->middle[k], 1e-9);
    }
    for (size_t i = 0; !err && i < train->rows; i++) {
        double total = 0;
        for (size_t k = 0; k < DETECTOR_CHANNELS; k++)
            total += (mat_row(&scores, i)[k] - d->middle[k]) / d->width[k];
        conformal_add(d->together, total);
    }
    free(now);
    free(sorted);
    mat_free(&scores);
    return err;
}

/* History, sums, spreads and parts, lagged, work. */
static size_t allocated_rows(void)
{
    return HISTORY + 6 + 2 * LAGS;
}

static bool allocate(struct detector *d)
{
    size_t n = d->cols;
    double *v = calloc(n * allocated_rows(), sizeof *v);
    d->history = v;
    for (int k = 0; k < DETECTOR_CHANNELS; k++)
        if (!(d->ranks[k] = conformal_new(d->opts.window)))
            return false;
    d->together = conformal_new(d->opts.window);
    if (!v || !d->together)
        return false;
    v += n * HISTORY;
    for (int w = 0; w < 2; w++, v += 3 * n) {
        d->sum[w] = v;
        d->inverse_sd[w] = v + n;
        d->parts[w] = v + 2 * n;
    }
    d->lagged = v;
    d->work = v + LAGS * n;
    return true;
}

int detector_fit(struct detector **out, const struct mat *train, const struct detector_opts *opts)
{
    *out = NULL;
    if (train->rows < ROWS_LEAST || !train->cols)
        return ERR_INVAL;
    if (train->cols > 1024 / LAGS)
        return ERR_TOO_LARGE;
    struct detector *d = calloc(1, sizeof *d);
    if (!d)
        return ERR_NOMEM;
    d->opts = opts ? *opts : (struct detector_opts){0};
    d->opts.alpha = d->opts.alpha > 0 ? d->opts.alpha : 0.01;
    d->opts.window = d->opts.window ? d->opts.window : 3000;
    d->opts.smooth = d->opts.smooth > 0 ? d->opts.smooth : 0.1;
    d->cols = train->cols;
    d->share = d->opts.alpha;
    int err = allocate(d) ? 0 : ERR_NOMEM;
    if (!err) {
        learn_changes(d, train);
        err = learn_residual(d, train);
    }
    if (!err)
        err = learn_scores(d, train);
    if (err)
        detector_free(d);
    else
        *out = d;
    return err;
}

void detector_free(struct detector *d)
{
    if (!d)
        return;
    for (int k = 0; k < DETECTOR_CHANNELS; k++)
        conformal_free(d->ranks[k]);
    conformal_free(d->together);
    residual_free(d->residual);
    free(d->history);
    free(d);
}

/* Ranks among scores that hold events promise too little; ones that drift, too much. So the
 * share that alarms is led to alpha by what alarms outside of events. */
static void steer(struct detector *d, bool alarm)
{
    double alpha = d->opts.alpha;
    d->alarms = d->alarms << 1 | alarm;
    if (__builtin_popcount(d->alarms & ((1U << EVENT_SPAN) - 1)) > EVENT_ALARMS)
        return;
    d->share = fmin(fmax(d->share + STEER * (alpha - alarm), alpha / SHARE_BOUND), alpha * SHARE_BOUND);
}

struct verdict detector_next(struct detector *d, const double *row)
{
    struct verdict v = {0};
    double total = 0, sum = 0;
    complete(d, row, d->work);
    /* the channels use work themselves: the completed row joins the history first */
    double *slot = past_row(d, d->seen);
    memcpy(slot, d->work, d->cols * sizeof *slot);
    channels(d, slot, v.score);
    for (int k = 0; k < DETECTOR_CHANNELS; k++) {
        v.p[k] = conformal_p(d->ranks[k], v.score[k]);
        conformal_add(d->ranks[k], v.score[k]);
        v.score[k] = (v.score[k] - d->middle[k]) / d->width[k];
        double weight = k == DETECTOR_PATTERN ? 1 : d->opts.smooth;
        d->smoothed[k] += weight * (v.score[k] - d->smoothed[k]);
        v.severity += weights[k] * d->smoothed[k];
        total += weights[k];
        sum += v.score[k];
    }
    memcpy(d->work, slot, d->cols * sizeof *slot);
    remember(d, d->work);
    v.severity /= total;
    v.p_all = conformal_p(d->together, sum);
    conformal_add(d->together, sum);
    v.alarm = v.p_all <= d->share;
    steer(d, v.alarm);
    return v;
}

void detector_parts(struct detector *d, enum detector_channel channel, double *share)
{
    double total = 0;
    memset(share, 0, d->cols * sizeof *share);
    if (channel == DETECTOR_PATTERN) {
        double *all = malloc(LAGS * d->cols * sizeof *all);
        bool known = all && residual_parts(d->residual, d->lagged, d->opts.whole, all);
        for (size_t j = 0; known && j < LAGS * d->cols; j++)
            share[j % d->cols] += fmax(all[j], 0);
        free(all);
    } else {
        memcpy(share, d->parts[channel], d->cols * sizeof *share);
    }
    for (size_t j = 0; j < d->cols; j++)
        total += share[j];
    for (size_t j = 0; j < d->cols; j++)
        share[j] = total > 0 ? share[j] / total : 0;
}

size_t detector_bytes(const struct detector *d)
{
    return sizeof *d + d->cols * allocated_rows() * sizeof(double) + residual_bytes(d->residual) +
           2 * d->opts.window * sizeof(float) * (DETECTOR_CHANNELS + 1);
}
