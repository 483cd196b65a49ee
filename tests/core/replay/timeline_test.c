// SPDX-License-Identifier: MIT
#include "replay/timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct timeline *fresh(void)
{
    struct timeline *t = calloc(1, sizeof *t);
    assert_non_null(t);
    return t;
}

static uint64_t requests(const struct timeline *t)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < TIMELINE_BUCKETS; i++) {
        sum += t->buckets[i].requests;
        assert_true(i < t->used || !t->buckets[i].requests);
    }
    return sum;
}

/* Each line lies in the bucket of its time, however often the series was moved and widened. */
static void keeps_lines_at_their_time(void **state)
{
    enum { LINES = 4000 };
    int64_t *at = calloc(LINES, sizeof *at);
    struct timeline *t = fresh();
    uint64_t seed = 1;
    for (int i = 0; i < LINES; i++) { /* steps of up to half a day either way, from a time not aligned to anything */
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        at[i] = 1795428001 + (int64_t)((seed >> 33) % 80000) * (i % 2 ? 1 : -1) * (i / 1000 + 1) / 4;
        timeline_add(t, at[i], i % 3 == 0, .5);
    }
    assert_int_equal(t->strays, 0);
    assert_true(t->width_s > 1);
    assert_int_equal(requests(t), LINES);
    struct timeline *again = fresh();
    for (int i = 0; i < LINES; i++) {
        struct bucket *b = &again->buckets[(at[i] - t->first_s) / t->width_s];
        b->requests++;
        b->errors += i % 3 == 0;
    }
    for (size_t i = 0; i < t->used; i++) {
        assert_int_equal(t->buckets[i].requests, again->buckets[i].requests);
        assert_int_equal(t->buckets[i].errors, again->buckets[i].errors);
    }
    free(again);
    free(t);
    free(at);
}

static void believes_a_gap_when_lines_agree(void **state)
{
    struct timeline *t = fresh();
    for (int i = 0; i < 100; i++)
        timeline_add(t, 1795428000 + i, false, -1);
    for (int i = 0; i < 100; i++)
        timeline_add(t, 1795428000 + 7 * 86400 + i, false, -1);
    assert_int_equal(t->strays, TIMELINE_AGREE - 1);
    assert_int_equal(requests(t), t->placed);
    assert_int_equal(t->first_s + (int64_t)t->used * t->width_s > 1795428000 + 7 * 86400, 1);
    free(t);
}

/* A machine boots in 1970 and learns the time later. */
static void starts_anew_when_the_clock_was_wrong(void **state)
{
    struct timeline *t = fresh();
    for (int i = 0; i < 50; i++)
        timeline_add(t, i, false, -1);
    for (int i = 0; i < 200; i++)
        timeline_add(t, 1795428000 + i, false, -1);
    assert_true(t->first_s >= 1795428000);
    assert_int_equal(t->width_s, 1);
    assert_int_equal(t->placed + t->strays, 250);
    assert_int_equal(t->placed, 150);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_lines_at_their_time),
        cmocka_unit_test(believes_a_gap_when_lines_agree),
        cmocka_unit_test(starts_anew_when_the_clock_was_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
