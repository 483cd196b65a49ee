// SPDX-License-Identifier: MIT
#include "io/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static struct wheel wheel;
static char fired[64]; /* names in order */

struct named {
    struct timer timer; /* first */
    char name;
    struct named *other;
    uint64_t again_ms;
};

static void note(struct timer *t)
{
    fired[strlen(fired)] = ((struct named *)t)->name;
}

static void run_to(uint64_t now_ms)
{
    wheel_run(&wheel, now_ms);
}

static int fresh(void **state)
{
    (void)state;
    memset(fired, 0, sizeof fired);
    wheel_init(&wheel, 1000);
    return 0;
}

static void fires_once_never_early_and_hardly_late(void **state)
{
    (void)state;
    for (uint64_t at = 1001; at < 1200; at += 7) {
        struct named a = {.timer.on_fire = note, .name = 'a'};
        fresh(NULL);
        wheel_set(&wheel, &a.timer, at);
        uint64_t now = 1000;
        while (!fired[0]) {
            run_to(++now);
            assert_true(!fired[0] || now >= at);
            assert_true(now <= at + 2 * WHEEL_TICK_MS);
        }
        run_to(now + 20000);
        assert_string_equal(fired, "a");
    }
}

static void fires_in_the_order_of_deadlines(void **state)
{
    (void)state;
    struct named a = {.timer.on_fire = note, .name = 'a'}, b = {.timer.on_fire = note, .name = 'b'},
                 c = {.timer.on_fire = note, .name = 'c'};
    wheel_set(&wheel, &c.timer, 1300);
    wheel_set(&wheel, &a.timer, 1100);
    wheel_set(&wheel, &b.timer, 1200);
    run_to(1150);
    assert_string_equal(fired, "a");
    run_to(2000);
    assert_string_equal(fired, "abc");
}

static void moves_back_lazily_and_forth_at_once(void **state)
{
    (void)state;
    struct named a = {.timer.on_fire = note, .name = 'a'};
    wheel_set(&wheel, &a.timer, 1100);
    struct timer *neighbour = a.timer.next;
    wheel_set(&wheel, &a.timer, 5000);
    assert_ptr_equal(a.timer.next, neighbour); /* not relinked */
    run_to(4990);
    assert_string_equal(fired, "");
    wheel_set(&wheel, &a.timer, 9000);
    wheel_set(&wheel, &a.timer, 5100);
    run_to(5140);
    assert_string_equal(fired, "a");
}

static void waits_for_deadlines_many_turns_away(void **state)
{
    (void)state;
    struct named a = {.timer.on_fire = note, .name = 'a'};
    uint64_t far = 1000 + 5ULL * WHEEL_SLOTS * WHEEL_TICK_MS + 77;
    wheel_set(&wheel, &a.timer, far);
    for (uint64_t now = 1000; now < far; now += 50)
        run_to(now);
    assert_string_equal(fired, "");
    run_to(far + 2 * WHEEL_TICK_MS);
    assert_string_equal(fired, "a");
}

static void fires_all_after_a_long_sleep(void **state)
{
    (void)state;
    struct named a = {.timer.on_fire = note, .name = 'a'}, b = {.timer.on_fire = note, .name = 'b'};
    wheel_set(&wheel, &a.timer, 1100);
    wheel_set(&wheel, &b.timer, 9000);
    run_to(1000 + 10ULL * WHEEL_SLOTS * WHEEL_TICK_MS);
    assert_int_equal(strlen(fired), 2);
}

static void is_silent_once_cleared(void **state)
{
    (void)state;
    struct named a = {.timer.on_fire = note, .name = 'a'};
    wheel_set(&wheel, &a.timer, 1100);
    wheel_clear(&a.timer);
    wheel_clear(&a.timer);
    run_to(3000);
    assert_string_equal(fired, "");
    wheel_set(&wheel, &a.timer, 3100);
    run_to(3200);
    assert_string_equal(fired, "a");
}

static void free_other(struct timer *t)
{
    struct named *n = (struct named *)t;
    note(t);
    wheel_clear(&n->other->timer);
    free(n->other);
    free(n);
}

static void set_again(struct timer *t)
{
    struct named *n = (struct named *)t;
    note(t);
    if (n->again_ms) {
        uint64_t at = n->again_ms;
        n->again_ms = 0;
        wheel_set(&wheel, t, at);
    }
}

static void lets_what_fires_free_itself_and_its_neighbour(void **state)
{
    (void)state;
    struct named *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
    *a = (struct named){.timer.on_fire = free_other, .name = 'x', .other = b};
    *b = (struct named){.timer.on_fire = free_other, .name = 'x', .other = a};
    wheel_set(&wheel, &a->timer, 1100);
    wheel_set(&wheel, &b->timer, 1100);
    run_to(1200);
    assert_string_equal(fired, "x"); /* whichever came first took the other along */
}

static void lets_what_fires_set_itself_again(void **state)
{
    (void)state;
    struct named a = {.timer.on_fire = set_again, .name = 'a', .again_ms = 1150};
    wheel_set(&wheel, &a.timer, 1100);
    run_to(1120);
    assert_string_equal(fired, "a");
    run_to(1190);
    assert_string_equal(fired, "aa");
    a.again_ms = 1; /* long past: the next tick, not this one, and not never */
    wheel_set(&wheel, &a.timer, 1200);
    run_to(1232);
    run_to(1280);
    assert_string_equal(fired, "aaaa");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fires_once_never_early_and_hardly_late, fresh),
        cmocka_unit_test_setup(fires_in_the_order_of_deadlines, fresh),
        cmocka_unit_test_setup(moves_back_lazily_and_forth_at_once, fresh),
        cmocka_unit_test_setup(waits_for_deadlines_many_turns_away, fresh),
        cmocka_unit_test_setup(fires_all_after_a_long_sleep, fresh),
        cmocka_unit_test_setup(is_silent_once_cleared, fresh),
        cmocka_unit_test_setup(lets_what_fires_free_itself_and_its_neighbour, fresh),
        cmocka_unit_test_setup(lets_what_fires_set_itself_again, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
