// SPDX-License-Identifier: MIT
#include "stats/history.h"
#include "stats/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint64_t START = UINT64_C(1700000040000); /* a whole minute */
enum { SECOND = 1000, BUDGET = 1 << 20 };

static struct board *board;
static struct history *history;
static uint64_t now;
static uint32_t users, orders;

static int set_up(void **state)
{
    (void)state;
    board = board_new(&(struct board_opts){.workers = 4});
    history = history_new(board, BUDGET);
    now = START;
    users = board_route(board, STR("GET"), STR("/users/:id"));
    orders = board_route(board, STR("GET"), STR("/orders"));
    history_tick(history, now);
    return board && history ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    history_free(history);
    board_free(board);
    return 0;
}

static void serve(uint32_t worker, uint32_t route, uint32_t status, double ms)
{
    struct lane *lane = board_lane(board, worker);
    uint64_t phases[PHASE_COUNT] = {0};
    struct sample s = {.phase_ns = phases, .route = route, .status = status, .latency_ns = (uint64_t)(ms * 1e6),
                       .bytes_in = 10, .bytes_out = 100, .body_out = 90};
    phases[PHASE_LUA] = s.latency_ns / 2;
    lane_add(&lane->started, 1);
    lane_record(lane, &s, board->routes_max, UINT64_MAX);
}

static void pass(uint64_t ms)
{
    now += ms;
    history_tick(history, now);
}

static struct stats_view merged(double span_s)
{
    struct stats_view view;
    assert_true(history_merge(history, span_s, &view));
    return view;
}

static uint64_t requests_in(double span_s)
{
    struct stats_view view = merged(span_s);
    uint64_t requests = view.total.requests;
    stats_view_free(&view);
    return requests;
}

static const struct stats_route *route_of(const struct stats_view *view, uint32_t route)
{
    for (uint32_t i = 0; i < view->route_count; i++)
        if (view->routes[i].route == route)
            return &view->routes[i];
    return NULL;
}

static void sums_the_workers_of_a_window(void **state)
{
    (void)state;
    for (uint32_t w = 0; w < 4; w++) {
        serve(w, users, 200, 5);
        serve(w, users, 500, 20);
    }
    serve(2, orders, 404, 1);
    pass(SECOND);
    struct stats_view v = merged(1);
    assert_int_equal(v.route_count, 2);
    assert_true(v.span_s == 1);
    assert_int_equal(v.from_ms, START);
    assert_int_equal(v.to_ms, START + 1000);
    const struct stats_route *u = route_of(&v, users);
    assert_int_equal(u->requests, 8);
    assert_int_equal(u->status[2], 4);
    assert_int_equal(u->status[5], 4);
    assert_int_equal(u->bytes_in, 80);
    assert_int_equal(u->bytes_out, 800);
    assert_int_equal(u->sizes[SIZE_SMALL], 8);
    assert_int_equal(u->latency_sum_ns, 100000000);
    assert_int_equal(u->phase_count[PHASE_LUA], 8);
    assert_int_equal(u->phase_sum_ns[PHASE_LUA], 50000000);
    assert_int_equal(u->phase_count[PHASE_DB], 0);
    assert_int_equal(u->latency[sketch_index(5000000)], 4);
    assert_int_equal(u->latency[sketch_index(20000000)], 4);
    assert_int_equal(u->phases[PHASE_LUA][sketch_coarse_index(2500000)], 4);
    assert_int_equal(route_of(&v, orders)->status[4], 1);
    assert_int_equal(v.total.requests, 9);
    assert_int_equal(v.host.finished, 9);
    assert_int_equal(v.host.in_flight, 0);
    stats_view_free(&v);
}

static void answers_for_the_span_that_was_asked_for(void **state)
{
    (void)state;
    for (int second = 0; second < 30; second++) {
        serve(0, users, 200, 1);
        pass(SECOND);
    }
    assert_int_equal(requests_in(1), 1);
    assert_int_equal(requests_in(10), 10);
    assert_int_equal(requests_in(30), 30);
    struct stats_view v = merged(3600);
    assert_int_equal(v.total.requests, 30);
    assert_true(v.span_s == 30);
    stats_view_free(&v);
}

static void has_nothing_at_first(void **state)
{
    (void)state;
    struct stats_view v = merged(60);
    assert_true(v.span_s == 0);
    assert_int_equal(v.route_count, 0);
    assert_int_equal(v.total.requests, 0);
    stats_view_free(&v);
}

