/* Many routes are watched within bounds of time and memory, and an experiment is not learnt from. */
// SPDX-License-Identifier: MIT
#include "../ml/simulate.h"
#include "watch/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const uint64_t START = UINT64_C(1700000040000);
enum { ROUTES = 100 };

struct world {
    struct board *board;
    struct history *history;
    struct watch *watch;
    struct resources resources;
    struct random random;
    uint64_t now;
    uint32_t routes[ROUTES];
};

static void set_up(struct world *w)
{
    *w = (struct world){.random = {1}, .now = START};
    w->board = board_new(&(struct board_opts){.workers = 1});
    w->history = history_new(w->board, 64 << 20);
    w->watch = watch_new(w->board, w->history, &w->resources);
    assert_true(w->board && w->history && w->watch);
    for (int i = 0; i < ROUTES; i++) {
        char name[16];
        snprintf(name, sizeof name, "/r%d", i);
        w->routes[i] = board_route(w->board, STR("GET"), (struct str){name, strlen(name)});
    }
    history_tick(w->history, w->now);
    watch_tick(w->watch, w->now);
}

static void tear_down(struct world *w)
{
    watch_free(w->watch);
    history_free(w->history);
    board_free(w->board);
}

static void serve(struct world *w, uint32_t route, double ms)
{
    uint64_t phases[PHASE_COUNT];
    struct sample s = {.phase_ns = phases, .route = route, .status = random_below(&w->random, 200) ? 200 : 500,
                       .latency_ns = (uint64_t)(ms * 1e6 * exp(.3 * draw_normal(&w->random))), .bytes_out = 100 + random_below(&w->random, 900)};
    for (int p = 0; p < PHASE_COUNT; p++)
        phases[p] = (uint64_t)((double)s.latency_ns * random_unit(&w->random) / PHASE_COUNT);
    lane_record(board_lane(w->board, 0), &s, w->board->routes_max, UINT64_MAX);
}

/* A second in which route i, and those behind it more, take their time. */
static void second(struct world *w, int busy_from)
{
    for (int i = 0; i < ROUTES; i++)
        for (unsigned n = 20 + draw_poisson(&w->random, 5); n > 0; n--)
            serve(w, w->routes[i], i >= busy_from && i < busy_from + 20 ? 20 : 2);
    w->now += 1000;
    history_tick(w->history, w->now);
    watch_tick(w->watch, w->now);
}

static const struct watched *route_at(const struct world *w, int i)
{
    const struct watched *t;
    for (unsigned k = 0; (t = watch_at(w->watch, k)); k++)
        if (t->kind == WATCH_ROUTE && t->index == w->routes[i])
            return t;
    return NULL;
}

static unsigned companies_of(const struct world *w, int from, int to)
{
    unsigned n = 0;
    for (int i = from; i < to; i++)
        n += route_at(w, i)->company != NULL;
    return n;
}

static void a_hundred_routes_cost_little_and_the_busiest_are_judged_as_a_whole(void **state)
{
    (void)state;
    struct world w;
    struct watch_cost cost;
    set_up(&w);
    for (int i = 0; i < 900; i++)
        second(&w, 30);
    watch_cost(w.watch, &cost);
    print_message("%u companies, %.1f MB of %.1f; a tick %.2f ms, a fit at most %.1f ms, %u fits in %u s\n", cost.companies, (double)cost.company_bytes / 1e6,
                  (double)cost.bytes / 1e6, cost.mean_ms, cost.fit_ms, cost.fits, 900);
    assert_int_equal(cost.companies, 1 + COMPANY_ROUTES); /* the host is one */
    assert_true(companies_of(&w, 30, 50) >= COMPANY_ROUTES - 1); /* the first was given while none was known */
    assert_true(cost.company_bytes > 1000000 && cost.company_bytes < 8000000);
    /* each learnt at least once, or as many as the ticks paid for where a fit takes long */
    assert_true(cost.fits >= fmin(1 + COMPANY_ROUTES, 900 * COMPANY_FIT_MS / cost.fit_ms / 2));
#ifndef __SANITIZE_ADDRESS__
#ifndef __SANITIZE_THREAD__
    assert_true(cost.mean_ms <= 10); /* 1 % of a core */
#endif
#endif
    struct company_state known = company_state(watch_at(w.watch, 0)->company);
    assert_true(known.fits > 0 && !known.unusual);
    for (int i = 0; i < 400; i++)
        second(&w, 70); /* others are the busiest now */
    watch_cost(w.watch, &cost);
    assert_int_equal(cost.companies, 1 + COMPANY_ROUTES);
    assert_true(companies_of(&w, 70, 90) == COMPANY_ROUTES);
    tear_down(&w);
}

