/* One pass of a smoother over the series, with one set of parameters:
 *
 *      samples   ---------------|--o--o--o--o--o--o--|
 *                 warm up        origins: from each, `steps` ahead, against
 *                                what came; errors are kept per step
 *
 * A trial costs samples + origins x steps; there are some hundred trials. */
// SPDX-License-Identifier: MIT
#include "ml/forecast.h"

#include "base/err.h"
#include "ml/robust.h"
#include "ml/season.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Trials. Few and coarse: what is chosen from them is chosen on little data. */
static const double alphas[] = {0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9};
static const double betas[] = {0, 0.05, 0.2};
static const double gammas[] = {0.05, 0.15, 0.3};
static const double phis[] = {0.8, 0.95};
static const double MARGIN = 0.95; /* of the naive error; the best of many trials flatters itself */
static const double SURPRISE = 3;  /* spreads, from where on an update is clipped */

enum { FORECAST_METHODS = FORECAST_COMBINED + 1, ORIGINS_LEAST = 8, CYCLES = 3 };

#define COUNT(list) (sizeof(list) / sizeof *(list))

struct smoother {
    double alpha, beta, gamma, phi;
    size_t period;
    double level, trend, spread;
    double *season; /* period of them */
};

struct work {
    const double *x;
    size_t n, steps, period;
    size_t first, stride, origins; /* origin k: the first + k * stride samples are known */
    double *season, *scratch;
    double *errors;                 /* of a trial, origins x steps: forecast minus actual */
    double *best[FORECAST_METHODS]; /* of a method's best trial */
    double *path;                   /* a forecast */
};

static size_t slot(const struct smoother *s, size_t t)
{
    return s->period > 1 ? t % s->period : 0;
}

/* Level and season from the first cycles: medians, so that an outlier there is no season. */
static void start(struct smoother *s, const struct work *w)
{
    size_t warm = CYCLES * s->period > 8 ? CYCLES * s->period : 8;
    warm = warm < w->first ? warm : w->first;
    warm = warm < w->n ? warm : w->n;
    struct robust_level first = robust_level(w->x, warm, w->scratch);
    s->level = isnan(first.median) ? 0 : first.median;
    s->trend = 0;
    s->spread = first.spread;
    for (size_t j = 0; j < s->period; j++) {
        size_t count = 0;
        for (size_t t = j; s->gamma > 0 && t < warm; t += s->period)
            if (isfinite(w->x[t]))
                w->scratch[count++] = w->x[t] - s->level;
        s->season[j] = count ? robust_quantile(w->scratch, count, 0.5) : 0;
    }
}

static double ahead(const struct smoother *s, size_t t, double damped)
{
    return s->level + damped * s->trend + s->season[slot(s, t)];
}

/* Takes the sample at t in. */
static void update(struct smoother *s, size_t t, double x)
{
    double e = x - ahead(s, t, s->phi);
    if (!isfinite(e)) {
        s->level += s->phi * s->trend;
        s->trend *= s->phi;
        return;
    }
    double most = SURPRISE * s->spread, size = fabs(e);
    if (s->spread > 0 && size > most)
        e = copysign(most, e);
    s->spread += 0.05 * (1.2533 * fmin(size, 2 * most + (s->spread <= 0) * size) - s->spread);
    s->level += s->phi * s->trend + s->alpha * e;
    s->trend = s->phi * s->trend + s->alpha * s->beta * e;
    s->season[slot(s, t)] += s->gamma * (1 - s->alpha) * e;
}

/* The steps after the t known samples. */
static void look_ahead(const struct smoother *s, size_t t, size_t steps, double *path)
{
    double damped = 0, power = 1;
    for (size_t h = 0; h < steps; h++) {
        power *= s->phi;
        damped += power;
        path[h] = ahead(s, t + h, damped);
    }
}

