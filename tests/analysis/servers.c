/* servers.c - machines with labelled incidents (SMD, ASD): the detector learns on
 * `train`, streams over `test`.
 *
 * Point-wise AUC and average precision, the mean over machines; recall is the
 * share of labelled segments with an alarm, at the share of normal points
 * alarmed that is printed beside it. Point-adjusted F1 is left out on purpose:
 * random scores get .90.
 */
// SPDX-License-Identifier: MIT
#include "analysis.h"

#include "base/err.h"
#include "ml/detector.h"

#include <glob.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

struct sums {
    double machines, auc, ap, events, found, normal, alarmed;
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

static void machine(const char *train_path, struct sums *s)
{
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
    for (size_t i = 0; i < test.rows; i++) {
        struct verdict v = detector_next(d, mat_row(&test, i));
        severity[i] = v.severity;
        alarm[i] = v.alarm;
    }
    s->machines++;
    s->auc += roc_auc(severity, label.v, test.rows);
    s->ap += average_precision(severity, label.v, test.rows);
    count_alarms(alarm, label.v, test.rows, s);
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
}

void bench_servers(const char *dir)
{
    set(dir, "smd", 0.92, 0.775, 0.88, 0.84);
    set(dir, "asd", 0.84, 0.633, 0.70, 0.53);
}
