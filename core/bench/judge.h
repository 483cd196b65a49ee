/* judge.h - the figures of one run, and whether they may be believed.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "bench/generator.h"

enum { JUDGE_REASONS = 5, JUDGE_REASON = 160 };

struct bench_figures { /* of one run */
    double per_second, mean_ms, p50_ms, p90_ms, p95_ms, p99_ms, p999_ms, max_ms;                /* response */
    double service_p50_ms, service_p95_ms, service_p99_ms, service_max_ms;
    uint64_t answered;    /* 0: the times are those of what never was, and not shown */
    double failed_share;  /* of all that should have been sent */
    double cpu_share;     /* of the generator */
    int steady;           /* 1, 0; -1: too few answers to tell */
    bool valid;
    unsigned reason_count;
    char reason[JUDGE_REASONS][JUDGE_REASON]; /* why not */
};

/* Of a core: beyond it the generator is the limit. */
extern const double bench_cpu_most;

struct bench_range {
    double median, min, max;
};

/* Judges a run: it is invalid when the generator was the limit (what it sent late or never although a
 * connection was free passes 0.1 %, or it took more than 80 % of a core at a given rate), when as many
 * found no free connection until the end, when nothing was answered, or when no answer was what was expected;
 * with expectations of its own also when any was not. */
struct bench_figures bench_judge(const struct bench_opts *opts, const struct bench_result *r);

/* One more reason why a run may not be believed. */
__attribute__((format(printf, 2, 3))) void bench_doubt(struct bench_figures *f, const char *format, ...);

/* The middle one of n values and the extremes; sorts them. */
struct bench_range bench_range(double *values, unsigned n);
