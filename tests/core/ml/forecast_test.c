// SPDX-License-Identifier: MIT
#include "ml/forecast.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

enum { N = 600, AHEAD = 24 };

static double x[N];
static struct forecast f;
static struct forecast_step path[FORECAST_STEPS];

static int make(size_t n, size_t steps)
{
    return forecast_make(x, n, &(struct forecast_opts){.steps = steps}, &f, path);
}

static double daily(int i)
{
    return 100 + 30 * sin(2 * 3.14159265358979 * i / 24) + (i / 6 % 4 == 2 ? 15 : 0);
}

static void continues_a_season_through_outliers_and_gaps(void **state)
{
    (void)state;
    struct random r = {1};
    for (int i = 0; i < N; i++)
        x[i] = random_unit(&r) < 0.02 ? 1e5 : i % 30 == 11 ? NAN : daily(i) + 3 * draw_normal(&r);
    assert_int_equal(make(N, AHEAD), 0);
    assert_true(f.beats && f.method >= FORECAST_HOLT_WINTERS);
    assert_int_equal(f.period, 24);
    for (int h = 0; h < AHEAD; h++)
        assert_true(fabs(path[h].value - daily(N + h)) < 12);
}

/* The intervals of simulated futures: nominal 90 %. */
static void covers_what_comes(void **state)
{
    (void)state;
    struct random r = {2};
    double inside = 0, ratio = 0;
    for (int run = 0; run < 40; run++) {
        struct ar1 a = ar1_start(&r, 0.8, 6);
        double future[AHEAD];
        for (int i = 0; i < N + AHEAD; i++)
            *(i < N ? &x[i] : &future[i - N]) = daily(i) + ar1_next(&a, &r);
        assert_int_equal(make(N, AHEAD), 0);
        for (int h = 0; h < AHEAD; h++) {
            assert_true(path[h].lo <= path[h].value && path[h].value <= path[h].hi);
            inside += (path[h].lo <= future[h] && future[h] <= path[h].hi) / (40.0 * AHEAD);
        }
        ratio += forecast_mase(x, N, 24, future, path, AHEAD) / 40;
    }
    print_message("  inside the 90 %% interval %.3f, MASE against seasonal naive %.3f\n", inside, ratio);
    assert_true(inside > 0.83 && inside < 0.97);
    assert_true(ratio < 0.9);
}

static void says_that_it_cannot_forecast_a_random_walk(void **state)
{
    (void)state;
    struct random r = {3};
    int beats = 0;
    for (int run = 0; run < 30; run++) {
        for (int i = 0; i < N; i++)
            x[i] = (i ? x[i - 1] : 0) + draw_normal(&r);
        assert_int_equal(forecast_make(x, N, &(struct forecast_opts){.steps = AHEAD, .period = 1}, &f, path), 0);
        beats += f.beats;
        assert_true(f.beats || path[0].value == x[N - 1]);
    }
    print_message("  random walks it thought it could: %d of 30\n", beats);
    assert_in_range(beats, 0, 12);
}

static void lets_a_trend_go_on_and_fade(void **state)
{
    (void)state;
    struct random r = {4};
    for (int i = 0; i < N; i++)
        x[i] = 2.0 * i + draw_normal(&r);
    assert_int_equal(make(N, AHEAD), 0);
    assert_true(f.beats && f.beta > 0);
    assert_true(path[0].value > 2.0 * N - 8 && path[5].value > path[0].value);
    struct forecast_crossing c = forecast_crossing(path, AHEAD, 2.0 * N + 4, true);
    assert_true(c.crosses && c.expected >= 2 && c.expected <= 12 && c.soonest <= c.expected);
    assert_false(forecast_crossing(path, AHEAD, 0, false).crosses);
}

static void finds_where_it_crosses(void **state)
{
    (void)state;
    static const struct forecast_step steps[] = {{1, 0, 2}, {3, 2, 4}, {5, 4, 6}, {7, 6, 8}};
    struct forecast_crossing c = forecast_crossing(steps, 4, 4, true);
    assert_true(c.crosses);
    assert_int_equal(c.soonest, 2);
    assert_int_equal(c.expected, 3);
    assert_int_equal(c.latest, 3);
    c = forecast_crossing(steps, 4, 8, true);
    assert_false(c.crosses);
    assert_int_equal(c.soonest, 4);
    assert_int_equal(c.latest, 0);
}

static void takes_whatever_it_is_given(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = 7;
    assert_int_equal(make(N, AHEAD), 0);
    assert_true(path[AHEAD - 1].value == 7 && path[0].lo == 7 && path[0].hi == 7);
    for (int i = 0; i < N; i++)
        x[i] = NAN;
    assert_int_equal(make(N, AHEAD), 0);
    assert_true(isnan(path[0].value) && !f.beats);
    assert_int_equal(make(0, AHEAD), 0);
    assert_true(isnan(path[0].value));
    x[0] = 3;
    assert_int_equal(make(1, 2), 0);
    assert_true(path[1].value == 3 && isinf(path[1].hi) && isnan(f.mase));
    assert_true(make(N, 0) < 0 && make(N, FORECAST_STEPS + 1) < 0);
    for (int i = 0; i < N; i++)
        x[i] = i % 2 ? 1e308 : -1e308;
    assert_int_equal(make(N, FORECAST_STEPS), 0);
}

static void is_deterministic_and_bounded(void **state)
{
    (void)state;
    enum { MANY = 1000000 };
    struct random r = {5};
    double *many = malloc(MANY * sizeof *many);
    for (int i = 0; i < MANY; i++)
        many[i] = daily(i) + draw_normal(&r);
    struct forecast_step again[AHEAD];
    struct forecast_opts opts = {.steps = AHEAD};
    assert_int_equal(forecast_make(many, MANY, &opts, &f, path), 0);
    struct forecast first = f;
    assert_int_equal(forecast_make(many, MANY, &opts, &f, again), 0);
    assert_memory_equal(path, again, sizeof again);
    assert_true(first.mase == f.mase && f.period == 24);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(continues_a_season_through_outliers_and_gaps),
        cmocka_unit_test(covers_what_comes),
        cmocka_unit_test(says_that_it_cannot_forecast_a_random_walk),
        cmocka_unit_test(lets_a_trend_go_on_and_fade),
        cmocka_unit_test(finds_where_it_crosses),
        cmocka_unit_test(takes_whatever_it_is_given),
        cmocka_unit_test(is_deterministic_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
