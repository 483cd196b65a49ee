/* tabular.c - isolation forest and k-means beside scikit-learn: the same sets, the same run,
 * one thread each.
 *
 * The area under the ROC curve is the mean over seeds, then over sets: parity means within
 * what seeds make. Times are medians.
 */
// SPDX-License-Identifier: MIT
#include "analysis.h"

#include "ml/forest.h"
#include "ml/kmeans.h"
#include "ml/random.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEEDS = 5, ROUNDS = 9, ROWS = 100000, COLS = 8, SETS = 64 };

struct peer {
    double auc, fit_s, score_s, kmeans_s;
    int sets;
};

static double auc_of(const struct mat *all)
{
    struct mat x;
    double *label = data_grow(NULL, all->rows), *score = data_grow(NULL, all->rows), sum = 0;
    if (mat_new(&x, all->rows, all->cols - 1) != 0)
        exit(1);
    for (size_t i = 0; i < all->rows; i++) {
        memcpy(mat_row(&x, i), mat_row(all, i), x.cols * sizeof(double));
        label[i] = mat_row(all, i)[x.cols];
    }
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct forest *f;
        if (forest_fit(&f, &x, &(struct forest_opts){.seed = seed}) != 0 || forest_score(f, &x, score) != 0)
            exit(1);
        sum += roc_auc(score, label, x.rows);
        forest_free(f);
    }
    mat_free(&x);
    free(label);
    free(score);
    return sum / SEEDS;
}

static double mean_auc(const char *dir, int *sets)
{
    char pattern[1024];
    glob_t found;
    double sum = 0;
    snprintf(pattern, sizeof pattern, "%s/tabular/*.csv*", dir);
    if (glob(pattern, 0, NULL, &found) != 0)
        return NAN;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct mat all = data_csv(found.gl_pathv[i]);
        sum += auc_of(&all);
        mat_free(&all);
    }
    *sets = (int)found.gl_pathc;
    globfree(&found);
    return sum / *sets;
}

/* False where scikit-learn is not there. */
static bool ask_peer(const char *dir, const char *rows, struct peer *p)
{
    char command[2048], what[16], name[256];
    double value;
    snprintf(command, sizeof command, "/usr/bin/python3 tests/analysis/sklearn_peer.py '%s' '%s'", dir, rows);
    FILE *f = popen(command, "r");
    while (f && fscanf(f, "%15s %255s %lf", what, name, &value) == 3) {
        if (strcmp(what, "auc") == 0) {
            p->auc += value;
            p->sets++;
        } else {
            *(*what == 'f' ? &p->fit_s : *what == 's' ? &p->score_s : &p->kmeans_s) = value;
        }
    }
    p->auc /= p->sets ? p->sets : 1;
    return f && pclose(f) == 0 && p->kmeans_s > 0;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, rising);
    return v[ROUNDS / 2];
}

static void speed(const struct mat *m, const struct peer *p, bool peer)
{
    double fit[ROUNDS], score[ROUNDS], step[ROUNDS], *out = data_grow(NULL, m->rows);
    for (int i = 0; i < ROUNDS; i++) {
        struct forest *f;
        double began = seconds_now();
        if (forest_fit(&f, m, &(struct forest_opts){.seed = (uint64_t)i}) != 0)
            exit(1);
        fit[i] = seconds_now() - began;
        forest_free(f);
    }
    for (int i = 0; i < ROUNDS; i++) {
        struct forest *f;
        struct kmeans *k;
        if (forest_fit(&f, m, NULL) != 0 || kmeans_fit(&k, m, &(struct kmeans_opts){.k = 8, .steps = 30, .starts = 1, .seed = (uint64_t)i}) != 0)
            exit(1);
        double began = seconds_now();
        forest_score(f, m, out);
        score[i] = seconds_now() - began;
        step[i] = k->step_s;
        forest_free(f);
        kmeans_free(k);
    }
    free(out);
    double fit_s = median(fit), score_s = median(score), step_s = median(step);
    row("forest, fit, ms", fit_s * 1e3, BELOW, 1.5, p->fit_s * 1e3, "scikit-learn");
    row("forest, score 100,000 x 8, s", score_s, BELOW, 0.08, p->score_s, "scikit-learn");
    if (peer)
        row("its ratio of speed", p->score_s / score_s, ABOVE, 15, 1, "scikit-learn");
    row("k-means, 8 groups, ms a step", step_s * 1e3, BELOW, 3, p->kmeans_s * 1e3, "scikit-learn");
}

void bench_tabular(const char *dir)
{
    struct mat m;
    struct random random = {7};
    struct peer p = {0};
    char rows[] = "/tmp/perilune-rows-XXXXXX";
    int sets = 0, fd = mkstemp(rows);
    if (fd < 0 || mat_new(&m, ROWS, COLS) != 0)
        exit(1);
    for (size_t i = 0; i < ROWS * COLS; i++) /* about normal */
        m.v[i] = random_unit(&random) + random_unit(&random) + random_unit(&random) + random_unit(&random);
    bool written = write(fd, m.v, ROWS * COLS * sizeof *m.v) == ROWS * COLS * sizeof *m.v;
    close(fd);
    bool peer = written && ask_peer(dir, rows, &p);
    unlink(rows);
    double auc = mean_auc(dir, &sets);
    printf("\ntabular, %d sets, %d seeds\n", sets, SEEDS);
    if (!peer)
        printf("  (scikit-learn is not there: apt-get install python3-sklearn)\n");
    row("forest, mean AUC", auc, ABOVE, peer ? p.auc - 0.005 : 0.77, p.auc, "scikit-learn");
    speed(&m, &p, peer);
    mat_free(&m);
}
