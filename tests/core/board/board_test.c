// SPDX-License-Identifier: MIT
#include "board/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void starts_with_its_fixed_routes_and_roles(void **state)
{
    (void)state;
    struct board *b = board_new(&(struct board_opts){.workers = 3});
    assert_int_equal(b->routes_max, 256);
    assert_int_equal(b->route_count, 4);
    assert_string_equal(b->routes[ROUTE_OTHER].name, "(other)");
    assert_string_equal(b->routes[ROUTE_REFUSED].name, "(refused)");
    assert_string_equal(b->routes[ROUTE_NONE].name, "(none)");
    assert_string_equal(b->routes[ROUTE_BENCHMARK].name, "(benchmark)");
    assert_string_equal(b->routes[ROUTE_NONE].method, "*");
    assert_int_equal(b->processes[0].role, ROLE_SUPERVISOR);
    assert_int_equal(b->processes[1].role, ROLE_CONTROL);
    for (int i = 2; i < BOARD_PROCESSES; i++)
        assert_int_equal(b->processes[i].role, ROLE_WORKER);
    assert_true(setting_integer(&b->settings, SETTING_SERVER_HEAD_BYTES) == 32768);
    board_free(b);
}

static void gives_each_worker_a_lane_inside_the_segment(void **state)
{
    (void)state;
    struct board *b = board_new(&(struct board_opts){.workers = 4, .routes_max = 1024});
    for (uint32_t w = 0; w < 4; w++) {
        char *lane = (char *)board_lane(b, w);
        assert_int_equal((uintptr_t)lane % 64, 0);
        lane_add(&board_lane(b, w)->routes[1023].requests, w + 1);
        assert_true((char *)&board_lane(b, w)->routes[1024] <= (char *)b + b->size_bytes);
    }
    for (uint32_t w = 0; w < 4; w++)
        assert_int_equal(lane_get(&board_lane(b, w)->routes[1023].requests), w + 1);
    board_free(b);
}

static void keeps_the_index_of_a_name(void **state)
{
    (void)state;
    struct board *b = board_new(&(struct board_opts){.workers = 1});
    uint32_t users = board_route(b, STR("GET"), STR("/users/:id"));
    assert_int_equal(users, ROUTE_BENCHMARK + 1);
    assert_int_equal(board_route(b, STR("POST"), STR("/users/:id")), ROUTE_BENCHMARK + 2);
    assert_int_equal(board_route(b, STR("GET"), STR("/users/:i")), ROUTE_BENCHMARK + 3);
    assert_int_equal(board_route(b, STR("GET"), STR("/users/:id")), users);
    assert_int_equal(b->route_count, 7);
    board_free(b);
}

static void shares_other_when_the_table_is_full(void **state)
{
    (void)state;
    struct board *b = board_new(&(struct board_opts){.workers = 1, .routes_max = 8});
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "/%d", i);
        assert_int_equal(board_route(b, STR("GET"), str_from(name)), i < 4 ? i + 4 : ROUTE_OTHER);
    }
    assert_int_equal(board_route(b, STR("GET"), STR("/3")), 7);
    assert_int_equal(b->route_count, 8);
    board_free(b);
}

static void cuts_long_names_at_a_whole_character(void **state)
{
    (void)state;
    struct board *b = board_new(&(struct board_opts){.workers = 1});
    char name[BOARD_ROUTE_NAME + 40];
    memset(name, 'a', sizeof name);
    memcpy(name + BOARD_ROUTE_NAME - 2, "\xc3\xa9", 2);
    uint32_t index = board_route(b, STR("GET"), (struct str){name, sizeof name});
    assert_int_equal(strlen(b->routes[index].name), BOARD_ROUTE_NAME - 2);
    assert_int_equal(board_route(b, STR("GET"), (struct str){name, sizeof name}), index);
    board_free(b);
}

/* Each registers the same 100 names from another start, so that they meet. */
static void registers_all(struct board *b, int from)
{
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "/route/%d", (i + from) % 100);
        uint32_t index = board_route(b, STR("GET"), str_from(name));
        if (strcmp(b->routes[index].name, name) != 0)
            _exit(1);
    }
}

static void makes_no_duplicates_when_processes_register_at_once(void **state)
{
    (void)state;
    enum { CHILDREN = 8, ROUNDS = 20 };
    for (int round = 0; round < ROUNDS; round++) {
        struct board *b = board_new(&(struct board_opts){.workers = 1});
        pid_t children[CHILDREN];
        for (int c = 0; c < CHILDREN; c++) {
            children[c] = fork();
            if (children[c] == 0) {
                while (!atomic_load(&b->draining)) /* stands for "go" */
                    ;
                registers_all(b, round % 2 ? 0 : c * 7);
                _exit(0);
            }
        }
        atomic_store(&b->draining, 1);
        for (int c = 0; c < CHILDREN; c++) {
            int status;
            waitpid(children[c], &status, 0);
            assert_int_equal(status, 0);
        }
        assert_int_equal(b->route_count, 104);
        for (uint32_t i = 0; i < 103; i++)
            for (uint32_t j = i + 1; j < 103; j++)
                assert_string_not_equal(b->routes[i].name, b->routes[j].name);
        board_free(b);
    }
}

static void takes_over_a_slot_whose_writer_died(void **state)
{
    (void)state;
    struct board *b = board_new(&(struct board_opts){.workers = 1});
    pid_t child = fork();
    if (child == 0) {
        atomic_store(&b->routes[ROUTE_BENCHMARK + 1].state, (uint32_t)getpid() << 2 | 1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    assert_int_equal(board_route(b, STR("GET"), STR("/after")), ROUTE_BENCHMARK + 1);
    assert_string_equal(b->routes[ROUTE_BENCHMARK + 1].name, "/after");
    board_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_with_its_fixed_routes_and_roles),
        cmocka_unit_test(gives_each_worker_a_lane_inside_the_segment),
        cmocka_unit_test(keeps_the_index_of_a_name),
        cmocka_unit_test(shares_other_when_the_table_is_full),
        cmocka_unit_test(cuts_long_names_at_a_whole_character),
        cmocka_unit_test(makes_no_duplicates_when_processes_register_at_once),
        cmocka_unit_test(takes_over_a_slot_whose_writer_died),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
