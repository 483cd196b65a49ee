// SPDX-License-Identifier: MIT
#include "http/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct arena arena;

static int fresh(void **state)
{
    (void)state;
    arena_done(&arena);
    return 0;
}

static void becomes(const char *raw, const char *expected)
{
    struct str out;
    if (!path_canonical(&arena, str_from(raw), &out))
        fail_msg("'%s' was refused", raw);
    if (!str_equal(out, str_from(expected)))
        fail_msg("'%s' became '%.*s', not '%s'", raw, STR_ARG(out), expected);
    struct str twice;
    assert_true(path_canonical(&arena, out, &twice));
    assert_true(str_equal(out, twice));
}

static void leaves_a_canonical_path_alone(void **state)
{
    (void)state;
    struct str raw = STR("/api/users/42"), out;
    assert_true(path_canonical(&arena, raw, &out));
    assert_ptr_equal(out.p, raw.p);
    becomes("/", "/");
    becomes("//a//b/", "//a//b/");
    becomes("/a%2Fb", "/a%2Fb");
    becomes("/.hidden/..x/...", "/.hidden/..x/...");
}

static void decodes_the_unreserved_and_raises_escapes(void **state)
{
    (void)state;
    becomes("/%41%7a%2d%5F%7E", "/Az-_~");
    becomes("/a%2fb%3b", "/a%2Fb%3B");
    becomes("/%2541", "/%2541");
    becomes("/%00%ff", "/%00%FF");
}

static void removes_dot_segments_escaped_ones_too(void **state)
{
    (void)state;
    becomes("/a/./b", "/a/b");
    becomes("/a/../b", "/b");
    becomes("/a/b/..", "/a/");
    becomes("/a/.", "/a/");
    becomes("/a/%2e%2E/b", "/b");
    becomes("/a/%2e/b", "/a/b");
}

static void refuses_to_climb_above_the_root(void **state)
{
    (void)state;
    const char *climbing[] = {"/..", "/../a", "/a/../../b", "/%2e%2e/a", "/a/%2e./.%2e/b", "/./.."};
    for (size_t i = 0; i < sizeof climbing / sizeof *climbing; i++) {
        struct str out;
        if (path_canonical(&arena, str_from(climbing[i]), &out))
            fail_msg("'%s' became '%.*s'", climbing[i], STR_ARG(out));
    }
}

static void decodes_all_escapes_on_demand(void **state)
{
    (void)state;
    assert_true(str_equal(path_decode(&arena, STR("a%20b%2F+"), false), STR("a b/+")));
    assert_true(str_equal(path_decode(&arena, STR("a%20b%2F+"), true), STR("a b/ ")));
    assert_true(str_equal(path_decode(&arena, STR("%0"), false), STR("%0")));
    assert_true(str_equal(path_decode(&arena, STR("%zz%"), true), STR("%zz%")));
}

static void takes_a_query_apart(void **state)
{
    (void)state;
    struct str rest = STR("a=1&&b&=x&c=d=e"), name, value;
    assert_true(query_next(&rest, &name, &value));
    assert_true(str_equal(name, STR("a")) && str_equal(value, STR("1")));
    assert_true(query_next(&rest, &name, &value));
    assert_true(str_equal(name, STR("b")) && value.len == 0);
    assert_true(query_next(&rest, &name, &value));
    if (name.len == 0)
        assert_true(query_next(&rest, &name, &value));
    assert_true(str_equal(name, STR("c")) && str_equal(value, STR("d=e")));
    assert_false(query_next(&rest, &name, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(leaves_a_canonical_path_alone, fresh),
        cmocka_unit_test_setup(decodes_the_unreserved_and_raises_escapes, fresh),
        cmocka_unit_test_setup(removes_dot_segments_escaped_ones_too, fresh),
        cmocka_unit_test_setup(refuses_to_climb_above_the_root, fresh),
        cmocka_unit_test_setup(decodes_all_escapes_on_demand, fresh),
        cmocka_unit_test_setup(takes_a_query_apart, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, fresh);
}
