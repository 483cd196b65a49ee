// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "ml/cause.h"
#include "ml/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { ROWS = 1000, COLS = 6 };

static void blames_what_jumped(void **state)
{
    (void)state;
    struct mat m;
    struct random r = {1};
    struct cause *c;
    double sum[COLS] = {0}, blame[COLS];
    assert_int_equal(mat_new(&m, 2 * ROWS, COLS), 0);
    for (size_t i = 0; i < 2 * ROWS; i++)
        for (size_t j = 0; j < COLS; j++) /* columns of very different sizes; the last jumps always */
            mat_row(&m, i)[j] = pow(10, (double)j) * (5 + random_unit(&r) + (j == COLS - 1 && random_unit(&r) < 0.1 ? 9 : 0));
    struct mat train = mat_rows(&m, 0, ROWS);
    assert_int_equal(cause_fit(&c, &train), 0);
    assert_int_equal(cause_cols(c), COLS);
    for (size_t i = ROWS; i < 2 * ROWS; i++) {
        double *row = mat_row(&m, i);
        if (i >= ROWS + 500 && i < ROWS + 520) {
            row[2] += 100 * 3.0;
            row[3] += 1000 * 0.4; /* follows, within its range nearly */
        }
        if (i == ROWS + 300)
            row[1] = NAN;
        cause_next(c, row, blame);
        for (size_t j = 0; j < COLS; j++) {
            assert_true(isfinite(blame[j]) && blame[j] >= 0);
            sum[j] += i >= ROWS + 500 && i < ROWS + 520 ? blame[j] : 0;
        }
    }
    for (size_t j = 0; j < COLS; j++)
        assert_true(j == 2 || sum[2] > sum[j]);
    cause_free(c);
    struct mat few = mat_rows(&m, 0, 63), constant;
    assert_int_equal(cause_fit(&c, &few), ERR_INVAL);
    assert_int_equal(mat_new(&constant, 100, 2), 0);
    assert_int_equal(cause_fit(&c, &constant), 0);
    cause_next(c, constant.v, blame);
    assert_true(blame[0] == 0);
    cause_free(c);
    mat_free(&constant);
    mat_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(blames_what_jumped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
