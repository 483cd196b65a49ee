// SPDX-License-Identifier: MIT
#include "bench/judge.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ull;

const double bench_cpu_most = 0.8;

static const double UNSENT_MOST = 0.001, STEADY = 0.10;

enum { STEADY_LEAST = 100 };

static double quantile_ms(const uint32_t *counts, double q)
{
    return sketch_quantile_ns(counts, SKETCH_BUCKETS, SKETCH_SCALE, q) / 1e6;
}

static uint64_t total(const uint32_t *counts)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SKETCH_BUCKETS; i++)
        sum += counts[i];
    return sum;
}

void bench_doubt(struct bench_figures *f, const char *format, ...)
{
    va_list args;
    f->valid = false;
    if (f->reason_count == JUDGE_REASONS)
        return;
    va_start(args, format);
    vsnprintf(f->reason[f->reason_count++], JUDGE_REASON, format, args);
    va_end(args);
}

/* A sketch knows values by buckets: none of its quantiles may pass the largest value. */
static double below(double ms, uint64_t most_ns)
{
    return fmin(ms, (double)most_ns / 1e6);
}

static bool too_many(uint64_t unsent, uint64_t asked)
{
    return unsent > 1 && (double)unsent > UNSENT_MOST * (double)asked;
}

static void judge_answers(struct bench_figures *f, const struct bench_opts *opts, const struct bench_result *r)
{
    uint64_t wrong = r->unexpected + r->unmatched;
    bool asked = opts->expect_status || opts->expect_body.len;
    if (!r->answered)
        bench_doubt(f, "nothing was answered");
    else if (r->unexpected && (asked || wrong == r->answered))
        bench_doubt(f, "%llu of %llu answers were not what was expected: %llu had another status, the first of them %d", (ull)wrong, (ull)r->answered,
                    (ull)r->unexpected, r->unexpected_status);
    else if (r->unmatched) /* --expect-body was given */
        bench_doubt(f, "%llu of %llu answers were not what was expected: without the body that --expect-body names", (ull)wrong, (ull)r->answered);
}

struct bench_figures bench_judge(const struct bench_opts *opts, const struct bench_result *r)
{
    struct bench_figures f = {.valid = true, .steady = -1};
    uint64_t failed = r->dropped + r->timeouts + r->broken + r->unexpected + r->unmatched, asked = r->scheduled ? r->scheduled : 1;
    uint64_t unsent = r->dropped - r->starved + r->late - r->queued;
    f.answered = r->answered;
    f.per_second = r->seconds > 0 ? (double)r->answered / r->seconds : 0;
    uint64_t timed = total(r->response);
    f.mean_ms = timed ? r->response_sum_ns / (double)timed / 1e6 : 0;
    f.p50_ms = below(quantile_ms(r->response, .5), r->max_response_ns);
    f.p90_ms = below(quantile_ms(r->response, .9), r->max_response_ns);
    f.p95_ms = below(quantile_ms(r->response, .95), r->max_response_ns);
    f.p99_ms = below(quantile_ms(r->response, .99), r->max_response_ns);
    f.p999_ms = below(quantile_ms(r->response, .999), r->max_response_ns);
    f.max_ms = (double)r->max_response_ns / 1e6;
    f.service_p50_ms = below(quantile_ms(r->service, .5), r->max_service_ns);
    f.service_p95_ms = below(quantile_ms(r->service, .95), r->max_service_ns);
    f.service_p99_ms = below(quantile_ms(r->service, .99), r->max_service_ns);
    f.service_max_ms = (double)r->max_service_ns / 1e6;
    f.failed_share = (double)failed / (double)asked;
    f.cpu_share = r->seconds > 0 ? r->cpu_s / (r->seconds + opts->warmup_s) : 0;
    if (total(r->half[0]) >= STEADY_LEAST && total(r->half[1]) >= STEADY_LEAST) {
        double first = quantile_ms(r->half[0], .95), second = quantile_ms(r->half[1], .95);
        f.steady = fabs(second - first) <= STEADY * fmax(first, second);
    }
    judge_answers(&f, opts, r);
    if (opts->rate > 0 && too_many(r->starved, asked))
        bench_doubt(&f, "%llu of %llu requests found no free connection: use more --connections, or the service is too slow for this rate",
                    (ull)r->starved, (ull)asked);
    if (opts->rate > 0 && too_many(unsent, asked))
        bench_doubt(&f, "the generator was the limit: %llu of %llu requests were sent late or not at all although a connection was free", (ull)unsent,
                    (ull)asked);
    if (opts->rate > 0 && f.cpu_share > bench_cpu_most)
        bench_doubt(&f, "the generator took %.0f %% of a core: ask for a lower rate, or from another machine", f.cpu_share * 100);
    return f;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct bench_range bench_range(double *values, unsigned n)
{
    qsort(values, n, sizeof *values, by_size);
    return (struct bench_range){values[n / 2], values[0], values[n - 1]};
}
