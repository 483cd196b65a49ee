// SPDX-License-Identifier: MIT
#include "bench/report.h"

#include "base/clock.h"
#include "base/json_text.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

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
    if (f->reason_count == REPORT_REASONS)
        return;
    va_start(args, format);
    vsnprintf(f->reason[f->reason_count++], REPORT_REASON, format, args);
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

/* False: nothing was answered, so there is no time to show. */
static bool range_of(const struct bench_report *r, size_t offset, struct bench_range *out)
{
    double values[REPORT_REPEATS];
    unsigned n = 0;
    for (unsigned i = 0; i < r->count; i++)
        if (r->runs[i].answered || offset == offsetof(struct bench_figures, per_second))
            memcpy(&values[n++], (const char *)&r->runs[i] + offset, sizeof(double));
    if (n)
        *out = bench_range(values, n);
    return n;
}

/* ---- for people ---- */

static void row(FILE *out, const struct bench_report *r, const char *name, const char *unit, size_t offset)
{
    struct bench_range range;
    if (!range_of(r, offset, &range))
        fprintf(out, "  %-22s %10s\n", name, "-");
    else if (r->count > 1)
        fprintf(out, "  %-22s %10.2f %-4s (%.2f to %.2f)\n", name, range.median, unit, range.min, range.max);
    else
        fprintf(out, "  %-22s %10.2f %s\n", name, range.median, unit);
}

static void print_step(FILE *out, const struct bench_step *s)
{
    if (s->p99_ms < 0)
        fprintf(out, "  %10.0f/s  p99 -", s->rate);
    else
        fprintf(out, "  %10.0f/s  p99 %.2f ms", s->rate, s->p99_ms);
    fprintf(out, "%s%s\n", s->why[0] ? "  too much: " : "", s->why);
}

static void print_capacity(FILE *out, const struct bench_report *r)
{
    for (unsigned i = 0; i < r->step_count; i++)
        print_step(out, &r->steps[i]);
    if (r->capacity > 0)
        fprintf(out, "capacity: %.0f requests/s with p99 within %.0f ms\n", r->capacity, r->slo_ms);
    else
        fprintf(out, "capacity: none, not even the lowest rate was borne with p99 within %.0f ms\n", r->slo_ms);
}

void bench_report_table(FILE *out, const struct bench_report *r)
{
    const struct bench_result *l = r->last;
    const struct bench_figures *f = &r->runs[r->count - 1];
    fprintf(out, "%s, %u connections, %s", r->target, r->opts->connections, r->opts->rate > 0 ? "open loop" : "closed loop");
    if (r->opts->rate > 0)
        fprintf(out, ", %.0f/s%s", r->opts->rate, r->opts->poisson ? ", Poisson" : "");
    fprintf(out, ", %.1f s%s\n", l->seconds, r->count > 1 ? " each, the median of the runs (lowest to highest)" : "");
    row(out, r, "answered", "/s", offsetof(struct bench_figures, per_second));
    row(out, r, "response p50", "ms", offsetof(struct bench_figures, p50_ms));
    row(out, r, "response p95", "ms", offsetof(struct bench_figures, p95_ms));
    row(out, r, "response p99", "ms", offsetof(struct bench_figures, p99_ms));
    row(out, r, "response p99.9", "ms", offsetof(struct bench_figures, p999_ms));
    row(out, r, "response max", "ms", offsetof(struct bench_figures, max_ms));
    row(out, r, "service p50", "ms", offsetof(struct bench_figures, service_p50_ms));
    row(out, r, "service p99", "ms", offsetof(struct bench_figures, service_p99_ms));
    fprintf(out, "  requests: %llu scheduled, %llu sent, %llu answered, %llu late (%llu for want of a connection), "
            "%llu dropped (%llu for want of a connection)\n", (ull)l->scheduled, (ull)l->sent, (ull)l->answered, (ull)l->late, (ull)l->queued,
            (ull)l->dropped, (ull)l->starved);
    fprintf(out, "  status: %llu 2xx, %llu 3xx, %llu 4xx, %llu 5xx; %llu unexpected, %llu of another length than the first\n", (ull)l->status[2],
            (ull)l->status[3], (ull)l->status[4], (ull)l->status[5], (ull)l->unexpected, (ull)l->differing);
    if (r->opts->expect_body.len)
        fprintf(out, "  bodies: %llu without what is expected\n", (ull)l->unmatched);
    if (l->timeouts + l->refused + l->broken)
        fprintf(out, "  failures: %llu timeouts, %llu connections refused, %llu broken off\n", (ull)l->timeouts, (ull)l->refused, (ull)l->broken);
    fprintf(out, "  generator: %.0f %% of a core%s\n", f->cpu_share * 100, f->steady == 0 ? "; not steady: p95 of the two halves differ by more than 10 %" : "");
    if (r->steps)
        print_capacity(out, r);
    for (unsigned i = 0; i < f->reason_count; i++)
        fprintf(out, "NOT VALID: %s\n", f->reason[i]);
}

/* ---- for programs ---- */

static void put_range(FILE *out, const struct bench_report *r, const char *name, size_t offset)
{
    struct bench_range range;
    if (range_of(r, offset, &range))
        fprintf(out, "\"%s\": {\"median\": %.4f, \"min\": %.4f, \"max\": %.4f}", name, range.median, range.min, range.max);
    else
        fprintf(out, "\"%s\": null", name);
}

