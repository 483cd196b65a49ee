// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "ml/kmeans.h"
#include "ml/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { ROWS = 3000 };

/* Rows around `k` centres far apart; row i belongs to centre i % k. */
static struct mat blobs(size_t k, size_t cols, double offset)
{
    struct mat m;
    struct random r = {11};
    assert_int_equal(mat_new(&m, ROWS, cols), 0);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < cols; j++)
            mat_row(&m, i)[j] = offset + (j == i % k % cols ? 10.0 * (1.0 + (double)(i % k / cols)) : 0) + random_unit(&r) - 0.5;
    return m;
}

static void finds_planted_groups_for_any_width(void **state)
{
    (void)state;
    static const size_t cols[] = {1, 3, 4, 8, 13};
    for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
        for (size_t k = 2; k <= 12; k += 5) {
            struct mat m = blobs(k, cols[c], 1e6);
            struct kmeans *q;
            assert_int_equal(kmeans_fit(&q, &m, &(struct kmeans_opts){.k = k, .starts = 8, .seed = 1}), 0);
            for (size_t i = k; i < ROWS; i++)
                assert_int_equal(q->group[i], q->group[i % k]);
            for (size_t a = 0; a < k; a++) {
                assert_int_equal(q->sizes[q->group[a]], ROWS / k + (a < ROWS % k));
                double distance;
                assert_int_equal(kmeans_group(q, mat_row(&m, a), &distance), q->group[a]);
                assert_true(distance <= 0.6 * sqrt((double)cols[c]));
            }
            assert_true(q->silhouette > 0.7);
            kmeans_free(q);
            mat_free(&m);
        }
}

static void chooses_how_many(void **state)
{
    (void)state;
    for (size_t k = 2; k <= 5; k++) {
        struct mat m = blobs(k, 6, 0);
        struct kmeans *q;
        assert_int_equal(kmeans_fit(&q, &m, NULL), 0);
        assert_int_equal(q->k, k);
        kmeans_free(q);
        mat_free(&m);
    }
    struct mat m = blobs(1, 6, 0); /* one cloud */
    struct kmeans *q;
    assert_int_equal(kmeans_fit(&q, &m, NULL), 0);
    assert_int_equal(q->k, 1);
    assert_true(isnan(q->silhouette));
    kmeans_free(q);
    mat_free(&m);
}

static void bears_odd_input(void **state)
{
    (void)state;
    struct mat m = blobs(3, 4, 0), none = {0, 4, m.v}, few = mat_rows(&m, 0, 2);
    struct kmeans *a, *b;
    assert_int_equal(kmeans_fit(&a, &none, NULL), ERR_INVAL);
    assert_int_equal(kmeans_fit(&a, &few, &(struct kmeans_opts){.k = 3}), ERR_INVAL);
    assert_int_equal(kmeans_fit(&a, &few, NULL), 0);
    kmeans_free(a);
    for (size_t i = 0; i < ROWS; i += 7)
        mat_row(&m, i)[i % 4] = i % 2 ? NAN : INFINITY;
    assert_int_equal(kmeans_fit(&a, &m, &(struct kmeans_opts){.k = 3, .seed = 2}), 0);
    assert_int_equal(kmeans_fit(&b, &m, &(struct kmeans_opts){.k = 3, .seed = 2}), 0);
    assert_memory_equal(a->group, b->group, ROWS * sizeof *a->group);
    for (size_t i = 0; i < 12; i++)
        assert_true(isfinite(a->centers[i]));
    kmeans_free(a);
    kmeans_free(b);
    for (size_t i = 0; i < ROWS * 4; i++)
        m.v[i] = 5;
    assert_int_equal(kmeans_fit(&a, &m, &(struct kmeans_opts){.k = 4}), 0); /* all alike */
    assert_true(a->inertia < 1e-6);
    kmeans_free(a);
    mat_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_planted_groups_for_any_width),
        cmocka_unit_test(chooses_how_many),
        cmocka_unit_test(bears_odd_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
