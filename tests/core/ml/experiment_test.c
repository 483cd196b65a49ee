/* How often the verdicts are wrong, counted over simulated services: log p95 of
 * 5 s windows, an autoregression common to both arms (spread .10, AR .9), one of
 * each arm (spread .05), a lasting offset of 8 % between the arms. */
// SPDX-License-Identifier: MIT
#include "ml/experiment.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { RUNS = 1500, BEFORE = 60, AFTER = 120 };

struct tally {
    double share[5], covered, usable, seconds;
};

static void run_one(struct random *r, double phi, double drift, double effect, struct experiment *e)
{
    struct ar1 common = ar1_start(r, 0.9, 0.10), a = ar1_start(r, phi, 0.05), b = ar1_start(r, phi, 0.05);
    experiment_init(e, NULL);
    for (int t = 0; t < BEFORE; t++) {
        double m = ar1_next(&common, r);
        experiment_before(e, m + 0.08 + ar1_next(&a, r), m + ar1_next(&b, r));
    }
    for (int t = 0; t < AFTER; t++) {
        double m = ar1_next(&common, r) + drift * t / AFTER;
        experiment_add(e, 1.05 * m + 0.08 + effect + ar1_next(&a, r), m + ar1_next(&b, r));
    }
}

static struct tally run_many(double phi, double drift, double effect)
{
    struct random r = {20};
    struct tally tally = {{0}, 0, 0, 0};
    for (int i = 0; i < RUNS; i++) {
        struct experiment e;
        run_one(&r, phi, drift, effect, &e);
        tally.share[e.result.verdict] += 1.0 / RUNS;
        tally.covered += (e.result.lo <= effect && effect <= e.result.hi) / (double)RUNS;
        tally.usable += (double)e.result.usable / RUNS;
        tally.seconds += e.result.n * 5.0 / RUNS;
    }
    return tally;
}

static double false_rate(const struct tally *t)
{
    return t->share[EXPERIMENT_BETTER] + t->share[EXPERIMENT_WORSE];
}

static void calls_a_change_without_effect_an_effect_in_less_than_one_of_twenty(void **state)
{
    (void)state;
    struct tally still = run_many(0.6, 0, 0), drifting = run_many(0.6, 0.2, 0);
    print_message("  false verdicts %.3f, with 20 %% load drift %.3f; covered %.3f\n", false_rate(&still),
                  false_rate(&drifting), still.covered);
    assert_true(false_rate(&still) < 0.05);
    assert_true(false_rate(&drifting) < 0.06);
    assert_true(still.covered > 0.95);
}

static void finds_a_tenth_less_and_a_seventh_more(void **state)
{
    (void)state;
    struct tally better = run_many(0.6, 0, log(0.90)), worse = run_many(0.6, 0, log(1.15));
    print_message("  power -10 %%: %.3f in %.0f s, +15 %%: %.3f in %.0f s\n", better.share[EXPERIMENT_BETTER],
                  better.seconds, worse.share[EXPERIMENT_WORSE], worse.seconds);
    assert_true(better.share[EXPERIMENT_BETTER] > 0.80);
    assert_true(better.share[EXPERIMENT_WORSE] < 0.002);
    assert_true(worse.share[EXPERIMENT_WORSE] > 0.93);
    assert_true(worse.share[EXPERIMENT_BETTER] < 0.002);
    assert_true(better.covered > 0.95 && worse.covered > 0.95);
}

static void says_when_windows_are_too_autocorrelated_for_it(void **state)
{
    (void)state;
    struct tally strong = run_many(0.97, 0, 0), weak = run_many(0.5, 0, 0);
    print_message("  usable at AR .5 %.3f, at AR .97 %.3f with %.3f false verdicts\n", weak.usable, strong.usable,
                  false_rate(&strong));
    assert_true(weak.usable > 0.98);
    assert_true(strong.usable < 0.15);
    assert_true(strong.share[EXPERIMENT_BETTER] < 0.05);
}

