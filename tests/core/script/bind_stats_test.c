// SPDX-License-Identifier: MIT
#include "script/bind_stats.h"
#include "script/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <unistd.h>

static struct board *board;
static struct history *history;
static struct resources resources;
static lua_State *L;

static int set_up(void **state)
{
    (void)state;
    board = board_new(&(struct board_opts){.workers = 2});
    history = history_new(board, 1 << 20);
    resources_init(&resources, "/nonexistent", NULL);
    L = luaL_newstate();
    luaL_openlibs(L);
    bind_stats_open(L, board, history, &resources);
    assert_int_equal(lua_gettop(L), 1);
    lua_setglobal(L, "stats");
    json_open(L);
    lua_setglobal(L, "json");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lua_close(L);
    history_free(history);
    board_free(board);
    return 0;
}

static void serve(const char *method, const char *name, uint32_t status, double ms, uint64_t body)
{
    uint64_t phases[PHASE_COUNT] = {0};
    struct sample s = {.phase_ns = phases, .route = board_route(board, str_from(method), str_from(name)),
                       .status = status, .latency_ns = (uint64_t)(ms * 1e6), .bytes_in = 100,
                       .bytes_out = body + 50, .body_out = body, .method = str_from(method),
                       .at_unix_ms = UINT64_C(1700000000123),
                       .trace_id = "0123456789abcdef0123456789abcdef"};
    phases[PHASE_DB] = s.latency_ns / 4;
    lane_add(&board_lane(board, 1)->started, 1);
    lane_record(board_lane(board, 1), &s, board->routes_max, 40000000);
}

static void holds(const char *code)
{
    if (luaL_dostring(L, code))
        fail_msg("%s", lua_tostring(L, -1));
    assert_int_equal(lua_gettop(L), 0);
}

static void describes_a_server_that_has_served_nothing(void **state)
{
    (void)state;
    holds("local s = stats.stats(60)\n"
          "assert(s.requests_total == 0 and s.requests_per_second == 0 and s.error_rate == 0)\n"
          "assert(s.latency_ms.p50 == 0 and s.latency_ms.p95 == 0 and s.latency_ms.max == 0)\n"
          "assert(s.in_flight == 0 and s.aborted_total == 0 and s.span_s == 0)\n"
          "assert(json.encode(s.routes) == '[]' and json.encode(s.slow_requests) == '[]')\n"
          "assert(json.encode(stats.histograms()) == '[]')\n"
          "assert(s.system.cpu_share == nil and s.system.load == nil)\n");
}

static void describes_what_was_served(void **state)
{
    (void)state;
    history_tick(history, UINT64_C(1700000000000));
    for (int i = 0; i < 98; i++)
        serve("GET", "/cheap", 200, 1, 10);
    serve("GET", "/dear", 503, 1000, 20000);
    serve("GET", "/dear", 0, 10, 0);
    lane_add(&board_lane(board, 0)->started, 3);
    atomic_store(&board->processes[3].pid, getpid());
    history_tick(history, UINT64_C(1700000002000));
    holds("local s = stats.stats(60)\n"
          "assert(s.requests_total == 100 and s.aborted_total == 1 and s.in_flight == 3)\n"
          "assert(s.span_s == 2 and s.requests_per_second == 50 and s.error_rate == 0.01)\n"
          "assert(s.bytes_in == 10000 and s.bytes_out == 98 * 60 + 20050 + 50)\n"
          "assert(math.abs(s.latency_ms.p50 - 1) < 0.01 and math.abs(s.latency_ms.max - 1000) < 11)\n"
          "assert(#s.routes == 2)\n"
          "local dear, cheap = s.routes[1], s.routes[2]\n"
          "assert(dear.route == '/dear' and dear.method == 'GET' and dear.requests == 2)\n"
          "assert(dear.share > 0.9 and math.abs(dear.share + cheap.share - 1) < 1e-5)\n"
          "assert(dear.latency_ms.mean == 505 and dear.error_rate == 0.5)\n"
          "assert(dear.status['5xx'] == 1 and dear.status.none == 1 and dear.status['2xx'] == 0)\n"
          "assert(dear.response_sizes.small == 1 and dear.response_sizes.medium == 1)\n"
          "assert(cheap.phases_ms.db.count == 98 and cheap.phases_ms.db.mean == 0.25)\n"
          "assert(math.abs(cheap.phases_ms.db.share - 0.25) < 1e-6 and cheap.phases_ms.lua == nil)\n"
          "assert(math.abs(cheap.phases_ms.db.p95 - 0.25) < 0.02)\n"
          "assert(#s.slow_requests == 1)\n"
          "local slow = s.slow_requests[1]\n"
          "assert(slow.route == '/dear' and slow.status == 503 and slow.latency_ms == 1000)\n"
          "assert(slow.method == 'GET' and slow.phases_ms.db == 250 and slow.phases_ms.lua == nil)\n"
          "assert(slow.at == '2023-11-14T22:13:20.123Z' and #slow.trace_id == 32)\n"
          "assert(#s.processes == 2 and s.processes[1].role == 'worker')\n"
          "assert(s.processes[2].requests == 100 and s.processes[2].pid > 0)\n"
          "local all = stats.stats(0)\n"
          "assert(#all.routes == 2 and all.routes[1].requests == 2)\n");
}

