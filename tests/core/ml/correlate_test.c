// SPDX-License-Identifier: MIT
#include "ml/correlate.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { N = 400 };

static double x[N], y[N];
static struct correlation c;

static void computes_what_their_definitions_say(void **state)
{
    (void)state;
    static const double a[] = {1, 2, 3, 4, 100}, b[] = {2, 1, 4, 4, 5};
    assert_int_equal(correlate(a, b, 5, true, &c), 0);
    /* ranks 0 1 2 3 4 and 1 0 2.5 2.5 4: 8.5 / sqrt(10 * 9.5) */
    assert_true(fabs(c.r - 8.5 / sqrt(95)) < 1e-12);
    assert_int_equal(correlate(a, b, 5, false, &c), 0);
    double mx = 22, my = 3.2, xy = 0, xx = 0, yy = 0;
    for (int i = 0; i < 5; i++) {
        xy += (a[i] - mx) * (b[i] - my);
        xx += (a[i] - mx) * (a[i] - mx);
        yy += (b[i] - my) * (b[i] - my);
    }
    assert_true(fabs(c.r - xy / sqrt(xx * yy)) < 1e-12);
}

static void finds_who_follows_whom(void **state)
{
    (void)state;
    struct random r = {1};
    for (int i = 0; i < N; i++)
        x[i] = draw_normal(&r);
    for (int i = 0; i < N; i++)
        y[i] = i % 13 == 4 ? NAN : (i >= 7 ? -exp(x[i - 7]) : 0) + 0.2 * draw_normal(&r);
    for (int ranks = 0; ranks < 2; ranks++) {
        assert_int_equal(correlate_lagged(x, y, N, 20, ranks, &c), 0);
        assert_true(c.lag == 7 && c.r < -0.6 && c.p < 1e-6);
        assert_int_equal(correlate_lagged(y, x, N, 20, ranks, &c), 0);
        assert_true(c.lag == -7 && c.r < -0.6);
    }
    assert_int_equal(correlate(x, y, N, true, &c), 0);
    assert_true(c.lag == 0 && fabs(c.r) < 0.2 && c.p > 0.001);
}

static void does_not_take_memory_for_a_link(void **state)
{
    (void)state;
    struct random r = {2};
    int called = 0, lagged = 0;
    for (int run = 0; run < 300; run++) {
        struct ar1 a = ar1_start(&r, 0.8, 1), b = ar1_start(&r, 0.8, 1);
        for (int i = 0; i < N; i++) {
            x[i] = ar1_next(&a, &r);
            y[i] = ar1_next(&b, &r);
        }
        assert_int_equal(correlate(x, y, N, false, &c), 0);
        called += c.p < 0.05;
        assert_int_equal(correlate_lagged(x, y, N, 10, false, &c), 0);
        lagged += c.p < 0.05;
    }
    print_message("  AR .8 without a link: p < .05 in %.3f, over 21 lags %.3f\n", called / 300.0, lagged / 300.0);
    assert_in_range(called, 0, 30);
    assert_in_range(lagged, 0, 30);
}

static void takes_whatever_it_is_given(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = 3;
        y[i] = i;
    }
    assert_int_equal(correlate(x, y, N, false, &c), 0);
    assert_true(c.r == 0 && c.p == 1);
    assert_int_equal(correlate_lagged(x, y, N, 1000, true, &c), 0);
    assert_true(c.r == 0 && c.p == 1);
    for (int i = 0; i < N; i++)
        x[i] = i % 2 ? NAN : INFINITY;
    assert_int_equal(correlate(x, y, N, false, &c), 0);
    assert_true(c.n == 0 && c.r == 0);
    assert_int_equal(correlate_lagged(x, y, 0, 5, false, &c), 0);
    struct random r = {3};
    for (int i = 0; i < N; i++)
        x[i] = 1e308 * (2 * random_unit(&r) - 1);
    assert_int_equal(correlate(x, x, N, false, &c), 0);
    assert_true(fabs(c.r - 1) < 1e-12 && c.p < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computes_what_their_definitions_say),
        cmocka_unit_test(finds_who_follows_whom),
        cmocka_unit_test(does_not_take_memory_for_a_link),
        cmocka_unit_test(takes_whatever_it_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
