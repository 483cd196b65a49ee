// SPDX-License-Identifier: MIT
#include "board/pools.h"
#include "board/statements.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct pools *all;

static int begin(void **state)
{
    (void)state;
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return all == MAP_FAILED ? -1 : 0;
}

static int end(void **state)
{
    (void)state;
    return munmap(all, sizeof *all);
}

static void finds_a_pool_again_by_its_name(void **state)
{
    (void)state;
    struct board_pool *a = pools_open(all, STR("main"), 0, "here"), *b = pools_open(all, STR("other"), 0, "here");
    assert_non_null(a);
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(pools_open(all, STR("main"), 0, "here"), a);
    for (int i = 2; i < POOLS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        assert_non_null(pools_open(all, str_from(name), 0, "here"));
    }
    assert_null(pools_open(all, STR("one too many"), 0, "here"));
}

static void gives_no_place_above_the_cap_and_all_of_a_dead_worker_back(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(all, STR("main"), 0, "here");
    assert_true(pool_hold(p, 0, 3));
    assert_true(pool_hold(p, 1, 3));
    assert_true(pool_hold(p, 1, 3));
    assert_false(pool_hold(p, 0, 3));
    assert_int_equal(pool_held(p), 3);
    pools_forget_worker(all, 1);
    assert_int_equal(pool_held(p), 1);
    assert_true(pool_hold(p, 0, 3));
    pool_release(p, 0);
    assert_int_equal(pool_held(p), 1);
}

static void gives_the_entry_of_a_deleted_pool_back_when_nobody_has_it_open(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(all, STR("main"), 0, "here");
    assert_ptr_equal(pools_open(all, STR("main"), 1, "there"), p);
    assert_string_equal(p->where, "there");
    atomic_store(&p->max_set, 8);
    pool_delete(p, false);
    pools_tick(all);
    assert_ptr_equal(pools_open(all, STR("main"), 2, "there"), p); /* which takes the deletion back */
    pool_close(p, 2);
    pool_delete(p, true);
    pool_close(p, 0);
    pools_tick(all);
    assert_int_equal(atomic_load(&p->forced), 1);
    pools_forget_worker(all, 1);
    pools_tick(all);
    struct board_pool *other = pools_open(all, STR("other"), 0, "here");
    assert_ptr_equal(other, p);
    assert_string_equal(other->name, "other");
    assert_int_equal(atomic_load(&other->forced) + atomic_load(&other->deleted) + atomic_load(&other->max_set), 0);
}

static void hammer(struct board_pool *p, uint32_t worker, uint32_t cap)
{
    for (int i = 0; i < 200000; i++) {
        if (!pool_hold(p, worker, cap))
            continue;
        uint32_t own = 0;
        for (int w = 0; w < 4; w++)
            own += atomic_load(&p->lanes[w].idle); /* places really had */
        atomic_fetch_add(&p->lanes[worker].idle, 1);
        if (own >= cap)
            _exit(1);
        atomic_fetch_sub(&p->lanes[worker].idle, 1);
        pool_release(p, worker);
    }
    _exit(0);
}

static void holds_the_cap_among_processes(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(all, STR("main"), 0, "here");
    for (uint32_t w = 0; w < 4; w++)
        if (fork() == 0)
            hammer(p, w, 1);
    for (int w = 0; w < 4; w++) {
        int status;
        wait(&status);
        assert_int_equal(status, 0);
    }
    assert_int_equal(pool_held(p), 0);
}

static void bounds_set_by_hand_go_before_the_configuration(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(all, STR("main"), 0, "here");
    atomic_store(&p->min, 5);
    atomic_store(&p->max, 20);
    assert_int_equal(pool_max(p), 20);
    atomic_store(&p->max_set, 4);
    assert_int_equal(pool_max(p), 3);
    assert_int_equal(pool_min(p), 3);
    atomic_store(&p->min_set, 1);
    assert_int_equal(pool_min(p), 0);
}

static void assert_shape(const char *sql, const char *expected)
{
    char *copy = malloc(strlen(sql)), *out = malloc(strlen(sql) + 1); /* no NUL behind the text */
    memcpy(copy, sql, strlen(sql));
    statement_shape((struct str){copy, strlen(sql)}, out);
    assert_string_equal(out, expected);
    free(copy);
    free(out);
}

static void statements_of_a_kind_have_one_shape(void **state)
{
    (void)state;
    assert_shape("select  *\n from t where a = 5 and b = 'it''s'; ", "select * from t where a = ? and b = ?");
    assert_shape("select $1, $2 from t2 where x1 = 0x1F", "select $1, $2 from t2 where x1 = ?");
    assert_shape("select 1 in (1,2 , 3) -- tail", "select ? in (?)");
    assert_shape("a /* x /* y */ z */ b", "a b");
    assert_shape("select $tag$ it's $x$ $tag$, $$b$$, E'a\\'b', \"a 5 'b\"", "select ?, E?, \"a 5 'b\"");
    assert_shape("select 'open", "select ?");
    assert_shape("select \"open", "select \"open");
    assert_shape("/* open", "");
    assert_shape("$a$ open", "?");
    assert_shape("-- only", "");
    assert_shape("e'\\", "e?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_a_pool_again_by_its_name, begin, end),
        cmocka_unit_test_setup_teardown(gives_no_place_above_the_cap_and_all_of_a_dead_worker_back, begin, end),
        cmocka_unit_test_setup_teardown(gives_the_entry_of_a_deleted_pool_back_when_nobody_has_it_open, begin, end),
        cmocka_unit_test_setup_teardown(holds_the_cap_among_processes, begin, end),
        cmocka_unit_test_setup_teardown(bounds_set_by_hand_go_before_the_configuration, begin, end),
        cmocka_unit_test(statements_of_a_kind_have_one_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
