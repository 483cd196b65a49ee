// SPDX-License-Identifier: MIT
#include "base/err.h"
#include "base/log.h"
#include "store/archive.h"
#include "store/chunk.h"
#include "store/historian.h"
#include "store/past.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t START = UINT64_C(1699999200000); /* a whole hour */
enum { SECOND = 1000, MINUTE = 60000, HOUR = 3600000 };

static char folder[64], path[80];
static struct board *board;
static struct history *history;
static struct historian *historian;
static uint64_t now;
static uint32_t users, orders, noise;
static struct stats_route everything[2]; /* of users, of orders: what was served, plainly */

static void begin(void)
{
    historian = historian_new(&(struct historian_opts){.path = path, .board = board, .history = history});
    assert_non_null(historian);
}

/* A life of the engine on the same folder. */
static void begin_life(void)
{
    board = board_new(&(struct board_opts){.workers = 1});
    board->started_unix_ms = now;
    history = history_new(board, 1 << 20);
    orders = board_route(board, STR("GET"), STR("/orders"));
    users = board_route(board, STR("GET"), STR("/users/:id"));
    history_tick(history, now);
    begin();
}

static void end_life(void)
{
    historian_stop(historian, now);
    history_free(history);
    board_free(board);
}

static int set_up(void **state)
{
    (void)state;
    log_limit(LOG_ERROR);
    noise = 1;
    memset(everything, 0, sizeof everything);
    snprintf(folder, sizeof folder, "/tmp/perilune-store-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/history.db", folder);
    now = START;
    begin_life();
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"", "-wal", "-shm", ".damaged", ".damaged-wal", ".damaged-shm", ".newer", ".foreign"};
    (void)state;
    end_life();
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char file[100];
        snprintf(file, sizeof file, "%s%s", path, names[i]);
        unlink(file);
    }
    return rmdir(folder);
}

static uint32_t draw(void)
{
    return noise = noise * 1664525 + 1013904223;
}

static void serve(uint32_t route, double ms)
{
    struct lane *lane = board_lane(board, 0);
    uint64_t phases[PHASE_COUNT] = {0};
    uint32_t status = draw() % 8 ? 200 : 503;
    struct sample s = {.phase_ns = phases, .route = route, .status = status, .latency_ns = (uint64_t)(ms * 1e6),
                       .bytes_in = 10, .bytes_out = 100, .body_out = 90};
    phases[PHASE_DB] = s.latency_ns / 2;
    lane_add(&lane->started, 1);
    lane_record(lane, &s, board->routes_max, UINT64_MAX);
    struct stats_route *sum = &everything[route == orders];
    sum->requests++;
    sum->status[status / 100]++;
    sum->bytes_in += 10;
    sum->bytes_out += 100;
    sum->sizes[SIZE_SMALL]++;
    sum->latency_sum_ns += s.latency_ns;
    sum->phase_count[PHASE_DB]++;
    sum->phase_sum_ns[PHASE_DB] += phases[PHASE_DB];
    sum->latency[sketch_index(s.latency_ns)]++;
    sum->phases[PHASE_DB][sketch_index(phases[PHASE_DB]) >> (SKETCH_SCALE - SKETCH_COARSE_SCALE)]++;
}

/* The file is waited for in each tick, so that its part of the time is none. */
static void pass(uint64_t ms)
{
    now += ms;
    history_tick(history, now);
    historian_tick(historian, now);
    historian_wait(historian);
    historian_tick(historian, now);
}

static void serve_for(uint64_t ms, unsigned each_second)
{
    for (uint64_t until = now + ms; now < until; pass(SECOND))
        for (unsigned i = 0; i < each_second; i++) {
            serve(users, 1 + draw() % 1000 / 10.0);
            if (i % 4 == 0)
                serve(orders, 20 + draw() % 100);
        }
}

static struct historian_state state_of(void)
{
    struct historian_state s;
    historian_state(historian, &s);
    return s;
}

static void settle(uint64_t store_bytes, uint64_t interval_s)
{
    settings_set(&board->settings, SETTING_HISTORY_STORE_BYTES, (double)store_bytes, ORIGIN_API);
    settings_set(&board->settings, SETTING_HISTORY_STORE_INTERVAL_S, (double)interval_s, ORIGIN_API);
}

/* ---- reading ---------------------------------------------------------------- */

struct seen {
    unsigned count;
    double span_s;
    uint64_t first_ms, last_ms;
    struct stats_route sum;
};

