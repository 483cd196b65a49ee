// SPDX-License-Identifier: MIT
#include "replay/replay.h"

#include "base/clock.h"
#include "ml/changepoint.h"
#include "replay/format.h"
#include "replay/template.h"
#include "stats/sketch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    LINE_MOST = 64 << 10,
    ROUTES = 512, /* the last one holds what does not fit */
    BUCKETS = 4096,
    CHANGES = 8,
    BAD_SHOWN = 3,
    ROUTES_SHOWN = 15,
};

struct route {
    char name[TEMPLATE_SIZE];
    size_t name_len;
    uint64_t requests, errors, bytes, timed;
    double seconds;
    uint32_t latency[SKETCH_BUCKETS];
};

struct bucket {
    uint64_t requests, errors;
    uint64_t timed;
    double seconds;
};

struct replay {
    struct format format;
    uint64_t lines, bad, status[6];
    int64_t first_s; /* start of bucket 0 */
    int64_t width_s;
    size_t used; /* buckets up to the newest */
    unsigned route_count;
    struct route total;
    struct bucket buckets[BUCKETS];
    struct route routes[ROUTES];
};

/* ---- counting ---- */

static struct route *find_route(struct replay *r, struct str path)
{
    char text[TEMPLATE_SIZE];
    struct str name = path.p ? template_of(path, text) : STR("(no path)");
    uint64_t at = str_hash(name);
    for (unsigned i = 0; i < ROUTES - 1; i++, at++) {
        struct route *one = &r->routes[at % (ROUTES - 1)];
        if (one->requests && one->name_len == name.len && memcmp(one->name, name.p, name.len) == 0)
            return one;
        if (one->requests)
            continue;
        if (r->route_count >= (ROUTES - 1) * 3 / 4)
            break; /* a fuller table would search too long */
        r->route_count++;
        memcpy(one->name, name.p, name.len);
        one->name_len = name.len;
        return one;
    }
    struct route *rest = &r->routes[ROUTES - 1];
    rest->name_len = (size_t)snprintf(rest->name, sizeof rest->name, "(other routes)");
    return rest;
}

static void halve_buckets(struct replay *r)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        struct bucket one = r->buckets[i];
        r->buckets[i] = (struct bucket){0};
        r->buckets[i / 2].requests += one.requests;
        r->buckets[i / 2].errors += one.errors;
        r->buckets[i / 2].timed += one.timed;
        r->buckets[i / 2].seconds += one.seconds;
    }
    r->width_s *= 2;
    r->used = (r->used + 1) / 2;
}

/* Lines from before the first one (logs are written at the end of requests) count to bucket 0. */
static struct bucket *find_bucket(struct replay *r, int64_t at_s)
{
    if (!r->used)
        r->first_s = at_s;
    int64_t offset = at_s > r->first_s ? at_s - r->first_s : 0;
    while (offset / r->width_s >= BUCKETS)
        halve_buckets(r);
    size_t index = (size_t)(offset / r->width_s);
    if (index >= r->used)
        r->used = index + 1;
    return &r->buckets[index];
}

static void count_route(struct route *one, const struct entry *e)
{
    one->requests++;
    one->errors += e->status >= 500;
    one->bytes += e->bytes;
    if (e->seconds < 0)
        return;
    double ns = fmin(e->seconds * 1e9, 1e18);
    one->timed++;
    one->seconds += e->seconds;
    one->latency[sketch_index((uint64_t)ns)]++;
}

static void count_entry(struct replay *r, const struct entry *e)
{
    struct bucket *b = find_bucket(r, e->at_s);
    b->requests++;
    b->errors += e->status >= 500;
    if (e->seconds >= 0) {
        b->timed++;
        b->seconds += e->seconds;
    }
    r->status[e->status / 100]++;
    count_route(&r->total, e);
    count_route(find_route(r, e->path), e);
}

/* ---- reading ---- */

/* The line, printable and cut around the offset, and a caret below it. */
static void show_line(struct str line, size_t bad)
{
    size_t from = bad > 60 ? bad - 60 : 0, to = line.len - from > 100 ? from + 100 : line.len;
    fprintf(stderr, "  ");
    for (size_t i = from; i < to; i++)
        fputc(line.p[i] >= 32 && line.p[i] < 127 ? line.p[i] : '?', stderr);
    fprintf(stderr, "\n  %*s^\n", (int)(bad - from), "");
}

static bool guess_format(struct replay *r, struct str line)
{
    const char *pattern, *name, *why, *nearest = "";
    size_t bad = 0, furthest = 0;
    struct entry e;
    for (unsigned i = 0; (name = format_known(i, &pattern)); i++) {
        if (format_compile(&r->format, name, pattern, &why) && format_read(&r->format, line, &e, &bad))
            return true;
        if (bad >= furthest) {
            furthest = bad;
            nearest = name;
        }
    }
    fprintf(stderr, "perilune: no known format fits the first line; nearest is %s, which stops at the caret:\n", nearest);
    show_line(line, furthest);
    fprintf(stderr, "  say how lines look with --log-format '$remote_addr - ... \"$request\" $status', as nginx writes it\n");
    return false;
}

