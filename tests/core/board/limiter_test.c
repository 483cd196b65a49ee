/* The limiter against a model: a server with so many places and a queue in front. */
// SPDX-License-Identifier: MIT
#include "board/limiter.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PLACES = 16 };

static const double SERVICE_MS = 10;

/* A second of the model: what is offered, as far as the limit lets it in (M/D/c
 * roughly: what exceeds the places waits). */
static struct limiter_window second(double limit, double offered_per_s)
{
    double capacity = PLACES * 1000 / SERVICE_MS;
    double wanted = offered_per_s * SERVICE_MS / 1000; /* places busy */
    double inside = offered_per_s < capacity * 0.98 ? fmin(wanted * 1.3, limit) : limit;
    double rtt = inside > PLACES ? SERVICE_MS * inside / PLACES : SERVICE_MS;
    double done = fmin(offered_per_s, inside * 1000 / rtt);
    return (struct limiter_window){.finished = (uint32_t)done, .peak = (uint32_t)ceil(inside), .rtt_us = rtt * 1000};
}

static double run(struct limiter_memory *m, double offered, int seconds)
{
    for (int i = 0; i < seconds; i++) {
        struct limiter_window w = second(m->limit, offered);
        limiter_step(m, &w, 4, 1000);
    }
    return m->limit;
}

static void stays_near_the_places_under_sustained_overload(void **state)
{
    static struct limiter_memory m;
    (void)state;
    m = (struct limiter_memory){.limit = 40};
    run(&m, 800, 60); /* half of what it can do: rtt0 is learned */
    double after_ten_s = run(&m, 2400, 10);
    double after_fourteen_min = run(&m, 2400, 840);
    assert_true(after_ten_s >= PLACES && after_ten_s <= 2 * PLACES);
    assert_true(after_fourteen_min >= PLACES && after_fourteen_min <= 1.6 * PLACES);
}

static void does_not_throttle_what_is_healthy(void **state)
{
    static struct limiter_memory m;
    (void)state;
    m = (struct limiter_memory){.limit = 20};
    double limit = run(&m, 0.6 * PLACES * 1000 / SERVICE_MS, 300);
    assert_true(limit > 1.3 * 0.6 * PLACES);
}

static void finds_the_new_capacity_when_it_doubles_in_cost(void **state)
{
    static struct limiter_memory m;
    (void)state;
    m = (struct limiter_memory){.limit = 20};
    run(&m, 800, 60);
    for (int i = 0; i < 60; i++) {
        struct limiter_window w = second(m.limit, 2400);
        w.rtt_us *= 2;
        limiter_step(&m, &w, 4, 1000);
    }
    assert_true(m.limit < 20 && m.limit >= 4);
}

static void keeps_its_bounds_and_grows_only_when_used(void **state)
{
    static struct limiter_memory m;
    struct limiter_window idle = {.finished = 100, .peak = 2, .rtt_us = 1000};
    struct limiter_window few = {.finished = LIMITER_SAMPLES - 1, .peak = 50, .rtt_us = 1000000};
    (void)state;
    m = (struct limiter_memory){.limit = 20};
    for (int i = 0; i < 200; i++)
        limiter_step(&m, &idle, 4, 1000);
    assert_true(m.limit <= 6); /* three times its peak */
    double before = m.limit;
    for (int i = 0; i < 20; i++)
        limiter_step(&m, &few, 4, 1000);
    assert_true(m.limit == before); /* a handful of requests tells nothing */
    struct limiter_window busy = {.finished = 1000, .peak = 1000, .rtt_us = 1000};
    for (int i = 0; i < 2000; i++)
        limiter_step(&m, &busy, 4, 30);
    assert_true(m.limit == 30);
}

static void brakes_when_requests_wait_for_the_loop(void **state)
{
    static struct limiter_memory m;
    struct limiter_window w = {.finished = 1000, .peak = 100, .rtt_us = 1000, .lag_us = 3000};
    (void)state;
    m = (struct limiter_memory){.limit = 100};
    for (int i = 0; i < 8; i++)
        limiter_step(&m, &w, 4, 1000);
    assert_true(m.limit < 75);
}

static void a_class_is_found_again_and_a_dead_worker_leaves_nothing(void **state)
{
    struct limiters *all = calloc(1, sizeof *all);
    struct limiter_opts opts = {.name = "a", .adaptive = true, .initial = 7, .least = 1, .most = 50};
    (void)state;
    struct limiter *l = limiter_get(all, 42, &opts);
    assert_non_null(l);
    assert_int_equal(atomic_load(&l->limit), 7);
    atomic_store(&l->limit, 9);
    assert_ptr_equal(limiter_get(all, 42, &opts), l);
    assert_int_equal(atomic_load(&l->limit), 9); /* what was learned stays over a reload */
    atomic_store(&l->lanes[1].inflight, 5);
    assert_int_equal(limiter_inflight(l, 2), 5);
    limiters_forget_worker(all, 1);
    assert_int_equal(limiter_inflight(l, 2), 0);
    for (uint64_t key = 100; key < 100 + LIMITER_CLASSES - 1; key++)
        assert_non_null(limiter_get(all, key, &opts));
    assert_null(limiter_get(all, 999, &opts));
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_near_the_places_under_sustained_overload),
        cmocka_unit_test(does_not_throttle_what_is_healthy),
        cmocka_unit_test(finds_the_new_capacity_when_it_doubles_in_cost),
        cmocka_unit_test(keeps_its_bounds_and_grows_only_when_used),
        cmocka_unit_test(brakes_when_requests_wait_for_the_loop),
        cmocka_unit_test(a_class_is_found_again_and_a_dead_worker_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