static void on_step(void *arg, const struct history_step *step)
{
    struct seen *seen = arg;
    if (!seen->count++)
        seen->first_ms = step->from_ms;
    else
        assert_true(step->from_ms > seen->last_ms);
    seen->last_ms = step->from_ms;
    seen->span_s += step->span_s;
    stats_route_add(&seen->sum, step->counts);
}

static struct seen *asked(struct archive_query query, int thing)
{
    static struct seen seen;
    struct past *past = calloc(1, sizeof *past);
    seen = (struct seen){0};
    past->query = query;
    past->query.path = path;
    past->thing = thing;
    past->on_step = on_step;
    past->arg = &seen;
    if (!past_is_memory(&past->query, history))
        past_read(past);
    assert_true(past_finish(past, history));
    free(past);
    return &seen;
}

static struct seen *pool_series(const char *name, uint32_t step_s)
{
    int thing = history_pool(history, name);
    return asked((struct archive_query){.method = ARCHIVE_POOL, .name = name, .from_ms = START, .to_ms = now, .step_s = step_s}, thing < 0 ? PAST_GONE : thing);
}

static struct seen *series(const char *name, uint64_t from_ms, uint64_t to_ms, uint32_t step_s)
{
    int thing = !name ? -1 : strstr(name, "orders") ? (int)orders : (int)users;
    return asked((struct archive_query){.name = name, .from_ms = from_ms, .to_ms = to_ms, .step_s = step_s}, thing);
}

static void assert_same(const struct stats_route *a, const struct stats_route *b)
{
    struct stats_route x = *a, y = *b;
    x.route = y.route = 0;
    assert_memory_equal(&x, &y, sizeof x);
}

/* ---- specs ------------------------------------------------------------------ */

static void sums_exactly_in_each_tier(void **state)
{
    (void)state;
    static const uint32_t steps_s[] = {1, 10, 60, 3600};
    serve_for(2 * HOUR + 90 * SECOND, 5);
    end_life();
    now += HOUR;
    begin_life();
    struct stats_route both = everything[0];
    stats_route_add(&both, &everything[1]);
    for (unsigned i = 0; i < 4; i++) {
        assert_same(&series("GET /users/:id", START, now, steps_s[i])->sum, &everything[0]);
        struct seen *seen = series("GET /orders", START, now, steps_s[i]);
        assert_same(&seen->sum, &everything[1]);
        assert_int_equal(seen->first_ms, START);
        assert_int_equal(seen->count, (2 * 3600 + 90 + steps_s[i] - 1) / steps_s[i]);
        assert_true(fabs(seen->span_s - (2 * 3600 + 90)) < 0.001);
        assert_same(&series(NULL, START, now, steps_s[i])->sum, &both);
    }
}

static void joins_lives_and_memory_in_one_series(void **state)
{
    (void)state;
    serve_for(95 * SECOND, 3);
    end_life();
    now += 7 * SECOND; /* within a minute */
    begin_life();
    serve_for(198 * SECOND, 3); /* to where a window of each tier ends */
    static const uint32_t steps_s[] = {1, 7, 10, 60, 300, 3600};
    for (unsigned i = 0; i < 6; i++) {
        struct seen *seen = series("GET /users/:id", START, now, steps_s[i]);
        assert_same(&seen->sum, &everything[0]);
        assert_true(fabs(seen->span_s - 293) < 0.001);
    }
    end_life();
    begin_life();
    assert_same(&series("GET /users/:id", START, now, 1)->sum, &everything[0]);
    assert_same(&series("GET /users/:id", START, now, 60)->sum, &everything[0]);
}

static void work(struct board_pool *p, unsigned statements)
{
    struct pool_lane *lane = &p->lanes[0];
    for (unsigned i = 0; i < statements; i++) {
        lane_add(&lane->statements, 1);
        lane_add(&lane->use_sum_ns, 1000);
        sketch_coarse_record(&lane->use, 1000);
        sketch_coarse_record(&lane->wait, 10);
    }
}

static struct board_pool *replaced(struct board_pool *old, struct str name)
{
    pool_close(old, 0);
    pool_delete(old, true);
    pools_tick(&board->pools);
    return pools_open(&board->pools, name, 0, "here");
}

