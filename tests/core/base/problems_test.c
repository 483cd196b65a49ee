// SPDX-License-Identifier: MIT
#include "base/problems.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static void prints(const struct problems *p, const char *expected)
{
    struct buf out = {0};
    problems_print(p, &out);
    buf_add_char(&out, 0);
    assert_string_equal(out.data, expected);
    buf_done(&out);
}

static void says_file_and_line_as_far_as_they_are_known(void **state)
{
    (void)state;
    struct problems p = {0};
    problems_add(&p, "a.lua", 3, "no %s", "end");
    problems_add(&p, "a.lua", 0, "empty");
    problems_add(&p, NULL, 0, "two\nlines");
    prints(&p, "a.lua:3: no end\na.lua: empty\ntwo lines\n");
    problems_done(&p);
    assert_int_equal(p.count, 0);
}

static void takes_messages_of_lua_apart(void **state)
{
    (void)state;
    struct problems p = {0};
    problems_add_message(&p, "x.lua", "routes/a.lua:12: unexpected symbol");
    problems_add_message(&p, "x.lua", "out of memory");
    problems_add_message(&p, "x.lua", "strange: message");
    problems_add_message(&p, "/very/long/rules/routes/b.lua", "...long/rules/routes/b.lua:7: boom");
    prints(&p, "routes/a.lua:12: unexpected symbol\nx.lua: out of memory\nx.lua: strange: message\n"
               "/very/long/rules/routes/b.lua:7: boom\n");
    problems_done(&p);
}

static void stops_at_a_thousand(void **state)
{
    (void)state;
    struct problems p = {0};
    for (int i = 0; i < 1500; i++)
        problems_add(&p, "a", i, "x");
    assert_int_equal(p.count, 1000);
    problems_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_file_and_line_as_far_as_they_are_known), cmocka_unit_test(takes_messages_of_lua_apart),
        cmocka_unit_test(stops_at_a_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
