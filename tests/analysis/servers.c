/* servers.c - machines with labelled incidents (SMD, ASD): the detector learns on
 * `train`, streams over `test`.
 *
 * Point-wise AUC and average precision, the mean over machines; recall is the
 * share of labelled segments with an alarm, at the share of normal points
 * alarmed that is printed beside it. Point-adjusted F1 is left out on purpose:
 * random scores get .90. Behind it what else was tried, by its AUC.
 */
// SPDX-License-Identifier: MIT
#include "analysis.h"

#include "base/err.h"
#include "ml/detector.h"
#include "ml/forest.h"
#include "ml/residual.h"

#include <glob.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Other scores of the same samples, as they are and smoothed as the detector's severity is. */
enum { FOREST, RESIDUAL, MAHALANOBIS, EDGE, SHIFT, PATTERN, CHANNEL_SUM, WHOLE, WAYS };
static const char *const ways[WAYS] = {
    [FOREST] = "isolation forest, 100 trees",
    [RESIDUAL] = "PCA residual of one sample",
    [MAHALANOBIS] = "shrunk Mahalanobis, one sample",
    [EDGE] = "the detector's EDGE alone",
    [SHIFT] = "its SHIFT alone",
    [PATTERN] = "its PATTERN alone",
    [CHANNEL_SUM] = "the plain sum of the three",
    [WHOLE] = "PATTERN by Mahalanobis, weighted",
};
static const double SMOOTH = 0.1;

struct sums {
    double machines, auc, ap, events, found, normal, alarmed;
    double tried[WAYS][2];
};

static void count_alarms(const bool *alarm, const double *label, size_t rows, struct sums *s)
{
    bool inside = false, found = false;
    for (size_t i = 0; i < rows; i++) {
        if (label[i] > 0) {
            s->events += !inside;
            found = inside && found;
            s->found += alarm[i] && !found;
            found |= alarm[i];
            inside = true;
        } else {
            s->normal++;
            s->alarmed += alarm[i];
            inside = false;
        }
    }
}

static void add_tried(struct sums *s, int way, double *score, const struct mat *label)
{
    s->tried[way][0] += roc_auc(score, label->v, label->rows);
    for (size_t i = 1; i < label->rows; i++)
        score[i] = SMOOTH * score[i] + (1 - SMOOTH) * score[i - 1];
    s->tried[way][1] += roc_auc(score, label->v, label->rows);
}

/* score[way]: those of the channels are filled already. */
static void try_others(struct sums *s, double *score[WAYS], const struct mat *train, const struct mat *test, const struct mat *label)
{
    struct forest *forest;
    struct residual *residual;
    struct detector *whole;
    double *work = data_grow(NULL, train->cols);
    if (forest_fit(&forest, train, &(struct forest_opts){.seed = 1}) != 0 || forest_score(forest, test, score[FOREST]) != 0 ||
        residual_fit(&residual, train, NULL) != 0 || detector_fit(&whole, train, &(struct detector_opts){.whole = true}) != 0)
        exit(1);
    for (size_t i = 0; i < test->rows; i++) {
        struct residual_score r = residual_of(residual, mat_row(test, i), work);
        score[RESIDUAL][i] = log1p(r.residual);
        score[MAHALANOBIS][i] = log1p(r.mahalanobis);
        score[WHOLE][i] = detector_next(whole, mat_row(test, i)).severity;
        score[CHANNEL_SUM][i] = score[EDGE][i] + score[SHIFT][i] + score[PATTERN][i];
    }
    for (int way = 0; way < WAYS; way++)
        add_tried(s, way, score[way], label);
    forest_free(forest);
    residual_free(residual);
    detector_free(whole);
    free(work);
}

static void machine(const char *train_path, struct sums *s)
{
    double *score[WAYS];
    char path[1024];
    size_t stem = strlen(train_path) - strlen(".train.csv.gz");
    struct mat train = data_csv(train_path);
    snprintf(path, sizeof path, "%.*s.test.csv.gz", (int)stem, train_path);
    struct mat test = data_csv(path);
    snprintf(path, sizeof path, "%.*s.label.csv.gz", (int)stem, train_path);
    struct mat label = data_csv(path);
    double *severity = data_grow(NULL, test.rows);
    bool *alarm = calloc(test.rows, sizeof *alarm);
    struct detector *d;
    int err = detector_fit(&d, &train, NULL);
    if (err || !alarm || test.cols != train.cols || label.rows != test.rows) {
        fprintf(stderr, "%s: %s\n", train_path, err ? err_text(err) : "train, test and label do not fit");
        exit(1);
    }
    for (int way = 0; way < WAYS; way++)
        score[way] = data_grow(NULL, test.rows);
    for (size_t i = 0; i < test.rows; i++) {
        struct verdict v = detector_next(d, mat_row(&test, i));
        for (int c = 0; c < DETECTOR_CHANNELS; c++)
            score[EDGE + c][i] = v.score[c];
        severity[i] = v.severity;
        alarm[i] = v.alarm;
    }
    s->machines++;
    s->auc += roc_auc(severity, label.v, test.rows);
    s->ap += average_precision(severity, label.v, test.rows);
    count_alarms(alarm, label.v, test.rows, s);
    try_others(s, score, &train, &test, &label);
    for (int way = 0; way < WAYS; way++)
        free(score[way]);
    detector_free(d);
    free(severity);
    free(alarm);
    mat_free(&train);
    mat_free(&test);
    mat_free(&label);
}

static void set(const char *dir, const char *name, double auc_target, double auc_baseline,
                double recall_target, double recall_baseline)
{
    char pattern[1024];
    glob_t found;
    struct sums s = {0};
    snprintf(pattern, sizeof pattern, "%s/%s/*.train.csv.gz", dir, name);
    if (glob(pattern, 0, NULL, &found) != 0) {
        printf("\n%s: no files %s\n", name, pattern);
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        machine(found.gl_pathv[i], &s);
    globfree(&found);
    double fpr = s.alarmed / fmax(s.normal, 1);
    printf("\n%s, %.0f machines\n", name, s.machines);
    row("ROC AUC", s.auc / s.machines, ABOVE, auc_target, auc_baseline, "iForest");
    printf("  %-34s %10.4g\n", "average precision", s.ap / s.machines);
    row("event recall", s.found / fmax(s.events, 1), ABOVE, recall_target, recall_baseline,
        "conformal PCA");
    row("at false positive rate", fpr, BELOW, 0.01, 0.14, "static threshold");
    row("its distance from alpha, share", fabs(fpr - 0.01) / 0.01, BELOW, 0.20, 0.10, "conformal PCA");
    printf("  what was tried, ROC AUC: as it is, smoothed\n");
    for (int way = 0; way < WAYS; way++)
        printf("    %-32s %10.3f %10.3f\n", ways[way], s.tried[way][0] / s.machines, s.tried[way][1] / s.machines);
}

void bench_servers(const char *dir)
{
    set(dir, "smd", 0.92, 0.775, 0.88, 0.84);
    set(dir, "asd", 0.84, 0.633, 0.70, 0.53);
}
