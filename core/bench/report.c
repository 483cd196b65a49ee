// SPDX-License-Identifier: MIT
#include "bench/report.h"

#include "base/clock.h"
#include "base/json_text.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

typedef unsigned long long ull;

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

bool bench_report_valid(const struct bench_report *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (!r->runs[i].valid)
            return false;
    return true;
}

/* A reason with the run that it is about, when there are several. */
static const char *reason(const struct bench_report *r, unsigned run, unsigned i, char *out, size_t room)
{
    if (r->count == 1)
        return r->runs[run].reason[i];
    snprintf(out, room, "run %u of %u: %s", run + 1, r->count, r->runs[run].reason[i]);
    return out;
}

/* ---- for people ---- */

static void row(FILE *out, const struct bench_report *r, const char *name, const char *unit, size_t offset, const struct bench_interval *interval)
{
    struct bench_range range;
    if (!range_of(r, offset, &range)) {
        fprintf(out, "  %-22s %10s\n", name, "-");
        return;
    }
    fprintf(out, "  %-22s %10.2f %s", name, range.median, unit);
    if (interval)
        fprintf(out, "%*s95 %%: %.2f to %.2f", 5 - (int)strlen(unit), "", interval->low, interval->high);
    if (r->count > 1)
        fprintf(out, "%*s(%.2f to %.2f)", interval ? 3 : 5 - (int)strlen(unit), "", range.min, range.max);
    fputc('\n', out);
}

static void print_step(FILE *out, const struct bench_step *s)
{
    if (s->p99_ms < 0)
        fprintf(out, "  %10.0f/s  p99 -", s->rate);
    else
        fprintf(out, "  %10.0f/s  p99 %.2f ms", s->rate, s->p99_ms);
    fprintf(out, "%s%s\n", s->why[0] ? "  too much: " : "", s->why);
}

static void print_law(FILE *out, const struct usl *law)
{
    fprintf(out, "law: contention %.3g, coherency %.3g (R2 %.2f)", law->sigma, law->kappa, law->r2);
    if (law->most_per_second > 0)
        fprintf(out, "; at most %.0f requests/s", law->most_per_second);
    if (law->peak_in_flight > 0)
        fprintf(out, ", with %.1f at once; with more it is less", law->peak_in_flight);
    fputc('\n', out);
    if (law->knee_per_second > 0)
        fprintf(out, "knee: %.0f requests/s; beyond it latency grows faster than throughput\n", law->knee_per_second);
}

static void print_capacity(FILE *out, const struct bench_capacity *c)
{
    for (unsigned i = 0; i < c->count; i++)
        print_step(out, &c->steps[i]);
    if (c->rate > 0)
        fprintf(out, "capacity: %.0f requests/s with p99 within %.0f ms\n", c->rate, c->slo_ms);
    else
        fprintf(out, "capacity: none, not even the lowest rate was borne with p99 within %.0f ms\n", c->slo_ms);
    if (c->law)
        print_law(out, c->law);
    else
        fprintf(out, "law: the steps follow none that would tell the most or the knee\n");
}

void bench_report_table(FILE *out, const struct bench_report *r)
{
    const struct bench_result *l = r->last;
    const struct bench_figures *f = &r->runs[r->count - 1];
    fprintf(out, "%s, %u connections, %s", r->target, r->opts->connections, r->opts->rate > 0 ? "open loop" : "closed loop");
    if (r->opts->rate > 0)
        fprintf(out, ", %.0f/s%s", r->opts->rate, r->opts->poisson ? ", Poisson" : "");
    fprintf(out, ", %.1f s%s\n", l->seconds, r->count > 1 ? " each, the median of the runs (lowest to highest)" : "");
    const struct bench_intervals *in = r->intervals;
    row(out, r, "answered", "/s", offsetof(struct bench_figures, per_second), in ? &in->per_second : NULL);
    row(out, r, "response p50", "ms", offsetof(struct bench_figures, p50_ms), in ? &in->p50_ms : NULL);
    row(out, r, "response p95", "ms", offsetof(struct bench_figures, p95_ms), in ? &in->p95_ms : NULL);
    row(out, r, "response p99", "ms", offsetof(struct bench_figures, p99_ms), in ? &in->p99_ms : NULL);
    row(out, r, "response p99.9", "ms", offsetof(struct bench_figures, p999_ms), NULL);
    row(out, r, "response max", "ms", offsetof(struct bench_figures, max_ms), NULL);
    row(out, r, "service p50", "ms", offsetof(struct bench_figures, service_p50_ms), NULL);
    row(out, r, "service p99", "ms", offsetof(struct bench_figures, service_p99_ms), NULL);
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
    if (r->capacity)
        print_capacity(out, r->capacity);
    char text[JUDGE_REASON + 40];
    for (unsigned run = 0; run < r->count; run++)
        for (unsigned i = 0; i < r->runs[run].reason_count; i++)
            fprintf(out, "NOT VALID: %s\n", reason(r, run, i, text, sizeof text));
}

