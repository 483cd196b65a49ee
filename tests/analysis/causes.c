/* causes.c - which metric caused it (SMD, ASD): for each labelled incident the metric with
 * the most blame over its samples; right when it is one of those named. "Robust z" is the
 * baseline.
 */
// SPDX-License-Identifier: MIT
#include "analysis.h"

#include "ml/cause.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

struct incidents {
    double count, right;
};

/* "653-658:1,2,3": rows from 0, metrics from 1. */
static void judge(const char *line, const struct mat *blame, struct incidents *all)
{
    size_t from, to, best = 0;
    int used = 0;
    if (sscanf(line, "%zu-%zu:%n", &from, &to, &used) != 2 || !used || from >= blame->rows)
        return;
    to = to < blame->rows ? to : blame->rows - 1;
    double *sum = calloc(blame->cols, sizeof *sum);
    for (size_t i = from; i <= to; i++)
        for (size_t j = 0; j < blame->cols; j++)
            sum[j] += mat_row(blame, i)[j];
    for (size_t j = 1; j < blame->cols; j++)
        best = sum[j] > sum[best] ? j : best;
    free(sum);
    all->count++;
    for (const char *p = line + used; *p; p += *p == ',') {
        char *end;
        size_t metric = strtoul(p, &end, 10);
        if (end == p)
            break;
        if (metric == best + 1) {
            all->right++;
            break;
        }
        p = end;
    }
}

static void machine(const char *train_path, struct incidents *all)
{
    char path[1024], line[4096];
    size_t stem = strlen(train_path) - strlen(".train.csv.gz");
    struct mat train = data_csv(train_path), blame;
    snprintf(path, sizeof path, "%.*s.test.csv.gz", (int)stem, train_path);
    struct mat test = data_csv(path);
    struct cause *c;
    if (cause_fit(&c, &train) != 0 || mat_new(&blame, test.rows, test.cols) != 0)
        exit(1);
    for (size_t i = 0; i < test.rows; i++)
        cause_next(c, mat_row(&test, i), mat_row(&blame, i));
    snprintf(path, sizeof path, "%.*s.causes.txt", (int)stem, train_path);
    FILE *f = data_open(path);
    while (fgets(line, sizeof line, f))
        judge(line, &blame, all);
    fclose(f);
    cause_free(c);
    mat_free(&train);
    mat_free(&test);
    mat_free(&blame);
}

static void set(const char *dir, const char *name, double target, double baseline)
{
    char pattern[1024];
    glob_t found;
    struct incidents all = {0};
    snprintf(pattern, sizeof pattern, "%s/%s/*.train.csv.gz", dir, name);
    if (glob(pattern, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        machine(found.gl_pathv[i], &all);
    globfree(&found);
    printf("\n%s, cause of %.0f incidents\n", name, all.count);
    row("top-1", all.right / all.count, ABOVE, target, baseline, "robust z");
}

void bench_causes(const char *dir)
{
    set(dir, "smd", 0.92, 0.75);
    set(dir, "asd", 0.82, 0.62);
}
