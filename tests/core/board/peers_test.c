// SPDX-License-Identifier: MIT
#include "board/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct board *board;
static struct peers *table;

static int begin(void **state)
{
    (void)state;
    struct board_opts opts = {.workers = 3, .peers_max = 4};
    board = board_new(&opts);
    table = board_peers(board);
    return 0;
}

static int end(void **state)
{
    (void)state;
    board_free(board);
    return 0;
}

static int open_peer(int i, uint64_t now_ms)
{
    char address[32];
    snprintf(address, sizeof address, "10.0.0.%d:80", i);
    return peers_open(table, STR("app"), str_from(address), now_ms);
}

static void finds_a_peer_again_by_upstream_and_address(void **state)
{
    (void)state;
    int one = open_peer(1, 1);
    assert_int_equal(open_peer(1, 2), one);
    assert_int_not_equal(peers_open(table, STR("other"), STR("10.0.0.1:80"), 3), one);
    assert_int_equal(peers_find(table, STR("app"), STR("10.0.0.1:80")), one);
    assert_int_equal(peers_find(table, STR("app"), STR("10.0.0.9:80")), -1);
}

static void is_full_until_a_peer_is_stale(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_true(open_peer(i, 1000) >= 0);
    assert_int_equal(open_peer(9, 1000 + PEER_STALE_MS), -1);
    int gone = open_peer(2, 1000);
    atomic_store(&table->list[gone].draining, 1);
    peers_lane(table, 1, (uint32_t)gone)->in_flight = 7;
    for (int i = 0; i < 4; i++)
        if (i != 2)
            open_peer(i, 2000 + PEER_STALE_MS); /* in use */
    assert_int_equal(open_peer(9, 2000 + PEER_STALE_MS), gone);
    assert_int_equal(atomic_load(&table->list[gone].draining), 0);
    assert_int_equal(peers_in_flight(table, (uint32_t)gone), 0);
    assert_int_equal(peers_find(table, STR("app"), STR("10.0.0.2:80")), -1);
}

static void sums_workers_and_forgets_one_that_died(void **state)
{
    (void)state;
    uint32_t p = (uint32_t)open_peer(1, 1);
    peers_lane(table, 0, p)->in_flight = 2;
    peers_lane(table, 2, p)->in_flight = 3;
    assert_int_equal(peers_in_flight(table, p), 5);
    peers_clear_worker(table, 2);
    assert_int_equal(peers_in_flight(table, p), 2);
}

static void refuses_names_that_do_not_fit(void **state)
{
    (void)state;
    char name[PEER_UPSTREAM_NAME + 1];
    memset(name, 'x', sizeof name);
    assert_int_equal(peers_open(table, (struct str){name, PEER_UPSTREAM_NAME}, STR("a:1"), 1), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_a_peer_again_by_upstream_and_address, begin, end),
        cmocka_unit_test_setup_teardown(is_full_until_a_peer_is_stale, begin, end),
        cmocka_unit_test_setup_teardown(sums_workers_and_forgets_one_that_died, begin, end),
        cmocka_unit_test_setup_teardown(refuses_names_that_do_not_fit, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
