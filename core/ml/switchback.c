// SPDX-License-Identifier: MIT
#include "ml/switchback.h"

#include "ml/random.h"

#include <math.h>

void switchback_init(struct switchback *s, const struct switchback_opts *opts, uint64_t now_ms)
{
    *s =
        (struct switchback){.opts = opts ? *opts : (struct switchback_opts){0}, .start_ms = now_ms};
    struct switchback_opts *o = &s->opts;
    o->arms = o->arms == 2 ? 2 : 1;
    o->block_ms = o->block_ms ? o->block_ms : 30000 / o->arms;
    o->washout_ms = o->washout_ms ? o->washout_ms : o->block_ms / 6;
    o->alpha = o->alpha > 0 ? o->alpha : 0.05;
    o->mde = o->mde > 0 ? o->mde : 0.03;
    o->harm = o->harm > 0 ? o->harm : 0.02;
    o->g = o->g > 0 ? o->g : 1;
    o->sd_floor = o->sd_floor > 0 ? o->sd_floor : 0.005;
    o->least = o->least ? o->least : 4;
    o->most = o->most ? o->most : o->arms == 2 ? 8 : 10;
    s->result =
        (struct experiment_result){.usable = true, .lo = -INFINITY, .hi = INFINITY, .lambda = 1};
}

struct switchback_moment switchback_at(const struct switchback *s, uint64_t now_ms)
{
    uint64_t since = now_ms > s->start_ms ? now_ms - s->start_ms : 0;
    uint64_t block = since / s->opts.block_ms;
    struct random coin = random_fork(s->opts.seed, block / 2);
    bool on_first = random_bits(&coin) >> 63;
    return (struct switchback_moment){
        .block = block,
        .on = (block % 2 == 0) == on_first,
        .measuring = since % s->opts.block_ms >= s->opts.washout_ms,
        .over = block >= 2 * (uint64_t)s->opts.most,
    };
}

/* The t statistic's likelihood ratio, and its inversion for the confidence sequence. */
static void weigh(const struct switchback_opts *o, struct experiment_result *res, double scatter)
{
    double n = res->n, free = n - 1, k = 1 + n * o->g;
    res->sd = fmax(o->sd_floor, sqrt(scatter / free));
    double u = n * res->estimate * res->estimate / (res->sd * res->sd * free);
    res->lambda = exp(0.5 * n * (log1p(u) - log1p(u / k)) - 0.5 * log(k));
    double c = pow(sqrt(k) / o->alpha, 2 / n);
    double half = c < k ? sqrt((c - 1) / (1 - c / k) * free / n) * res->sd : INFINITY;
    res->lo = res->estimate - half;
    res->hi = res->estimate + half;
}

static enum experiment_verdict judge(const struct switchback_opts *o,
                                     const struct experiment_result *res, bool over)
{
    bool real = res->n >= o->least && res->lambda >= 1 / o->alpha;
    if (real && res->estimate > 0)
        return EXPERIMENT_WORSE;
    if (real && res->estimate <= -o->mde)
        return EXPERIMENT_BETTER;
    if (!over)
        return EXPERIMENT_RUNNING;
    return res->n >= o->least && res->hi < o->harm ? EXPERIMENT_NO_EFFECT : EXPERIMENT_INCONCLUSIVE;
}

static void add_pair(struct switchback *s)
{
    double d = (s->sum[1] / s->windows[1] - s->sum[0] / s->windows[0]) / s->opts.arms;
    double from_mean = d - s->mean;
    s->result.n++;
    s->mean += from_mean / s->result.n;
    s->scatter += from_mean * (d - s->mean);
    s->result.estimate = s->mean;
    if (s->result.n > 1)
        weigh(&s->opts, &s->result, s->scatter);
}

enum experiment_verdict switchback_close(struct switchback *s, uint64_t now_ms)
{
    struct switchback_moment now = switchback_at(s, now_ms);
    if (s->result.verdict != EXPERIMENT_RUNNING || now.block / 2 == s->pair)
        return s->result.verdict;
    if (s->windows[0] && s->windows[1])
        add_pair(s);
    s->pair = now.block / 2;
    s->sum[0] = s->sum[1] = 0;
    s->windows[0] = s->windows[1] = 0;
    return s->result.verdict = judge(&s->opts, &s->result, now.over);
}

enum experiment_verdict switchback_add(struct switchback *s, uint64_t end_ms, uint64_t length_ms,
                                       double value)
{
    if (!isfinite(value) || !length_ms || end_ms < s->start_ms + length_ms)
        return s->result.verdict;
    struct switchback_moment from = switchback_at(s, end_ms - length_ms),
                             to = switchback_at(s, end_ms - 1);
    switchback_close(s, end_ms - 1);
    if (s->result.verdict == EXPERIMENT_RUNNING && from.measuring && from.block == to.block &&
        to.block / 2 == s->pair) {
        s->sum[to.on] += value;
        s->windows[to.on]++;
    }
    return switchback_close(s, end_ms);
}
