// SPDX-License-Identifier: MIT
#include "proxy/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static unsigned take_all(struct budget *b, uint64_t now_ms, double share, double floor)
{
    unsigned n = 0;
    while (n < 100000 && budget_take(b, now_ms, share, floor))
        n++;
    return n;
}

static void allows_a_share_of_the_requests_and_a_floor(void **state)
{
    (void)state;
    struct budget b = {0};
    for (int i = 0; i < 1000; i++)
        budget_request(&b, 1000);
    assert_int_equal(take_all(&b, 1000, 0.2, 10), 210);
    assert_int_equal(take_all(&b, 1000, 0.2, 10), 0);
}

static void forgets_what_is_long_ago(void **state)
{
    (void)state;
    struct budget b = {0};
    for (int i = 0; i < 1000; i++)
        budget_request(&b, 1000);
    assert_int_equal(take_all(&b, 200000, 0.2, 10), 10);
    assert_int_equal(take_all(&b, 400000, 0.2, 10), 10);
}

static void bounds_hedges_twice(void **state)
{
    (void)state;
    struct budget b = {0};
    unsigned n = 0;
    assert_false(budget_take_hedge(&b, 1000, 0.2, 10, 0.05)); /* no floor of their own */
    for (int i = 0; i < 1000; i++)
        budget_request(&b, 1000);
    while (budget_take_hedge(&b, 1000, 0.2, 10, 0.05))
        n++;
    assert_int_equal(n, 50);
    assert_int_equal(take_all(&b, 1000, 0.2, 10), 160);
    budget_request(&b, 1000);
    assert_false(budget_take_hedge(&b, 1000, 0.2, 10, 1)); /* the shared part is spent */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allows_a_share_of_the_requests_and_a_floor),
        cmocka_unit_test(forgets_what_is_long_ago),
        cmocka_unit_test(bounds_hedges_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
