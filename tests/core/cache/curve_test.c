/* The sampled miss-ratio curve beside the exact one. */
// SPDX-License-Identifier: MIT
#include "cache/curve.h"
#include "cache/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 50000, REQUESTS = 400000, SIZES = 9, SALTS = 8 };

static struct curve curve;
static uint32_t trace[REQUESTS];
static uint32_t size_of[KEYS];
static int salt; /* another one: other keys are followed */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1DULL;
}

/* As keys are hashed: XXH3 of their text. */
static uint64_t hash_of(uint32_t key)
{
    char text[40];
    return record_key((struct str){text, (size_t)snprintf(text, sizeof text, "http://host%d/%u", salt, key)}).low;
}

static void make_trace(double skew)
{
    static double sums[KEYS];
    uint64_t state = 88172645463325252ULL;
    double sum = 0;
    for (int i = 0; i < KEYS; i++) {
        sums[i] = sum += 1 / pow(i + 1, skew);
        size_of[i] = 500 + (uint32_t)(next_random(&state) % 20000);
    }
    for (int n = 0; n < REQUESTS; n++) {
        double u = (double)(next_random(&state) >> 11) / 9007199254740992.0 * sum;
        uint32_t low = 0, high = KEYS - 1;
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (sums[middle] < u)
                low = middle + 1;
            else
                high = middle;
        }
        trace[n] = low;
    }
}

/* Exact: a tree of bytes by time of last use tells the bytes used since (Mattson, with
 * Bennett and Kruskal's tree). Fills in the misses for each size. */
static void add_at(uint64_t *tree, size_t i, int64_t value)
{
    for (i++; i <= REQUESTS; i += i & -i)
        tree[i] += (uint64_t)value;
}

static uint64_t sum_to(const uint64_t *tree, size_t i)
{
    uint64_t sum = 0;
    for (i++; i > 0; i -= i & -i)
        sum += tree[i];
    return sum;
}

static void exact(const uint64_t *sizes, double *miss)
{
    uint64_t *tree = calloc(REQUESTS + 2, sizeof *tree);
    int64_t *last = malloc(KEYS * sizeof *last);
    memset(last, -1, KEYS * sizeof *last);
    for (int s = 0; s < SIZES; s++)
        miss[s] = REQUESTS;
    for (size_t n = 0; n < REQUESTS; n++) {
        uint32_t k = trace[n];
        if (last[k] >= 0) {
            uint64_t since = sum_to(tree, REQUESTS - 1) - sum_to(tree, (size_t)last[k]) + size_of[k];
            for (int s = 0; s < SIZES; s++)
                miss[s] -= since <= sizes[s];
            add_at(tree, (size_t)last[k], -(int64_t)size_of[k]);
        }
        add_at(tree, n, size_of[k]);
        last[k] = (int64_t)n;
    }
    for (int s = 0; s < SIZES; s++)
        miss[s] /= REQUESTS;
    free(tree);
    free(last);
}

static void sample(void)
{
    uint64_t seen = 0;
    memset(&curve, 0, sizeof curve);
    for (size_t n = 0; n < REQUESTS; n++) {
        uint64_t hash = hash_of(trace[n]);
        seen++;
        if (!curve_follows(&curve, hash))
            continue;
        assert_true(curve_use(&curve, hash, size_of[trace[n]], seen, 1));
        seen = 0;
    }
}

static void compare(double skew)
{
    uint64_t sizes[SIZES];
    double misses[SIZES], error = 0, worst = 0;
    for (int s = 0; s < SIZES; s++)
        sizes[s] = 1ULL << (20 + s);
    make_trace(skew);
    exact(sizes, misses);
    for (salt = 0; salt < SALTS; salt++) {
        double own = 0;
        sample();
        for (int s = 0; s < SIZES; s++)
            own += fabs(curve_miss_ratio(&curve, sizes[s]) - misses[s]) / SIZES;
        error += own / SALTS;
        worst = own > worst ? own : worst;
    }
    printf("Zipf %.1f, %u of %d keys followed\n", skew, curve.count, KEYS);
    for (int s = 0; s < SIZES; s++)
        printf("  %4llu MiB: exact %.3f, sampled %.3f\n", (unsigned long long)(sizes[s] >> 20), misses[s],
               curve_miss_ratio(&curve, sizes[s]));
    printf("  absolute error over sizes: mean %.4f, of the worst of %d samples %.4f\n", error, SALTS, worst);
    assert_true(error < 0.03 && worst < 0.06);
}

static void it_is_near_the_exact_one(void **state)
{
    (void)state;
    compare(0.7);
    compare(0.9);
    compare(1.1);
}

static void it_never_rises_with_size(void **state)
{
    double before = 1;
    (void)state;
    for (uint64_t bytes = 4096; bytes < 1ULL << 40; bytes = bytes * 5 / 4) {
        double now = curve_miss_ratio(&curve, bytes);
        assert_true(now >= 0 && now <= before);
        before = now;
    }
}

static void nothing_seen_says_nothing(void **state)
{
    (void)state;
    memset(&curve, 0, sizeof curve);
    assert_true(curve_miss_ratio(&curve, 1 << 30) < 0);
}

static void a_lock_that_somebody_died_with_is_taken_over(void **state)
{
    (void)state;
    memset(&curve, 0, sizeof curve);
    atomic_store(&curve.locked_ms, 1000);
    assert_false(curve_use(&curve, 1, 100, 1, 1500));
    assert_true(curve_use(&curve, 1, 100, 4, 2000));
    assert_true(curve_use(&curve, 1, 100, 4, 2000));
    assert_true(curve_miss_ratio(&curve, 1 << 20) < 1);
}

static void a_size_that_is_known_later_counts(void **state)
{
    (void)state;
    memset(&curve, 0, sizeof curve);
    assert_true(curve_use(&curve, 1, 0, 1, 1));
    curve_size(&curve, 1, 1 << 20, 1);
    assert_true(curve_use(&curve, 1, 0, 3, 1)); /* 4 seen, the sample stands for 8 */
    assert_int_equal(curve.bytes[0], 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_near_the_exact_one),
        cmocka_unit_test(it_never_rises_with_size),
        cmocka_unit_test(nothing_seen_says_nothing),
        cmocka_unit_test(a_lock_that_somebody_died_with_is_taken_over),
        cmocka_unit_test(a_size_that_is_known_later_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