static void an_experiment_is_neither_learnt_nor_judged(void **state)
{
    (void)state;
    struct world w;
    set_up(&w);
    for (int i = 0; i < 60; i++)
        second(&w, 30);
    const struct watched *host = watch_at(w.watch, 0);
    uint32_t learnt = company_state(host->company).learnt;
    assert_true(learnt > 40 && host->held_ms == 0);
    watch_hold(w.watch, w.now + 30000);
    for (int i = 0; i < 20; i++)
        second(&w, 70);
    assert_int_equal(company_state(host->company).learnt, learnt);
    assert_int_equal(host->held_ms, w.now);
    tear_down(&w);
}

/* Memory that fills a little all the time has never been where it is now; that alone is nothing unusual. */
static void what_accumulates_is_judged_by_its_growth_alone(void **state)
{
    (void)state;
    struct world w;
    struct company_part parts[HOST_SIGNALS];
    set_up(&w);
    for (int i = 0; i < 1500; i++) {
        w.resources.value[RESOURCE_MEMORY_SHARE] = .30 + .0002 * i + .0005 * draw_normal(&w.random);
        for (int r = 0; r < 5; r++)
            for (unsigned n = 20 + draw_poisson(&w.random, 5); n > 0; n--)
                serve(&w, w.routes[r], 2);
        w.now += 1000;
        history_tick(w.history, w.now);
        watch_tick(w.watch, w.now);
        const struct company *host = watch_at(w.watch, 0)->company;
        assert_false(company_state(host).unusual);
        for (unsigned n = company_parts(host, parts, HOST_SIGNALS), k = 0; k < n; k++)
            assert_false(watch_accumulates(WATCH_HOST, parts[k].column));
    }
    assert_true(company_state(watch_at(w.watch, 0)->company).fits > 1);
    tear_down(&w);
}

/* Two of a hundred a second are few in a sample and many in half a minute. */
static void errors_add_up_over_samples_and_are_forgotten(void **state)
{
    (void)state;
    struct world w;
    uint64_t phases[PHASE_COUNT] = {0};
    set_up(&w);
    for (int i = 0; i < 240; i++) {
        for (int n = 0; n < 100; n++) {
            struct sample s = {.phase_ns = phases, .route = w.routes[0], .status = i < 120 && n < 2 ? 502 : 200, .latency_ns = 1000000};
            lane_record(board_lane(w.board, 0), &s, w.board->routes_max, UINT64_MAX);
        }
        w.now += 1000;
        history_tick(w.history, w.now);
        watch_tick(w.watch, w.now);
        double errors = watch_at(w.watch, 1)->errors;
        if (i == 2)
            assert_true(errors > 3 && errors < 7);
        if (i == 119)
            assert_true(errors > 55 && errors < 65); /* 2 / (1 - exp(-1/30)) = 61 */
        if (i == 239)
            assert_true(errors > 0 && errors < 2);
    }
    assert_int_equal(watch_at(w.watch, 1)->kind, WATCH_ROUTE);
    tear_down(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_routes_cost_little_and_the_busiest_are_judged_as_a_whole),
        cmocka_unit_test(what_accumulates_is_judged_by_its_growth_alone),
        cmocka_unit_test(an_experiment_is_neither_learnt_nor_judged),
        cmocka_unit_test(errors_add_up_over_samples_and_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
