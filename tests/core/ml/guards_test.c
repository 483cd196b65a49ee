/* How often the guards trip, counted over simulated services: Poisson errors in
 * 5 s windows, the canary's share of the requests 5 to 20 % from window to window. */
// SPDX-License-Identifier: MIT
#include "ml/guards.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { RUNS = 1500, BEFORE = 60, AFTER = 120 };

/* Errors of one window, with `burst` 20 more in one of fifty. */
static unsigned errors_of(struct random *r, double mean, bool burst)
{
    return draw_poisson(r, mean) + (burst && random_unit(r) < 0.02 ? 20 : 0);
}

static double trips(double per_window, double ratio, bool burst, double *seconds)
{
    struct random r = {9};
    int tripped = 0;
    *seconds = 0;
    for (int i = 0; i < RUNS; i++) {
        struct error_guard g;
        error_guard_init(&g, NULL);
        for (int t = 0; t < BEFORE; t++)
            error_guard_before(&g, 1000, errors_of(&r, per_window, burst));
        int t = 0;
        for (; t < AFTER && !g.tripped; t++) {
            double share = 0.05 + 0.15 * random_unit(&r);
            unsigned canary = draw_poisson(&r, per_window * share * ratio), control = 0;
            for (unsigned k = errors_of(&r, 0, burst); k > 0; k--)
                *(random_unit(&r) < share ? &canary : &control) += 1;
            control += draw_poisson(&r, per_window * (1 - share));
            error_guard_add(&g, (uint64_t)(1e4 * share), canary, (uint64_t)(1e4 * (1 - share)), control);
        }
        tripped += g.tripped;
        *seconds += g.tripped ? 5 * t : 0;
    }
    *seconds /= tripped ? tripped : 1;
    return (double)tripped / RUNS;
}

static void trips_on_more_errors_and_not_without(void **state)
{
    (void)state;
    static const struct {
        double per_window, ratio;
        bool burst;
        double least, most;
    } cases[] = {
        {0.05, 1, false, 0, 0.01}, {5, 1, false, 0, 0.01},  {5, 1, true, 0, 0.01},   {50, 1, true, 0, 0.01},
        {0.05, 20, false, 0.95, 1}, {5, 5, false, 0.99, 1}, {5, 2, false, 0.98, 1}, {50, 1.5, false, 0.99, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds, share = trips(cases[i].per_window, cases[i].ratio, cases[i].burst, &seconds);
        print_message("  %.2f errors a window x %.1f%s: trips %.4f, in %.0f s\n", cases[i].per_window,
                      cases[i].ratio, cases[i].burst ? ", bursts of 20" : "", share, seconds);
        assert_true(share >= cases[i].least && share <= cases[i].most);
    }
}

/* One window, a tenth of the requests, all 3 errors: the mean of R^3 / (1 + .1 (R - 1))^3. */
static void computes_what_its_definition_says(void **state)
{
    (void)state;
    static const double ratios[] = {1.25, 1.5, 2, 3, 5, 10, 20};
    struct error_guard g;
    error_guard_init(&g, &(struct error_guard_opts){.inflation = 1});
    error_guard_add(&g, 100, 3, 900, 0);
    double sum = 0;
    for (int i = 0; i < 7; i++)
        sum += pow(ratios[i] / (1 + 0.1 * (ratios[i] - 1)), 3) / 7;
    assert_true(fabs(error_guard_evidence(&g) - sum) < 1e-9 * sum);
}

static void deflates_by_how_errors_scattered_before(void **state)
{
    (void)state;
    struct error_guard g;
    error_guard_init(&g, NULL);
    assert_true(error_guard_fano(&g) == 1.25);
    error_guard_before(&g, 100, 0); /* 0, 10, 20 around 10: 200 / 10 / 2 */
    error_guard_before(&g, 100, 10);
    error_guard_before(&g, 100, 20);
    assert_true(fabs(error_guard_fano(&g) - 12.5) < 1e-9);
    error_guard_init(&g, NULL); /* as many errors as the load explains: none scatter */
    for (uint64_t load = 1; load < 50; load++)
        error_guard_before(&g, 100 * load, load);
    error_guard_before(&g, 0, 0);
    assert_true(error_guard_fano(&g) == 1);
}

static void survives_gross_harm_in_huge_numbers(void **state)
{
    (void)state;
    struct error_guard g;
    error_guard_init(&g, NULL);
    assert_false(error_guard_add(&g, 0, 0, 100, 5));
    assert_true(error_guard_add(&g, 1000000000, 1000000000, 9000000000, 0));
    assert_true(isinf(error_guard_evidence(&g)) || error_guard_evidence(&g) > 100);
    assert_true(error_guard_add(&g, 100, 0, 100, 100)); /* tripped stays tripped */
}

static void trips_at_three_long_tails_in_five_windows(void **state)
{
    (void)state;
    struct tail_guard g;
    tail_guard_init(&g, NULL);
    static const int bad[] = {1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(tail_guard_add(&g, bad[i] ? 151 : 149, 50, 100, 50));
    assert_false(tail_guard_add(&g, 200, 49, 100, 1000)); /* too few requests to count */
    assert_false(tail_guard_add(&g, NAN, 50, 100, 50));
    assert_false(tail_guard_add(&g, 200, 50, 100, 50));
    assert_true(tail_guard_add(&g, 200, 50, 100, 50));
    assert_true(tail_guard_add(&g, 1, 50, 100, 50));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trips_on_more_errors_and_not_without),
        cmocka_unit_test(computes_what_its_definition_says),
        cmocka_unit_test(deflates_by_how_errors_scattered_before),
        cmocka_unit_test(survives_gross_harm_in_huge_numbers),
        cmocka_unit_test(trips_at_three_long_tails_in_five_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
