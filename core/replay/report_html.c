/* report_html.c - one file that needs nothing else: style and charts are inside, and it has no script. */
// SPDX-License-Identifier: MIT
#include "replay/report.h"

#include "base/clock.h"

#include <math.h>

typedef unsigned long long ull;

enum { CHART_WIDTH = 900, CHART_HEIGHT = 120, CHART_POINTS = 300 };

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n"
    "<title>What the access log says</title>\n<style>\n"
    ":root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--faint:#d0d7de;--line:#0969da;--bad:#cf222e}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--faint:#30363d;--line:#58a6ff;--bad:#ff7b72}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}\n"
    "table{border-collapse:collapse;width:100%}th,td{padding:.2rem .6rem;border-bottom:1px solid var(--faint);text-align:right}\n"
    "th:last-child,td:last-child{text-align:left;word-break:break-all}svg{width:100%;height:auto}\n"
    "text{fill:var(--ink);font-size:11px}.grid{stroke:var(--faint)}.line{fill:none;stroke:var(--line);stroke-width:1.5}\n"
    ".burst{fill:var(--bad);opacity:.25}.change{stroke:var(--bad);stroke-dasharray:3 3}\n</style></head><body>\n";

static void put_text(FILE *out, const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = p[i];
        if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
            fprintf(out, "&#%d;", c);
        else
            fputc(c >= 32 && c < 127 ? c : '?', out);
    }
}

/* ---- charts ---- */

enum chart { CHART_RPS, CHART_LATENCY, CHART_ERRORS };

static double chart_value(enum chart kind, const struct bucket *b, double span_s)
{
    switch (kind) {
    case CHART_RPS:
        return (double)b->requests / span_s;
    case CHART_LATENCY:
        return b->timed ? 1000 * b->seconds / (double)b->timed : NAN;
    default:
        return b->requests ? 100 * (double)b->errors / (double)b->requests : NAN;
    }
}

/* At most CHART_POINTS values over the whole time; returns how many. */
static size_t chart_points(const struct timeline *s, enum chart kind, double out[CHART_POINTS], double *most)
{
    size_t unit = (s->used + CHART_POINTS - 1) / CHART_POINTS, n = 0;
    *most = 0;
    for (size_t i = 0; i < s->used; i += unit) {
        struct bucket sum = {0};
        size_t end = i + unit < s->used ? i + unit : s->used;
        for (size_t k = i; k < end; k++)
            bucket_join(&sum, &s->buckets[k]);
        out[n] = chart_value(kind, &sum, (double)((int64_t)(end - i) * s->width_s));
        *most = fmax(*most, out[n++]); /* fmax leaves a NaN out */
    }
    return n;
}

static double x_of(const struct timeline *s, int64_t at_s)
{
    return CHART_WIDTH * (double)(at_s - s->first_s) / (double)((int64_t)s->used * s->width_s);
}

static void put_marks(FILE *out, const struct report *r)
{
    const struct findings *f = r->findings;
    for (unsigned i = 0; i < f->burst_count; i++) {
        double from = x_of(r->series, f->bursts[i].from_s), to = x_of(r->series, f->bursts[i].to_s);
        fprintf(out, "<rect class=\"burst\" x=\"%.1f\" y=\"0\" width=\"%.1f\" height=\"%d\"/>", from, fmax(to - from, 1), CHART_HEIGHT);
    }
    for (unsigned i = 0; i < f->change_count; i++) {
        double x = x_of(r->series, f->changes[i].at_s);
        fprintf(out, "<line class=\"change\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%d\"/>", x, x, CHART_HEIGHT);
    }
}

static void put_chart(FILE *out, const struct report *r, enum chart kind, const char *title)
{
    double y[CHART_POINTS], most;
    char from[CLOCK_TEXT], to[CLOCK_TEXT];
    int64_t from_s, to_s;
    bool drawing = false;
    size_t n = chart_points(r->series, kind, y, &most);
    report_span(r, &from_s, &to_s);
    fprintf(out, "<h3>%s</h3><svg viewBox=\"0 -14 %d %d\" role=\"img\" aria-label=\"%s\">", title, CHART_WIDTH, CHART_HEIGHT + 32, title);
    fprintf(out, "<line class=\"grid\" x1=\"0\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>", CHART_WIDTH, CHART_HEIGHT, CHART_HEIGHT);
    put_marks(out, r);
    fputs("<path class=\"line\" d=\"", out);
    for (size_t i = 0; i < n; i++) {
        if (!isnan(y[i]))
            fprintf(out, "%c%.1f %.1f", drawing ? 'L' : 'M', CHART_WIDTH * ((double)i + .5) / (double)n,
                    CHART_HEIGHT - (most > 0 ? y[i] / most * CHART_HEIGHT : 0));
        drawing = !isnan(y[i]);
    }
    fprintf(out, "\"/><text x=\"0\" y=\"-3\">%.4g</text><text x=\"0\" y=\"%d\">%.19sZ</text>", most, CHART_HEIGHT + 14, report_time(from_s, from));
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.19sZ</text></svg>\n", CHART_WIDTH, CHART_HEIGHT + 14, report_time(to_s, to));
}