/* ---- for programs ---- */

static void put_range(FILE *out, const struct bench_report *r, const char *name, size_t offset, const struct bench_interval *interval)
{
    struct bench_range range;
    if (!range_of(r, offset, &range)) {
        fprintf(out, "\"%s\": null, ", name);
        return;
    }
    fprintf(out, "\"%s\": {\"median\": %.4f, \"min\": %.4f, \"max\": %.4f, \"interval\": ", name, range.median, range.min, range.max);
    if (interval)
        fprintf(out, "[%.4f, %.4f]}, ", interval->low, interval->high);
    else
        fputs("null}, ", out);
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

static void put_ms(FILE *out, const char *name, double ms)
{
    if (ms < 0)
        fprintf(out, ", \"%s\": null", name);
    else
        fprintf(out, ", \"%s\": %.3f", name, ms);
}

static void put_step(FILE *out, const struct bench_step *s)
{
    fprintf(out, "{\"rate\": %.1f, \"requests_per_second\": %.1f", s->rate, s->per_second);
    put_ms(out, "mean_ms", s->mean_ms);
    put_ms(out, "p99_ms", s->p99_ms);
    fprintf(out, ", \"borne\": %s", s->why[0] ? "false, \"reason\": " : "true");
    if (s->why[0])
        json_text(out, s->why);
    fputc('}', out);
}

static void put_law(FILE *out, const struct usl *law)
{
    if (!law) {
        fputs("null", out);
        return;
    }
    fprintf(out, "{\"lambda\": %.6g, \"sigma\": %.6g, \"kappa\": %.6g, \"r2\": %.4f", law->lambda, law->sigma, law->kappa, law->r2);
    fprintf(out, ", \"knee_per_second\": %.1f, \"knee_in_flight\": %.3f, \"most_per_second\": %.1f, \"peak_in_flight\": %.3f}", law->knee_per_second,
            law->knee_in_flight, law->most_per_second, law->peak_in_flight);
}

static void put_capacity(FILE *out, const struct bench_capacity *c)
{
    fprintf(out, ", \"capacity\": {\"requests_per_second\": %.1f, \"slo_p99_ms\": %.3f, \"steps\": [", c->rate, c->slo_ms);
    for (unsigned i = 0; i < c->count; i++) {
        fputs(i ? ", " : "", out);
        put_step(out, &c->steps[i]);
    }
    fputs("], \"law\": ", out);
    put_law(out, c->law);
    fputc('}', out);
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
    fprintf(out, "\"scheduled\": %llu, \"sent\": %llu, \"answered\": %llu, \"late\": %llu, \"queued\": %llu, \"dropped\": %llu, \"starved\": %llu",
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

static void put_reasons(FILE *out, const struct bench_report *r)
{
    char text[JUDGE_REASON + 40];
    const char *comma = "";
    for (unsigned run = 0; run < r->count; run++)
        for (unsigned i = 0; i < r->runs[run].reason_count; i++) {
            fputs(comma, out);
            json_text(out, reason(r, run, i, text, sizeof text));
            comma = ", ";
        }
}

void bench_report_json(FILE *out, const struct bench_report *r)
{
    const struct bench_intervals *in = r->intervals;
    fputs("{\"target\": ", out);
    json_text(out, r->target);
    fprintf(out, ", \"mode\": \"%s\", \"connections\": %u, \"rate\": %.1f, \"poisson\": %s, \"valid\": %s, \"reasons\": [",
            r->opts->rate > 0 ? "open" : "closed", r->opts->connections, r->opts->rate, r->opts->poisson ? "true" : "false",
            bench_report_valid(r) ? "true" : "false");
    put_reasons(out, r);
    fprintf(out, "], \"repeats\": %u, ", r->count);
    put_range(out, r, "requests_per_second", offsetof(struct bench_figures, per_second), in ? &in->per_second : NULL);
    put_range(out, r, "p50_ms", offsetof(struct bench_figures, p50_ms), in ? &in->p50_ms : NULL);
    put_range(out, r, "p95_ms", offsetof(struct bench_figures, p95_ms), in ? &in->p95_ms : NULL);
    put_range(out, r, "p99_ms", offsetof(struct bench_figures, p99_ms), in ? &in->p99_ms : NULL);
    put_last(out, r);
    if (r->capacity)
        put_capacity(out, r->capacity);
    put_environment(out, r->version);
    fputs("}\n", out);
}