static void note_errors(const struct work *w, size_t k, const double *path, double *errors)
{
    size_t origin = w->first + k * w->stride;
    for (size_t h = 0; h < w->steps; h++)
        errors[k * w->steps + h] = path[h] - w->x[origin + h];
}

static double mean_error(const struct work *w, const double *errors)
{
    double sum = 0, count = 0;
    for (size_t i = 0; i < w->origins * w->steps; i++)
        if (isfinite(errors[i])) {
            sum += fabs(errors[i]);
            count++;
        }
    return count > 0 ? sum / count : NAN;
}

static double try_smoother(struct work *w, struct smoother s)
{
    s.season = w->season;
    start(&s, w);
    size_t k = 0;
    for (size_t t = 0; t < w->n && k < w->origins; t++) {
        if (t == w->first + k * w->stride) {
            look_ahead(&s, t, w->steps, w->path);
            note_errors(w, k++, w->path, w->errors);
        }
        update(&s, t, w->x[t]);
    }
    return mean_error(w, w->errors);
}

/* The last finite sample a whole number of seasons before. */
static void naive_path(const struct work *w, size_t known, double *path)
{
    for (size_t h = 0; h < w->steps; h++) {
        size_t back = (h / w->period + 1) * w->period;
        path[h] = NAN;
        for (size_t at = known + h; at >= back && isnan(path[h]); back += w->period)
            path[h] = isfinite(w->x[at - back]) ? w->x[at - back] : NAN;
    }
}

static double try_naive(struct work *w)
{
    for (size_t k = 0; k < w->origins; k++) {
        naive_path(w, w->first + k * w->stride, w->path);
        note_errors(w, k, w->path, w->errors);
    }
    return mean_error(w, w->errors);
}

struct chosen {
    struct smoother smoother;
    double error; /* NaN: not tried */
};

static void keep_errors(struct work *w, enum forecast_method method)
{
    double *errors = w->errors;
    w->errors = w->best[method];
    w->best[method] = errors;
}

static void consider(struct work *w, struct smoother s, enum forecast_method method,
                     struct chosen *best)
{
    double error = try_smoother(w, s);
    if (isnan(error) || error >= best[method].error)
        return;
    best[method] = (struct chosen){s, error};
    keep_errors(w, method);
}

static void search(struct work *w, size_t period, struct chosen *best)
{
    struct smoother s = {.period = period};
    for (size_t a = 0; a < COUNT(alphas); a++)
        for (size_t b = 0; b < COUNT(betas); b++)
            for (size_t p = 0; p < (betas[b] > 0 ? COUNT(phis) : 1); p++) {
                s.alpha = alphas[a];
                s.beta = betas[b];
                s.phi = phis[p];
                if (period == 1)
                    consider(w, s, FORECAST_HOLT, best);
                for (size_t g = 0; period > 1 && g < COUNT(gammas); g++) {
                    s.gamma = gammas[g];
                    consider(w, s, FORECAST_HOLT_WINTERS, best);
                }
            }
}

/* A mean of two forecasts has the mean of their errors. */
static void combine(struct work *w, struct chosen *best)
{
    if (isnan(best[FORECAST_HOLT].error) || isnan(best[FORECAST_HOLT_WINTERS].error))
        return;
    for (size_t i = 0; i < w->origins * w->steps; i++)
        w->errors[i] = (w->best[FORECAST_HOLT][i] + w->best[FORECAST_HOLT_WINTERS][i]) / 2;
    best[FORECAST_COMBINED].smoother = best[FORECAST_HOLT_WINTERS].smoother;
    best[FORECAST_COMBINED].error = mean_error(w, w->errors);
    keep_errors(w, FORECAST_COMBINED);
}

