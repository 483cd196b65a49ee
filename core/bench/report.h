/* report.h - what a benchmark says, to people and to programs.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "bench/judge.h"
#include "bench/usl.h"

#include <stdio.h>

enum { REPORT_REPEATS = 100 };

struct bench_step { /* of --find-capacity: a rate that was tried */
    double rate, per_second;
    double mean_ms, p99_ms;  /* below 0: nothing was answered */
    char why[JUDGE_REASON];  /* it was not borne; empty: it was */
    bool telling;            /* nothing failed and the generator was not the limit: a point of the law */
};

struct bench_capacity { /* what --find-capacity came to */
    double rate, slo_ms;            /* rate 0: not even the lowest was borne */
    const struct bench_step *steps; /* in the order of trying */
    unsigned count;
    const struct usl *law;          /* NULL: the steps follow none */
};

struct bench_report {
    const char *target, *version;
    const struct bench_opts *opts;
    const struct bench_result *last;
    const struct bench_figures *runs; /* `count` of them, in order */
    unsigned count;
    const struct bench_intervals *intervals; /* of all runs together; NULL: too few blocks */
    const struct bench_capacity *capacity;   /* NULL: it was not asked for */
};

/* Whether each of the runs may be believed. */
bool bench_report_valid(const struct bench_report *r);

void bench_report_table(FILE *out, const struct bench_report *r);
void bench_report_json(FILE *out, const struct bench_report *r);