static void ends_windows_behind_whole_seconds_of_the_clock(void **state)
{
    (void)state;
    pass(700);
    serve(0, users, 200, 1);
    struct stats_view v = merged(10);
    assert_true(v.span_s == 0);
    stats_view_free(&v);
    pass(400); /* 1.1 s */
    v = merged(10);
    assert_true(v.span_s == 1.1);
    stats_view_free(&v);
    pass(800); /* 1.9 s: no window yet */
    pass(200); /* 2.1 s */
    v = merged(10);
    assert_true(fabs(v.span_s - 2.1) < 1e-9);
    assert_int_equal(v.total.requests, 1);
    stats_view_free(&v);
    v = merged(1);
    assert_true(v.span_s == 1);
    assert_int_equal(v.total.requests, 0);
    stats_view_free(&v);
}

static void reads_everything_since_the_start_from_the_lanes(void **state)
{
    (void)state;
    serve(0, users, 200, 1);
    serve(3, users, 200, 1);
    struct stats_view v = merged(0);
    assert_int_equal(v.total.requests, 2);
    assert_int_equal(route_of(&v, users)->phase_count[PHASE_LUA], 2);
    stats_view_free(&v);
}

static void loses_nothing_between_ticks(void **state)
{
    (void)state;
    uint64_t served = 0;
    for (int i = 0; i < 6000; i++) { /* 10 minutes of ticks of 100 ms */
        for (int r = 0; r < i % 3; r++, served++)
            serve((uint32_t)i % 4, i % 2 ? users : orders, 200, 1 + i % 50);
        pass(100);
    }
    assert_int_equal(requests_in(600), served);
    struct stats_view v = merged(600);
    uint64_t buckets = 0;
    for (int i = 0; i < SKETCH_BUCKETS; i++)
        buckets += v.total.latency[i];
    assert_int_equal(buckets, served);
    assert_true(v.span_s == 600);
    stats_view_free(&v);
}

/* A busy route's frames are as large as they get: the ring of 1 s must turn over. */
static void serve_all_over(uint32_t route)
{
    for (double ms = 0.002; ms < 60000; ms *= 1.011)
        serve(0, route, 200, ms);
}

static void falls_back_on_a_coarser_tier_when_the_finest_has_forgotten(void **state)
{
    (void)state;
    struct history_memory m;
    uint64_t before = 0, per_second;
    serve_all_over(users);
    per_second = lane_get(&board_lane(board, 0)->finished);
    pass(SECOND);
    for (int i = 1; i < 300; i++) {
        serve_all_over(users);
        pass(SECOND);
        history_memory(history, &m);
        assert_true(m.tiers[0].used_bytes <= m.tiers[0].ring_bytes);
        assert_true(m.tiers[0].used_bytes >= before || m.tiers[0].held_s < i);
        before = m.tiers[0].used_bytes;
    }
    assert_true(m.tiers[0].held_s < 299);
    assert_true(m.tiers[0].held_s > 10);
    assert_int_equal(m.tiers[0].windows, 300);
    assert_int_equal(m.tiers[0].dropped, 0);
    assert_int_equal(requests_in(5), 5 * per_second);
    assert_int_equal(requests_in(300), 300 * per_second);
    struct stats_view v = merged(300);
    assert_true(v.span_s == 300);
    stats_view_free(&v);
}

static void goes_round_its_rings_for_days(void **state)
{
    (void)state;
    uint64_t random = 99;
    for (int i = 0; i < 40000; i++) { /* odd steps: records of all sizes meet the end of the ring */
        random = random * 6364136223846793005U + 1442695040888963407U;
        for (uint64_t r = 0; r < random >> 61; r++)
            serve((uint32_t)r % 4, (random >> 40) % 2 ? users : orders, 200,
                  (double)((random >> 20) % 100000 * (r + 1)) / 1000);
        pass(300 + (random >> 33) % 2500);
        if (i % 500 == 0) {
            struct stats_view v = merged(30);
            assert_true(i < 50 || (v.span_s > 20 && v.span_s < 40));
            uint64_t buckets = 0;
            for (int b = 0; b < SKETCH_BUCKETS; b++)
                buckets += v.total.latency[b];
            assert_int_equal(buckets, v.total.requests);
            stats_view_free(&v);
        }
    }
    struct history_memory m;
    history_memory(history, &m);
    for (int i = 0; i < HISTORY_TIERS; i++)
        assert_true(m.tiers[i].used_bytes <= m.tiers[i].ring_bytes && m.tiers[i].dropped == 0);
}

