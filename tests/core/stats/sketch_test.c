// SPDX-License-Identifier: MIT
#include "stats/sketch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES = 200000 };

/* A generator of our own: the same values on every machine. */
static double uniform(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return ((double)(*state >> 11) + 0.5) / (double)(UINT64_C(1) << 53);
}

static double normal(uint64_t *state)
{
    double r = sqrt(-2 * log(uniform(state)));
    return r * cos(2 * 3.14159265358979 * uniform(state));
}

static double draw_lognormal(uint64_t *s)
{
    return 2e6 * exp(1.2 * normal(s));
}

static double draw_exponential(uint64_t *s)
{
    return 5e6 * -log(uniform(s)) + 2000;
}

static double draw_uniform(uint64_t *s)
{
    return 1e5 + 9e7 * uniform(s);
}

static double draw_bimodal(uint64_t *s)
{
    return uniform(s) < 0.9 ? 2e5 * (1 + 0.1 * uniform(s)) : 8e8 * (1 + 0.1 * uniform(s));
}

static double draw_pareto(uint64_t *s)
{
    double v = 5e4 / pow(uniform(s), 1 / 1.3);
    return v < 6e10 ? v : 6e10;
}

static double draw_constant(uint64_t *s)
{
    (void)s;
    return 123456789;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void check_distribution(double (*draw)(uint64_t *))
{
    static const double qs[] = {0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1};
    struct sketch *s = calloc(1, sizeof *s);
    struct sketch_coarse *c = calloc(1, sizeof *c);
    uint64_t *sorted = malloc(VALUES * sizeof *sorted), state = 88172645463325252;
    for (int i = 0; i < VALUES; i++) {
        sorted[i] = (uint64_t)draw(&state);
        sketch_record(s, sorted[i]);
        sketch_coarse_record(c, sorted[i]);
    }
    qsort(sorted, VALUES, sizeof *sorted, ascending);
    for (size_t i = 0; i < sizeof qs / sizeof *qs; i++) {
        double rank = ceil(qs[i] * VALUES);
        double exact = (double)sorted[rank >= 1 ? (size_t)rank - 1 : 0];
        double fine = sketch_quantile_ns((const uint32_t *)s->bucket, SKETCH_BUCKETS, SKETCH_SCALE, qs[i]);
        double coarse = sketch_quantile_ns((const uint32_t *)c->bucket, SKETCH_COARSE_BUCKETS,
                                           SKETCH_COARSE_SCALE, qs[i]);
        /* Half a bucket, but at q = 1 up to a whole one: an upper bound. */
        assert_true(fabs(fine - exact) / exact <= (qs[i] < 1 ? 0.0055 : 0.0109));
        assert_true(fabs(coarse - exact) / exact <= (qs[i] < 1 ? 0.045 : 0.0906));
        if (qs[i] >= 1)
            assert_true(fine >= exact && coarse >= exact);
    }
    free(sorted);
    free(s);
    free(c);
}

static void answers_any_quantile_within_its_bound(void **state)
{
    (void)state;
    check_distribution(draw_lognormal);
    check_distribution(draw_exponential);
    check_distribution(draw_uniform);
    check_distribution(draw_bimodal);
    check_distribution(draw_pareto);
    check_distribution(draw_constant);
}

static void finds_the_bucket_that_the_definition_says(void **state)
{
    (void)state;
    for (unsigned i = 0; i + 1 < SKETCH_BUCKETS; i++) {
        long double upper = exp2l(SKETCH_LOW_EXPONENT + (long double)(i + 1) / (1 << SKETCH_SCALE));
        uint64_t inside = (uint64_t)floorl(upper);
        assert_int_equal(sketch_index(inside), i);
        assert_int_equal(sketch_index(inside + 1), i + 1);
        assert_int_equal(sketch_coarse_index(inside), i / 8);
        assert_int_equal(sketch_coarse_index(inside + 1), (i + 1) / 8);
    }
    uint64_t random = 42;
    for (int i = 0; i < 200000; i++) {
        uint64_t ns = (uint64_t)exp2(10.01 + 25.98 * uniform(&random));
        long double exact = log2l((long double)ns / 1024) * 64;
        assert_int_equal(sketch_index(ns), (unsigned)ceill(exact) - 1);
    }
}

static void keeps_values_beyond_its_ends_in_the_outer_buckets(void **state)
{
    (void)state;
    assert_int_equal(sketch_index(0), 0);
    assert_int_equal(sketch_index(1), 0);
    assert_int_equal(sketch_index(1024), 0);
    assert_int_equal(sketch_index(UINT64_C(1) << 36), SKETCH_BUCKETS - 1);
    assert_int_equal(sketch_index((UINT64_C(1) << 36) + 1), SKETCH_BUCKETS - 1);
    assert_int_equal(sketch_index(UINT64_MAX), SKETCH_BUCKETS - 1);
    assert_int_equal(sketch_coarse_index(UINT64_MAX), SKETCH_COARSE_BUCKETS - 1);
}

static void merges_exactly(void **state)
{
    (void)state;
    struct sketch *parts = calloc(3, sizeof *parts);
    uint32_t *sum = calloc(SKETCH_BUCKETS, sizeof *sum);
    uint64_t random = 7;
    for (int i = 0; i < 30000; i++) {
        uint64_t ns = (uint64_t)draw_lognormal(&random);
        sketch_record(&parts[i % 2], ns);
        sketch_record(&parts[2], ns);
    }
    for (int i = 0; i < SKETCH_BUCKETS; i++)
        sum[i] = parts[0].bucket[i] + parts[1].bucket[i];
    assert_memory_equal(sum, parts[2].bucket, SKETCH_BUCKETS * sizeof *sum);
    free(parts);
    free(sum);
}

static void answers_0_when_it_is_empty(void **state)
{
    (void)state;
    uint32_t counts[SKETCH_COARSE_BUCKETS] = {0};
    assert_true(sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 0.5) == 0);
    assert_true(sketch_quantile_ns(counts, SKETCH_COARSE_BUCKETS, SKETCH_COARSE_SCALE, 1) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_any_quantile_within_its_bound),
        cmocka_unit_test(finds_the_bucket_that_the_definition_says),
        cmocka_unit_test(keeps_values_beyond_its_ends_in_the_outer_buckets),
        cmocka_unit_test(merges_exactly),
        cmocka_unit_test(answers_0_when_it_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