/* False when the format of the first line is unknown. */
static bool take_line(struct replay *r, const char *file, struct str line)
{
    struct entry e;
    size_t bad = 0;
    if (line.len && line.p[line.len - 1] == '\r')
        line.len--;
    if (!line.len)
        return true;
    if (!r->format.count && !guess_format(r, line))
        return false;
    r->lines++;
    if (format_read(&r->format, line, &e, &bad)) {
        count_entry(r, &e);
    } else if (++r->bad <= BAD_SHOWN) {
        fprintf(stderr, "perilune: %s: line %llu of the input does not fit:\n", file, (unsigned long long)r->lines);
        show_line(line, bad);
    }
    return true;
}

/* A line longer than the buffer is one bad line. gzread() passes plain files through. */
static int read_all(struct replay *r, const char *name, gzFile in, char *buffer)
{
    size_t have = 0;
    bool skipping = false;
    int n;
    while ((n = gzread(in, buffer + have, (unsigned)(LINE_MOST - have))) > 0) {
        char *p = buffer, *end = buffer + have + n, *newline;
        while ((newline = memchr(p, '\n', (size_t)(end - p)))) {
            if (!skipping && !take_line(r, name, (struct str){p, (size_t)(newline - p)}))
                return REPLAY_UNKNOWN;
            skipping = false;
            p = newline + 1;
        }
        have = (size_t)(end - p);
        memmove(buffer, p, have);
        if (have == LINE_MOST) {
            r->lines += !skipping;
            r->bad += !skipping;
            skipping = true;
            have = 0;
        }
    }
    if (n < 0) {
        int code;
        fprintf(stderr, "perilune: %s: cannot read on: %s; what was read until there is reported\n", name, gzerror(in, &code));
    }
    if (have && !skipping && !take_line(r, name, (struct str){buffer, have}))
        return REPLAY_UNKNOWN;
    return n < 0 ? 1 : 0;
}

static int read_file(struct replay *r, const char *path, char *buffer)
{
    bool is_stdin = strcmp(path, "-") == 0;
    gzFile in = is_stdin ? gzdopen(0, "rb") : gzopen(path, "rb");
    if (!in) {
        perror(path);
        return 1;
    }
    gzbuffer(in, 256 << 10);
    int code = read_all(r, is_stdin ? "stdin" : path, in, buffer);
    if (gzclose(in) == Z_BUF_ERROR && code == 0) {
        fprintf(stderr, "perilune: %s: the gz file is cut short; what was read until there is reported\n", path);
        code = 1;
    }
    return code;
}

/* ---- the report ---- */

static double quantile_ms(const struct route *one, double q)
{
    return sketch_quantile_ns(one->latency, SKETCH_BUCKETS, SKETCH_SCALE, q) / 1e6;
}

static int by_weight(const void *a, const void *b)
{
    const struct route *x = a, *y = b;
    if (x->seconds != y->seconds)
        return x->seconds < y->seconds ? 1 : -1;
    return x->requests < y->requests ? 1 : x->requests > y->requests ? -1 : 0;
}

static void print_routes(struct replay *r)
{
    bool timed = r->total.timed;
    qsort(r->routes, ROUTES, sizeof *r->routes, by_weight);
    printf("\n%10s %7s %9s %9s %9s %7s  route\n", "requests", "share", "p50 ms", "p95 ms", "p99 ms", "5xx %");
    for (unsigned i = 0; i < ROUTES_SHOWN && r->routes[i].requests; i++) {
        struct route *one = &r->routes[i];
        double share = timed && r->total.seconds > 0 ? one->seconds / r->total.seconds
                                                     : (double)one->requests / (double)r->total.requests;
        printf("%10llu %6.1f%% %9.1f %9.1f %9.1f %7.2f  ", (unsigned long long)one->requests, 100 * share,
               quantile_ms(one, .5), quantile_ms(one, .95), quantile_ms(one, .99),
               100 * (double)one->errors / (double)one->requests);
        for (size_t k = 0; k < one->name_len; k++)
            putchar(one->name[k] >= 32 && one->name[k] < 127 ? one->name[k] : '?');
        putchar('\n');
    }
    printf("share is of the %s\n", timed ? "total time" : "requests: the log has no request time");
}

static double error_share(const struct bucket *b)
{
    return (double)b->errors / (double)b->requests;
}

static double log_mean(const struct bucket *b)
{
    return b->timed ? log(b->seconds / (double)b->timed + 1e-4) : NAN;
}

