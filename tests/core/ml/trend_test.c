// SPDX-License-Identifier: MIT
#include "ml/trend.h"
#include "ml/robust.h"
#include "ml/season.h"
#include "ml/smooth.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

enum { N = 300, MANY = 1000000 };

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void selects_what_sorting_finds(void **state)
{
    (void)state;
    struct random r = {5};
    double v[50], sorted[50];
    for (int run = 0; run < 3000; run++) {
        size_t n = 1 + random_below(&r, 50), kinds = 1 + random_below(&r, 50);
        for (size_t i = 0; i < n; i++)
            sorted[i] = v[i] = (double)random_below(&r, kinds);
        qsort(sorted, n, sizeof *sorted, ascending);
        double q = run % 3 ? random_unit(&r) : run % 2, place = q * (double)(n - 1);
        size_t k = (size_t)place;
        double want = k + 1 < n ? sorted[k] + (place - (double)k) * (sorted[k + 1] - sorted[k]) : sorted[k];
        assert_true(fabs(robust_quantile(v, n, q) - want) < 1e-12);
    }
    assert_true(isnan(robust_quantile(v, 0, 0.5)));
}

static void measures_level_volatility_and_growth_despite_outliers(void **state)
{
    (void)state;
    struct random r = {6};
    static double x[N], walk[N], work[N];
    for (int i = 0; i < N; i++) {
        x[i] = i % 10 == 0 ? 1e9 : i % 10 == 5 ? NAN : 100 + 3 * draw_normal(&r);
        walk[i] = (i ? walk[i - 1] : 0) + 2 * draw_normal(&r);
    }
    struct robust_level level = robust_level(x, N, work);
    assert_int_equal(level.n, N * 9 / 10);
    assert_true(fabs(level.median - 100) < 1.5 && fabs(level.spread - 3) < 1);
    assert_true(fabs(robust_volatility(walk, N, work) - 2) < 0.4);
    for (int i = 0; i < N; i++)
        x[i] = (i < N - 50 ? 10 : 12) + (i % 9 == 0 ? 500 : 0.1 * draw_normal(&r));
    assert_true(fabs(robust_growth(x, N, 50, work) - 0.2) < 0.02);
    assert_true(isnan(robust_growth(x, N, N / 2 + 1, work)) && isnan(robust_growth(x, N, 0, work)));
    assert_true(isnan(robust_level(x, 0, work).median) && isnan(robust_volatility(x, 1, work)));
}

static void follows_lines_with_a_quarter_of_the_samples_wrong(void **state)
{
    (void)state;
    struct random r = {7};
    static double x[N];
    struct trend t;
    for (int i = 0; i < N; i++)
        x[i] = random_unit(&r) < 0.25 ? 1e6 * random_unit(&r) : 50 - 0.3 * i + 2 * draw_normal(&r);
    assert_int_equal(trend_fit(x, N, &t), 0);
    assert_true(fabs(t.slope + 0.3) < 0.03 && t.lo < t.slope && t.slope < t.hi);
    assert_true(fabs(t.level - (50 - 0.3 * (N - 1))) < 5);
    assert_true(t.p < 1e-3 && t.tau < 0);
}

/* Mann-Kendall of 1 3 2 2 5: S = 9 - 0 ... by hand: pairs up 8, down 1... , one tie. */
static void computes_kendall_with_ties(void **state)
{
    (void)state;
    static const double x[] = {1, 3, 2, 2, 5};
    struct trend t;
    assert_int_equal(trend_fit(x, 5, &t), 0);
    /* up: 1<3 1<2 1<2 1<5 3<5 2<5 2<5 = 7; down: 3>2 3>2 = 2; S = 5 */
    double v = (5 * 4 * 15 - 2 * 1 * 9) / 18.0 * (1 + t.r) / (1 - t.r);
    assert_true(fabs(t.tau - 0.5) < 1e-12);
    assert_true(fabs(t.p - erfc((5 - 1) / sqrt(v) / sqrt(2))) < 1e-12);
}

static double share_called(double phi, double slope)
{
    struct random r = {8};
    static double x[N];
    int called = 0;
    for (int run = 0; run < 300; run++) {
        struct ar1 a = ar1_start(&r, phi, 1);
        struct trend t;
        for (int i = 0; i < 150; i++)
            x[i] = slope * i + ar1_next(&a, &r);
        assert_int_equal(trend_fit(x, 150, &t), 0);
        called += t.p < 0.05;
    }
    return called / 300.0;
}

static void does_not_call_memory_a_trend(void **state)
{
    (void)state;
    double white = share_called(0, 0), remembering = share_called(0.7, 0), rising = share_called(0.7, 0.02);
    print_message("  p < .05: white noise %.3f, AR .7 %.3f, AR .7 rising by 3 sd %.3f\n", white, remembering, rising);
    assert_true(white < 0.08 && remembering < 0.12 && rising > 0.8);
}

