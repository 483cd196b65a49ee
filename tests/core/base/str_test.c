// SPDX-License-Identifier: MIT
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void is(struct str got, const char *expected)
{
    if (!str_equal(got, str_from(expected)))
        fail_msg("got '%.*s', expected '%s'", STR_ARG(got), expected);
}

static void compares_views_with_and_without_case(void **state)
{
    (void)state;
    assert_true(str_equal(STR("abc"), STR("abc")));
    assert_false(str_equal(STR("abc"), STR("abd")));
    assert_false(str_equal(STR("abc"), STR("ab")));
    assert_true(str_iequal(STR("Content-Length"), STR("content-LENGTH")));
    assert_false(str_iequal(STR("a["), STR("a{"))); /* differ by 0x20, are no letters */
    assert_true(str_starts(STR("http://x"), STR("http://")));
    assert_false(str_starts(STR("htt"), STR("http://")));
    assert_int_equal(str_from(NULL).len, 0);
}

static void trims_blanks_only(void **state)
{
    (void)state;
    is(str_trim(STR(" \t a b\t ")), "a b");
    is(str_trim(STR(" \t ")), "");
    is(str_trim(STR("\ra\n")), "\ra\n");
}

static void takes_a_list_apart(void **state)
{
    (void)state;
    struct str rest = STR(" a ,, b,\t,c "), one;
    assert_true(str_next(&rest, ',', &one));
    is(one, "a");
    assert_true(str_next(&rest, ',', &one));
    is(one, "b");
    assert_true(str_next(&rest, ',', &one));
    is(one, "c");
    assert_false(str_next(&rest, ',', &one));
    assert_false(str_next(&rest, ',', &one));
}

static void reads_whole_numbers_and_nothing_else(void **state)
{
    (void)state;
    uint64_t n = 7;
    assert_true(str_to_u64(STR("0"), &n) && n == 0);
    assert_true(str_to_u64(STR("18446744073709551615"), &n) && n == UINT64_MAX);
    const char *bad[] = {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "18446744073709551616", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (str_to_u64(str_from(bad[i]), &n))
            fail_msg("'%s' was taken", bad[i]);
}

static void reads_finite_numbers(void **state)
{
    (void)state;
    double d = 0;
    assert_true(str_to_double(STR("-2.5e3"), &d) && d == -2500);
    assert_true(str_to_double(STR("0"), &d) && d == 0);
    const char *bad[] = {"", "nan", "inf", "-inf", "0x10", "1e999", "1,5", " 1", "1 ", "+1", "--1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (str_to_double(str_from(bad[i]), &d))
            fail_msg("'%s' was taken as %g", bad[i], d);
}

static void counts_edits(void **state)
{
    (void)state;
    char longer[80];
    memset(longer, 'a', sizeof longer);
    assert_int_equal(str_distance(STR("listen"), STR("listen")), 0);
    assert_int_equal(str_distance(STR("lisen"), STR("listen")), 1);
    assert_int_equal(str_distance(STR("kitten"), STR("sitting")), 3);
    assert_int_equal(str_distance(STR(""), STR("abc")), 3);
    assert_int_equal(str_distance((struct str){longer, 64}, STR("a")), 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_views_with_and_without_case), cmocka_unit_test(trims_blanks_only),
        cmocka_unit_test(takes_a_list_apart), cmocka_unit_test(reads_whole_numbers_and_nothing_else),
        cmocka_unit_test(reads_finite_numbers), cmocka_unit_test(counts_edits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
