// SPDX-License-Identifier: MIT
#include "ml/season.h"

#include "base/err.h"
#include "ml/robust.h"
#include "ml/trend.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* A peak this near to the highest is the same season, met earlier. */
static const double NEAR = 0.9;
/* And this is enough for a season within a season. */
static const double WITHIN = 0.5;

double autocorrelation(const double *x, size_t n, size_t lag)
{
    double mean = 0, squares = 0, products = 0;
    size_t count = 0, pairs = 0;
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            mean += (x[i] - mean) / (double)++count;
    for (size_t i = 0; i < n; i++) {
        double off = x[i] - mean;
        if (!isfinite(off))
            continue;
        squares += off * off;
        if (i >= lag && isfinite(x[i - lag])) {
            products += off * (x[i - lag] - mean);
            pairs++;
        }
    }
    if (!pairs || !(squares > 0))
        return 0;
    return products / (double)pairs / (squares / (double)count);
}

/* The series without its line and with its outliers clipped, so that one burst
 * does not decide. */
static void flatten(const double *x, size_t n, const struct trend *t, double *y, double *work)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] - t->slope * ((double)i - (double)(n - 1));
    struct robust_level level = robust_level(y, n, work);
    double most = level.spread > 0 ? 4 * level.spread : INFINITY;
    for (size_t i = 0; i < n; i++)
        if (isfinite(y[i]))
            y[i] = fmin(fmax(y[i], level.median - most), level.median + most);
}

/* A peak stands out of its neighbours, and out of a dip before it: `dip` is the least so far. */
static bool is_peak(const double *r, size_t lag, double least, double dip)
{
    return r[lag] >= least && r[lag] >= r[lag - 1] && r[lag] >= r[lag + 1] &&
           dip <= r[lag] - least / 2;
}

/* The first peak that is at least so high; without one, period 0. */
static struct season first_peak(const double *r, size_t most, double least, double high)
{
    double dip = 1;
    for (size_t lag = 2; lag < most; lag++) {
        dip = fmin(dip, r[lag - 1]);
        if (r[lag] >= high && is_peak(r, lag, least, dip))
            return (struct season){lag, fmin(1, r[lag])};
    }
    return (struct season){0, 0};
}

static int choose(const double *r, size_t most, double least, struct season *out)
{
    double highest = 0, dip = 1;
    int count = 0;
    for (size_t lag = 2; lag < most; lag++) {
        dip = fmin(dip, r[lag - 1]);
        if (is_peak(r, lag, least, dip))
            highest = fmax(highest, r[lag]);
    }
    const double shares[SEASON_CANDIDATES] = {NEAR, WITHIN, 1};
    for (int i = 0; highest > 0 && i < SEASON_CANDIDATES; i++) {
        struct season s = first_peak(r, most, least, shares[i] * highest);
        bool known = false;
        for (int k = 0; k < count; k++)
            known = known || out[k].period == s.period;
        if (s.period && !known)
            out[count++] = s;
    }
    return count;
}

int season_candidates(const double *x, size_t n, double least, struct season out[SEASON_CANDIDATES])
{
    if (n > SEASON_SAMPLES) {
        x += n - SEASON_SAMPLES;
        n = SEASON_SAMPLES;
    }
    size_t most = n / 3 < SEASON_MOST ? n / 3 : SEASON_MOST;
    struct trend t;
    int err = trend_fit(x, n, &t);
    if (err < 0 || most < 3 || isnan(t.slope))
        return err;
    double *y = malloc((2 * n + most + 1) * sizeof *y);
    if (!y)
        return ERR_NOMEM;
    double *work = y + n, *r = work + n;
    flatten(x, n, &t, y, work);
    for (size_t lag = 0; lag <= most; lag++)
        r[lag] = autocorrelation(y, n, lag);
    int count = choose(r, most, least > 0 ? least : 0.3, out);
    free(y);
    return count;
}

int season_find(const double *x, size_t n, double least, struct season *out)
{
    struct season found[SEASON_CANDIDATES];
    int count = season_candidates(x, n, least, found);
    *out = count > 0 ? found[0] : (struct season){0, 0};
    return count < 0 ? count : 0;
}