/* More routes at once than a ring of 128 KiB takes in one window. */
static void drops_frames_that_no_ring_could_hold(void **state)
{
    (void)state;
    history_free(history);
    history = history_new(board, 1);
    history_tick(history, now);
    for (int i = 0; i < 200; i++) {
        char name[8] = {'/', (char)('a' + i / 20), (char)('a' + i % 20)};
        serve_all_over(board_route(board, STR("GET"), str_from(name)));
    }
    pass(SECOND);
    struct history_memory m;
    history_memory(history, &m);
    assert_true(m.tiers[0].dropped > 0);
    assert_true(m.tiers[0].used_bytes <= m.tiers[0].ring_bytes);
    struct stats_view v = merged(1);
    assert_true(v.route_count > 10);
    stats_view_free(&v);
    serve(0, users, 200, 1);
    pass(SECOND);
    assert_int_equal(requests_in(1), 1);
}

static void counts_a_bucket_that_wrapped(void **state)
{
    (void)state;
    unsigned bucket = sketch_index(5000000);
    serve(1, users, 200, 5);
    atomic_store(&board_lane(board, 1)->routes[users].latency.bucket[bucket], UINT32_MAX);
    pass(SECOND);
    serve(1, users, 200, 5);
    serve(1, users, 200, 5);
    pass(SECOND);
    struct stats_view v = merged(1);
    assert_int_equal(v.total.latency[bucket], 2);
    stats_view_free(&v);
}

static void goes_on_after_the_clock_was_set_back(void **state)
{
    (void)state;
    serve(0, users, 200, 1);
    pass(SECOND);
    now -= 3600 * SECOND;
    history_tick(history, now);
    serve(0, users, 200, 1);
    pass(SECOND);
    assert_int_equal(requests_in(1), 1);
    assert_int_equal(requests_in(60), 2);
}

static void notes_the_machine(void **state)
{
    (void)state;
    history_note_machine(history, 0.5F, NAN, 0.25F, 3);
    pass(SECOND);
    struct stats_view v = merged(1);
    assert_true(v.host.cpu_share == 0.5F);
    assert_true(isnan(v.host.memory_share));
    stats_view_free(&v);
}

/* ---- a successor of a process that died ------------------------------------ */

static void hands_over_to_another_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        serve(0, users, 200, 1);
        history_tick(history, now + SECOND);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    serve(0, users, 200, 1);
    now += SECOND;
    pass(SECOND);
    assert_int_equal(requests_in(1), 1);
    assert_int_equal(requests_in(2), 2);
}

static void tick_for_ever(void)
{
    for (;;) {
        serve_all_over(users);
        serve(1, orders, 200, 1);
        now += 10 * SECOND;
        /* Where the next one begins. */
        atomic_store(&board->generation.activated_ns, now);
        history_tick(history, now);
    }
}

static void stays_whole_when_it_is_killed_at_any_moment(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        pid_t child = fork();
        if (child == 0)
            tick_for_ever();
        /* Some ticks, and then some part of one. */
        while (atomic_load(&board->generation.activated_ns) < now + (1 + round % 4) * 10 * SECOND)
            ;
        for (volatile unsigned spin = 0; spin < round * 7919 % 40000; spin++)
            ;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        now = atomic_load(&board->generation.activated_ns);
        now = (now ? now : START) / 60000 * 60000 + 60 * SECOND;
        history_tick(history, now);      /* renews what was left behind */
        pass(60 * SECOND);               /* ends a window of every tier */
        serve(0, orders, 200, 1);
        pass(60 * SECOND);
        struct stats_view v = merged(60);
        assert_int_equal(v.total.requests, 1);
        assert_int_equal(v.routes[0].route, orders);
        stats_view_free(&v);
        v = merged(100000);
        struct stats_view all = merged(0);
        uint64_t buckets = 0;
        for (int i = 0; i < SKETCH_BUCKETS; i++)
            buckets += v.total.latency[i];
        assert_true(buckets <= v.total.requests + 60);
        assert_true(v.total.requests <= all.total.requests);
        stats_view_free(&v);
        stats_view_free(&all);
    }
}

/* ---- series ---------------------------------------------------------------- */

struct seen {
    int count;
    uint64_t from_ms[100], requests[100];
    double span_s[100];
};

static void on_step(void *arg, const struct history_step *step)
{
    struct seen *seen = arg;
    assert_true(seen->count < 100);
    seen->from_ms[seen->count] = step->from_ms;
    seen->requests[seen->count] = step->counts->requests;
    seen->span_s[seen->count++] = step->span_s;
}

