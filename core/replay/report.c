// SPDX-License-Identifier: MIT
#include "replay/report.h"

#include "base/clock.h"

typedef unsigned long long ull;

double report_share(const struct report *r, const struct route *one)
{
    const struct route *total = &r->routes->total;
    return total->seconds > 0 ? one->seconds / total->seconds : (double)one->requests / (double)total->requests;
}

const char *report_time(int64_t at_s, char out[32])
{
    clock_rfc3339((uint64_t)at_s * 1000, out);
    return out;
}

const char *report_ms(const struct route *one, double q, char out[REPORT_MS])
{
    if (one->timed)
        snprintf(out, REPORT_MS, "%.1f", route_quantile_ms(one, q));
    else
        snprintf(out, REPORT_MS, "-");
    return out;
}

void report_span(const struct report *r, int64_t *from_s, int64_t *to_s)
{
    *from_s = r->series->first_s;
    *to_s = timeline_time(r->series, r->series->used);
}

static void put_name(FILE *out, const struct route *one)
{
    for (size_t i = 0; i < one->name_len; i++)
        fputc(one->name[i] >= 32 && one->name[i] < 127 && one->name[i] != '|' ? one->name[i] : '?', out);
}

static void put_head(FILE *out, const struct report *r, bool md)
{
    const char *item = md ? "- " : "";
    char from[CLOCK_TEXT], to[CLOCK_TEXT];
    int64_t from_s, to_s;
    fprintf(out, "%sformat: %s\n%s%llu lines, %llu of them bad\n", item, r->format->name ? r->format->name : "none, the log is empty",
            item, (ull)r->lines, (ull)r->bad);
    if (r->format->name)
        fprintf(out, md ? "- why: `%s`\n" : "why: %s\n", r->why);
    if (!r->routes->total.requests)
        return;
    report_span(r, &from_s, &to_s);
    fprintf(out, "%s%s to %s\n%s2xx %llu, 3xx %llu, 4xx %llu, 5xx %llu; %llu bytes\n", item, report_time(from_s, from),
            report_time(to_s, to), item, (ull)r->status[2], (ull)r->status[3], (ull)r->status[4], (ull)r->status[5],
            (ull)r->routes->total.bytes);
    if (r->series->strays)
        fprintf(out, "%s%llu lines have a time far from all others: they count, but not over time\n", item, (ull)r->series->strays);
}

static void put_hints(FILE *out, const struct report *r, const char *title)
{
    if (r->findings->hint_count)
        fprintf(out, "\n%s\n", title);
    for (unsigned i = 0; i < r->findings->hint_count; i++)
        fprintf(out, "%u. %s\n", i + 1, r->findings->hints[i].text);
}

static void put_routes(FILE *out, const struct report *r, bool md)
{
    const char *bar = md ? "| " : "";
    char p50[REPORT_MS], p95[REPORT_MS], p99[REPORT_MS];
    fprintf(out, "%s%10s %s%7s %s%9s %s%9s %s%9s %s%7s %s route%s\n", bar, "requests", bar, "share", bar, "p50 ms", bar, "p95 ms", bar,
            "p99 ms", bar, "5xx %", bar, md ? " |\n|---:|---:|---:|---:|---:|---:|---|" : "");
    for (unsigned i = 0; i < r->routes->count && i < REPORT_ROUTES; i++) {
        const struct route *one = &r->routes->list[i];
        fprintf(out, "%s%10llu %s%6.1f%% %s%9s %s%9s %s%9s %s%7.2f %s ", bar, (ull)one->requests, bar, 100 * report_share(r, one),
                bar, report_ms(one, .5, p50), bar, report_ms(one, .95, p95), bar, report_ms(one, .99, p99), bar, 100 * route_errors(one), bar);
        put_name(out, one);
        fputs(md ? " |\n" : "\n", out);
    }
    if (r->routes->count > REPORT_ROUTES)
        fprintf(out, "%sand %u more routes\n", md ? "\n" : "", r->routes->count - REPORT_ROUTES);
    fprintf(out, "%sshare is of the %s\n", md ? "\n" : "", r->routes->total.timed ? "total time" : "requests: the log has no request time");
}

static void put_bursts(FILE *out, const struct findings *f, const char *before)
{
    char from[CLOCK_TEXT], to[CLOCK_TEXT];
    for (unsigned i = 0; i < f->burst_count; i++)
        fprintf(out, "%s%s to %s: %llu of %llu requests failed with 5xx\n", before, report_time(f->bursts[i].from_s, from),
                report_time(f->bursts[i].to_s, to), (ull)f->bursts[i].errors, (ull)f->bursts[i].requests);
    if (f->bursts_found > f->burst_count)
        fprintf(out, "%sand %u smaller bursts\n", before, f->bursts_found - f->burst_count);
}

static void put_changes(FILE *out, const struct findings *f, const char *before)
{
    char at[CLOCK_TEXT];
    for (unsigned i = 0; i < f->change_count; i++)
        fprintf(out, "%s%s: %s went from %.1f to %.1f %s\n", before, report_time(f->changes[i].at_s, at), f->changes[i].what,
                f->changes[i].before, f->changes[i].after, f->changes[i].unit);
}

static void put_patterns(FILE *out, const struct findings *f, const char *before)
{
    char at[CLOCK_TEXT];
    for (unsigned i = 0; i < f->pattern_count; i++) {
        const struct pattern *p = &f->patterns[i];
        fprintf(out, "%s%s: %.0f %% of the minutes, %.1f requests/s, ", before, p->name, 100 * p->share, p->rps);
        if (p->latency_ms >= 0)
            fprintf(out, "mean %.1f ms, ", p->latency_ms);
        fprintf(out, "%.2f %% errors, last at %s\n", 100 * p->errors, report_time(p->last_s, at));
    }
}

static void put_all(FILE *out, const struct report *r, bool md)
{
    const struct findings *f = r->findings;
    const char *before = md ? "- " : "  ", *title = md ? "## " : "";
    put_head(out, r, md);
    if (!r->routes->total.requests)
        return;
    put_hints(out, r, md ? "## What to look at first\n" : "what to look at first:");
    fprintf(out, "\n%s%s", title, md ? "Routes\n\n" : "");
    put_routes(out, r, md);
    if (f->burst_count)
        fprintf(out, "\n%s%s\n", title, md ? "Error bursts\n" : "error bursts:");
    put_bursts(out, f, before);
    if (f->change_count)
        fprintf(out, "\n%s%s\n", title, md ? "Changes\n" : "changes:");
    put_changes(out, f, before);
    if (f->pattern_count)
        fprintf(out, "\n%s%s\n", title, md ? "Patterns\n" : "patterns:");
    put_patterns(out, f, before);
}

void report_terminal(FILE *out, const struct report *r)
{
    put_all(out, r, false);
}

void report_md(FILE *out, const struct report *r)
{
    fputs("# What the access log says\n\n", out);
    put_all(out, r, true);
}
