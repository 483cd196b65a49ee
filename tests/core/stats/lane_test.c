// SPDX-License-Identifier: MIT
#include "board/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct board *board;

static int set_up(void **state)
{
    (void)state;
    board = board_new(&(struct board_opts){.workers = 1, .routes_max = 8});
    return board ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    board_free(board);
    return 0;
}

static void record(const struct sample *sample)
{
    lane_add(&board_lane(board, 0)->started, 1);
    lane_record(board_lane(board, 0), sample, board->routes_max, 100000000);
}

static void counts_a_request_under_its_route(void **state)
{
    (void)state;
    uint64_t phases[PHASE_COUNT] = {0};
    struct sample s = {.phase_ns = phases, .route = 5, .status = 201, .latency_ns = 3000000, .bytes_in = 100,
                       .bytes_out = 20000, .body_out = 15000};
    phases[PHASE_LUA] = 1000000;
    record(&s);
    const struct lane *lane = board_lane(board, 0);
    const struct route_lane *r = &lane->routes[5];
    assert_int_equal(lane_get(&r->requests), 1);
    assert_int_equal(lane_get(&r->status[2]), 1);
    assert_int_equal(lane_get(&r->bytes_in), 100);
    assert_int_equal(lane_get(&r->bytes_out), 20000);
    assert_int_equal(lane_get(&r->sizes[SIZE_MEDIUM]), 1);
    assert_int_equal(lane_get(&r->latency_sum_ns), 3000000);
    assert_int_equal(r->latency.bucket[sketch_index(3000000)], 1);
    assert_int_equal(lane_get(&lane->finished), 1);
    assert_int_equal(lane_get(&lane->aborted), 0);
    assert_int_equal(lane_in_flight(lane), 0);
}

static void counts_only_phases_that_happened(void **state)
{
    (void)state;
    uint64_t phases[PHASE_COUNT] = {0};
    struct sample s = {.phase_ns = phases, .route = 4, .status = 200, .latency_ns = 5000};
    phases[PHASE_DB] = 3000;
    record(&s);
    const struct route_lane *r = &board_lane(board, 0)->routes[4];
    for (int i = 0; i < PHASE_COUNT; i++) {
        assert_int_equal(lane_get(&r->phase_count[i]), i == PHASE_DB);
        assert_int_equal(lane_get(&r->phase_sum_ns[i]), i == PHASE_DB ? 3000 : 0);
        assert_int_equal(r->phases[i].bucket[sketch_coarse_index(3000)], i == PHASE_DB);
    }
}

static void counts_an_answer_that_never_came_as_aborted(void **state)
{
    (void)state;
    record(&(struct sample){.route = 4, .status = 0, .latency_ns = 5000});
    const struct lane *lane = board_lane(board, 0);
    assert_int_equal(lane_get(&lane->finished), 0);
    assert_int_equal(lane_get(&lane->aborted), 1);
    assert_int_equal(lane_get(&lane->routes[4].status[0]), 1);
}

static void puts_what_is_out_of_bounds_where_it_does_no_harm(void **state)
{
    (void)state;
    record(&(struct sample){.route = 4000000, .status = 999, .latency_ns = UINT64_MAX / 4});
    const struct route_lane *other = &board_lane(board, 0)->routes[ROUTE_OTHER];
    assert_int_equal(lane_get(&other->requests), 1);
    assert_int_equal(lane_get(&other->status[0]), 1);
}

static void tells_small_medium_and_large_answers_apart(void **state)
{
    (void)state;
    static const uint64_t bodies[] = {0, 10239, 10240, 1048575, 1048576};
    for (int i = 0; i < 5; i++)
        record(&(struct sample){.route = 3, .status = 200, .latency_ns = 1, .body_out = bodies[i]});
    const struct route_lane *r = &board_lane(board, 0)->routes[3];
    assert_int_equal(lane_get(&r->sizes[SIZE_SMALL]), 2);
    assert_int_equal(lane_get(&r->sizes[SIZE_MEDIUM]), 2);
    assert_int_equal(lane_get(&r->sizes[SIZE_LARGE]), 1);
}

