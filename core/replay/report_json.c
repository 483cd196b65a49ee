// SPDX-License-Identifier: MIT
#include "replay/report.h"

#include "base/clock.h"

typedef unsigned long long ull;

/* What is no ASCII is replaced: a log need not be UTF-8, JSON must. */
static void put_text(FILE *out, const char *p, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++) {
        if (p[i] == '"' || p[i] == '\\')
            fputc('\\', out);
        fputc(p[i] >= 32 && p[i] < 127 ? p[i] : '?', out);
    }
    fputc('"', out);
}

static void put_route(FILE *out, const struct report *r, const struct route *one)
{
    fprintf(out, "\"requests\": %llu, \"errors\": %llu, \"bytes\": %llu, \"share\": %.6f", (ull)one->requests, (ull)one->errors,
            (ull)one->bytes, report_share(r, one));
    if (one->timed)
        fprintf(out, ", \"mean_ms\": %.3f, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p95_ms\": %.3f, \"p99_ms\": %.3f",
                1000 * one->seconds / (double)one->timed, route_quantile_ms(one, .5), route_quantile_ms(one, .9),
                route_quantile_ms(one, .95), route_quantile_ms(one, .99));
}

static void put_routes(FILE *out, const struct report *r)
{
    fputs(",\n\"total\": {", out);
    put_route(out, r, &r->routes->total);
    fputs("},\n\"routes\": [", out);
    for (unsigned i = 0; i < r->routes->count; i++) {
        fputs(i ? ",\n  {\"route\": " : "\n  {\"route\": ", out);
        put_text(out, r->routes->list[i].name, r->routes->list[i].name_len);
        fputs(", ", out);
        put_route(out, r, &r->routes->list[i]);
        fputc('}', out);
    }
    fputc(']', out);
}

static void put_findings(FILE *out, const struct findings *f)
{
    char a[CLOCK_TEXT], b[CLOCK_TEXT];
    fputs(",\n\"bursts\": [", out);
    for (unsigned i = 0; i < f->burst_count; i++)
        fprintf(out, "%s\n  {\"from\": \"%s\", \"to\": \"%s\", \"requests\": %llu, \"errors\": %llu}", i ? "," : "",
                report_time(f->bursts[i].from_s, a), report_time(f->bursts[i].to_s, b), (ull)f->bursts[i].requests,
                (ull)f->bursts[i].errors);
    fputs("],\n\"changes\": [", out);
    for (unsigned i = 0; i < f->change_count; i++)
        fprintf(out, "%s\n  {\"at\": \"%s\", \"what\": \"%s\", \"unit\": \"%s\", \"before\": %.3f, \"after\": %.3f}", i ? "," : "",
                report_time(f->changes[i].at_s, a), f->changes[i].what, f->changes[i].unit, f->changes[i].before,
                f->changes[i].after);
    fputs("],\n\"patterns\": [", out);
    for (unsigned i = 0; i < f->pattern_count; i++) {
        const struct pattern *p = &f->patterns[i];
        fprintf(out, "%s\n  {\"name\": \"%s\", \"share\": %.4f, \"rps\": %.3f, ", i ? "," : "", p->name, p->share, p->rps);
        if (p->latency_ms >= 0)
            fprintf(out, "\"latency_ms\": %.3f, ", p->latency_ms);
        fprintf(out, "\"errors\": %.6f, \"last\": \"%s\"}", p->errors, report_time(p->last_s, a));
    }
    fputs("],\n\"look_at\": [", out);
    for (unsigned i = 0; i < f->hint_count; i++) {
        fputs(i ? ",\n  " : "\n  ", out);
        put_text(out, f->hints[i].text, strlen(f->hints[i].text));
    }
    fputc(']', out);
}

void report_json(FILE *out, const struct report *r)
{
    char a[CLOCK_TEXT], b[CLOCK_TEXT];
    int64_t from_s, to_s;
    fputs("{\"format\": ", out);
    put_text(out, r->format->name ? r->format->name : "", r->format->name ? strlen(r->format->name) : 0);
    fprintf(out, ", \"lines\": %llu, \"bad\": %llu, \"strays\": %llu", (ull)r->lines, (ull)r->bad, (ull)r->series->strays);
    if (r->routes->total.requests) {
        report_span(r, &from_s, &to_s);
        fprintf(out, ",\n\"from\": \"%s\", \"to\": \"%s\"", report_time(from_s, a), report_time(to_s, b));
        fprintf(out, ",\n\"status\": {\"none\": %llu, \"1xx\": %llu, \"2xx\": %llu, \"3xx\": %llu, \"4xx\": %llu, \"5xx\": %llu}",
                (ull)r->status[0], (ull)r->status[1], (ull)r->status[2], (ull)r->status[3], (ull)r->status[4],
                (ull)r->status[5]);
        put_routes(out, r);
        put_findings(out, r->findings);
    }
    fputs("}\n", out);
}