/* ---- tables ---- */

static void put_routes(FILE *out, const struct report *r)
{
    char p50[REPORT_MS], p95[REPORT_MS], p99[REPORT_MS];
    fprintf(out, "<h2>Routes</h2><p>Share is of the %s.</p><table><tr><th>requests<th>share<th>p50 ms<th>p95 ms<th>p99 ms<th>5xx %%<th>route</tr>\n",
            r->routes->total.timed ? "total time" : "requests: the log has no request time");
    for (unsigned i = 0; i < r->routes->count && i < 5 * REPORT_ROUTES; i++) {
        const struct route *one = &r->routes->list[i];
        fprintf(out, "<tr><td>%llu<td>%.1f %%<td>%s<td>%s<td>%s<td>%.2f<td>", (ull)one->requests, 100 * report_share(r, one),
                report_ms(one, .5, p50), report_ms(one, .95, p95), report_ms(one, .99, p99), 100 * route_errors(one));
        put_text(out, one->name, one->name_len);
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
}

static void put_events(FILE *out, const struct findings *f)
{
    char a[CLOCK_TEXT], b[CLOCK_TEXT];
    if (f->burst_count)
        fputs("<h2>Error bursts</h2><ul>", out);
    for (unsigned i = 0; i < f->burst_count; i++)
        fprintf(out, "<li>%s to %s: %llu of %llu requests failed with 5xx</li>\n", report_time(f->bursts[i].from_s, a),
                report_time(f->bursts[i].to_s, b), (ull)f->bursts[i].errors, (ull)f->bursts[i].requests);
    fputs(f->burst_count ? "</ul>\n" : "", out);
    if (f->change_count)
        fputs("<h2>Changes</h2><ul>", out);
    for (unsigned i = 0; i < f->change_count; i++)
        fprintf(out, "<li>%s: %s went from %.1f to %.1f %s</li>\n", report_time(f->changes[i].at_s, a), f->changes[i].what,
                f->changes[i].before, f->changes[i].after, f->changes[i].unit);
    fputs(f->change_count ? "</ul>\n" : "", out);
}

static void put_patterns(FILE *out, const struct findings *f)
{
    char at[CLOCK_TEXT];
    if (!f->pattern_count)
        return;
    fputs("<h2>Patterns</h2><table><tr><th>minutes<th>requests/s<th>mean ms<th>errors<th>last<th>name</tr>\n", out);
    for (unsigned i = 0; i < f->pattern_count; i++) {
        const struct pattern *p = &f->patterns[i];
        fprintf(out, "<tr><td>%.0f %%<td>%.1f<td>", 100 * p->share, p->rps);
        if (p->latency_ms >= 0)
            fprintf(out, "%.1f", p->latency_ms);
        fprintf(out, "<td>%.2f %%<td>%.19sZ<td>%s</tr>\n", 100 * p->errors, report_time(p->last_s, at), p->name);
    }
    fputs("</table>\n", out);
}

void report_html(FILE *out, const struct report *r)
{
    const struct findings *f = r->findings;
    fprintf(out, "%s<h1>What the access log says</h1><p>%llu lines, %llu of them bad; format: %s</p>\n", head, (ull)r->lines,
            (ull)r->bad, r->format->name ? r->format->name : "none, the log is empty");
    if (r->routes->total.requests) {
        fputs(f->hint_count ? "<h2>What to look at first</h2><ol>" : "", out);
        for (unsigned i = 0; i < f->hint_count; i++) {
            fputs("<li>", out);
            put_text(out, f->hints[i].text, strlen(f->hints[i].text));
            fputs("</li>\n", out);
        }
        fputs(f->hint_count ? "</ol>\n" : "", out);
        put_chart(out, r, CHART_RPS, "Requests per second");
        if (r->routes->total.timed)
            put_chart(out, r, CHART_LATENCY, "Mean latency, ms");
        put_chart(out, r, CHART_ERRORS, "Share of 5xx, %");
        put_routes(out, r);
        put_events(out, f);
        put_patterns(out, f);
    }
    fputs("</body></html>\n", out);
}