static void keeps_pools_by_name_whatever_entry_they_have(void **state)
{
    (void)state;
    struct board_pool *p = pools_open(&board->pools, STR("main"), 0, "here");
    board_route(board, STR("GET"), STR("main"));
    for (int i = 0; i < 130; i++, serve_for(SECOND, 1))
        work(p, 3);
    p = replaced(p, STR("other"));
    for (int i = 0; i < 50; i++, serve_for(SECOND, 1))
        work(p, 2);
    p = replaced(p, STR("main"));
    work(p, 11);
    serve_for(SECOND, 1);
    struct stats_route both = everything[0];
    stats_route_add(&both, &everything[1]);
    static const uint32_t steps_s[] = {1, 10, 60, 3600};
    assert_int_equal(pool_series("main", 1)->sum.requests, 130 * 3 + 11);
    assert_int_equal(pool_series("other", 1)->sum.requests, 100);
    for (int life = 0; life < 2; life++) {
        end_life();
        now += HOUR;
        begin_life();
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(pool_series("other", steps_s[i])->sum.requests, 100);
            assert_int_equal(pool_series("main", steps_s[i])->sum.requests, 130 * 3 + 11);
            assert_same(&series(NULL, START, now, steps_s[i])->sum, &both);
        }
    }
    struct past gone = {.query = {.path = path, .name = "other", .from_ms = START, .to_ms = now, .step_s = 60}, .on_step = on_step};
    past_read(&gone);
    assert_int_equal(gone.result, ERR_INVAL); /* as a route there is none */
}

static void answers_for_a_part_of_the_time(void **state)
{
    (void)state;
    serve_for(20 * MINUTE, 2);
    end_life();
    now += HOUR;
    begin_life();
    assert_int_equal(series("GET /users/:id", START + 5 * MINUTE, START + 6 * MINUTE, 1)->sum.requests, 120);
    assert_int_equal(series("GET /users/:id", START + 5 * MINUTE, START + 15 * MINUTE, 60)->sum.requests, 1200);
    assert_int_equal(series("GET /users/:id", START + 30 * MINUTE, now, 60)->sum.requests, 0);
}

static void goes_on_where_a_dead_control_process_ended(void **state)
{
    (void)state;
    serve_for(90 * SECOND, 2);
    now += 100; /* it dies with 30 s that are not written: another one takes the rings over */
    struct historian *dead = historian;
    settle(0, 60);
    historian_stop(dead, now); /* writes nothing */
    settle(256 << 20, 60);
    begin();
    serve_for(60 * SECOND, 2);
    end_life();
    begin_life();
    assert_same(&series("GET /users/:id", START, now, 1)->sum, &everything[0]);
    assert_int_equal(state_of().lost_s, 0);
}

static uint64_t file_bytes(void)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void keeps_within_its_budget_the_oldest_gone_first(void **state)
{
    (void)state;
    enum { BUDGET = 1 << 20 };
    settle(BUDGET, 60);
    for (int i = 0; i < 40; i++) {
        serve_for(5 * MINUTE, 8);
        assert_true(file_bytes() <= BUDGET);
    }
    struct historian_state s = state_of();
    uint64_t frames = 0;
    for (int i = 0; i < 4; i++)
        frames += s.tier_bytes[i];
    assert_true(frames > BUDGET / 2); /* and uses it */
    end_life();
    now += HOUR;
    begin_life();
    settle(BUDGET, 60);
    struct seen *seen = series("GET /users/:id", START, now, 3600);
    assert_same(&seen->sum, &everything[0]); /* the tier of hours has it all */
    assert_int_equal(seen->first_ms, START);
    seen = series("GET /users/:id", START, now, 1); /* coarser where the finest has forgotten, and nothing twice */
    assert_same(&seen->sum, &everything[0]);
    assert_true(seen->count > 600 && seen->count < 200 * 60);
}

static void shrinks_the_file_when_the_budget_does(void **state)
{
    (void)state;
    enum { BUDGET = 512 << 10 };
    serve_for(2 * HOUR, 10);
    assert_true(file_bytes() > 2 * BUDGET);
    settle(BUDGET, 60);
    serve_for(2 * MINUTE, 10);
    assert_true(file_bytes() <= BUDGET);
    assert_false(state_of().troubled);
}

static void sets_a_damaged_file_aside(void **state)
{
    (void)state;
    char aside[100];
    serve_for(3 * MINUTE, 5);
    end_life();
    FILE *f = fopen(path, "r+");
    for (long page = 4096; page < 16 * 4096L; page += 512) { /* beyond the head of the file: found while it is used */
        fseek(f, page, SEEK_SET);
        fputs("damaged!damaged!damaged!damaged!damaged!", f);
    }
    fclose(f);
    begin_life();
    serve_for(3 * MINUTE, 5);
    snprintf(aside, sizeof aside, "%s.damaged", path);
    assert_int_equal(access(aside, F_OK), 0);
    assert_false(state_of().troubled);
    assert_int_equal(series("GET /users/:id", now - 2 * MINUTE, now, 60)->sum.requests, 2 * 60 * 5);
}

