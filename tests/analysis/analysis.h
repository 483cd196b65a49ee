/* analysis.h - what the parts of the analysis benchmark share.
 *
 * Each part reads its data below the folder given, drives the kernels of
 * core/ml and prints what it measured beside target and baseline. Data that
 * is missing ends the program with a sentence.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

#include <stdbool.h>
#include <stdio.h>

FILE *data_open(const char *path);
char *data_text(const char *path);             /* the whole file; free() it */
double *data_grow(double *v, size_t count);    /* realloc that succeeds or exits */
struct mat data_csv(const char *path);         /* numbers, .gz; mat_free() it */
double seconds_now(void);                      /* monotonic */

/* Area under the ROC curve, and average precision. */
double roc_auc(const double *score, const double *label, size_t n);
double average_precision(const double *score, const double *label, size_t n);

enum direction { ABOVE, BELOW };
void row(const char *what, double measured, enum direction direction, double target,
         double baseline, const char *baseline_name);

void bench_nab(const char *dir);
void bench_servers(const char *dir);
void bench_tabular(const char *dir);
void bench_causes(const char *dir);
void bench_changepoints(const char *dir);
void bench_forecasts(const char *dir);
