/* nab.c - the Numenta Anomaly Benchmark: reads the series, scores a detector.
 *
 * Source:  Lavin, Ahmad: Evaluating real-time anomaly detection algorithms -
 *          the Numenta Anomaly Benchmark, 2015; numenta/NAB, sweeper.py.
 */
// SPDX-License-Identifier: MIT
#include "analysis.h"

#include "ml/novel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILES = 64, WINDOWS = 16, PROFILES = 3 };

struct series {
    char name[256];
    size_t rows, windows;
    double *time, *value;
    size_t window[WINDOWS][2]; /* first and last row */
};

struct nab {
    size_t files, windows;
    struct series series[FILES];
};

struct point {
    double score;
    size_t file, row;
};

static double seconds(const char *text)
{
    struct tm tm = {0};
    return strptime(text, "%Y-%m-%d %H:%M:%S", &tm) ? (double)timegm(&tm) : NAN;
}

static void read_series(struct series *s, const char *dir, const char *name)
{
    char path[1024], line[256];
    snprintf(s->name, sizeof s->name, "%s", name);
    snprintf(path, sizeof path, "%s/nab/%s", dir, name);
    FILE *f = data_open(path);
    for (size_t size = 0; fgets(line, sizeof line, f);) {
        char *comma = strchr(line, ',');
        if (!comma || isnan(seconds(line)))
            continue; /* the head */
        if (s->rows == size) {
            size = size * 2 + 1024;
            s->time = data_grow(s->time, size);
            s->value = data_grow(s->value, size);
        }
        s->time[s->rows] = seconds(line);
        s->value[s->rows++] = strtod(comma + 1, NULL);
    }
    fclose(f);
}

static void add_window(struct nab *nab, double from, double to)
{
    struct series *s = &nab->series[nab->files - 1];
    size_t *w = s->window[s->windows];
    if (s->windows == WINDOWS)
        return;
    for (w[0] = 0; w[0] + 1 < s->rows && s->time[w[0]] < from;)
        w[0]++;
    for (w[1] = w[0]; w[1] + 1 < s->rows && s->time[w[1] + 1] <= to;)
        w[1]++;
    s->windows++;
    nab->windows++;
}

/* windows.json is names of files and pairs of times: only its strings matter. */
static void read_nab(struct nab *nab, const char *dir)
{
    char path[1024], text[64], *all;
    double from = NAN;
    snprintf(path, sizeof path, "%s/nab/windows.json", dir);
    all = data_text(path);
    for (char *p = strchr(all, '"'), *end; p && (end = strchr(p + 1, '"')); p = strchr(end + 1, '"')) {
        *end = 0;
        if (strstr(p, ".csv") && nab->files < FILES) {
            read_series(&nab->series[nab->files++], dir, p + 1);
        } else {
            snprintf(text, sizeof text, "%s", p + 1);
            if (isnan(from)) {
                from = seconds(text);
            } else {
                add_window(nab, from, seconds(text));
                from = NAN;
            }
        }
    }
    free(all);
}

static double sigmoid(double y)
{
    return y > 3 ? -1 : 2 / (1 + exp(5 * y)) - 1;
}

static int falling(const void *a, const void *b)
{
    double x = ((const struct point *)a)->score, y = ((const struct point *)b)->score;
    return x > y ? -1 : x < y;
}

static size_t collect(const struct nab *nab, double *const *score, struct point **out)
{
    size_t count = 0, size = 0;
    for (size_t f = 0; f < nab->files; f++)
        size += nab->series[f].rows;
    *out = malloc(size * sizeof **out);
    for (size_t f = 0; *out && f < nab->files; f++) {
        size_t rows = nab->series[f].rows, probation = (size_t)(0.15 * (double)rows);
        for (size_t i = probation < 750 ? probation : 750; i < rows; i++)
            if (score[f][i] > 0)
                (*out)[count++] = (struct point){score[f][i], f, i};
    }
    qsort(*out, count, sizeof **out, falling);
    return count;
}

/* What one more detection adds; best[] is what the windows of its file have earned. */
static double gain(const struct series *s, size_t row, double *best, double fp)
{
    size_t previous = WINDOWS;
    for (size_t w = 0; w < s->windows; w++) {
        size_t a = s->window[w][0], b = s->window[w][1];
        if (row >= a && row <= b) {
            double earned = sigmoid(-(double)(b - row + 1) / (double)(b - a + 1)) / sigmoid(-1);
            double more = fmax(earned - best[w], 0);
            best[w] += more;
            return more;
        }
        if (b < row)
            previous = w;
    }
    if (previous == WINDOWS)
        return -fp;
    double b = (double)s->window[previous][1], width = b - (double)s->window[previous][0];
    return fp * sigmoid(((double)row - b) / width);
}

