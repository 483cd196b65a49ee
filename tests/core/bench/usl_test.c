// SPDX-License-Identifier: MIT
#include "bench/usl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { POINTS = 8 };

/* What a system with these coefficients shows at 1/4, 1/2, 1, 2 ... requests at once. */
static void measure(double lambda, double sigma, double kappa, double error, struct usl_point *points)
{
    double n = 0.25;
    for (int i = 0; i < POINTS; i++, n *= 2) {
        double per_second = lambda * n / (1 + sigma * (n - 1) + kappa * n * (n - 1));
        points[i] = (struct usl_point){per_second, n / per_second * (i % 2 ? 1 + error : 1 - error)};
    }
}

static void test_finds_the_coefficients(void **state)
{
    (void)state;
    struct usl_point points[POINTS];
    struct usl law;
    measure(1000, 0.05, 0.002, 0, points);
    assert_true(usl_fit(points, POINTS, &law));
    assert_true(fabs(law.lambda - 1000) < 1e-3 && fabs(law.sigma - 0.05) < 1e-6 && fabs(law.kappa - 0.002) < 1e-7 && law.r2 > 0.9999);
    assert_true(fabs(law.peak_in_flight - sqrt(0.95 / 0.002)) < 1e-3); /* Gunther's N* */
    double n = law.peak_in_flight;
    assert_true(fabs(law.most_per_second - 1000 * n / (1 + 0.05 * (n - 1) + 0.002 * n * (n - 1))) < 1e-2);
    assert_true(law.knee_per_second > 0 && law.knee_per_second < law.most_per_second);
}

static void test_bears_measured_times_that_are_wrong(void **state)
{
    (void)state;
    struct usl_point points[POINTS];
    struct usl law;
    measure(1000, 0.05, 0.002, 0.03, points);
    assert_true(usl_fit(points, POINTS, &law));
    assert_true(fabs(law.lambda / 1000 - 1) < 0.1 && law.r2 > 0.9 && law.r2 < 0.9999);
    assert_true(law.sigma >= 0 && law.kappa >= 0);
}

/* One server with a queue: R = S (1 + N), the knee at one request at once and half the most. */
static void test_a_single_server_has_no_peak(void **state)
{
    (void)state;
    struct usl_point points[5];
    struct usl law;
    for (int i = 0; i < 5; i++) {
        double used = 0.15 * (i + 1), mean_s = 0.01 / (1 - used);
        points[i] = (struct usl_point){used / 0.01, mean_s};
    }
    assert_true(usl_fit(points, 5, &law));
    assert_true(fabs(law.most_per_second - 100) < 0.01 && law.peak_in_flight == 0);
    assert_true(fabs(law.knee_per_second - 50) < 0.01 && fabs(law.knee_in_flight - 1) < 1e-3);
}

static void test_a_service_that_only_waits_has_no_most(void **state)
{
    (void)state;
    struct usl law;
    const struct usl_point points[] = {{50, 0.02}, {100, 0.02}, {200, 0.02}, {400, 0.02}};
    assert_true(usl_fit(points, 4, &law));
    assert_true(law.most_per_second == 0 || law.most_per_second > 1e6);
    assert_true(fabs(law.lambda - 50) < 1e-3);
}

static void test_times_that_fall_follow_no_law(void **state)
{
    (void)state;
    struct usl law;
    const struct usl_point points[] = {{50, 0.004}, {100, 0.003}, {200, 0.002}, {400, 0.001}};
    assert_false(usl_fit(points, 4, &law));
}

/* Of a real search: slow while little was asked, fast in the middle. */
static void test_a_bad_fit_says_nothing(void **state)
{
    (void)state;
    struct usl law;
    const struct usl_point points[] = {{50, 0.0004}, {800, 0.0002}, {6400, 0.0001}, {12800, 0.00011}, {19200, 0.0001}, {23200, 0.00016}};
    assert_false(usl_fit(points, 6, &law));
}

static void test_three_points_are_too_few(void **state)
{
    (void)state;
    struct usl law;
    const struct usl_point points[] = {{50, 0.02}, {100, 0.02}, {200, 0.03}};
    assert_false(usl_fit(points, 3, &law));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_coefficients),
        cmocka_unit_test(test_bears_measured_times_that_are_wrong),
        cmocka_unit_test(test_a_single_server_has_no_peak),
        cmocka_unit_test(test_a_service_that_only_waits_has_no_most),
        cmocka_unit_test(test_times_that_fall_follow_no_law),
        cmocka_unit_test(test_a_bad_fit_says_nothing),
        cmocka_unit_test(test_three_points_are_too_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
