// SPDX-License-Identifier: MIT
#include "ml/guards.h"

#include <math.h>

static const double ratios[ERROR_GUARD_RATIOS] = {1.25, 1.5, 2, 3, 5, 10, 20};

void error_guard_init(struct error_guard *g, const struct error_guard_opts *opts)
{
    *g = (struct error_guard){.opts = opts ? *opts : (struct error_guard_opts){0}};
    g->opts.trips_at = g->opts.trips_at > 0 ? g->opts.trips_at : 100;
    g->opts.inflation = g->opts.inflation > 0 ? g->opts.inflation : 1.25;
}

void error_guard_before(struct error_guard *g, uint64_t requests, uint64_t errors)
{
    if (!requests)
        return;
    double e = (double)errors, n = (double)requests;
    g->windows++;
    g->requests += n;
    g->errors += e;
    g->squares += e * e / n;
}

/* sum over windows of (errors - expected)^2 / expected, expected by the window's
 * requests: 1 per window for Poisson whatever the load does. */
double error_guard_fano(const struct error_guard *g)
{
    if (g->windows < 2 || g->errors <= 0)
        return g->opts.inflation > 1 ? g->opts.inflation : 1;
    double chi2 = g->squares * g->requests / g->errors - g->errors;
    return fmax(1, g->opts.inflation * chi2 / (g->windows - 1));
}

double error_guard_evidence(const struct error_guard *g)
{
    double sum = 0;
    for (int i = 0; i < ERROR_GUARD_RATIOS; i++)
        sum += exp(g->log_evidence[i]);
    return sum / ERROR_GUARD_RATIOS;
}

bool error_guard_add(struct error_guard *g, uint64_t canary_requests, uint64_t canary_errors,
                     uint64_t control_requests, uint64_t control_errors)
{
    if (!canary_requests || !control_requests || g->tripped)
        return g->tripped;
    double share = (double)canary_requests / ((double)canary_requests + (double)control_requests);
    double all = (double)canary_errors + (double)control_errors, fano = error_guard_fano(g);
    for (int i = 0; i < ERROR_GUARD_RATIOS; i++)
        g->log_evidence[i] +=
            ((double)canary_errors * log(ratios[i]) - all * log1p(share * (ratios[i] - 1))) / fano;
    return g->tripped = error_guard_evidence(g) >= g->opts.trips_at;
}

void tail_guard_init(struct tail_guard *g, const struct tail_guard_opts *opts)
{
    *g = (struct tail_guard){.opts = opts ? *opts : (struct tail_guard_opts){0}};
    struct tail_guard_opts *o = &g->opts;
    o->ratio = o->ratio > 0 ? o->ratio : 1.5;
    o->bad = o->bad ? o->bad : 3;
    o->of = o->of ? o->of : 5;
    o->of = o->of > TAIL_GUARD_MOST ? TAIL_GUARD_MOST : o->of;
    o->requests = o->requests ? o->requests : 50;
}

bool tail_guard_add(struct tail_guard *g, double canary_p99, uint64_t canary_requests,
                    double control_p99, uint64_t control_requests)
{
    const struct tail_guard_opts *o = &g->opts;
    if (canary_requests < o->requests || control_requests < o->requests || g->tripped)
        return g->tripped;
    g->history = g->history << 1 | (canary_p99 > o->ratio * control_p99);
    uint32_t seen = g->history & (UINT32_MAX >> (32 - o->of));
    return g->tripped = (unsigned)__builtin_popcount(seen) >= o->bad;
}