/* Changes of one signal; buckets without requests are left out. */
static void print_changes(const struct replay *r, const char *what, double (*signal)(const struct bucket *),
                          bool is_log)
{
    static double series[BUCKETS];
    static size_t bucket[BUCKETS];
    struct changepoint found[CHANGES];
    struct changepoint_report report;
    size_t n = 0;
    for (size_t i = 0; i < r->used; i++) {
        double v = r->buckets[i].requests ? signal(&r->buckets[i]) : NAN;
        if (!isfinite(v))
            continue;
        series[n] = v;
        bucket[n++] = i;
    }
    if (changepoint_find(series, n, NULL, found, CHANGES, &report) != 0)
        return;
    for (size_t i = 0; i < report.count && i < CHANGES; i++) {
        double before = found[i].mean_before, after = found[i].mean_after;
        char when[CLOCK_TEXT];
        if (is_log ? fabs(after - before) < log(1.2) : fabs(after - before) < .01)
            continue; /* a fifth, or one request in a hundred: below that nobody acts */
        clock_rfc3339((uint64_t)(r->first_s + (int64_t)bucket[found[i].at] * r->width_s) * 1000, when);
        printf("%s: %s went from %.1f to %.1f %s\n", when, what, is_log ? 1000 * exp(before) : 100 * fabs(before),
               is_log ? 1000 * exp(after) : 100 * fabs(after), is_log ? "ms" : "%");
    }
}

static void print_report(struct replay *r)
{
    char from[CLOCK_TEXT] = "-", to[CLOCK_TEXT] = "-";
    printf("format: %s\n%llu lines, %llu of them bad\n", r->format.count ? r->format.name : "none, the log is empty",
           (unsigned long long)r->lines, (unsigned long long)r->bad);
    if (!r->total.requests)
        return;
    clock_rfc3339((uint64_t)r->first_s * 1000, from);
    clock_rfc3339((uint64_t)(r->first_s + (int64_t)r->used * r->width_s) * 1000, to);
    printf("%s to %s\n2xx %llu, 3xx %llu, 4xx %llu, 5xx %llu; %llu bytes\n", from, to, (unsigned long long)r->status[2],
           (unsigned long long)r->status[3], (unsigned long long)r->status[4], (unsigned long long)r->status[5],
           (unsigned long long)r->total.bytes);
    print_routes(r);
    putchar('\n');
    print_changes(r, "mean latency", log_mean, true);
    print_changes(r, "share of 5xx", error_share, false);
}

/* ---- --fail-on ---- */

struct limit {
    double quantile; /* below 0: the share of 5xx */
    double most;     /* ms, or percent */
};

static bool read_limit(const char *text, struct limit *out)
{
    static const struct {
        const char *name;
        double quantile;
    } names[] = {{"p50", .5}, {"p90", .9}, {"p95", .95}, {"p99", .99}, {"errors", -1}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = strlen(names[i].name);
        if (strncmp(text, names[i].name, len) != 0 || text[len] != '>')
            continue;
        char *unit;
        out->quantile = names[i].quantile;
        out->most = strtod(text + len + 1, &unit);
        if (unit == text + len + 1 || !isfinite(out->most))
            return false;
        if (out->quantile < 0)
            return strcmp(unit, "%") == 0;
        if (strcmp(unit, "s") == 0)
            out->most *= 1000;
        return strcmp(unit, "s") == 0 || strcmp(unit, "ms") == 0;
    }
    return false;
}

static int judge(const struct replay *r, const char *text, const struct limit *limit)
{
    const struct route *t = &r->total;
    if (limit->quantile >= 0 && !t->timed) {
        fprintf(stderr, "perilune: --fail-on %s cannot be judged: no line has a request time\n", text);
        return REPLAY_FAILED;
    }
    double value = limit->quantile >= 0 ? quantile_ms(t, limit->quantile)
                   : t->requests        ? 100 * (double)t->errors / (double)t->requests
                                        : 0;
    if (value <= limit->most)
        return 0;
    fprintf(stderr, "perilune: failed: %s, it is %.2f %s\n", text, value, limit->quantile >= 0 ? "ms" : "%");
    return REPLAY_FAILED;
}

int replay_run(const struct replay_opts *o)
{
    struct limit limit = {0};
    const char *why = "";
    if (o->fail_on && !read_limit(o->fail_on, &limit)) {
        fprintf(stderr, "perilune: --fail-on '%s' is not like p99>250ms, p50>1s or errors>1%%\n", o->fail_on);
        return 2;
    }
    struct replay *r = calloc(1, sizeof *r);
    char *buffer = malloc(LINE_MOST);
    int code = r && buffer ? 0 : 1;
    if (!code && o->log_format && !format_compile(&r->format, "as given", o->log_format, &why)) {
        fprintf(stderr, "perilune: --log-format cannot be used: %s\n", why);
        code = 2;
    }
    if (!code)
        r->width_s = 1;
    for (unsigned i = 0; !code && i < (o->file_count ? o->file_count : 1); i++)
        code = read_file(r, o->file_count ? o->files[i] : "-", buffer);
    if (r && code < 2 && r->width_s)
        print_report(r);
    if (!code && o->fail_on)
        code = judge(r, o->fail_on, &limit);
    free(buffer);
    free(r);
    return code;
}
