// SPDX-License-Identifier: MIT
#include "engine/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <string.h>

static struct options options;
static struct problems problems;

static int clean(void **state)
{
    (void)state;
    problems_done(&problems);
    return 0;
}

#define PARSE(...) parse((const char *[]){"perilune", __VA_ARGS__, NULL})

static bool parse(const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    problems_done(&problems);
    return options_parse(&options, argc, (char **)argv, &problems);
}

static void complains(const char *about)
{
    assert_true(problems.count > 0);
    if (!strstr(problems.list[0].text, about))
        fail_msg("it says: %s", problems.list[0].text);
}

static void takes_flags_with_blank_or_equals(void **state)
{
    (void)state;
    assert_true(PARSE("run", "--listen", "0.0.0.0:1", "--workers=3", "--set", "a=b=c", "--set=d="));
    assert_int_equal(options.command, COMMAND_RUN);
    assert_string_equal(options.listen, "0.0.0.0:1");
    assert_string_equal(options.workers, "3");
    assert_int_equal(options.set_count, 2);
    assert_string_equal(options.set[0], "a=b=c");
    assert_string_equal(options.set[1], "d=");
    assert_null(options.admin);
    assert_true(PARSE("config", "show", "--origin"));
    assert_true(options.command == COMMAND_CONFIG && options.show_origin);
}

static void shows_help_wherever_it_is_asked_for(void **state)
{
    (void)state;
    assert_true(PARSE("run", "--help"));
    assert_int_equal(options.command, COMMAND_HELP);
    assert_string_equal(options.help_for, "run");
    assert_true(PARSE("help", "check"));
    assert_string_equal(options.help_for, "check");
    assert_true(parse((const char *[]){"perilune", NULL}));
    assert_int_equal(options.command, COMMAND_HELP);
    assert_true(PARSE("--version"));
    assert_int_equal(options.command, COMMAND_VERSION);
}

static void names_what_is_nearest(void **state)
{
    (void)state;
    assert_false(PARSE("rum"));
    complains("did you mean 'run'");
    assert_false(PARSE("run", "--lisen", "x"));
    complains("did you mean '--listen'");
    assert_false(PARSE("run", "--zzzzzzzzzz"));
    complains("unknown option '--zzzzzzzzzz'; see");
}

static void wants_values_and_no_more_words(void **state)
{
    (void)state;
    assert_false(PARSE("run", "--listen"));
    complains("needs a value");
    assert_false(PARSE("run", "--listen="));
    complains("needs a value");
    assert_false(PARSE("run", "--set", "noequals"));
    complains("name=value");
    assert_false(PARSE("run", "--set"));
    complains("name=value");
    assert_false(PARSE("run", "again"));
    complains("unexpected argument 'again'");
}

static void bounds_how_much_is_set(void **state)
{
    (void)state;
    const char *argv[OPTIONS_SET_MAX + 4] = {"perilune", "run"};
    for (int i = 0; i <= OPTIONS_SET_MAX; i++)
        argv[2 + i] = "--set=a=1";
    assert_false(parse(argv));
    complains("too many --set");
    assert_int_equal(options.set_count, OPTIONS_SET_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(takes_flags_with_blank_or_equals, clean),
        cmocka_unit_test_teardown(shows_help_wherever_it_is_asked_for, clean),
        cmocka_unit_test_teardown(names_what_is_nearest, clean),
        cmocka_unit_test_teardown(wants_values_and_no_more_words, clean),
        cmocka_unit_test_teardown(bounds_how_much_is_set, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