/* One threshold for all files, the one that suits best. */
static double best_score(const struct nab *nab, const struct point *p, size_t count, double fn,
                         double fp)
{
    static double best[FILES][WINDOWS];
    double windows = (double)nab->windows, raw = -fn * windows, top = raw;
    for (size_t f = 0; f < FILES; f++)
        for (size_t w = 0; w < WINDOWS; w++)
            best[f][w] = -fn;
    for (size_t i = 0; i < count; i++) {
        raw += gain(&nab->series[p[i].file], p[i].row, best[p[i].file], fp);
        if (i + 1 == count || p[i + 1].score < p[i].score)
            top = fmax(top, raw);
    }
    return 100 * (top + fn * windows) / (windows + fn * windows);
}

static void score_all(const struct nab *nab, double *const *score, double out[PROFILES])
{
    struct point *points;
    size_t count = collect(nab, score, &points);
    out[0] = best_score(nab, points, count, 1, 0.11);
    out[1] = best_score(nab, points, count, 1, 0.22);
    out[2] = best_score(nab, points, count, 2, 0.11);
    free(points);
}

static void score_artime(const struct nab *nab, const char *dir)
{
    double *score[FILES] = {0}, out[PROFILES];
    char path[1024];
    for (size_t f = 0; f < nab->files; f++) {
        score[f] = data_grow(NULL, nab->series[f].rows + 1);
        snprintf(path, sizeof path, "%s/nab/artime/%s", dir, nab->series[f].name);
        FILE *file = fopen(path, "r");
        for (size_t i = 0; i < nab->series[f].rows; i++)
            if (!file || fscanf(file, "%lf", &score[f][i]) != 1)
                score[f][i] = 0;
        if (file)
            fclose(file);
        else if (f == 0) {
            printf("  (no artime/ below nab/: the scorer is not checked against it)\n");
            free(score[0]);
            return;
        }
    }
    score_all(nab, score, out);
    printf("  %-34s %.2f / %.2f / %.2f\n", "ARTime, by the same scorer", out[0], out[1], out[2]);
    for (size_t f = 0; f < nab->files; f++)
        free(score[f]);
}

static size_t score_novel(const struct nab *nab, const struct novel_opts *opts, double *score[FILES])
{
    size_t points = 0;
    for (size_t f = 0; f < nab->files; f++) {
        const struct series *s = &nab->series[f];
        struct novel *n = novel_new(opts);
        score[f] = data_grow(score[f], s->rows + 1);
        for (size_t i = 0; i < s->rows; i++)
            score[f][i] = novel_next(n, s->value[i]).event;
        points += s->rows;
        novel_free(n);
    }
    return points;
}

/* One parameter moved at a time. */
static void try_others(const struct nab *nab, double *score[FILES])
{
    static const struct {
        const char *what;
        struct novel_opts opts;
    } ways[] = {
        {"block of 32", {.block = 32}}, {"block of 48", {.block = 48}}, {"block of 96", {.block = 96}}, {"block of 128", {.block = 128}},
        {"share .001", {.share = .001}}, {"share .005", {.share = .005}}, {"share .01", {.share = .01}},
        {"rise 1", {.rise = 1}}, {"rise 1.1", {.rise = 1.1}}, {"rise 1.5", {.rise = 1.5}}, {"rise 2", {.rise = 2}},
        {"quiet 10", {.quiet = 10}}, {"quiet 100", {.quiet = 100}}, {"quiet 300", {.quiet = 300}},
    };
    double out[PROFILES];
    printf("  what was tried, standard / low-FP / low-FN\n");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        score_novel(nab, &ways[i].opts, score);
        score_all(nab, score, out);
        printf("    %-32s %.2f / %.2f / %.2f\n", ways[i].what, out[0], out[1], out[2]);
    }
}

void bench_nab(const char *dir)
{
    struct nab *nab = calloc(1, sizeof *nab);
    double *score[FILES] = {0}, out[PROFILES];
    read_nab(nab, dir);
    printf("\nNAB, %zu series, standard / low-FP / low-FN\n", nab->files);
    score_artime(nab, dir);
    double start = seconds_now();
    size_t points = score_novel(nab, NULL, score);
    double spent = seconds_now() - start;
    score_all(nab, score, out);
    const char *names[] = {"standard", "low-FP", "low-FN"};
    static const double target[] = {80, 74, 84}, baseline[] = {78.15, 70.44, 83.10};
    for (int k = 0; k < PROFILES; k++)
        row(names[k], out[k], ABOVE, target[k], baseline[k], "ARTime");
    printf("  %.2f us per point\n", spent / (double)points * 1e6);
    try_others(nab, score);
    for (size_t f = 0; f < nab->files; f++) {
        free(score[f]);
        free(nab->series[f].time);
        free(nab->series[f].value);
    }
    free(nab);
}
