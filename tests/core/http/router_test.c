// SPDX-License-Identifier: MIT
#include "http/router.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

static struct router *router;
static struct router_match match;

static int make(void **state)
{
    (void)state;
    router = router_new();
    return router ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    router_free(router);
    return 0;
}

/* Targets are their patterns. */
static void add(const char *method, const char *pattern)
{
    const char *why = router_add(router, str_from(method), str_from(pattern), (void *)pattern);
    if (why)
        fail_msg("%s %s: %s", method, pattern, why);
}

static void refuses(const char *pattern, const char *because)
{
    const char *why = router_add(router, STR("GET"), str_from(pattern), (void *)pattern);
    if (!why || !strstr(why, because))
        fail_msg("%s: %s", pattern, why ? why : "taken");
}

static void finds(const char *method, const char *path, const char *expected)
{
    bool found = router_find(router, str_from(method), str_from(path), &match);
    if (found != (expected != NULL) || (found && strcmp(match.target, expected) != 0))
        fail_msg("%s %s gives %s", method, path, found ? (char *)match.target : "nothing");
}

static void has(unsigned i, const char *name, const char *value)
{
    assert_true(i < match.params);
    assert_true(str_equal(match.names[i], str_from(name)));
    assert_true(str_equal(match.values[i], str_from(value)));
}

static void prefers_fixed_to_parameter_to_rest_and_goes_back(void **state)
{
    (void)state;
    add("GET", "/a/*rest");
    add("GET", "/a/:id");
    add("GET", "/a/b");
    add("GET", "/a/b/c");
    add("GET", "/a/:id/d");
    finds("GET", "/a/b", "/a/b");
    finds("GET", "/a/x", "/a/:id");
    finds("GET", "/a/b/c", "/a/b/c");
    finds("GET", "/a/b/d", "/a/:id/d"); /* back from the fixed branch */
    has(0, "id", "b");
    finds("GET", "/a/b/e", "/a/*rest");
    has(0, "rest", "b/e");
    finds("GET", "/b", NULL);
    assert_false(match.path_known);
}

static void names_parameters_by_their_own_route(void **state)
{
    (void)state;
    add("GET", "/u/:id");
    add("POST", "/u/:name");
    add("GET", "/u/:user/p/:post");
    finds("POST", "/u/7", "/u/:name");
    has(0, "name", "7");
    finds("GET", "/u/7/p/%2F8", "/u/:user/p/:post");
    has(0, "user", "7");
    has(1, "post", "%2F8");
    assert_int_equal(match.params, 2);
}

static void takes_no_empty_segment_for_a_parameter(void **state)
{
    (void)state;
    add("GET", "/u/:id");
    finds("GET", "/u/", NULL);
    finds("GET", "/u", NULL);
    finds("GET", "/u/1/", NULL);
    finds("GET", "//u/1", NULL);
}

static void tells_what_is_allowed(void **state)
{
    (void)state;
    add("GET", "/x");
    add("POST", "/x");
    finds("DELETE", "/x", NULL);
    assert_true(match.path_known);
    assert_non_null(strstr(match.allow, "GET"));
    assert_non_null(strstr(match.allow, "POST"));
    assert_null(strstr(match.allow, "DELETE"));
    finds("HEAD", "/x", "/x");
    assert_true(match.automatic_head);
    add("*", "/any");
    finds("BREW", "/any", "/any");
    assert_false(match.automatic_head);
}

static void says_what_is_wrong_with_a_pattern(void **state)
{
    (void)state;
    char deep[200] = "", many[200] = "";
    for (int i = 0; i < 65; i++)
        strcat(deep, "/a");
    for (char name[] = "/:a"; name[2] < 'a' + 17; name[2]++)
        strcat(many, name);
    refuses("a", "begin");
    refuses("", "begin");
    refuses("/:", "needs a name");
    refuses("/:1a", "needs a name");
    refuses("/:a-b", "needs a name");
    refuses("/*a/b", "last");
    refuses("/:a/:a", "same name");
    refuses(deep, "64");
    refuses(many, "16");
    add("GET", "/t/:a");
    refuses("/t/:b", "taken");
}

/* Every node on the way has a fixed child and a parameter, and no end fits. */
static void is_not_slow_on_paths_made_to_be(void **state)
{
    (void)state;
    static char pattern[1 << 10][64];
    char path[64] = "";
    for (int i = 0; i < 1 << 10; i++) {
        for (int bit = 0; bit < 10; bit++)
            snprintf(pattern[i] + strlen(pattern[i]), 8, i >> bit & 1 ? "/a" : "/:p%d", bit);
        add("GET", pattern[i]);
    }
    for (int bit = 0; bit < 10; bit++)
        strcat(path, "/a");
    finds("GET", path, pattern[1023]);
    strcat(path, "/z");
    for (int i = 0; i < 1000; i++)
        finds("GET", path, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(prefers_fixed_to_parameter_to_rest_and_goes_back, make, end),
        cmocka_unit_test_setup_teardown(names_parameters_by_their_own_route, make, end),
        cmocka_unit_test_setup_teardown(takes_no_empty_segment_for_a_parameter, make, end),
        cmocka_unit_test_setup_teardown(tells_what_is_allowed, make, end),
        cmocka_unit_test_setup_teardown(says_what_is_wrong_with_a_pattern, make, end),
        cmocka_unit_test_setup_teardown(is_not_slow_on_paths_made_to_be, make, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