static void sets_a_file_aside_that_is_newer_or_foreign(void **state)
{
    (void)state;
    static const char *const changes[] = {"PRAGMA user_version = 99", "PRAGMA application_id = 1"};
    static const char *const names[] = {"newer", "foreign"};
    for (int i = 0; i < 2; i++) {
        char aside[100];
        sqlite3 *db;
        serve_for(MINUTE, 1);
        end_life();
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i], NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        begin_life();
        serve_for(2 * MINUTE, 1);
        snprintf(aside, sizeof aside, "%s.%s", path, names[i]);
        assert_int_equal(access(aside, F_OK), 0);
        assert_false(state_of().troubled);
    }
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void catches_up_after_the_disk_was_full(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    serve_for(2 * MINUTE, 2);
    limit_files(4096);
    serve_for(3 * MINUTE, 2);
    struct historian_state s = state_of();
    limit_files(RLIM_INFINITY);
    assert_true(s.troubled);
    assert_true(s.failures >= 2 && s.failures < 20); /* later and later */
    assert_non_null(strstr(s.why, path));
    serve_for(3 * MINUTE, 2);
    s = state_of();
    assert_false(s.troubled);
    assert_int_equal(s.lost_s, 0);
    end_life();
    begin_life();
    assert_same(&series("GET /users/:id", START, now, 1)->sum, &everything[0]);
}

static void counts_what_memory_gave_up_meanwhile(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    serve_for(2 * MINUTE, 2);
    limit_files(4096);
    for (int i = 0; i < 40; i++) { /* without ticks of the historian, as if it were stuck for long */
        for (int k = 0; k < 60; k++) {
            serve(users, 1 + draw() % 1000 / 10.0);
            now += SECOND;
            history_tick(history, now);
        }
    }
    for (int i = 0; i < 40 * 60; i++, now += SECOND, history_tick(history, now))
        for (int k = 0; k < 20; k++)
            serve(orders, draw() % 1000);
    limit_files(RLIM_INFINITY);
    serve_for(2 * MINUTE, 2);
    assert_false(state_of().troubled);
    assert_true(state_of().lost_s > 60);
}

static void survives_a_folder_that_is_gone(void **state)
{
    (void)state;
    end_life();
    char real[sizeof path];
    strcpy(real, path);
    snprintf(path, sizeof path, "%s/no/history.db", folder);
    begin_life();
    serve_for(2 * MINUTE, 2);
    assert_true(state_of().troubled);
    assert_false(state_of().open);
    assert_int_equal(series("GET /users/:id", now - MINUTE, now, 1)->sum.requests, 120);
    end_life();
    strcpy(path, real);
    begin_life();
}

static void reads_damaged_bytes_without_harm(void **state)
{
    (void)state;
    static const struct stats_route nothing;
    static unsigned char bytes[FRAME_BYTES_MOST];
    static struct stats_route sum;
    serve_for(10 * SECOND, 50);
    size_t size = frame_put(bytes, &nothing, &everything[0]);
    for (int i = 0; i < 20000; i++) {
        unsigned char *copy = malloc(size); /* its end is watched by AddressSanitizer */
        struct chunk chunk;
        memcpy(copy, bytes, size);
        copy[draw() % size] = (unsigned char)(draw() >> 8);
        frame_add(copy, copy + draw() % size, &sum);
        chunk_read(&chunk, copy, size);
        free(copy);
    }
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(sums_exactly_in_each_tier),
        UNIT(joins_lives_and_memory_in_one_series),
        UNIT(keeps_pools_by_name_whatever_entry_they_have),
        UNIT(answers_for_a_part_of_the_time),
        UNIT(goes_on_where_a_dead_control_process_ended),
        UNIT(keeps_within_its_budget_the_oldest_gone_first),
        UNIT(shrinks_the_file_when_the_budget_does),
        UNIT(sets_a_damaged_file_aside),
        UNIT(sets_a_file_aside_that_is_newer_or_foreign),
        UNIT(catches_up_after_the_disk_was_full),
        UNIT(counts_what_memory_gave_up_meanwhile),
        UNIT(survives_a_folder_that_is_gone),
        UNIT(reads_damaged_bytes_without_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
