// SPDX-License-Identifier: MIT
#include "stats/sketch_algebra.h"

#include "ml/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <string.h>

static uint32_t a[SKETCH_BUCKETS], b[SKETCH_BUCKETS], sum[SKETCH_BUCKETS];

static double draw(struct random *r)
{
    return 1e6 * exp(3 * random_unit(r)); /* the q-quantile is 1e6 * exp(3 q) */
}

static void fill(uint32_t *counts, struct random *r, int n)
{
    memset(counts, 0, sizeof a);
    for (int i = 0; i < n; i++)
        counts[sketch_index((uint64_t)draw(r))]++;
}

static void takes_apart_what_it_put_together(void **state)
{
    (void)state;
    struct random r = {1};
    fill(a, &r, 5000);
    fill(b, &r, 3000);
    memcpy(sum, a, sizeof sum);
    sketch_merge(sum, b, SKETCH_BUCKETS);
    assert_true(sketch_total(sum, SKETCH_BUCKETS) == 8000);
    assert_true(sketch_subtract(sum, b, SKETCH_BUCKETS));
    assert_memory_equal(sum, a, sizeof sum);
    b[0] = 1; /* which the sum does not have */
    assert_false(sketch_subtract(sum, b, SKETCH_BUCKETS));
    assert_memory_equal(sum, a, sizeof sum);
    a[3] = UINT32_MAX;
    b[3] = 2;
    sketch_merge(a, b, SKETCH_BUCKETS);
    assert_true(a[3] == UINT32_MAX);
}

static void bounds_its_quantiles(void **state)
{
    (void)state;
    static const double qs[] = {0.01, 0.1, 0.5, 0.9, 0.99};
    struct random r = {2};
    int covered = 0, runs = 400;
    for (int run = 0; run < runs; run++) {
        fill(a, &r, 500);
        for (int i = 0; i < 5; i++) {
            struct sketch_estimate e = sketch_estimate(a, SKETCH_BUCKETS, SKETCH_SCALE, qs[i]);
            double truth = 1e6 * exp(3 * qs[i]);
            covered += e.lo_ns <= truth && truth <= e.hi_ns;
            assert_true(e.lo_ns <= e.lower_ns && e.lower_ns < e.value_ns && e.value_ns < e.upper_ns &&
                        e.upper_ns <= e.hi_ns);
            assert_true(e.value_ns == sketch_quantile_ns(a, SKETCH_BUCKETS, SKETCH_SCALE, qs[i]));
        }
    }
    print_message("  the quantile is inside the 95 %% bounds in %.3f\n", covered / (5.0 * runs));
    assert_in_range(covered, (int)(0.94 * 5 * runs), (int)(0.995 * 5 * runs));
}

static void tells_the_share_above(void **state)
{
    (void)state;
    struct random r = {3};
    fill(a, &r, 200000);
    for (double q = 0.05; q < 1; q += 0.05) {
        double above = sketch_share_above(a, SKETCH_BUCKETS, SKETCH_SCALE, 1e6 * exp(3 * q));
        assert_true(fabs(above - (1 - q)) < 0.005);
    }
    assert_true(sketch_share_above(a, SKETCH_BUCKETS, SKETCH_SCALE, 0) == 1);
    assert_true(sketch_share_above(a, SKETCH_BUCKETS, SKETCH_SCALE, 1e12) == 0);
}

static void answers_when_it_is_empty(void **state)
{
    (void)state;
    memset(a, 0, sizeof a);
    assert_true(sketch_estimate(a, SKETCH_BUCKETS, SKETCH_SCALE, 0.5).hi_ns == 0);
    assert_true(isnan(sketch_share_above(a, SKETCH_BUCKETS, SKETCH_SCALE, 1)));
    a[SKETCH_BUCKETS - 1] = 1;
    assert_true(sketch_estimate(a, SKETCH_BUCKETS, SKETCH_SCALE, 1).value_ns > 6e10);
    assert_true(sketch_estimate(a, SKETCH_BUCKETS, SKETCH_SCALE, 0).value_ns > 6e10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_apart_what_it_put_together),
        cmocka_unit_test(bounds_its_quantiles),
        cmocka_unit_test(tells_the_share_above),
        cmocka_unit_test(answers_when_it_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