/* d_t = 0.01 * (-1)^t before: sd .01, r clipped to 0 + .10 after a lag-1 of about -1. */
static void computes_what_its_definition_says(void **state)
{
    (void)state;
    struct experiment e;
    experiment_init(&e, &(struct experiment_opts){.least = 1, .inflation = 1.2});
    for (int t = 0; t < 24; t++)
        experiment_before(&e, t % 2 ? 0.01 : -0.01, 0);
    double sd = sqrt(24 * 1e-4 / 23), r = fmax(0, -23.0 / 24 + 1.2), v = sd * sd * (1 + r) / (1 - r);
    assert_true(fabs(e.result.r - r) < 1e-12);
    assert_true(fabs(e.result.sd * e.result.sd - v) < 1e-12);
    assert_int_equal(experiment_add(&e, 0.001, 0), EXPERIMENT_RUNNING);
    double ve = v * (1 + 1.0 / 24), t2 = 0.01;
    double lambda = sqrt(ve / (ve + t2)) * exp(t2 * 1e-6 / (2 * ve * (ve + t2)));
    assert_true(fabs(e.result.lambda - lambda) < 1e-12);
    /* The interval is where the ratio of "the effect is its end" reaches 1 / alpha. */
    double off = e.result.hi - e.result.estimate;
    double at_end = sqrt(ve / (ve + t2)) * exp(t2 * off * off / (2 * ve * (ve + t2)));
    assert_true(fabs(at_end - 20) < 1e-9);
}

static void keeps_its_first_verdict_and_skips_windows_without_numbers(void **state)
{
    (void)state;
    struct experiment e;
    experiment_init(&e, NULL);
    for (int t = 0; t < 30; t++)
        experiment_before(&e, 1, 1);
    experiment_before(&e, NAN, 1);
    experiment_before(&e, 1, INFINITY);
    assert_int_equal(e.result.before, 30);
    for (int t = 0; t < 11; t++)
        assert_int_equal(experiment_add(&e, 1.2, 1), EXPERIMENT_RUNNING);
    assert_int_equal(experiment_add(&e, NAN, 1), EXPERIMENT_RUNNING);
    assert_int_equal(experiment_add(&e, 1.2, 1), EXPERIMENT_WORSE);
    struct experiment_result then = e.result;
    for (int t = 0; t < 50; t++)
        assert_int_equal(experiment_add(&e, 0.1, 1), EXPERIMENT_WORSE);
    assert_memory_equal(&then, &e.result, sizeof then);
}

static void excludes_harm_or_says_that_it_cannot(void **state)
{
    (void)state;
    struct random r = {3};
    for (int noisy = 0; noisy < 2; noisy++) {
        struct experiment e;
        experiment_init(&e, NULL);
        double sd = noisy ? 0.2 : 0.01;
        for (int t = 0; t < 60; t++)
            experiment_before(&e, sd * draw_normal(&r), 0);
        for (int t = 0; t < 120; t++)
            experiment_add(&e, sd * draw_normal(&r), 0);
        assert_int_equal(e.result.verdict, noisy ? EXPERIMENT_INCONCLUSIVE : EXPERIMENT_NO_EFFECT);
        assert_true((e.result.hi < 0.02) == !noisy);
    }
}

static void is_inconclusive_without_windows_before(void **state)
{
    (void)state;
    struct experiment e;
    experiment_init(&e, NULL);
    enum experiment_verdict v = EXPERIMENT_RUNNING;
    for (int t = 0; t < 120; t++)
        v = experiment_add(&e, 0.5, 1);
    assert_int_equal(v, EXPERIMENT_INCONCLUSIVE);
    assert_false(e.result.usable);
    assert_true(isinf(e.result.hi));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_a_change_without_effect_an_effect_in_less_than_one_of_twenty),
        cmocka_unit_test(finds_a_tenth_less_and_a_seventh_more),
        cmocka_unit_test(says_when_windows_are_too_autocorrelated_for_it),
        cmocka_unit_test(computes_what_its_definition_says),
        cmocka_unit_test(keeps_its_first_verdict_and_skips_windows_without_numbers),
        cmocka_unit_test(excludes_harm_or_says_that_it_cannot),
        cmocka_unit_test(is_inconclusive_without_windows_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
