// SPDX-License-Identifier: MIT
#include "replay/findings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BEGIN = 1795428000, SECONDS = 1800, PER_SECOND = 10 };

static uint64_t seed;

static double uniform(void)
{
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (double)(seed >> 11) * 0x1p-53;
}

struct load {
    double share, later; /* of 5xx; the latter from the middle on */
    double (*seconds)(int second);
    bool quiet; /* a tenth of the requests until the middle */
};

static unsigned changes_of(const struct load *load, uint64_t from_seed, struct findings *out)
{
    static const struct routes none;
    struct timeline *t = calloc(1, sizeof *t);
    assert_non_null(t);
    seed = from_seed * 7919;
    for (int second = 0; second < SECONDS; second++)
        for (int i = 0; i < (load->quiet && second < SECONDS / 2 ? 1 : PER_SECOND); i++) {
            bool error = uniform() < (second < SECONDS / 2 ? load->share : load->later);
            timeline_add(t, BEGIN + second, error, load->seconds ? load->seconds(second) : -1);
        }
    assert_int_equal(findings_make(out, t, &none), 0);
    free(t);
    return out->change_count;
}

static void invents_no_change_of_a_steady_share(void **state)
{
    static const double shares[] = {.0005, .005, .02, .1, .5};
    struct findings f;
    for (uint64_t i = 1; i <= 6; i++)
        for (size_t k = 0; k < sizeof shares / sizeof *shares; k++)
            assert_int_equal(changes_of(&(struct load){shares[k], shares[k], NULL, false}, i, &f), 0);
}

static void finds_the_one_step_of_a_share(void **state)
{
    struct findings f;
    for (uint64_t i = 1; i <= 6; i++) {
        assert_int_equal(changes_of(&(struct load){.02, .12, NULL, false}, i, &f), 1);
        assert_true(llabs(f.changes[0].at_s - (BEGIN + SECONDS / 2)) <= 15);
        assert_true(fabs(f.changes[0].before - 2) < .5 && fabs(f.changes[0].after - 12) < 1);
    }
}

/* One in fifty takes thirty times as long, as what is not in a cache does. */
static double two_speeds(int second)
{
    (void)second;
    return uniform() < .02 ? .9 : .03;
}

static double long_tail(int second)
{
    (void)second;
    return .05 * exp(1.2 * sqrt(-2 * log(1 - uniform())) * cos(6.283185307 * uniform()));
}

static double whole_ms(int second)
{
    (void)second;
    return uniform() < .05 ? .001 : 0;
}

static double twice_as_slow(int second)
{
    return two_speeds(second) * (second < SECONDS / 2 ? 1 : 2);
}

static void invents_no_change_of_a_steady_latency(void **state)
{
    struct findings f;
    for (uint64_t i = 1; i <= 6; i++) {
        assert_int_equal(changes_of(&(struct load){0, 0, two_speeds, false}, i, &f), 0);
        assert_int_equal(changes_of(&(struct load){0, 0, whole_ms, false}, i, &f), 0);
        assert_int_equal(changes_of(&(struct load){0, 0, long_tail, true}, i, &f), 0);
    }
}

static void finds_the_one_step_of_a_latency(void **state)
{
    struct findings f;
    for (uint64_t i = 1; i <= 6; i++) {
        assert_int_equal(changes_of(&(struct load){0, 0, twice_as_slow, false}, i, &f), 1);
        assert_true(llabs(f.changes[0].at_s - (BEGIN + SECONDS / 2)) <= 15);
    }
}

/* Forty outages of different size, an hour in all: the eight worst edges stay, in order of time. */
static void keeps_the_weightiest_changes(void **state)
{
    static const struct routes none;
    struct findings f;
    struct timeline *t = calloc(1, sizeof *t);
    assert_non_null(t);
    for (int second = 0; second < 3600; second++)
        for (int i = 0; i < PER_SECOND; i++) {
            int outage = second / 90, fails = second % 90 < 30 ? (outage >= 30 && outage < 34 ? 9 : 2) : 0;
            timeline_add(t, BEGIN + second, i < fails, -1);
        }
    assert_int_equal(findings_make(&f, t, &none), 0);
    assert_int_equal(f.change_count, CHANGES_MOST);
    for (unsigned i = 0; i < f.change_count; i++) {
        assert_true(f.changes[i].at_s >= BEGIN + 30 * 90 && f.changes[i].at_s < BEGIN + 34 * 90);
        assert_true(!i || f.changes[i].at_s > f.changes[i - 1].at_s);
    }
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invents_no_change_of_a_steady_share),
        cmocka_unit_test(finds_the_one_step_of_a_share),
        cmocka_unit_test(invents_no_change_of_a_steady_latency),
        cmocka_unit_test(finds_the_one_step_of_a_latency),
        cmocka_unit_test(keeps_the_weightiest_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
