// SPDX-License-Identifier: MIT
#include "ml/residual.h"

#include "base/err.h"
#include "ml/eigen.h"

#include <math.h>
#include <string.h>

enum { COLS_MOST = 1024 };

struct residual {
    size_t cols, kept;
    double clip;
    double *mean, *inverse_sd; /* of a column */
    double *inverse_value;     /* 1 / shrunk eigenvalue */
    double *vectors;           /* cols x cols, a direction a row, most variance first */
};

/* Column means and spreads, NaN left out. */
static void learn_columns(struct residual *r, const struct mat *train, double floor)
{
    for (size_t j = 0; j < r->cols; j++) {
        double mean = 0, squares = 0;
        size_t n = 0;
        for (size_t i = 0; i < train->rows; i++) {
            double x = mat_row(train, i)[j];
            if (!isfinite(x))
                continue;
            double d = x - mean;
            mean += d / (double)++n;
            squares += d * (x - mean);
        }
        double sd = n > 1 ? sqrt(squares / (double)n) : 0;
        r->mean[j] = mean;
        r->inverse_sd[j] = 1 / (sd > floor ? sd : floor);
    }
}

void residual_standardize(const struct residual *r, const double *row, double *z)
{
    for (size_t j = 0; j < r->cols; j++) {
        double x = (row[j] - r->mean[j]) * r->inverse_sd[j];
        z[j] = isnan(x) ? 0 : fmin(fmax(x, -r->clip), r->clip);
    }
}

/* a = second moments of the standardised rows; `fourth` gets the mean of their
 * squared lengths squared, which the choice of the shrinkage needs. */
static void learn_covariance(const struct residual *r, const struct mat *train, double *a,
                             double *z, double *fourth)
{
    size_t d = r->cols;
    *fourth = 0;
    for (size_t i = 0; i < train->rows; i++) {
        double length = 0;
        residual_standardize(r, mat_row(train, i), z);
        for (size_t j = 0; j < d; j++) {
            length += z[j] * z[j];
            for (size_t k = 0; k <= j; k++)
                a[j * d + k] += z[j] * z[k];
        }
        *fourth += length * length;
    }
    double scale = 1 / (double)train->rows;
    for (size_t j = 0; j < d; j++)
        for (size_t k = 0; k <= j; k++)
            a[k * d + j] = a[j * d + k] *= scale;
    *fourth *= scale;
}

/* The Ledoit-Wolf share: how much of the spread of the eigenvalues is noise. */
static double chosen_shrink(const double *a, size_t d, size_t rows, double fourth)
{
    double trace = 0, norm = 0;
    for (size_t j = 0; j < d; j++)
        trace += a[j * d + j];
    for (size_t j = 0; j < d * d; j++)
        norm += a[j] * a[j];
    double spread = norm - trace * trace / (double)d;
    double noise = (fourth - norm) / (double)rows;
    return spread > 0 ? fmin(1, fmax(0, noise / spread)) : 1;
}

static void keep_directions(struct residual *r, const double *values, double keep, double shrink)
{
    double total = 0, sum = 0;
    for (size_t j = 0; j < r->cols; j++)
        total += fmax(values[j], 0);
    double level = total / (double)r->cols;
    if (!(level > 0))
        level = 1;
    for (size_t j = 0; j < r->cols && sum < keep * total; j++) {
        sum += fmax(values[j], 0);
        r->kept++;
    }
    for (size_t j = 0; j < r->cols; j++)
        r->inverse_value[j] =
            1 / fmax((1 - shrink) * fmax(values[j], 0) + shrink * level, 1e-6 * level);
}

static int learn(struct residual *r, const struct mat *train, const struct residual_opts *o)
{
    size_t d = r->cols;
    double fourth, *a = calloc(d * d + 2 * d, sizeof *a);
    if (!a)
        return ERR_NOMEM;
    double *values = a + d * d, *z = values + d;
    learn_columns(r, train, o->floor);
    learn_covariance(r, train, a, z, &fourth);
    double shrink = o->shrink > 0 ? o->shrink : chosen_shrink(a, d, train->rows, fourth);
    eigen_symmetric(a, d, values, r->vectors);
    keep_directions(r, values, o->keep, shrink);
    free(a);
    return 0;
}

int residual_fit(struct residual **out, const struct mat *train, const struct residual_opts *opts)
{
    struct residual_opts o = opts ? *opts : (struct residual_opts){0};
    size_t d = train->cols;
    *out = NULL;
    if (!train->rows || !d)
        return ERR_INVAL;
    if (d > COLS_MOST)
        return ERR_TOO_LARGE;
    o.keep = o.keep > 0 ? o.keep : 0.95;
    o.floor = o.floor > 0 ? o.floor : 0.01;
    struct residual *r = calloc(1, sizeof *r + (d * d + 3 * d) * sizeof(double));
    if (!r)
        return ERR_NOMEM;
    r->cols = d;
    r->clip = o.clip > 0 ? o.clip : 10;
    r->mean = (double *)(r + 1);
    r->inverse_sd = r->mean + d;
    r->inverse_value = r->inverse_sd + d;
    r->vectors = r->inverse_value + d;
    int err = learn(r, train, &o);
    if (err)
        residual_free(r);
    else
        *out = r;
    return err;
}

size_t residual_bytes(const struct residual *r)
{
    return sizeof *r + (r->cols * r->cols + 3 * r->cols) * sizeof(double);
}

void residual_free(struct residual *r)
{
    free(r);
}

size_t residual_cols(const struct residual *r)
{
    return r->cols;
}

size_t residual_kept(const struct residual *r)
{
    return r->kept;
}

struct residual_score residual_of(const struct residual *r, const double *row, double *work)
{
    struct residual_score score = {0, 0};
    residual_standardize(r, row, work);
    for (size_t k = 0; k < r->cols; k++) {
        const double *direction = r->vectors + k * r->cols;
        double t = 0;
        for (size_t j = 0; j < r->cols; j++)
            t += direction[j] * work[j];
        score.mahalanobis += t * t * r->inverse_value[k];
        if (k >= r->kept)
            score.residual += t * t;
    }
    return score;
}

bool residual_parts(const struct residual *r, const double *row, bool whole, double *parts)
{
    double *z = malloc(r->cols * sizeof *z);
    if (!z)
        return false;
    residual_standardize(r, row, z);
    memset(parts, 0, r->cols * sizeof *parts);
    for (size_t k = whole ? 0 : r->kept; k < r->cols; k++) {
        const double *direction = r->vectors + k * r->cols;
        double t = 0;
        for (size_t j = 0; j < r->cols; j++)
            t += direction[j] * z[j];
        for (size_t j = 0; j < r->cols; j++)
            parts[j] += t * direction[j] * (whole ? r->inverse_value[k] : 1);
    }
    for (size_t j = 0; j < r->cols; j++)
        parts[j] *= whole ? z[j] : parts[j];
    free(z);
    return true;
}
