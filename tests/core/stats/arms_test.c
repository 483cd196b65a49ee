// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "stats/arms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const uint64_t START = UINT64_C(1700000040000);

static struct board *board;
static struct arms *arms;
static uint32_t users;

static int set_up(void **state)
{
    (void)state;
    board = board_new(&(struct board_opts){.workers = 4});
    arms = arms_new(board);
    users = board_route(board, STR("GET"), STR("/users/:id"));
    return board && arms ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    arms_free(arms);
    board_free(board);
    return 0;
}

static void serve(uint32_t worker, unsigned times)
{
    struct lane *lane = board_lane(board, worker);
    uint64_t phases[PHASE_COUNT] = {0};
    struct sample s = {.phase_ns = phases, .route = users, .status = 200, .latency_ns = 1000000, .bytes_out = 100};
    while (times--) {
        lane_add(&lane->started, 1);
        lane_record(lane, &s, board->routes_max, UINT64_MAX);
    }
}

static void on_step(void *arg, const struct history_step *step)
{
    *(uint64_t *)arg += step->counts->requests;
}

/* Requests of an arm in the seconds [from, to) behind START. */
static uint64_t requests(enum arm arm, uint64_t from, uint64_t to)
{
    uint64_t sum = 0;
    assert_true(history_series(arms_history(arms, arm), (int)users, START + from * 1000, START + to * 1000, 1, on_step, &sum));
    return sum;
}

static void each_arm_has_the_requests_of_its_workers(void **state)
{
    (void)state;
    for (uint32_t w = 0; w < 4; w++)
        serve(w, 1000); /* before there are arms: in neither */
    assert_null(arms_history(arms, ARM_CANARY));
    arms_tick(arms, START);
    assert_int_equal(arms_set(arms, 1 << 2), 0);
    arms_tick(arms, START + 100);
    serve(2, 7);
    serve(0, 20);
    serve(3, 1);
    arms_tick(arms, START + 1000);
    serve(2, 5);
    arms_tick(arms, START + 2000);
    assert_int_equal(requests(ARM_CANARY, 0, 1), 7);
    assert_int_equal(requests(ARM_CANARY, 1, 2), 5);
    assert_int_equal(requests(ARM_CONTROL, 0, 1), 21);
    assert_int_equal(requests(ARM_CONTROL, 1, 2), 0);
    assert_int_equal(arms_set(arms, 1 << 2), 0); /* the same again goes on */
    assert_int_equal(requests(ARM_CANARY, 0, 2), 12);
    assert_int_equal(arms_set(arms, 3), 0);
    arms_tick(arms, START + 3000);
    assert_int_equal(requests(ARM_CANARY, 0, 3), 0);
    assert_int_equal(arms_set(arms, 0), 0);
    assert_null(arms_history(arms, ARM_CANARY));
}

static void an_arm_without_a_worker_is_refused(void **state)
{
    (void)state;
    assert_int_equal(arms_set(arms, 15), ERR_INVAL);
    assert_int_equal(arms_set(arms, 1 << 4), ERR_INVAL);
    assert_null(arms_history(arms, ARM_CONTROL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_arm_has_the_requests_of_its_workers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_arm_without_a_worker_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
