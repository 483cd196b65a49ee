// SPDX-License-Identifier: MIT
#include "analysis.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

static void stop(const char *path)
{
    fprintf(stderr, "cannot read %s: %s\nDATA must be a folder with nab, smd, asd and tabular\n", path,
            strerror(errno));
    exit(1);
}

FILE *data_open(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        stop(path);
    return f;
}

double *data_grow(double *v, size_t count)
{
    v = realloc(v, count * sizeof *v);
    if (!v) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return v;
}

char *data_text(const char *path)
{
    FILE *f = data_open(path);
    size_t used = 0, size = 0, got;
    char *text = NULL;
    do {
        size = size * 2 + 65536;
        text = realloc(text, size);
        if (!text)
            exit(1);
        got = fread(text + used, 1, size - used - 1, f);
        used += got;
    } while (got);
    text[used] = 0;
    fclose(f);
    return text;
}

struct mat data_csv(const char *path)
{
    static char line[1 << 16];
    struct mat m = {0, 0, NULL};
    size_t size = 0;
    gzFile f = gzopen(path, "r");
    if (!f)
        stop(path);
    while (gzgets(f, line, sizeof line)) {
        size_t cols = 1;
        for (char *p = line; (p = strchr(p, ',')); p++)
            cols++;
        if (!m.cols)
            m.cols = cols;
        if (cols != m.cols)
            continue;
        if (m.rows == size) {
            size = size * 2 + 1024;
            m.v = data_grow(m.v, size * m.cols);
        }
        char *p = line;
        for (size_t j = 0; j < m.cols; j++, p++)
            mat_row(&m, m.rows)[j] = strtod(p, &p);
        m.rows++;
    }
    gzclose(f);
    return m;
}

double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct ranked {
    double score, label;
};

static int falling(const void *a, const void *b)
{
    double x = ((const struct ranked *)a)->score, y = ((const struct ranked *)b)->score;
    return x > y ? -1 : x < y;
}

/* Walks groups of equal scores from the top. */
static void curves(const double *score, const double *label, size_t n, double *auc, double *ap)
{
    struct ranked *r = malloc(n * sizeof *r + 1);
    double hits = 0, misses = 0, positives = 0;
    *auc = *ap = 0;
    for (size_t i = 0; r && i < n; i++) {
        r[i] = (struct ranked){score[i], label[i]};
        positives += label[i] > 0;
    }
    qsort(r, n, sizeof *r, falling);
    for (size_t i = 0; i < n;) {
        double p = 0, q = 0;
        for (double s = r[i].score; i < n && r[i].score == s; i++)
            *(r[i].label > 0 ? &p : &q) += 1;
        *auc += q * (hits + p / 2);
        hits += p;
        misses += q;
        *ap += p * hits / (hits + misses);
    }
    *auc /= fmax(hits * misses, 1);
    *ap /= fmax(positives, 1);
    free(r);
}

double roc_auc(const double *score, const double *label, size_t n)
{
    double auc, ap;
    curves(score, label, n, &auc, &ap);
    return auc;
}

double average_precision(const double *score, const double *label, size_t n)
{
    double auc, ap;
    curves(score, label, n, &auc, &ap);
    return ap;
}

void row(const char *what, double measured, enum direction direction, double target,
         double baseline, const char *baseline_name)
{
    bool reached = direction == ABOVE ? measured >= target : measured <= target;
    printf("  %-34s %10.4g   target %s %-8.4g %-8s %s %.4g\n", what, measured,
           direction == ABOVE ? ">=" : "<=", target, reached ? "reached" : "missed", baseline_name,
           baseline);
}

static const struct {
    const char *name;
    void (*run)(const char *dir);
} parts[] = {{"nab", bench_nab}, {"servers", bench_servers}, {"tabular", bench_tabular}, {"causes", bench_causes}, {"changepoints", bench_changepoints}, {"forecasts", bench_forecasts}};

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3 || !*argv[1]) {
        fprintf(stderr, "usage: make bench-analysis DATA=dir [PART=name] (the folder with nab, smd, asd, tabular)\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (argc < 3 || strcmp(argv[2], parts[i].name) == 0)
            parts[i].run(argv[1]);
    return 0;
}
