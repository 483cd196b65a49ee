// SPDX-License-Identifier: MIT
#include "replay/findings.h"

#include "base/clock.h"
#include "base/err.h"
#include "ml/kmeans.h"
#include "replay/steps.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BURST_UNIT_S = 10, MINUTE_S = 60, PATTERN_ROWS = 12 };

static size_t unit_of(const struct timeline *s, int64_t seconds)
{
    return s->width_s >= seconds ? 1 : (size_t)((seconds + s->width_s - 1) / s->width_s);
}

static struct bucket join_unit(const struct timeline *s, size_t from, size_t unit)
{
    struct bucket sum = {0};
    for (size_t i = from; i < from + unit && i < s->used; i++)
        bucket_join(&sum, &s->buckets[i]);
    return sum;
}

static double ratio(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

/* ---- bursts ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The median share of errors of a unit; scratch holds one value per unit. */
static double usual_share(const struct timeline *s, size_t unit, double *scratch)
{
    size_t n = 0;
    for (size_t i = 0; i < s->used; i += unit) {
        struct bucket b = join_unit(s, i, unit);
        if (b.requests)
            scratch[n++] = ratio(b.errors, b.requests);
    }
    qsort(scratch, n, sizeof *scratch, ascending);
    return n ? scratch[n / 2] : 0;
}

static bool is_hot(const struct bucket *b, double usual)
{
    double mean = usual * (double)b->requests;
    return (double)b->errors > mean + 4 * sqrt(mean) + 2 && ratio(b->errors, b->requests) >= fmax(.02, 2 * usual);
}

/* Keeps the BURSTS_MOST with the most errors, in order of time. */
static void keep_burst(struct findings *f, const struct burst *b)
{
    f->bursts_found++;
    if (f->burst_count < BURSTS_MOST) {
        f->bursts[f->burst_count++] = *b;
        return;
    }
    unsigned least = 0;
    for (unsigned i = 1; i < BURSTS_MOST; i++)
        if (f->bursts[i].errors < f->bursts[least].errors)
            least = i;
    if (f->bursts[least].errors >= b->errors)
        return;
    memmove(f->bursts + least, f->bursts + least + 1, (BURSTS_MOST - 1 - least) * sizeof *f->bursts);
    f->bursts[BURSTS_MOST - 1] = *b;
}

/* From the first to the last bucket with an error in units [from, to). */
static struct burst trim_burst(const struct timeline *s, size_t from, size_t to)
{
    to = to < s->used ? to : s->used;
    while (from + 1 < to && !s->buckets[from].errors)
        from++;
    while (to > from + 1 && !s->buckets[to - 1].errors)
        to--;
    struct bucket sum = join_unit(s, from, to - from);
    return (struct burst){timeline_time(s, from), timeline_time(s, to), sum.requests, sum.errors};
}

static void find_bursts(struct findings *f, const struct timeline *s, double *scratch)
{
    size_t unit = unit_of(s, BURST_UNIT_S), from = 0, to = 0; /* open while to > 0 */
    double usual = usual_share(s, unit, scratch);
    for (size_t i = 0; i < s->used; i += unit) {
        struct bucket b = join_unit(s, i, unit);
        if (is_hot(&b, usual)) {
            from = to ? from : i;
            to = i + unit;
        } else if (to && i >= to + 2 * unit) { /* two quiet units end it */
            struct burst one = trim_burst(s, from, to);
            keep_burst(f, &one);
            to = 0;
        }
    }
    if (to) {
        struct burst one = trim_burst(s, from, to);
        keep_burst(f, &one);
    }
}

/* ---- changes ---- */

static double error_share(const struct bucket *b)
{
    return ratio(b->errors, b->requests);
}

static double log_mean(const struct bucket *b)
{
    return log(b->seconds / (double)b->timed + 1e-4);
}

struct signal {
    const char *what, *unit;
    double (*of)(const struct bucket *b);
    bool share;
    double least; /* below that nobody acts */
};

static uint64_t weight_of(const struct bucket *b, const struct signal *g)
{
    return g->share ? b->requests : b->timed;
}

/* The least that a unit should count. The log of a mean of few requests lies lower and wider than that of many: units of
 * the usual number keep a quiet night from looking like a fast one. A share needs none, its cost knows the counts. */
static uint64_t enough(const struct timeline *s, const struct signal *g, double *scratch)
{
    size_t n = 0;
    for (size_t i = 0; !g->share && i < s->used; i++)
        if (weight_of(&s->buckets[i], g))
            scratch[n++] = (double)weight_of(&s->buckets[i], g);
    if (!n)
        return 1;
    qsort(scratch, n, sizeof *scratch, ascending);
    return (uint64_t)scratch[n / 2];
}

static size_t make_units(const struct timeline *s, const struct signal *g, uint64_t least, struct step_unit *units, size_t *index)
{
    struct bucket sum = {0};
    size_t n = 0;
    for (size_t i = 0; i < s->used; i++) {
        if (!weight_of(&s->buckets[i], g))
            continue;
        if (!weight_of(&sum, g))
            index[n] = i;
        bucket_join(&sum, &s->buckets[i]);
        if (weight_of(&sum, g) < least)
            continue;
        units[n++] = (struct step_unit){g->share ? (double)sum.requests : 1, g->of(&sum)};
        sum = (struct bucket){0};
    }
    return n;
}

static int find_changes(struct findings *f, const struct timeline *s, const struct signal *g, double *scratch)
{
    struct step found[CHANGES_MOST];
    size_t count = 0;
    struct step_unit *units = calloc(s->used, sizeof *units);
    size_t *index = calloc(s->used, sizeof *index);
    int code = units && index ? 0 : ERR_NOMEM;
    if (!code)
        code = steps_find(units, make_units(s, g, enough(s, g, scratch), units, index), g->share, g->least, found, CHANGES_MOST, &count);
    for (size_t i = 0; i < count; i++) {
        double before = found[i].before, after = found[i].after;
        f->changes[f->change_count++] = (struct change){
            .at_s = timeline_time(s, index[found[i].at]), .what = g->what, .unit = g->unit,
            .before = g->share ? 100 * before : 1000 * exp(before), .after = g->share ? 100 * after : 1000 * exp(after)};
    }
    free(units);
    free(index);
    return code;
}

/* ---- patterns ---- */

struct minutes {
    size_t n;
    struct bucket *of;
    int64_t *at_s;
};

static void name_pattern(struct pattern *p, const struct pattern *usual)
{
    const char *load = p->rps > 1.5 * usual->rps ? "busy" : p->rps < usual->rps / 1.5 ? "quiet" : NULL;
    const char *speed = p->latency_ms < 0                            ? NULL
                        : p->latency_ms > 1.3 * usual->latency_ms ? "slow"
                        : p->latency_ms < usual->latency_ms / 1.3 ? "fast"
                                                                     : NULL;
    bool failing = p->errors > usual->errors + .01 && p->errors > 2 * usual->errors;
    snprintf(p->name, sizeof p->name, "%s%s%s%s%s", load ? load : "", load && (speed || failing) ? ", " : "",
             speed ? speed : "", speed && failing ? ", " : "", failing ? "failing" : "");
    if (!p->name[0])
        snprintf(p->name, sizeof p->name, "usual");
}

static struct pattern sum_pattern(const struct minutes *m, const struct kmeans *k, uint32_t group, double unit_s)
{
    struct pattern p = {0};
    struct bucket sum = {0};
    for (size_t i = 0; i < m->n; i++)
        if (k->group[i] == group) {
            bucket_join(&sum, &m->of[i]);
            p.last_s = m->at_s[i] > p.last_s ? m->at_s[i] : p.last_s;
        }
    p.share = (double)k->sizes[group] / (double)m->n;
    p.rps = (double)sum.requests / ((double)k->sizes[group] * unit_s);
    p.latency_ms = sum.timed ? 1000 * sum.seconds / (double)sum.timed : -1;
    p.errors = ratio(sum.errors, sum.requests);
    return p;
}

static int by_share(const void *a, const void *b)
{
    const struct pattern *x = a, *y = b;
    return x->share < y->share ? 1 : x->share > y->share ? -1 : 0;
}

/* Columns on scales where 1 is a difference one would name: a factor of e^.3, 3 % of errors. */
static int group_minutes(struct findings *f, const struct minutes *m, double unit_s)
{
    struct mat rows;
    struct kmeans *k;
    if (mat_new(&rows, m->n, 3) != 0)
        return ERR_NOMEM;
    for (size_t i = 0; i < m->n; i++) {
        double *row = mat_row(&rows, i);
        const struct bucket *b = &m->of[i];
        row[0] = log((double)b->requests) / .5;
        row[1] = b->timed ? log_mean(b) / .3 : 0;
        row[2] = fmin(error_share(b), .5) / .03;
    }
    int code = kmeans_fit(&k, &rows, &(struct kmeans_opts){.k_most = PATTERNS_MOST, .seed = 1});
    mat_free(&rows);
    if (code != 0)
        return code == ERR_NOMEM ? code : 0;
    for (uint32_t g = 0; g < k->k; g++)
        if (k->sizes[g])
            f->patterns[f->pattern_count++] = sum_pattern(m, k, g, unit_s);
    kmeans_free(k);
    qsort(f->patterns, f->pattern_count, sizeof *f->patterns, by_share);
    const struct pattern usual = f->patterns[0];
    for (unsigned i = 0; i < f->pattern_count; i++)
        name_pattern(&f->patterns[i], &usual);
    return 0;
}

static int find_patterns(struct findings *f, const struct timeline *s)
{
    size_t unit = unit_of(s, MINUTE_S), most = s->used / unit + 1;
    struct minutes m = {.of = calloc(most, sizeof *m.of), .at_s = calloc(most, sizeof *m.at_s)};
    int code = m.of && m.at_s ? 0 : ERR_NOMEM;
    for (size_t i = 0; !code && i + unit <= s->used; i += unit) { /* whole minutes only */
        struct bucket b = join_unit(s, i, unit);
        if (!b.requests)
            continue;
        m.of[m.n] = b;
        m.at_s[m.n++] = timeline_time(s, i);
    }
    if (!code && m.n >= PATTERN_ROWS)
        code = group_minutes(f, &m, (double)unit * (double)s->width_s);
    free(m.of);
    free(m.at_s);
    return code;
}

/* ---- what to look at first ---- */

__attribute__((format(printf, 3, 4))) static void hint(struct findings *f, double weight, const char *format, ...)
{
    struct hint one = {.weight = weight};
    va_list args;
    va_start(args, format);
    vsnprintf(one.text, sizeof one.text, format, args);
    va_end(args);
    for (char *p = one.text; *p; p++) /* names of routes come from the log */
        *p = *p >= 32 && *p < 127 ? *p : '?';
    unsigned at = f->hint_count;
    while (at > 0 && f->hints[at - 1].weight < weight)
        at--;
    if (at == HINTS_MOST)
        return;
    unsigned moved = f->hint_count < HINTS_MOST ? f->hint_count - at : HINTS_MOST - 1 - at;
    memmove(f->hints + at + 1, f->hints + at, moved * sizeof *f->hints);
    f->hints[at] = one;
    f->hint_count += f->hint_count < HINTS_MOST;
}

static void hint_bursts(struct findings *f)
{
    char from[CLOCK_TEXT], to[CLOCK_TEXT];
    for (unsigned i = 0; i < f->burst_count; i++) {
        const struct burst *b = &f->bursts[i];
        clock_rfc3339((uint64_t)b->from_s * 1000, from);
        clock_rfc3339((uint64_t)b->to_s * 1000, to);
        hint(f, 3 + log10((double)b->errors), "From %.19sZ to %.19sZ, %llu of %llu requests failed: see what was deployed, restarted or down then.",
             from, to, (unsigned long long)b->errors, (unsigned long long)b->requests);
    }
}

static void hint_changes(struct findings *f)
{
    char at[CLOCK_TEXT];
    for (unsigned i = 0; i < f->change_count; i++) {
        const struct change *c = &f->changes[i];
        if (c->after <= c->before || c->unit[0] != 'm')
            continue;
        clock_rfc3339((uint64_t)c->at_s * 1000, at);
        hint(f, 2 + c->after / c->before, "At %.19sZ the %s went from %.1f to %.1f ms: look for a release, a new client or a slower dependency then.", at,
             c->what, c->before, c->after);
    }
}

static void hint_routes(struct findings *f, const struct routes *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct route *one = &r->list[i];
        int len = (int)(one->name_len < 80 ? one->name_len : 80);
        double share = r->total.seconds > 0 ? one->seconds / r->total.seconds : 0;
        double p50 = route_quantile_ms(one, .5), p99 = route_quantile_ms(one, .99);
        if (r->count > 1 && share >= .25)
            hint(f, 1 + 3 * share, "%.*s takes %.0f %% of all time: making it faster pays most.", len, one->name, 100 * share);
        if (one->requests >= 100 && route_errors(one) >= fmax(.01, r->count > 1 ? 1.5 * route_errors(&r->total) : 0))
            hint(f, 2 + log10((double)one->errors), "%.*s fails %.1f %% of the time (%llu requests).", len, one->name,
                 100 * route_errors(one), (unsigned long long)one->errors);
        if (one->timed >= 1000 && p99 > 10 * p50 && p99 >= 100 && share >= .02)
            hint(f, 1 + share + log10(p99 / p50), "%.*s has a long tail: p99 is %.0f ms, %.0f times its median.", len, one->name, p99, p99 / p50);
    }
}

int findings_make(struct findings *f, const struct timeline *s, const struct routes *r)
{
    const struct signal latency = {"mean latency", "ms", log_mean, false, log(1.2)};
    static const struct signal errors = {"share of 5xx", "%", error_share, true, .01};
    *f = (struct findings){0};
    if (!s->used)
        return 0;
    double *values = calloc(TIMELINE_BUCKETS, sizeof *values);
    int code = values ? 0 : ERR_NOMEM;
    if (!code)
        find_bursts(f, s, values);
    if (!code)
        code = find_changes(f, s, &latency, values);
    if (!code)
        code = find_changes(f, s, &errors, values);
    if (!code)
        code = find_patterns(f, s);
    free(values);
    hint_bursts(f);
    hint_changes(f);
    hint_routes(f, r);
    return code;
}