static void gives_a_series_in_aligned_steps(void **state)
{
    (void)state;
    struct seen seen = {0};
    for (int second = 0; second < 120; second++) {
        serve(0, users, 200, 1);
        if (second >= 60)
            serve(1, orders, 200, 1);
        pass(SECOND);
    }
    assert_true(history_series(history, -1, START, now, 10, on_step, &seen));
    assert_int_equal(seen.count, 12);
    for (int i = 0; i < 12; i++) {
        assert_int_equal(seen.from_ms[i], START + (uint64_t)i * 10000);
        assert_int_equal(seen.requests[i], i < 6 ? 10 : 20);
        assert_true(seen.span_s[i] == 10);
    }
    seen.count = 0;
    assert_true(history_series(history, (int)orders, START + 60000, START + 65000, 1, on_step, &seen));
    assert_int_equal(seen.count, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(seen.requests[i], 1);
    seen.count = 0;
    assert_true(history_series(history, (int)users, START, now, 60, on_step, &seen));
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.requests[0], 60);
}

static void leaves_out_steps_without_frames(void **state)
{
    (void)state;
    struct seen seen = {0};
    pass(SECOND);
    now += 100 * SECOND; /* nobody ticked */
    history_tick(history, now);
    assert_true(history_series(history, -1, START, now, 1, on_step, &seen));
    assert_int_equal(seen.count, 2);
    assert_true(seen.span_s[1] == 100);
}

/* ---- what needs no history --------------------------------------------------- */

static void cumulates_latencies_at_fixed_bounds(void **state)
{
    (void)state;
    static const double bounds[] = {.001, .01, .1, 1, 10};
    uint64_t cumulative[5];
    serve(0, users, 200, 0.5);
    serve(1, users, 200, 5);
    serve(2, users, 200, 50);
    serve(3, users, 200, 30000);
    struct stats_view v = merged(0);
    assert_int_equal(stats_cumulative(v.total.latency, bounds, 5, cumulative), 4);
    static const uint64_t expected[] = {1, 2, 3, 3, 3};
    assert_memory_equal(cumulative, expected, sizeof expected);
    stats_view_free(&v);
}

