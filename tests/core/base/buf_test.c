// SPDX-License-Identifier: MIT
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void holds(const struct buf *b, const char *expected)
{
    assert_int_equal(buf_len(b), strlen(expected));
    assert_memory_equal(buf_str(b).p, expected, strlen(expected));
}

static void grows_at_the_end_and_shrinks_at_the_start(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add_str(&b, STR("hello "));
    buf_add_u64(&b, UINT64_MAX);
    buf_add_char(&b, ' ');
    buf_add_u64(&b, 0);
    buf_printf(&b, " %s-%d", "x", 7);
    holds(&b, "hello 18446744073709551615 0 x-7");
    buf_consume(&b, 6);
    holds(&b, "18446744073709551615 0 x-7");
    buf_consume(&b, buf_len(&b));
    holds(&b, "");
    assert_true(buf_ok(&b));
    buf_done(&b);
    assert_null(b.data);
}

static void prints_what_does_not_fit_at_first(void **state)
{
    (void)state;
    struct buf b = {0};
    char big[5000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    buf_printf(&b, "%s|%s", big, big);
    assert_int_equal(buf_len(&b), 2 * (sizeof big - 1) + 1);
    assert_int_equal(b.data[sizeof big - 1], '|');
    buf_done(&b);
}

static void keeps_what_is_left_when_it_moves(void **state)
{
    (void)state;
    struct buf b = {0};
    uint64_t sum = 0, expected = 0;
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 37; i++) {
            buf_add_char(&b, (char)(round + i));
            expected += (unsigned char)(round + i);
        }
        size_t take = buf_len(&b) > 100 ? 30 : 0;
        for (size_t i = 0; i < take; i++)
            sum += (unsigned char)buf_str(&b).p[i];
        buf_consume(&b, take);
    }
    for (size_t i = 0; i < buf_len(&b); i++)
        sum += (unsigned char)buf_str(&b).p[i];
    assert_true(sum == expected);
    buf_done(&b);
}

static void gives_large_memory_back_when_cleared(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_non_null(buf_room(&b, 1 << 20));
    buf_wrote(&b, 1 << 20);
    buf_clear(&b);
    assert_int_equal(buf_len(&b), 0);
    assert_true(b.size <= 64 * 1024);
    buf_add_str(&b, STR("again"));
    holds(&b, "again");
    buf_done(&b);
}

static void nothing_added_is_nothing(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_add(&b, NULL, 0);
    buf_consume(&b, 0);
    buf_clear(&b);
    assert_true(buf_ok(&b));
    assert_int_equal(buf_len(&b), 0);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_at_the_end_and_shrinks_at_the_start), cmocka_unit_test(prints_what_does_not_fit_at_first),
        cmocka_unit_test(keeps_what_is_left_when_it_moves), cmocka_unit_test(gives_large_memory_back_when_cleared),
        cmocka_unit_test(nothing_added_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
