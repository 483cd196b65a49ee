/* Change points on the Turing Change Point Dataset: F1 as TCPDBench counts it.
 *
 * Index 0 counts as a true and as a found change; a found one within 5 samples
 * of a true one is right, each once; precision is against the union of what the
 * annotators marked, recall the mean over annotators. */
// SPDX-License-Identifier: MIT
#include "analysis.h"
#include "ml/changepoint.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ANNOTATORS = 16, MARKS = 256, SAMPLES = 65536, NAME = 64, MARGIN = 5 };

struct marks {
    size_t n;
    long at[MARKS];
};

struct annotated {
    char name[NAME];
    size_t annotators;
    struct marks by[ANNOTATORS];
};

/* The files hold nothing but names, numbers, null and brackets. */
static const char *skip(const char *p)
{
    while (isspace((unsigned char)*p) || *p == ',' || *p == ':')
        p++;
    return p;
}

static const char *read_marks(const char *p, struct marks *marks)
{
    marks->n = 1;
    marks->at[0] = 0;
    for (p = skip(p + 1); *p && *p != ']'; p = skip(p)) {
        char *end;
        long at = strtol(p, &end, 10);
        if (end == p)
            return p;
        if (marks->n < MARKS)
            marks->at[marks->n++] = at;
        p = end;
    }
    return *p ? p + 1 : p;
}

/* "name": { "annotator": [marks], ... }; NULL at the end. */
static const char *read_annotated(const char *p, struct annotated *a)
{
    if (!(p = strchr(p, '"')))
        return NULL;
    size_t len = strcspn(++p, "\"");
    snprintf(a->name, sizeof a->name, "%.*s", (int)len, p);
    a->annotators = 0;
    for (p = strchr(p, '{'); p && *p && *p != '}'; p = skip(p))
        if (!(*p == '[' && a->annotators < ANNOTATORS))
            p++;
        else
            p = read_marks(p, &a->by[a->annotators++]);
    return p;
}

static size_t read_samples(const char *text, double *x)
{
    size_t n = 0;
    const char *p = strstr(text, "\"raw\"");
    p = p ? strchr(p, '[') : NULL;
    if (!p)
        return 0;
    for (p = skip(p + 1); *p && *p != ']' && n < SAMPLES; p = skip(p)) {
        char *end;
        x[n++] = *p == 'n' ? NAN : strtod(p, &end);
        p = *p == 'n' ? p + strlen("null") : end;
    }
    return n;
}

/* True marks that have a found one of their own nearby. */
static double matched(const struct marks *truth, const struct marks *found)
{
    bool taken[MARKS] = {false};
    double count = 0;
    for (size_t i = 0; i < truth->n; i++) {
        size_t best = MARKS;
        for (size_t j = 0; j < found->n; j++) {
            long off = labs(found->at[j] - truth->at[i]);
            if (!taken[j] && off <= MARGIN && (best == MARKS || off < labs(found->at[best] - truth->at[i])))
                best = j;
        }
        if (best < MARKS) {
            taken[best] = true;
            count++;
        }
    }
    return count;
}

static int ascending(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return x < y ? -1 : x > y;
}

static struct marks united(const struct annotated *a)
{
    struct marks all = {0};
    for (size_t i = 0; i < a->annotators; i++)
        for (size_t j = 0; j < a->by[i].n && all.n < MARKS; j++)
            all.at[all.n++] = a->by[i].at[j];
    qsort(all.at, all.n, sizeof *all.at, ascending);
    size_t n = 0;
    for (size_t i = 0; i < all.n; i++)
        if (!n || all.at[n - 1] != all.at[i])
            all.at[n++] = all.at[i];
    all.n = n;
    return all;
}

static double f1(const struct annotated *a, const struct marks *found)
{
    struct marks all = united(a);
    double precision = matched(&all, found) / (double)found->n, recall = 0;
    for (size_t i = 0; i < a->annotators; i++)
        recall += matched(&a->by[i], found) / (double)a->by[i].n / (double)a->annotators;
    return 2 * precision * recall / (precision + recall);
}

static struct marks detect(const double *x, size_t n)
{
    struct changepoint found[MARKS - 1];
    struct changepoint_report report;
    struct marks marks = {1, {0}};
    if (changepoint_find(x, n, NULL, found, MARKS - 1, &report) < 0)
        return marks;
    for (size_t i = 0; i < report.count && i < MARKS - 1; i++)
        marks.at[marks.n++] = (long)found[i].at;
    return marks;
}

void bench_changepoints(const char *dir)
{
    static struct annotated a;
    static double x[SAMPLES];
    static const struct marks none = {1, {0}};
    char path[4096];
    double score = 0, silent = 0, series = 0, seconds = 0;
    snprintf(path, sizeof path, "%s/changepoint/annotations.json", dir);
    char *text = data_text(path);
    for (const char *p = text; (p = read_annotated(p, &a)); series++) {
        snprintf(path, sizeof path, "%s/changepoint/%s.json", dir, a.name);
        char *samples = data_text(path);
        size_t n = read_samples(samples, x);
        free(samples);
        double start = seconds_now();
        struct marks found = detect(x, n);
        seconds += seconds_now() - start;
        score += f1(&a, &found);
        silent += f1(&a, &none);
    }
    free(text);
    printf("change points: %.0f series, %.1f ms together; never alarming scores %.3f\n", series, 1e3 * seconds,
           silent / series);
    row("F1", score / series, ABOVE, 0.78, 0.744, "BinSeg");
}
