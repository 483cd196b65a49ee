// SPDX-License-Identifier: MIT
#include "bench/blocks.h"

#include "ml/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { PER_SECOND = 200 };

static const uint64_t SECOND_NS = 1000000000;

/* Times around 10 ms whose every second has a weather of its own: a factor whose logarithm is within +-spread. */
static void fill(struct bench_blocks *b, unsigned seconds, double spread, struct random *random)
{
    for (unsigned second = 0; second < seconds; second++) {
        double weather = exp((2 * random_unit(random) - 1) * spread);
        for (unsigned i = 0; i < PER_SECOND; i++) {
            struct bench_block *block = bench_blocks_at(b, second * SECOND_NS + i * (SECOND_NS / PER_SECOND));
            block->response[sketch_index((uint64_t)(1e7 * weather * (0.9 + 0.2 * random_unit(random))))]++;
            block->answered++;
        }
    }
    bench_blocks_end(b, seconds);
}

static void test_an_interval_holds_the_truth_as_often_as_it_says(void **state)
{
    (void)state;
    unsigned held = 0, runs = 200;
    struct random random = {11};
    for (unsigned run = 0; run < runs; run++) {
        struct bench_blocks b;
        struct bench_intervals in;
        assert_true(bench_blocks_init(&b));
        fill(&b, 40, 0.5, &random);
        assert_true(bench_blocks_intervals(&b, run, &in));
        held += in.p50_ms.low <= 10 && in.p50_ms.high >= 10; /* the true median, by symmetry */
        assert_true(in.per_second.low == PER_SECOND && in.per_second.high == PER_SECOND);
        bench_blocks_done(&b);
    }
    assert_in_range(held, runs * 88 / 100, runs * 99 / 100);
}

/* The same times, whose seconds are all alike, leave hardly any doubt: the width is the weather's, not the sample's. */
static void test_an_interval_is_as_wide_as_the_seconds_differ(void **state)
{
    (void)state;
    struct bench_intervals calm, rough;
    struct random random = {12};
    struct bench_blocks b;
    for (int i = 0; i < 2; i++) {
        assert_true(bench_blocks_init(&b));
        fill(&b, 40, i ? 0.5 : 0, &random);
        assert_true(bench_blocks_intervals(&b, 1, i ? &rough : &calm));
        bench_blocks_done(&b);
    }
    assert_true(rough.p50_ms.high - rough.p50_ms.low > 5 * (calm.p50_ms.high - calm.p50_ms.low));
}

static uint64_t answered(const struct bench_blocks *b)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < b->count; i++)
        sum += b->list[i].answered;
    return sum;
}

static void test_a_long_run_has_longer_blocks_and_loses_nothing(void **state)
{
    (void)state;
    struct random random = {13};
    struct bench_blocks b;
    assert_true(bench_blocks_init(&b));
    fill(&b, 1000, 0.1, &random);
    assert_true(b.length_ns == 4 * SECOND_NS);
    assert_int_equal(b.count, 250);
    assert_int_equal(answered(&b), 1000 * PER_SECOND);
    bench_blocks_done(&b);
}

static void test_a_second_that_was_not_whole_does_not_count(void **state)
{
    (void)state;
    struct bench_blocks b;
    assert_true(bench_blocks_init(&b));
    bench_blocks_at(&b, 0)->answered = 5;
    bench_blocks_at(&b, 1 * SECOND_NS)->answered = 7;
    bench_blocks_end(&b, 1.4);
    assert_int_equal(b.count, 1);
    assert_int_equal(answered(&b), 5);
    bench_blocks_end(&b, 3); /* in two further seconds nobody was answered */
    assert_int_equal(b.count, 3);
    assert_int_equal(answered(&b), 5);
    bench_blocks_done(&b);
}

static void test_runs_are_put_together(void **state)
{
    (void)state;
    struct random random = {14};
    struct bench_blocks all, one;
    assert_true(bench_blocks_init(&all));
    for (unsigned run = 0; run < 3; run++) {
        assert_true(bench_blocks_init(&one));
        fill(&one, 101, 0.1, &random);
        bench_blocks_append(&all, &one);
        bench_blocks_done(&one);
    }
    /* 202, then 303 are too many: of each uneven number the last second goes */
    assert_true(all.length_ns == 2 * SECOND_NS);
    assert_int_equal(all.count, 101 + 50);
    assert_int_equal(answered(&all), 302 * PER_SECOND);
    bench_blocks_done(&all);
}

static void test_few_blocks_say_nothing(void **state)
{
    (void)state;
    struct random random = {15};
    struct bench_intervals in;
    struct bench_blocks b;
    assert_true(bench_blocks_init(&b));
    fill(&b, BLOCKS_LEAST - 1, 0.1, &random);
    assert_false(bench_blocks_intervals(&b, 1, &in));
    bench_blocks_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_interval_holds_the_truth_as_often_as_it_says),
        cmocka_unit_test(test_an_interval_is_as_wide_as_the_seconds_differ),
        cmocka_unit_test(test_a_long_run_has_longer_blocks_and_loses_nothing),
        cmocka_unit_test(test_a_second_that_was_not_whole_does_not_count),
        cmocka_unit_test(test_runs_are_put_together),
        cmocka_unit_test(test_few_blocks_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