static void says_when_a_leak_reaches_its_limit(void **state)
{
    (void)state;
    struct random r = {9};
    static double x[N];
    struct trend t;
    for (int i = 0; i < N; i++)
        x[i] = 100 + 0.5 * i + draw_normal(&r);
    trend_fit(x, N, &t);
    struct crossing up = trend_crossing(&t, 100 + 0.5 * (N - 1) + 100, true);
    assert_true(up.crosses && fabs(up.steps - 200) < 6);
    assert_true(up.soonest <= up.steps && up.steps <= up.latest && isfinite(up.latest));
    assert_true(trend_crossing(&t, 100, true).crosses && trend_crossing(&t, 100, true).steps == 0);
    struct crossing down = trend_crossing(&t, 50, false);
    assert_false(down.crosses);
    assert_true(isinf(down.steps) && isinf(down.soonest));
}

static void smooths(void **state)
{
    (void)state;
    struct ewma e;
    ewma_init(&e, 10);
    assert_true(isnan(ewma_add(&e, NAN, 1)));
    assert_true(ewma_add(&e, 5, 1) == 5);
    assert_true(fabs(ewma_add(&e, 15, 10) - (15 - 10 * exp(-1))) < 1e-12);
    assert_true(fabs(ewma_add(&e, INFINITY, 1) - (15 - 10 * exp(-1))) < 1e-12);
    for (int i = 0; i < 1000; i++)
        ewma_add(&e, i % 2 ? 1 : -1, 1);
    assert_true(fabs(e.mean) < 0.1 && fabs(e.variance - 1) < 0.1);
    static double x[N], out[N];
    for (int i = 0; i < N; i++)
        x[i] = i % 7 == 3 ? NAN : i;
    moving_average(x, N, 5, out);
    for (int i = 0; i < N; i++) {
        double sum = 0, count = 0;
        for (int j = i > 4 ? i - 4 : 0; j <= i; j++)
            if (isfinite(x[j])) {
                sum += x[j];
                count++;
            }
        assert_true(fabs(out[i] - sum / count) < 1e-9);
    }
    moving_average(x, N, 0, out);
    assert_true(isnan(out[0]));
}

static void finds_the_season(void **state)
{
    (void)state;
    struct random r = {10};
    static double x[2000];
    struct season s;
    for (int i = 0; i < 2000; i++)
        x[i] = 0.05 * i + 10 * sin(2 * 3.14159265 * i / 24) + 3 * draw_normal(&r) + (i == 700 ? 1e5 : 0);
    assert_int_equal(season_find(x, 2000, 0, &s), 0);
    assert_int_equal(s.period, 24);
    for (int i = 0; i < 2000; i++) /* days within weeks */
        x[i] = 10 * sin(2 * 3.14159265 * i / 24) * (i / 24 % 7 < 5 ? 2 : 0.2) + draw_normal(&r);
    struct season all[SEASON_CANDIDATES];
    int count = season_candidates(x, 2000, 0, all);
    assert_int_equal(all[0].period, 168);
    assert_true(count > 1 && all[1].period == 24);
    for (int i = 0; i < 2000; i++)
        x[i] = draw_normal(&r);
    assert_int_equal(season_find(x, 2000, 0, &s), 0);
    assert_int_equal(s.period, 0);
}

static void takes_whatever_it_is_given(void **state)
{
    (void)state;
    struct random r = {11};
    static double x[N];
    struct trend t;
    struct season s;
    for (int i = 0; i < N; i++)
        x[i] = 4;
    assert_int_equal(trend_fit(x, N, &t), 0);
    assert_true(t.slope == 0 && t.p == 1 && t.level == 4);
    assert_int_equal(season_find(x, N, 0, &s), 0);
    assert_int_equal(s.period, 0);
    for (int i = 0; i < N; i++)
        x[i] = NAN;
    assert_int_equal(trend_fit(x, N, &t), 0);
    assert_true(isnan(t.slope) && t.p == 1 && t.n == 0 && !trend_crossing(&t, 1, true).crosses);
    assert_int_equal(season_find(x, N, 0, &s), 0);
    assert_int_equal(trend_fit(x, 0, &t), 0);
    double *many = malloc(MANY * sizeof *many);
    for (int i = 0; i < MANY; i++)
        many[i] = 1e-4 * i + draw_normal(&r);
    assert_int_equal(trend_fit(many, MANY, &t), 0);
    assert_int_equal(t.n, MANY);
    assert_true(fabs(t.slope - 1e-4) < 1e-6 && t.p < 1e-6 && fabs(t.level - 100) < 0.5);
    assert_int_equal(season_find(many, MANY, 0, &s), 0);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selects_what_sorting_finds),
        cmocka_unit_test(measures_level_volatility_and_growth_despite_outliers),
        cmocka_unit_test(follows_lines_with_a_quarter_of_the_samples_wrong),
        cmocka_unit_test(computes_kendall_with_ties),
        cmocka_unit_test(does_not_call_memory_a_trend),
        cmocka_unit_test(says_when_a_leak_reaches_its_limit),
        cmocka_unit_test(smooths),
        cmocka_unit_test(finds_the_season),
        cmocka_unit_test(takes_whatever_it_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
