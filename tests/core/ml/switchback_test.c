/* How often the verdicts are wrong, counted over simulated services: log p95 of
 * 5 s windows, autoregression .6 to .97, 20 % load drift within ten minutes. */
// SPDX-License-Identifier: MIT
#include "ml/switchback.h"
#include "simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { RUNS = 1500, WINDOW_MS = 5000 };

struct tally {
    double share[5], covered, seconds;
};

static void run_one(struct random *r, unsigned arms, double phi, double sd, double effect, uint64_t seed,
                    struct switchback *s, uint64_t *t)
{
    struct ar1 a = ar1_start(r, phi, sd), b = ar1_start(r, phi, sd);
    switchback_init(s, &(struct switchback_opts){.arms = arms, .seed = seed}, 1000);
    for (*t = 1000 + WINDOW_MS; s->result.verdict == EXPERIMENT_RUNNING; *t += WINDOW_MS) {
        struct switchback_moment m = switchback_at(s, *t - 1);
        double drift = 0.2 * (double)*t / 6e5, y = ar1_next(&a, r) + drift + effect * m.on;
        if (arms == 2)
            y -= ar1_next(&b, r) + drift - 0.08 + effect * !m.on;
        switchback_add(s, *t, WINDOW_MS, y);
    }
}

static struct tally run_many(unsigned arms, double phi, double sd, double effect)
{
    struct random r = {77};
    struct tally tally = {{0}, 0, 0};
    for (uint64_t i = 0; i < RUNS; i++) {
        struct switchback s;
        uint64_t t;
        run_one(&r, arms, phi, sd, effect, i, &s, &t);
        tally.share[s.result.verdict] += 1.0 / RUNS;
        tally.covered += (s.result.lo <= effect && effect <= s.result.hi) / (double)RUNS;
        tally.seconds += (double)t / 1e3 / RUNS;
    }
    return tally;
}

static void calls_a_change_without_effect_an_effect_in_less_than_one_of_twenty(void **state)
{
    (void)state;
    static const double phis[] = {0.6, 0.9, 0.97};
    for (unsigned arms = 1; arms <= 2; arms++)
        for (int i = 0; i < 3; i++) {
            struct tally t = run_many(arms, phis[i], 0.07, 0);
            double wrong = t.share[EXPERIMENT_BETTER] + t.share[EXPERIMENT_WORSE];
            print_message("  %u arm(s), AR %.2f: false verdicts %.3f, covered %.3f\n", arms, phis[i], wrong,
                          t.covered);
            assert_true(wrong < 0.04);
            assert_true(t.covered > 0.95);
        }
}

static void finds_effects(void **state)
{
    (void)state;
    static const struct {
        unsigned arms;
        double phi, effect, least;
    } cases[] = {
        {1, 0.6, -0.2231, 0.98}, {1, 0.6, -0.1054, 0.75}, {1, 0.6, 0.1398, 0.93},  {1, 0.9, -0.1054, 0.9},
        {2, 0.6, -0.1054, 0.80}, {2, 0.9, -0.1054, 0.98}, {2, 0.97, -0.1054, 0.98}, {2, 0.6, 0.1398, 0.95},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tally t = run_many(cases[i].arms, cases[i].phi, 0.07, cases[i].effect);
        double power = t.share[cases[i].effect < 0 ? EXPERIMENT_BETTER : EXPERIMENT_WORSE];
        print_message("  %u arm(s), AR %.2f, %+.0f %%: power %.3f in %.0f s\n", cases[i].arms, cases[i].phi,
                      100 * expm1(cases[i].effect), power, t.seconds);
        assert_true(power > cases[i].least);
        assert_true(t.covered > 0.95);
        assert_true(t.share[cases[i].effect < 0 ? EXPERIMENT_WORSE : EXPERIMENT_BETTER] < 0.002);
    }
}

static void switches_once_per_pair_by_coins_of_its_seed(void **state)
{
    (void)state;
    struct switchback s, same, other;
    switchback_init(&s, &(struct switchback_opts){.seed = 5, .most = 2000}, 500);
    switchback_init(&same, &(struct switchback_opts){.seed = 5, .most = 2000}, 500);
    switchback_init(&other, &(struct switchback_opts){.seed = 6, .most = 2000}, 500);
    int on_first = 0, differ = 0;
    for (uint64_t pair = 0; pair < 1000; pair++) {
        uint64_t t = 500 + pair * 60000;
        struct switchback_moment first = switchback_at(&s, t), second = switchback_at(&s, t + 30000);
        assert_true(first.on != second.on);
        assert_true(!first.measuring && switchback_at(&s, t + 5000).measuring);
        assert_int_equal(first.on, switchback_at(&same, t + 29999).on);
        on_first += first.on;
        differ += first.on != switchback_at(&other, t).on;
    }
    assert_in_range(on_first, 440, 560);
    assert_in_range(differ, 440, 560);
    assert_true(switchback_at(&s, 500 + UINT64_C(2000) * 60000).over);
}

/* Pair differences 1, 2, 3: t = 2 * sqrt(3), 2 degrees of freedom, k = 1 + 3. */
static void computes_what_its_definition_says(void **state)
{
    (void)state;
    struct switchback s;
    switchback_init(&s, &(struct switchback_opts){.block_ms = 100, .washout_ms = 10, .alpha = 0.5}, 0);
    for (uint64_t t = 0; t < 600; t += 100) {
        double value = switchback_at(&s, t).on ? (double)(t / 200 + 1) : 0;
        switchback_add(&s, t + 5, 5, 1e9); /* washed out */
        switchback_add(&s, t + 50, 20, value);
        switchback_add(&s, t + 90, 20, NAN);
        switchback_add(&s, t + 120, 40, 1e9); /* across two blocks */
    }
    switchback_close(&s, 600);
    double u = 12 / 2.0, k = 4;
    assert_int_equal(s.result.n, 3);
    assert_true(fabs(s.result.estimate - 2) < 1e-12 && fabs(s.result.sd - 1) < 1e-12);
    assert_true(fabs(s.result.lambda - pow((1 + u) / (1 + u / k), 1.5) / 2) < 1e-12);
    double half = s.result.hi - 2, x = 3 * half * half / 2;
    assert_true(fabs(pow((1 + x) / (1 + x / k), 1.5) / 2 - 2) < 1e-9);
    assert_int_equal(s.result.verdict, EXPERIMENT_RUNNING); /* three pairs are too few */
}

static void leaves_out_pairs_that_miss_a_block_and_ends_at_the_horizon(void **state)
{
    (void)state;
    struct switchback s;
    switchback_init(&s, &(struct switchback_opts){.block_ms = 100, .most = 5}, 0);
    for (uint64_t t = 100; t < 1000; t += 200)
        switchback_add(&s, t, 50, 1); /* the first block of each pair only */
    assert_int_equal(s.result.n, 0);
    assert_int_equal(switchback_close(&s, 999), EXPERIMENT_RUNNING);
    assert_int_equal(switchback_close(&s, 1000), EXPERIMENT_INCONCLUSIVE);
    assert_true(isinf(s.result.hi));
    assert_int_equal(switchback_add(&s, 5000, 50, 1), EXPERIMENT_INCONCLUSIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_a_change_without_effect_an_effect_in_less_than_one_of_twenty),
        cmocka_unit_test(finds_effects),
        cmocka_unit_test(switches_once_per_pair_by_coins_of_its_seed),
        cmocka_unit_test(computes_what_its_definition_says),
        cmocka_unit_test(leaves_out_pairs_that_miss_a_block_and_ends_at_the_horizon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