static void put_sketch(FILE *out, const char *name, const uint32_t *counts)
{
    const char *comma = "";
    fprintf(out, "\"%s\": [", name);
    for (unsigned i = 0; i < SKETCH_BUCKETS; i++)
        if (counts[i]) {
            fprintf(out, "%s[%u, %u]", comma, i, counts[i]);
            comma = ", ";
        }
    fputc(']', out);
}

static void put_environment(FILE *out, const char *version)
{
    struct utsname u;
    double load[1] = {0};
    uname(&u);
    if (getloadavg(load, 1) != 1)
        load[0] = 0;
    fprintf(out, ", \"environment\": {\"perilune\": \"%s\", \"system\": \"%s %s %s\", \"cpus\": %ld, \"load\": %.2f, \"unix_ms\": %llu}", version, u.sysname,
            u.release, u.machine, sysconf(_SC_NPROCESSORS_ONLN), load[0], (ull)clock_unix_ms());
}

static void put_step(FILE *out, const struct bench_step *s)
{
    fprintf(out, "{\"rate\": %.1f, \"p99_ms\": ", s->rate);
    if (s->p99_ms < 0)
        fputs("null", out);
    else
        fprintf(out, "%.3f", s->p99_ms);
    fprintf(out, ", \"borne\": %s", s->why[0] ? "false, \"reason\": " : "true");
    if (s->why[0])
        json_text(out, s->why);
    fputc('}', out);
}

static void put_capacity(FILE *out, const struct bench_report *r)
{
    fprintf(out, ", \"capacity\": {\"requests_per_second\": %.1f, \"slo_p99_ms\": %.3f, \"steps\": [", r->capacity, r->slo_ms);
    for (unsigned i = 0; i < r->step_count; i++) {
        fputs(i ? ", " : "", out);
        put_step(out, &r->steps[i]);
    }
    fprintf(out, "]}");
}

static void put_times(FILE *out, const struct bench_figures *f)
{
    if (!f->answered) {
        fputs(", \"response_ms\": null, \"service_ms\": null", out);
        return;
    }
    fprintf(out, ", \"response_ms\": {\"p50\": %.4f, \"p90\": %.4f, \"p95\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f}",
            f->p50_ms, f->p90_ms, f->p95_ms, f->p99_ms, f->p999_ms, f->max_ms);
    fprintf(out, ", \"service_ms\": {\"p50\": %.4f, \"p95\": %.4f, \"p99\": %.4f, \"max\": %.4f}", f->service_p50_ms, f->service_p95_ms,
            f->service_p99_ms, f->service_max_ms);
}

static void put_last(FILE *out, const struct bench_report *r)
{
    const struct bench_result *l = r->last;
    const struct bench_figures *f = &r->runs[r->count - 1];
    fprintf(out, ", \"scheduled\": %llu, \"sent\": %llu, \"answered\": %llu, \"late\": %llu, \"queued\": %llu, \"dropped\": %llu, \"starved\": %llu",
            (ull)l->scheduled, (ull)l->sent, (ull)l->answered, (ull)l->late, (ull)l->queued, (ull)l->dropped, (ull)l->starved);
    fprintf(out, ", \"timeouts\": %llu, \"refused\": %llu, \"broken\": %llu, \"unexpected\": %llu, \"unmatched\": %llu, \"differing\": %llu, \"bytes\": %llu", (ull)l->timeouts,
            (ull)l->refused, (ull)l->broken, (ull)l->unexpected, (ull)l->unmatched, (ull)l->differing, (ull)l->bytes);
    fprintf(out, ", \"status\": {\"1xx\": %llu, \"2xx\": %llu, \"3xx\": %llu, \"4xx\": %llu, \"5xx\": %llu}, \"seconds\": %.3f", (ull)l->status[1],
            (ull)l->status[2], (ull)l->status[3], (ull)l->status[4], (ull)l->status[5], l->seconds);
    put_times(out, f);
    fprintf(out, ", \"generator\": {\"cpu_s\": %.4f, \"cpu_share\": %.4f}, \"steady\": %s", l->cpu_s, f->cpu_share,
            f->steady < 0 ? "null" : f->steady ? "true" : "false");
    fprintf(out, ", \"sketch\": {\"scale\": %d, \"low_exponent\": %d, ", SKETCH_SCALE, SKETCH_LOW_EXPONENT);
    put_sketch(out, "response", l->response);
    fputs(", ", out);
    put_sketch(out, "service", l->service);
    fputs("}", out);
}

void bench_report_json(FILE *out, const struct bench_report *r)
{
    const struct bench_figures *f = &r->runs[r->count - 1];
    fputs("{\"target\": ", out);
    json_text(out, r->target);
    fprintf(out, ", \"mode\": \"%s\", \"connections\": %u, \"rate\": %.1f, \"poisson\": %s, \"valid\": %s, \"reasons\": [",
            r->opts->rate > 0 ? "open" : "closed", r->opts->connections, r->opts->rate, r->opts->poisson ? "true" : "false", f->valid ? "true" : "false");
    for (unsigned i = 0; i < f->reason_count; i++) {
        fputs(i ? ", " : "", out);
        json_text(out, f->reason[i]);
    }
    fprintf(out, "], \"repeats\": %u, ", r->count);
    put_range(out, r, "requests_per_second", offsetof(struct bench_figures, per_second));
    fputs(", ", out);
    put_range(out, r, "p50_ms", offsetof(struct bench_figures, p50_ms));
    fputs(", ", out);
    put_range(out, r, "p99_ms", offsetof(struct bench_figures, p99_ms));
    put_last(out, r);
    if (r->steps)
        put_capacity(out, r);
    put_environment(out, r->version);
    fputs("}\n", out);
}
