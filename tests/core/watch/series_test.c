// SPDX-License-Identifier: MIT
#include "ml/random.h"
#include "watch/series.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const struct series_opts opts = {.alpha = 0.1, .floor = 0.1, .least = 100, .adopt_ms = 600000};

static double normal(struct random *r)
{
    double sum = -6;
    for (int i = 0; i < 12; i++)
        sum += random_unit(r);
    return sum;
}

/* Log of a latency that wanders: AR(1) of .8 over a day's curve. */
struct service {
    struct random random;
    double noise;
    uint64_t ms;
};

static double next(struct service *s)
{
    s->ms += 1000;
    s->noise = 0.8 * s->noise + 0.06 * normal(&s->random);
    return 3 + 0.7 * sin((double)s->ms / 86400e3 * 6.283) + s->noise;
}

static void feed(struct series *s, struct service *service, double more)
{
    double x = next(service) + more;
    series_add(s, &opts, x, service->ms);
}

static void an_hour_of_a_day_s_curve_is_usual(void **state)
{
    (void)state;
    int moved = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct series s;
        struct service service = {.random = {seed}};
        assert_true(series_init(&s, 100));
        for (int i = 0; i < 3600; i++) {
            signed char before = s.moved;
            feed(&s, &service, 0);
            moved += s.moved && !before;
        }
        series_done(&s);
    }
    assert_true(moved <= 50); /* in fifty hours: a rule asks for more than one signal's move */
}

static void a_step_is_seen_at_once_and_its_end_too(void **state)
{
    (void)state;
    struct series s;
    struct service service = {.random = {7}};
    assert_true(series_init(&s, 100));
    for (int i = 0; i < 99; i++) {
        feed(&s, &service, (i > 90 ? 3 : 0));
        assert_int_equal(s.moved, 0);
    }
    assert_false(series_knows(&s, &opts)); /* still learning */
    for (int i = 0; i < 200; i++)
        feed(&s, &service, 0);
    assert_true(series_knows(&s, &opts));
    float before = s.median;
    for (int i = 0; i < 60; i++) {
        feed(&s, &service, 1.5);
        assert_int_equal(s.moved, i >= 2);
    }
    assert_true(fabs((double)(s.median - before)) < 0.05); /* what is usual is not spoilt */
    assert_true(s.moved_ms == service.ms - 57000);
    for (int i = 0; i < 4; i++)
        feed(&s, &service, 0);
    assert_int_equal(s.moved, 0);
    for (int i = 0; i < 4; i++)
        feed(&s, &service, - 1.5);
    assert_int_equal(s.moved, -1);
    series_done(&s);
}

static void what_stays_is_learnt(void **state)
{
    (void)state;
    struct series s;
    struct service service = {.random = {9}};
    assert_true(series_init(&s, 100));
    for (int i = 0; i < 200; i++)
        feed(&s, &service, 0);
    for (int i = 0; i < 602; i++)
        feed(&s, &service, 2);
    assert_true(s.moved || !series_knows(&s, &opts));
    for (int i = 0; i < 200; i++)
        feed(&s, &service, 2);
    assert_int_equal(s.moved, 0);
    assert_true(series_knows(&s, &opts));
    series_done(&s);
}

static void bears_gaps_and_constants(void **state)
{
    (void)state;
    struct series s;
    assert_true(series_init(&s, 10));
    assert_true(isnan(series_recent(&s)));
    for (int i = 0; i < 500; i++)
        series_add(&s, &opts, i % 3 ? 5 : i % 2 ? NAN : INFINITY, (uint64_t)i * 1000);
    assert_true(series_knows(&s, &opts) && s.moved == 0 && series_recent(&s) == 5);
    for (int i = 0; i < 4; i++)
        series_add(&s, &opts, 5.2, 600000); /* within the floor */
    assert_int_equal(s.moved, 0);
    for (int i = 0; i < 4; i++)
        series_add(&s, &opts, 5.5, 601000);
    assert_int_equal(s.moved, 1);
    series_done(&s);
}

static void recalls_what_was_usual_and_judges_what_comes(void **state)
{
    (void)state;
    struct series s;
    struct service service = {.random = {7}};
    assert_true(series_init(&s, 100));
    feed(&s, &service, 0);
    for (int i = 0; i < 120; i++)
        series_recall(&s, next(&service));
    series_recall(&s, NAN);
    assert_true(series_knows(&s, &opts));
    assert_int_equal(s.moved, 0);
    assert_int_equal(s.count, 100);
    assert_true(series_recent(&s) == series_recent(&s)); /* the one that came is the only recent one */
    assert_int_equal(s.recent_next, 1);
    for (int i = 0; i < 4; i++)
        feed(&s, &service, 1);
    assert_int_equal(s.moved, 1);
    series_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recalls_what_was_usual_and_judges_what_comes),
        cmocka_unit_test(an_hour_of_a_day_s_curve_is_usual),
        cmocka_unit_test(a_step_is_seen_at_once_and_its_end_too),
        cmocka_unit_test(what_stays_is_learnt),
        cmocka_unit_test(bears_gaps_and_constants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