/* Where to try from: the later half, at most FORECAST_ORIGINS times. */
static void place_origins(struct work *w)
{
    size_t first = w->n / 2 > 2 * w->period ? w->n / 2 : 2 * w->period;
    w->first = first < 4 ? 4 : first;
    w->origins = 0;
    w->stride = 1;
    if (w->n < w->first + w->steps)
        return;
    size_t room = w->n - w->steps - w->first + 1;
    w->stride = room / FORECAST_ORIGINS + 1;
    w->origins = (room - 1) / w->stride + 1;
}

/* Size of the errors at step h: mean absolute, over the steps nearby. */
static double size_at(const struct work *w, const double *errors, size_t h)
{
    double sum = 0, count = 0;
    for (size_t at = h > 2 ? h - 2 : 0; at < w->steps && at <= h + 2; at++)
        for (size_t k = 0; k < w->origins; k++)
            if (isfinite(errors[k * w->steps + at])) {
                sum += fabs(errors[k * w->steps + at]);
                count++;
            }
    return count > 0 ? sum / count : NAN;
}

/* Half widths: the size of a step's errors times the quantile, over all steps, of error / size. */
static void add_intervals(struct work *w, const double *errors, double coverage,
                          struct forecast_step *steps)
{
    size_t count = 0;
    for (size_t h = 0; h < w->steps; h++) {
        double size = w->path[h] = size_at(w, errors, h);
        for (size_t k = 0; k < w->origins; k++) {
            double e = fabs(errors[k * w->steps + h]);
            if (isfinite(e) && size > 0)
                w->errors[count++] = e / size;
        }
    }
    double q =
        robust_quantile(w->errors, count, fmin(1, coverage * (1 + 1 / (double)(w->origins + 1))));
    for (size_t h = 0; h < w->steps; h++) {
        double half = w->path[h] > 0 ? q * w->path[h] : w->origins ? 0 : INFINITY;
        steps[h].lo = steps[h].value - half;
        steps[h].hi = steps[h].value + half;
    }
}

/* Fills w->path by a smoother that has seen all. */
static void final_path(struct work *w, struct smoother s)
{
    s.season = w->season;
    start(&s, w);
    for (size_t t = 0; t < w->n; t++)
        update(&s, t, w->x[t]);
    look_ahead(&s, w->n, w->steps, w->path);
}

static void fill_path(struct work *w, enum forecast_method method, const struct chosen *best,
                      struct forecast_step *steps)
{
    if (method == FORECAST_NAIVE)
        naive_path(w, w->n, w->path);
    else
        final_path(w, best[method].smoother);
    for (size_t h = 0; h < w->steps; h++)
        steps[h].value = w->path[h];
    if (method != FORECAST_COMBINED)
        return;
    final_path(w, best[FORECAST_HOLT].smoother);
    for (size_t h = 0; h < w->steps; h++)
        steps[h].value = (steps[h].value + w->path[h]) / 2;
}

static void run(struct work *w, const size_t *periods, size_t count, double coverage,
                struct forecast *out, struct forecast_step *steps)
{
    struct chosen best[FORECAST_METHODS];
    for (int m = 0; m < FORECAST_METHODS; m++)
        best[m] = (struct chosen){.error = NAN};
    place_origins(w);
    best[FORECAST_NAIVE].error = try_naive(w);
    keep_errors(w, FORECAST_NAIVE);
    if (w->origins >= ORIGINS_LEAST) {
        search(w, 1, best);
        for (size_t i = 0; i < count; i++)
            search(w, periods[i], best);
        combine(w, best);
    }
    enum forecast_method method = FORECAST_NAIVE;
    for (int m = 1; m < FORECAST_METHODS; m++)
        if (best[m].error < best[method].error * (method == FORECAST_NAIVE ? MARGIN : 1))
            method = (enum forecast_method)m;
    double naive = best[FORECAST_NAIVE].error;
    out->method = method;
    out->beats = method != FORECAST_NAIVE;
    out->mase = naive > 0 ? best[method].error / naive : NAN;
    out->origins = w->origins;
    out->alpha = best[method].smoother.alpha;
    out->beta = best[method].smoother.beta;
    out->gamma = best[method].smoother.gamma;
    out->phi = best[method].smoother.phi;
    if (out->beats && method != FORECAST_HOLT)
        out->period = best[method].smoother.period;
    fill_path(w, method, best, steps);
    add_intervals(w, w->best[method], coverage, steps);
}

