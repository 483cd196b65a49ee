/* Residual, ranks, novelty, and what is made of them. */
// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "ml/conformal.h"
#include "ml/detector.h"
#include "ml/novel.h"
#include "ml/random.h"
#include "ml/residual.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { ROWS = 3000, COLS = 6 };

static double normal(struct random *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += random_unit(r);
    return sum;
}

/* Columns that follow one hidden signal, and a little of their own. */
static void sample(struct random *r, double t, double *row)
{
    double hidden = sin(t / 40) + 0.2 * normal(r);
    for (int j = 0; j < COLS; j++)
        row[j] = 0.5 + 0.1 * (j + 1) * hidden + 0.02 * normal(r);
}

static struct mat healthy(uint64_t seed, size_t rows)
{
    struct mat m;
    struct random r = {seed};
    assert_int_equal(mat_new(&m, rows, COLS), 0);
    for (size_t i = 0; i < rows; i++)
        sample(&r, (double)i, mat_row(&m, i));
    return m;
}

static void a_broken_correlation_is_a_residual(void **state)
{
    (void)state;
    struct mat m = healthy(1, ROWS);
    struct residual *r;
    double work[COLS], row[COLS];
    assert_int_equal(residual_fit(&r, &m, &(struct residual_opts){.keep = 0.9}), 0);
    double usual = 0;
    for (size_t i = 0; i < ROWS; i++)
        usual = fmax(usual, residual_of(r, mat_row(&m, i), work).residual);
    for (int j = 0; j < COLS; j++)
        row[j] = mat_row(&m, 5)[j];
    row[5] -= 0.6; /* within its own range, against its company */
    assert_true(residual_of(r, row, work).residual > usual);
    row[0] = NAN;
    assert_true(isfinite(residual_of(r, row, work).residual));
    residual_free(r);
    struct mat none = {0, COLS, m.v};
    assert_int_equal(residual_fit(&r, &none, NULL), ERR_INVAL);
    mat_free(&m);
}

static void ranks_hold_their_promise_under_drift(void **state)
{
    (void)state;
    struct conformal *c = conformal_new(500);
    struct random r = {2};
    int below = 0, n = 0;
    assert_true(conformal_p(c, 1) == 1);
    for (int i = 0; i < 20000; i++) {
        double s = exp(normal(&r)) * (1 + i / 5000.0);
        if (i >= 500) {
            below += conformal_p(c, s) <= 0.05;
            n++;
        }
        conformal_add(c, s);
    }
    assert_true(fabs((double)below / n - 0.05) < 0.015);
    conformal_add(c, NAN);
    assert_int_equal(conformal_count(c), 500);
    assert_true(conformal_p(c, NAN) == 1);
    assert_true(fabs(conformal_least((double[]){0.4, 0.01, 0.9}, 3) - 0.03) < 1e-12);
    conformal_free(c);
}

static void what_was_never_seen_is_an_event(void **state)
{
    (void)state;
    struct novel *n = novel_new(NULL);
    struct random r = {4};
    double best = 0, value;
    int at = 0;
    for (int i = 0; i < 4000; i++) {
        value = 10 + 3 * sin(i / 20.0) + 0.3 * normal(&r) + (i >= 3000 && i < 3020 ? 9 : 0);
        struct novel_score s = novel_next(n, i % 500 == 499 ? NAN : value);
        if (i > 600 && s.event > best) {
            best = s.event;
            at = i;
        }
    }
    assert_true(at >= 3000 && at < 3020);
    novel_free(n);
    assert_null(novel_new(&(struct novel_opts){.block = 3}));
}

static void a_fault_alarms_and_health_does_not(void **state)
{
    (void)state;
    struct mat train = healthy(5, ROWS), test = healthy(6, ROWS);
    struct detector *d;
    double row[COLS];
    int false_alarms = 0, found = 0;
    assert_int_equal(detector_fit(&d, &train, NULL), 0);
    for (size_t i = 0; i < ROWS; i++) {
        bool fault = i >= 2000 && i < 2030;
        for (int j = 0; j < COLS; j++)
            row[j] = mat_row(&test, i)[j] + (fault && j > 3 ? 0.8 : 0);
        if (i == 1500)
            row[2] = NAN;
        struct verdict v = detector_next(d, row);
        assert_true(isfinite(v.severity));
        found += fault && v.alarm;
        false_alarms += !fault && (i < 2000 || i > 2300) && v.alarm;
    }
    assert_true(found >= 3);
    assert_true(false_alarms <= 0.03 * ROWS);
    detector_free(d);
    struct mat few = mat_rows(&train, 0, 10);
    assert_int_equal(detector_fit(&d, &few, NULL), ERR_INVAL);
    for (size_t i = 0; i < ROWS * COLS; i++)
        train.v[i] = 1;
    assert_int_equal(detector_fit(&d, &train, NULL), 0); /* constant */
    assert_true(isfinite(detector_next(d, row).severity));
    detector_free(d);
    mat_free(&train);
    mat_free(&test);
}

static void an_alarm_is_somebody_s(void **state)
{
    (void)state;
    struct mat train = healthy(5, ROWS);
    for (int whole = 0; whole < 2; whole++) {
        struct detector *d;
        double row[COLS], share[COLS];
        assert_int_equal(detector_fit(&d, &train, &(struct detector_opts){.whole = whole}), 0);
        for (size_t i = 0; i < 100; i++)
            detector_next(d, mat_row(&train, i));
        for (int j = 0; j < COLS; j++)
            row[j] = mat_row(&train, 100)[j] + (j == 3 ? 0.8 : 0);
        assert_true(detector_next(d, row).score[DETECTOR_PATTERN] > 1);
        for (int k = 0; k < DETECTOR_CHANNELS; k++) {
            double all = 0;
            detector_parts(d, (enum detector_channel)k, share);
            for (int j = 0; j < COLS; j++) {
                all += share[j];
                assert_true(share[j] >= 0 && share[j] <= share[3]);
            }
            assert_true(fabs(all - 1) < 1e-9);
        }
        assert_true(detector_bytes(d) > 30000 && detector_bytes(d) < 300000);
        detector_free(d);
    }
    mat_free(&train);
}

static void parts_add_up(void **state)
{
    (void)state;
    struct mat m = healthy(1, ROWS);
    struct residual *r;
    double work[COLS], parts[COLS], row[COLS] = {1, -1, NAN, 0.5, 2, 0};
    assert_int_equal(residual_fit(&r, &m, &(struct residual_opts){.keep = 0.9}), 0);
    struct residual_score score = residual_of(r, row, work);
    for (int whole = 0; whole < 2; whole++) {
        double sum = 0, wanted = whole ? score.mahalanobis : score.residual;
        assert_true(residual_parts(r, row, whole, parts));
        for (int j = 0; j < COLS; j++)
            sum += parts[j];
        assert_true(fabs(sum - wanted) < 1e-9 * wanted);
    }
    residual_free(r);
    mat_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_correlation_is_a_residual),
        cmocka_unit_test(ranks_hold_their_promise_under_drift),
        cmocka_unit_test(what_was_never_seen_is_an_event),
        cmocka_unit_test(a_fault_alarms_and_health_does_not),
        cmocka_unit_test(an_alarm_is_somebody_s),
        cmocka_unit_test(parts_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
