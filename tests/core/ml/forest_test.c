// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "ml/forest.h"
#include "ml/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { ROWS = 2000, COLS = 5 };

static double normal(struct random *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += random_unit(r);
    return sum;
}

/* Normal rows, the last twenty far out in three columns. */
static struct mat planted(void)
{
    struct mat m;
    struct random r = {3};
    assert_int_equal(mat_new(&m, ROWS, COLS), 0);
    for (size_t i = 0; i < ROWS * COLS; i++)
        m.v[i] = normal(&r);
    for (size_t i = ROWS - 20; i < ROWS; i++)
        for (size_t j = 0; j < 3; j++)
            mat_row(&m, i)[(i + j) % COLS] += i % 2 ? 12 : -12;
    return m;
}

static void finds_what_stands_apart(void **state)
{
    (void)state;
    struct mat m = planted();
    struct forest *f;
    double score[ROWS], least = 1;
    int above = 0;
    assert_int_equal(forest_fit(&f, &m, NULL), 0);
    assert_int_equal(forest_cols(f), COLS);
    assert_int_equal(forest_score(f, &m, score), 0);
    for (size_t i = 0; i < ROWS; i++) {
        assert_true(score[i] > 0 && score[i] < 1);
        if (i >= ROWS - 20)
            least = fmin(least, score[i]);
    }
    for (size_t i = 0; i < ROWS - 20; i++)
        above += score[i] >= least;
    assert_true(above <= ROWS / 100);
    forest_free(f);
    mat_free(&m);
}

static void the_fast_walk_is_the_plain_walk(void **state)
{
    (void)state;
    struct mat m = planted();
    struct random r = {8};
    for (size_t i = 0; i < 200; i++) { /* what no training should hold, and yet comes */
        static const double odd[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0, -0.0};
        m.v[random_below(&r, ROWS * COLS)] = odd[i % 7];
    }
    struct forest *f;
    double score[ROWS];
    assert_int_equal(forest_fit(&f, &m, &(struct forest_opts){.trees = 37, .sample = 100, .seed = 4}), 0);
    for (size_t n = 1; n <= ROWS; n = n * 3 + 2) {
        struct mat part = mat_rows(&m, ROWS - n, ROWS);
        assert_int_equal(forest_score(f, &part, score), 0);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs(score[i] - forest_score_one(f, mat_row(&part, i))) < 1e-6);
    }
    forest_free(f);
    mat_free(&m);
}

static void is_the_same_for_a_seed(void **state)
{
    (void)state;
    struct mat m = planted();
    double a[ROWS], b[ROWS], c[ROWS], *out[] = {a, b, c};
    static const uint64_t seeds[] = {5, 5, 6};
    for (int i = 0; i < 3; i++) {
        struct forest *f;
        assert_int_equal(forest_fit(&f, &m, &(struct forest_opts){.seed = seeds[i]}), 0);
        assert_int_equal(forest_score(f, &m, out[i]), 0);
        forest_free(f);
    }
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    mat_free(&m);
}

static void bears_odd_input(void **state)
{
    (void)state;
    struct mat m = planted(), none = {0, COLS, m.v}, narrow = {10, 2, m.v};
    struct forest *f;
    double score[ROWS];
    assert_int_equal(forest_fit(&f, &none, NULL), ERR_INVAL);
    assert_int_equal(forest_fit(&f, &m, &(struct forest_opts){.sample = 257}), ERR_INVAL);
    assert_int_equal(forest_fit(&f, &m, &(struct forest_opts){.trees = 10001}), ERR_INVAL);
    for (size_t i = 0; i < ROWS * COLS; i++)
        m.v[i] = 7;
    struct mat one = mat_rows(&m, 0, 1);
    assert_int_equal(forest_fit(&f, &one, NULL), 0);
    assert_int_equal(forest_score(f, &one, score), 0);
    assert_int_equal(forest_score(f, &narrow, score), ERR_INVAL);
    forest_free(f);
    assert_int_equal(forest_fit(&f, &m, NULL), 0); /* constant: nobody stands apart */
    assert_int_equal(forest_score(f, &m, score), 0);
    assert_true(score[0] == score[ROWS - 1] && isfinite(score[0]));
    forest_free(f);
    for (size_t i = 0; i < ROWS * COLS; i++)
        m.v[i] = NAN;
    assert_int_equal(forest_fit(&f, &m, NULL), 0);
    assert_int_equal(forest_score(f, &m, score), 0);
    assert_true(isfinite(score[0]));
    forest_free(f);
    mat_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_stands_apart),
        cmocka_unit_test(the_fast_walk_is_the_plain_walk),
        cmocka_unit_test(is_the_same_for_a_seed),
        cmocka_unit_test(bears_odd_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