static void gives_cumulative_histograms(void **state)
{
    (void)state;
    serve("GET", "/a", 200, 0.7, 1);
    serve("GET", "/a", 200, 70, 1);
    serve("GET", "/a", 200, 20000, 1);
    holds("local h = stats.histograms()\n"
          "assert(#h == 1 and h[1].route == '/a' and h[1].method == 'GET' and h[1].count == 3)\n"
          "assert(math.abs(h[1].sum_s - 20.0707) < 1e-9 and #h[1].buckets == 14)\n"
          "local at = {}\n"
          "for _, b in ipairs(h[1].buckets) do at[b.le_seconds] = b.cumulative end\n"
          "assert(at[.0005] == 0 and at[.001] == 1 and at[.05] == 1 and at[.1] == 2 and at[10] == 2)\n");
    serve("GET", "/b", 200, 1, 10);
    serve("GET", "/c", 200, 1, 10);
    holds("local names, at = {}, 0\n"
          "while at do\n"
          "  local some, behind = stats.histograms(at, 2)\n"
          "  assert(#some <= 2)\n"
          "  for _, one in ipairs(some) do names[#names + 1] = one.route end\n"
          "  at = behind\n"
          "end\n"
          "assert(table.concat(names, ' ') == '/a /b /c')\n"
          "assert(not pcall(stats.histograms, -1, 2) and not pcall(stats.histograms, 0, 0))\n");
}

static void lists_every_setting(void **state)
{
    (void)state;
    holds("local list, by = stats.settings(), {}\n"
          "for _, s in ipairs(list) do by[s.name] = s end\n"
          "local h = by['server.head_bytes']\n"
          "assert(h.type == 'integer' and h.unit == 'bytes' and h.default == 32768 and h.min == 1024)\n"
          "assert(h.value == 32768 and h.origin == 'default' and h.live == true and #h.doc > 0)\n"
          "assert(by['reload.watch'].value == true and by['reload.watch'].type == 'boolean')\n"
          "assert(by['stats.routes_max'].live == false)\n"
          "local g = stats.generation()\n"
          "assert(g.active == 0 and g.newest == 0 and g.reloads_ok == 0 and g.rollbacks == 0)\n");
}

static void feeds_the_prometheus_text(void **state)
{
    (void)state;
    serve("GET", "/a", 200, 0.7, 1);
    holds("package.path = 'lua/?.lua;' .. package.path\n"
          "local text = require('perilune.prometheus').render({ stats = stats.stats(60),\n"
          "  histograms = stats.histograms(), generation = stats.generation() }, true)\n"
          "assert(text:find('_count{http_request_method=\"GET\",http_route=\"/a\"} 1', 1, true))\n"
          "assert(text:find('perilune_requests_total 1', 1, true) and text:sub(-6) == '# EOF\\n')\n");
}

static void refuses_a_window_that_is_none(void **state)
{
    (void)state;
    holds("for _, bad in ipairs { -1, 0/0, math.huge, 'x' } do\n"
          "  assert(not pcall(stats.stats, bad))\n"
          "end\n");
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(describes_a_server_that_has_served_nothing),
        UNIT(describes_what_was_served),
        UNIT(gives_cumulative_histograms),
        UNIT(lists_every_setting),
        UNIT(feeds_the_prometheus_text),
        UNIT(refuses_a_window_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
