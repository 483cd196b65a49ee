// SPDX-License-Identifier: MIT
#include "ml/experiment.h"

#include <math.h>

static const double R_MOST = 0.95;

const char *experiment_verdict_name(enum experiment_verdict v)
{
    static const char *const names[] = {"running", "better", "worse", "no_effect", "inconclusive"};
    return names[v];
}

void experiment_init(struct experiment *e, const struct experiment_opts *opts)
{
    *e = (struct experiment){.opts = opts ? *opts : (struct experiment_opts){0}};
    struct experiment_opts *o = &e->opts;
    o->alpha = o->alpha > 0 ? o->alpha : 0.05;
    o->tau = o->tau > 0 ? o->tau : 0.10;
    o->mde = o->mde > 0 ? o->mde : 0.03;
    o->harm = o->harm > 0 ? o->harm : 0.02;
    o->inflation = o->inflation > 0 ? o->inflation : 0.10;
    o->r_usable = o->r_usable > 0 ? o->r_usable : 0.8;
    o->sd_floor = o->sd_floor > 0 ? o->sd_floor : 0.005;
    o->before = o->before ? o->before : 24;
    o->least = o->least ? o->least : 12;
    o->most = o->most ? o->most : 120;
    e->result.lo = -INFINITY;
    e->result.hi = INFINITY;
    e->result.lambda = 1;
}

static void add(struct experiment_sums *s, double x)
{
    if (!s->n)
        s->shift = x;
    x -= s->shift;
    if (s->n)
        s->products += x * s->last;
    s->sum += x;
    s->squares += x * x;
    s->last = x;
    s->n++;
}

static double mean_of(const struct experiment_sums *s)
{
    return s->shift + s->sum / s->n;
}

/* Sum of squares around the mean. */
static double scatter(const struct experiment_sums *s)
{
    return fmax(0, s->squares - s->sum * s->sum / s->n);
}

/* The first value, shifted, is 0, so the lagged sums miss only the last. */
static double lag1(const struct experiment_sums *s)
{
    double m = s->sum / s->n, around = scatter(s);
    double lagged = s->products - m * (2 * s->sum - s->last) + (s->n - 1) * m * m;
    return around > 0 ? lagged / around : 0;
}

/* What the windows before the change say about the noise. */
static void learn_noise(struct experiment *e)
{
    const struct experiment_opts *o = &e->opts;
    struct experiment_result *res = &e->result;
    res->before = e->before.n;
    if (e->before.n < 3)
        return;
    double r = lag1(&e->before);
    double sd = fmax(o->sd_floor, sqrt(scatter(&e->before) / (e->before.n - 1)));
    res->r = fmin(R_MOST, fmax(0, r + o->inflation));
    res->sd = sd * sqrt((1 + res->r) / (1 - res->r));
    double unbiased = r + (1 + 3 * r) / e->before.n; /* Marriott and Pope, 1954 */
    res->usable = e->before.n >= o->before && unbiased <= o->r_usable;
}

void experiment_before(struct experiment *e, double canary, double control)
{
    double d = canary - control;
    if (!isfinite(d) || e->after.n)
        return;
    add(&e->before, d);
    learn_noise(e);
}

/* The normal mixture over effects of spread tau: likelihood ratio, and its inversion. */
static void weigh(const struct experiment_opts *o, struct experiment_result *res, double v)
{
    double t = o->tau * o->tau, x = res->estimate;
    res->lambda = sqrt(v / (v + t)) * exp(t * x * x / (2 * v * (v + t)));
    double half = sqrt(2 * v * (v + t) / t * (0.5 * log((v + t) / v) - log(o->alpha)));
    res->lo = x - half;
    res->hi = x + half;
}

static enum experiment_verdict judge(const struct experiment_opts *o,
                                     const struct experiment_result *res)
{
    bool real = res->lambda >= 1 / o->alpha;
    if (res->n >= o->least && real && res->estimate > 0)
        return EXPERIMENT_WORSE;
    if (res->n >= o->least && real && res->usable && res->estimate <= -o->mde)
        return EXPERIMENT_BETTER;
    if (res->n < o->most)
        return EXPERIMENT_RUNNING;
    return res->usable && res->hi < o->harm ? EXPERIMENT_NO_EFFECT : EXPERIMENT_INCONCLUSIVE;
}

enum experiment_verdict experiment_add(struct experiment *e, double canary, double control)
{
    struct experiment_result *res = &e->result;
    double d = canary - control;
    if (!isfinite(d) || res->verdict != EXPERIMENT_RUNNING)
        return res->verdict;
    add(&e->after, d);
    res->n = e->after.n;
    if (e->before.n >= 3) {
        res->estimate = mean_of(&e->after) - mean_of(&e->before);
        weigh(&e->opts, res, res->sd * res->sd * (1.0 / res->n + 1.0 / e->before.n));
    }
    return res->verdict = judge(&e->opts, res);
}
