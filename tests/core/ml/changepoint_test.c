// SPDX-License-Identifier: MIT
#include "ml/changepoint.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

enum { N = 600, MOST = 40, RUNS = 50 };

static struct changepoint found[MOST];
static struct changepoint_report report;

static size_t find(const double *x, size_t n)
{
    assert_int_equal(changepoint_find(x, n, NULL, found, MOST, &report), 0);
    return report.count;
}

static void finds_planted_changes_of_level_and_of_spread(void **state)
{
    (void)state;
    struct random r = {1};
    double x[N];
    for (int i = 0; i < N; i++)
        x[i] = (i < 200 ? 10 : 13) + (i < 400 ? 1 : 4) * draw_normal(&r);
    assert_int_equal(find(x, N), 2);
    assert_in_range(found[0].at, 197, 203);
    assert_in_range(found[1].at, 395, 405);
    assert_true(fabs(found[0].mean_before - 10) < 0.3 && fabs(found[0].mean_after - 13) < 0.3);
    assert_true(fabs(found[1].sd_before - 1) < 0.2 && fabs(found[1].sd_after - 4) < 0.7);
    assert_true(found[0].weight > 1 && found[1].weight > 1);
}

/* Independence would call nearly each of these runs changed. */
static void stays_silent_on_autocorrelated_noise(void **state)
{
    (void)state;
    struct random r = {2};
    int wrong = 0, changed = 0;
    for (int run = 0; run < RUNS; run++) {
        struct ar1 a = ar1_start(&r, 0.7, 1);
        double x[N];
        for (int i = 0; i < N; i++)
            x[i] = ar1_next(&a, &r);
        wrong += find(x, N) > 0;
        for (int i = N / 2; i < N; i++)
            x[i] += 6;
        size_t n = find(x, N);
        changed += n == 1 && labs((long)found[0].at - N / 2) <= 5;
    }
    print_message("  AR .7: false changes in %d of 50 series, a step found alone in %d\n", wrong, changed);
    assert_in_range(wrong, 0, 2);
    assert_in_range(changed, 46, RUNS);
}

/* All segmentations of a short series, by dynamic programming without pruning. */
static double plain_best(const double *x, size_t n, double penalty, double *best)
{
    best[0] = -penalty;
    for (size_t t = 1; t <= n; t++) {
        best[t] = INFINITY;
        for (size_t s = 0; s + 5 <= t; s++) {
            double mean = 0, squares = 0, length = (double)(t - s);
            for (size_t i = s; i < t; i++)
                mean += x[i] / length;
            for (size_t i = s; i < t; i++)
                squares += (x[i] - mean) * (x[i] - mean);
            best[t] = fmin(best[t], best[s] + length * log(fmax(1e-3, squares / length)) + penalty);
        }
    }
    return best[n];
}

static double cost_found(const double *x, size_t n, double penalty)
{
    double sum = -penalty;
    size_t from = 0;
    for (size_t k = 0; k <= report.count; k++) {
        size_t to = k < report.count ? found[k].at : n;
        double mean = 0, squares = 0, length = (double)(to - from);
        for (size_t i = from; i < to; i++)
            mean += x[i] / length;
        for (size_t i = from; i < to; i++)
            squares += (x[i] - mean) * (x[i] - mean);
        sum += length * log(fmax(1e-3, squares / length)) + penalty;
        from = to;
    }
    return sum;
}

static void loses_nothing_by_pruning(void **state)
{
    (void)state;
    struct random r = {3};
    for (int run = 0; run < 60; run++) {
        double x[160], best[161], mean = 0, squares = 0, level = 0;
        for (int i = 0; i < 160; i++) {
            level = random_unit(&r) < 0.05 ? 4 * draw_normal(&r) : level;
            mean += (x[i] = level + draw_normal(&r)) / 160;
        }
        for (int i = 0; i < 160; i++)
            squares += (x[i] - mean) * (x[i] - mean) / 160;
        for (int i = 0; i < 160; i++)
            x[i] = (x[i] - mean) / sqrt(squares);
        struct changepoint_opts opts = {.passes = 1, .penalty = 1};
        assert_int_equal(changepoint_find(x, 160, &opts, found, MOST, &report), 0);
        assert_in_range(report.count, 0, MOST);
        double least = plain_best(x, 160, report.penalty, best);
        assert_true(fabs(cost_found(x, 160, report.penalty) - least) < 1e-6);
    }
}

static void takes_whatever_it_is_given(void **state)
{
    (void)state;
    double x[N];
    for (int i = 0; i < N; i++)
        x[i] = 7;
    assert_int_equal(find(x, N), 0);
    for (int i = 0; i < N; i++)
        x[i] = NAN;
    assert_int_equal(find(x, N), 0);
    assert_int_equal(report.used, 0);
    assert_int_equal(find(x, 0), 0);
    x[0] = x[1] = 1;
    assert_int_equal(find(x, 2), 0);
    for (int i = 0; i < N; i++)
        x[i] = i % 3 == 0 ? NAN : i % 7 == 0 ? -INFINITY : i < 300 ? 1e300 : -1e300;
    assert_int_equal(find(x, N), 1);
    assert_in_range(found[0].at, 300, 302);
    for (int i = 0; i < N; i++)
        x[i] = i < 300 ? 1 : 2; /* without any noise */
    assert_int_equal(find(x, N), 1);
    assert_int_equal(found[0].at, 300);
}

static void looks_at_a_million_samples_in_blocks(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    struct random r = {4};
    double *x = malloc(MANY * sizeof *x);
    for (int i = 0; i < MANY; i++)
        x[i] = (i < 700000 ? 1 : 1.5) + draw_normal(&r);
    assert_int_equal(find(x, MANY), 1);
    assert_in_range(found[0].at, 699000, 701000);
    struct changepoint first = found[0];
    find(x, MANY);
    assert_memory_equal(&first, &found[0], sizeof first);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_planted_changes_of_level_and_of_spread),
        cmocka_unit_test(stays_silent_on_autocorrelated_noise),
        cmocka_unit_test(loses_nothing_by_pruning),
        cmocka_unit_test(takes_whatever_it_is_given),
        cmocka_unit_test(looks_at_a_million_samples_in_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