static void keeps_slow_requests_as_examples(void **state)
{
    (void)state;
    struct lane *lane = board_lane(board, 0);
    struct slow_sample out;
    record(&(struct sample){.route = 3, .status = 200, .latency_ns = 100000000, .method = STR("GET")});
    assert_int_equal(lane_get(&lane->slow_next), 0);
    assert_false(lane_slow_read(&lane->slow[0], &out));
    uint64_t phases[PHASE_COUNT] = {0};
    struct sample slow = {.phase_ns = phases, .route = 6, .status = 502, .latency_ns = 100000001, .bytes_out = 9,
                          .at_unix_ms = 1234, .trace_id = "0123456789abcdef0123456789abcdef and more",
                          .method = STR("A-METHOD-LONGER-THAN-THE-FIELD")};
    phases[PHASE_WRITE] = 77;
    record(&slow);
    assert_int_equal(lane_get(&lane->slow_next), 1);
    assert_true(lane_slow_read(&lane->slow[0], &out));
    assert_int_equal(out.route, 6);
    assert_int_equal(out.status, 502);
    assert_int_equal(out.latency_ns, 100000001);
    assert_int_equal(out.at_unix_ms, 1234);
    assert_int_equal(out.phase_ns[PHASE_WRITE], 77);
    assert_string_equal(out.trace_id, "0123456789abcdef0123456789abcdef");
    assert_string_equal(out.method, "A-METHOD-LONGER");
}

static void goes_round_in_its_ring_of_examples(void **state)
{
    (void)state;
    struct slow_sample out;
    for (uint32_t i = 0; i < LANE_SLOW_MAX + 3; i++)
        record(&(struct sample){.route = 3, .status = 200 + i, .latency_ns = 200000000});
    assert_true(lane_slow_read(&board_lane(board, 0)->slow[2], &out));
    assert_int_equal(out.status, 200 + LANE_SLOW_MAX + 2);
    assert_string_equal(out.trace_id, "");
}

static void goes_on_in_an_entry_its_predecessor_died_in(void **state)
{
    (void)state;
    struct lane *lane = board_lane(board, 0);
    struct slow_sample out;
    atomic_store(&lane->slow[0].sequence, 7);
    assert_false(lane_slow_read(&lane->slow[0], &out));
    record(&(struct sample){.route = 3, .status = 200, .latency_ns = 200000000});
    assert_true(lane_slow_read(&lane->slow[0], &out));
    assert_int_equal(out.status, 200);
}

/* All fields of an example are the same number, so a torn copy shows. */
static void never_shows_a_torn_example_to_another_process(void **state)
{
    (void)state;
    struct lane *lane = board_lane(board, 0);
    pid_t writer = fork();
    if (writer == 0) {
        for (uint64_t i = 200000000;; i++) {
            uint64_t phases[PHASE_COUNT] = {0};
            struct sample s = {.phase_ns = phases, .route = 3, .status = 200, .latency_ns = i, .bytes_out = i,
                               .at_unix_ms = i};
            for (int p = 0; p < PHASE_COUNT; p++)
                phases[p] = i;
            lane_record(lane, &s, board->routes_max, 1);
        }
    }
    uint64_t seen = 0;
    for (int i = 0; i < 20000000 && seen < 200000; i++) {
        struct slow_sample out;
        if (!lane_slow_read(&lane->slow[i % 2], &out))
            continue;
        seen++;
        assert_int_equal(out.bytes_out, out.latency_ns);
        assert_int_equal(out.at_unix_ms, out.latency_ns);
        for (int p = 0; p < PHASE_COUNT; p++)
            assert_int_equal(out.phase_ns[p], out.latency_ns);
    }
    kill(writer, SIGKILL);
    waitpid(writer, NULL, 0);
    assert_true(seen > 0);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(counts_a_request_under_its_route),
        UNIT(counts_only_phases_that_happened),
        UNIT(counts_an_answer_that_never_came_as_aborted),
        UNIT(puts_what_is_out_of_bounds_where_it_does_no_harm),
        UNIT(tells_small_medium_and_large_answers_apart),
        UNIT(keeps_slow_requests_as_examples),
        UNIT(goes_round_in_its_ring_of_examples),
        UNIT(goes_on_in_an_entry_its_predecessor_died_in),
        UNIT(never_shows_a_torn_example_to_another_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