const char *forecast_method_name(enum forecast_method m)
{
    static const char *const names[] = {"seasonal naive", "damped Holt", "Holt-Winters",
                                        "combined"};
    return names[m];
}

int forecast_make(const double *x, size_t n, const struct forecast_opts *opts, struct forecast *out,
                  struct forecast_step *steps)
{
    *out = (struct forecast){.mase = NAN, .period = opts->period};
    if (opts->steps < 1 || opts->steps > FORECAST_STEPS)
        return ERR_INVAL;
    if (n > FORECAST_SAMPLES) {
        x += n - FORECAST_SAMPLES;
        n = FORECAST_SAMPLES;
    }
    struct season found[SEASON_CANDIDATES] = {{opts->period, 1}};
    int count = opts->period ? opts->period > 1 : season_candidates(x, n, 0, found);
    if (count < 0)
        return count;
    size_t periods[SEASON_CANDIDATES], usable = 0, longest = 1;
    for (int i = 0; i < count; i++)
        if (found[i].period <= n / 3 || (opts->period && found[i].period <= n / 2)) {
            periods[usable++] = found[i].period;
            longest = found[i].period > longest ? found[i].period : longest;
        }
    out->period = usable ? periods[0] : 1;
    struct work w = {.x = x, .n = n, .steps = opts->steps, .period = out->period};
    size_t errors = FORECAST_ORIGINS * w.steps;
    double *memory =
        malloc(((FORECAST_METHODS + 1) * errors + w.steps + longest + n + 1) * sizeof *memory);
    if (!memory)
        return ERR_NOMEM;
    w.errors = memory;
    for (size_t m = 0; m < FORECAST_METHODS; m++)
        w.best[m] = w.errors + (m + 1) * errors;
    w.path = w.best[FORECAST_METHODS - 1] + errors;
    w.season = w.path + w.steps;
    w.scratch = w.season + longest;
    run(&w, periods, usable, opts->coverage > 0 && opts->coverage < 1 ? opts->coverage : 0.9, out,
        steps);
    free(memory);
    return 0;
}

struct forecast_crossing forecast_crossing(const struct forecast_step *steps, size_t count,
                                           double threshold, bool rising)
{
    struct forecast_crossing c = {0};
    for (size_t h = 0; h < count; h++) {
        double near = rising ? steps[h].hi : steps[h].lo, far = rising ? steps[h].lo : steps[h].hi;
        bool may = rising ? near >= threshold : near <= threshold;
        bool does = rising ? steps[h].value >= threshold : steps[h].value <= threshold;
        bool must = rising ? far >= threshold : far <= threshold;
        c.soonest = may && !c.soonest ? h + 1 : c.soonest;
        c.expected = does && !c.expected ? h + 1 : c.expected;
        c.latest = !must ? 0 : c.latest ? c.latest : h + 1;
    }
    c.crosses = c.expected > 0;
    return c;
}

double forecast_mase(const double *past, size_t n, size_t period, const double *actual,
                     const struct forecast_step *steps, size_t count)
{
    double scale = 0, pairs = 0, sum = 0, compared = 0;
    for (size_t t = period; t < n; t++)
        if (isfinite(past[t] - past[t - period])) {
            scale += fabs(past[t] - past[t - period]);
            pairs++;
        }
    for (size_t h = 0; h < count; h++)
        if (isfinite(steps[h].value - actual[h])) {
            sum += fabs(steps[h].value - actual[h]);
            compared++;
        }
    return pairs > 0 && compared > 0 ? sum / compared / (scale / pairs) : NAN;
}