static void finds_the_slowest_over_all_lanes(void **state)
{
    (void)state;
    struct slow_sample slow[5];
    for (uint32_t i = 0; i < 40; i++) {
        struct sample s = {.route = users, .status = 200, .latency_ns = 1000 + i * 7 % 40};
        lane_record(board_lane(board, i % 4), &s, board->routes_max, 1);
    }
    assert_int_equal(stats_slowest(board, slow, 5), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(slow[i].latency_ns, 1039 - i);
}

/* ---- pools ---- */

static void use(struct board_pool *p, uint32_t worker, uint64_t wait_ns, uint64_t use_ns, bool failed)
{
    struct pool_lane *lane = &p->lanes[worker];
    lane_add(&lane->statements, 1);
    lane_add(&lane->errors, failed);
    lane_add(&lane->wait_sum_ns, wait_ns);
    lane_add(&lane->use_sum_ns, use_ns);
    sketch_coarse_record(&lane->wait, wait_ns);
    sketch_coarse_record(&lane->use, use_ns);
}

static void sum_pool(void *arg, const struct history_step *step)
{
    stats_route_add(arg, step->counts);
}

static struct stats_route pool_sum(const char *name)
{
    static struct stats_route sum;
    memset(&sum, 0, sizeof sum);
    assert_true(history_series(history, history_pool(history, name), START, now, 1, sum_pool, &sum));
    return sum;
}

static void keeps_what_pools_did_apart_from_routes(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(&board->pools, STR("main"), 0, "here");
    serve(0, users, 200, 5);
    for (uint32_t w = 0; w < 4; w++)
        use(p, w, 1000000, 3000000, w == 3);
    lane_add(&p->lanes[1].opened, 2);
    pass(SECOND);
    use(p, 2, 1000000, 3000000, false);
    pass(SECOND);
    pass(SECOND); /* nothing happens */
    struct stats_route sum = pool_sum("main");
    assert_int_equal(sum.requests, 5);
    assert_int_equal(sum.status[5], 1);
    assert_int_equal(sum.bytes_in, 2);
    assert_int_equal(sum.phase_count[PHASE_POOL_WAIT], 5);
    assert_int_equal(sum.phase_sum_ns[PHASE_POOL_WAIT], 5000000);
    assert_int_equal(sum.phase_count[PHASE_DB], 5);
    assert_int_equal(sum.phase_sum_ns[PHASE_DB], 15000000);
    assert_int_equal(history_pool(history, "other"), -1);
    assert_int_equal(requests_in(3), 1);
    struct stats_route all = {0};
    assert_true(history_series(history, -1, START, now, 1, sum_pool, &all));
    assert_int_equal(all.requests, 1);
    struct stats_view view;
    assert_true(history_after(history, START + SECOND, &view));
    assert_int_equal(view.pool_count, 1);
    assert_int_equal(view.pools[0].requests, 1);
    assert_int_equal(view.route_count, 0);
    stats_view_free(&view);
}

static struct board_pool *replaced(struct board_pool *old, const char *name)
{
    pool_close(old, 0);
    pool_delete(old, true);
    pools_tick(&board->pools);
    return pools_open(&board->pools, str_from(name), 0, "here");
}

/* Of the same name or another: what the one before did is not taken from it. */
static void counts_a_pool_that_takes_anothers_entry_from_zero(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(&board->pools, STR("main"), 0, "here");
    for (int i = 0; i < 7; i++)
        use(p, 0, 1000, 2000, false);
    pass(SECOND);
    p = replaced(p, "main");
    for (int i = 0; i < 9; i++)
        use(p, 0, 500000, 2000, false);
    pass(SECOND);
    struct stats_route sum = pool_sum("main");
    assert_int_equal(sum.requests, 16);
    assert_int_equal(sum.phase_sum_ns[PHASE_POOL_WAIT], 7 * 1000 + 9 * 500000);
    assert_int_equal(sum.phase_count[PHASE_POOL_WAIT], 16);
}

/* Of more pools than it remembers those that are longest gone are forgotten, and whoever comes is not taken for them. */
static void forgets_pools_that_are_longest_gone(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(&board->pools, STR("main"), 0, "here");
    char name[POOL_NAME];
    for (int i = 0; i <= HISTORY_POOLS; i++) {
        snprintf(name, sizeof name, "pool %d", i);
        p = replaced(p, name);
        use(p, 0, 10, 10, false);
        pass(SECOND);
        assert_int_equal(pool_sum(name).requests, 1);
    }
    assert_int_equal(history_pool(history, "pool 0"), -1);
    assert_int_equal(pool_sum("pool 1").requests, 1);
    replaced(p, "pool 0"); /* it has come back, and that it was here before is not known */
    pass(SECOND);
    assert_int_equal(pool_sum("pool 0").requests, 0);
    assert_int_equal(history_pool(history, "pool 1"), -1);
    assert_int_equal(pool_sum("pool 2").requests, 1);
}

static void counts_on_when_a_pools_bucket_has_wrapped(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(&board->pools, STR("main"), 0, "here");
    for (int i = 0; i < SKETCH_COARSE_BUCKETS; i++)
        atomic_store(&p->lanes[0].use.bucket[i], i == 10 ? UINT32_MAX - 1 : 0);
    lane_add(&p->lanes[0].statements, UINT32_MAX - 1);
    pass(SECOND);
    for (int i = 0; i < 5; i++) {
        lane_add(&p->lanes[0].statements, 1);
        sketch_count(&p->lanes[0].use.bucket[10]);
    }
    pass(SECOND);
    struct stats_view view;
    assert_true(history_after(history, now - SECOND, &view));
    assert_int_equal(view.pools[0].requests, 5);
    assert_int_equal(view.pools[0].phase_count[PHASE_DB], 5);
    stats_view_free(&view);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(sums_the_workers_of_a_window),
        UNIT(answers_for_the_span_that_was_asked_for),
        UNIT(has_nothing_at_first),
        UNIT(ends_windows_behind_whole_seconds_of_the_clock),
        UNIT(reads_everything_since_the_start_from_the_lanes),
        UNIT(loses_nothing_between_ticks),
        UNIT(falls_back_on_a_coarser_tier_when_the_finest_has_forgotten),
        UNIT(goes_round_its_rings_for_days),
        UNIT(drops_frames_that_no_ring_could_hold),
        UNIT(counts_a_bucket_that_wrapped),
        UNIT(goes_on_after_the_clock_was_set_back),
        UNIT(notes_the_machine),
        UNIT(hands_over_to_another_process),
        UNIT(stays_whole_when_it_is_killed_at_any_moment),
        UNIT(gives_a_series_in_aligned_steps),
        UNIT(leaves_out_steps_without_frames),
        UNIT(cumulates_latencies_at_fixed_bounds),
        UNIT(finds_the_slowest_over_all_lanes),
        UNIT(keeps_what_pools_did_apart_from_routes),
        UNIT(counts_a_pool_that_takes_anothers_entry_from_zero),
        UNIT(forgets_pools_that_are_longest_gone),
        UNIT(counts_on_when_a_pools_bucket_has_wrapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
