// SPDX-License-Identifier: MIT
#include "board/board.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct board *board;

static int begin(void **state)
{
    struct board_opts opts = {.workers = 1};
    (void)state;
    board = board_new(&opts);
    return board ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    board_free(board);
    return 0;
}

static struct trial_target target(const char *name)
{
    struct trial_target out = {.kind = TRIAL_SETTING, .index = -1};
    assert_true(trial_find(board, name, &out));
    return out;
}

static void a_setting_is_tried_and_let_go(void **state)
{
    struct trial_target level = target("compression.level");
    (void)state;
    assert_int_equal((int)trial_value(board, level), 6);
    trial_try(board, level, 1, false);
    assert_int_equal((int)setting_integer(&board->settings, SETTING_COMPRESSION_LEVEL), 1);
    assert_int_equal((int)trial_stable(board, level), 6);
    assert_true(trial_is_on(board, level));
    trial_untry(board, level);
    assert_int_equal((int)trial_value(board, level), 6);
    assert_false(trial_is_on(board, level));
}

static void a_canary_has_its_own_values(void **state)
{
    struct trial_target level = target("compression.level"), fewest = target("compression.min_bytes");
    double bytes = trial_value(board, fewest);
    (void)state;
    trials_canary(board, 1 << 2);
    trial_try(board, level, 1, true);
    trial_try(board, fewest, 64, false);
    assert_int_equal((int)trial_value(board, level), 1);
    for (int worker = 0; worker < 4; worker++) {
        settings_reader = UINT64_C(1) << worker;
        assert_int_equal((int)setting_integer(&board->settings, SETTING_COMPRESSION_LEVEL), worker == 2 ? 1 : 6);
        assert_int_equal((int)setting_integer(&board->settings, SETTING_COMPRESSION_MIN_BYTES), 64);
    }
    settings_reader = 0; /* as control reads */
    assert_int_equal((int)setting_integer(&board->settings, SETTING_COMPRESSION_LEVEL), 6);
    settings_reader = 1 << 2;
    trials_renew(board, 1000);
    assert_true(trials_expire(board, 1001));
    assert_int_equal((int)setting_integer(&board->settings, SETTING_COMPRESSION_LEVEL), 6);
    assert_int_equal((int)atomic_load(&board->settings.canary), 0);
    assert_true(trial_value(board, fewest) == bytes);
    settings_reader = 0;
}

static void an_operator_wins_and_a_reload_that_changes_nothing_does_not_disturb(void **state)
{
    struct trial_target level = target("compression.level");
    (void)state;
    trial_try(board, level, 1, false);
    settings_set(&board->settings, SETTING_COMPRESSION_LEVEL, 6, ORIGIN_FILE);
    assert_int_equal((int)trial_value(board, level), 1);
    settings_set(&board->settings, SETTING_COMPRESSION_LEVEL, 9, ORIGIN_API);
    assert_int_equal((int)trial_value(board, level), 9);
    assert_false(trial_is_on(board, level));
}

static void a_lease_that_nobody_renews_ends_all(void **state)
{
    struct trial_target level = target("compression.level");
    struct board_pool *p = pools_open(&board->pools, STR("main"), 0, "a@b:1/c");
    (void)state;
    assert_non_null(p);
    atomic_store(&p->max, 20);
    atomic_store(&p->min, 5);
    struct trial_target max = target("pool.main.max"), min = target("pool.main.min");
    trial_try(board, level, 1, false);
    trial_try(board, max, 3, false);
    trial_try(board, min, 1, false);
    assert_int_equal(pool_max(p), 3);
    assert_int_equal(pool_min(p), 1);
    assert_int_equal(pool_stable_max(p), 20);
    trials_renew(board, 1000);
    assert_false(trials_expire(board, 1000));
    assert_int_equal(pool_max(p), 3);
    assert_true(trials_expire(board, 1001));
    assert_int_equal(pool_max(p), 20);
    assert_int_equal(pool_min(p), 5);
    assert_int_equal((int)trial_value(board, level), 6);
    assert_false(trials_expire(board, 2000));
    assert_int_equal((int)atomic_load(&board->trials.expired), 1);
    trial_try(board, max, 3, false);
    pool_set_bounds(p, 2, 8);
    assert_int_equal(pool_max(p), 8);
    assert_false(trial_is_on(board, max));
    assert_false(trials_clear(board));
}

static void an_upstream_has_settings_for_itself(void **state)
{
    (void)state;
    struct trial_target out;
    assert_false(trial_find(board, "upstream.api.retries", &out));
    struct own_slot *api = own_open(&board->own, STR("api")), *other = own_open(&board->own, STR("a.b"));
    assert_non_null(api);
    assert_non_null(other);
    assert_ptr_equal(own_open(&board->own, STR("api")), api);
    struct trial_target retries = target("upstream.api.retries");
    assert_int_equal(target("upstream.a.b.retries").index, other - board->own.slots);
    assert_false(trial_find(board, "upstream.api.buffer_bytes", &out)); /* has one value for all */
    assert_false(trial_find(board, "upstream..retries", &out));
    /* What is for all, until it has its own. */
    settings_set(&board->settings, SETTING_UPSTREAM_RETRIES, 3, ORIGIN_FILE);
    assert_int_equal((int)trial_stable(board, retries), 3);
    assert_int_equal((int)own_integer(api, &board->settings, OWN_RETRIES), 3);
    own_set(api, OWN_RETRIES, 1, ORIGIN_API);
    assert_int_equal((int)own_integer(api, &board->settings, OWN_RETRIES), 1);
    assert_int_equal((int)own_integer(other, &board->settings, OWN_RETRIES), 3);
    assert_int_equal((int)own_integer(NULL, &board->settings, OWN_RETRIES), 3);
    /* On trial, and let go: by hand, by an operator's edit, with the lease. */
    trial_try(board, retries, 0, false);
    assert_true(trial_is_on(board, retries));
    assert_int_equal((int)own_integer(api, &board->settings, OWN_RETRIES), 0);
    assert_int_equal((int)trial_stable(board, retries), 1);
    own_set(api, OWN_RETRIES, 1, ORIGIN_API);
    assert_true(trial_is_on(board, retries));
    own_set(api, OWN_RETRIES, 2, ORIGIN_API);
    assert_false(trial_is_on(board, retries));
    trial_try(board, retries, 0, false);
    trial_untry(board, retries);
    assert_int_equal((int)trial_value(board, retries), 2);
    trial_try(board, retries, 0, false);
    trials_renew(board, 1000);
    assert_true(trials_expire(board, 1001));
    assert_int_equal((int)trial_value(board, retries), 2);
    own_drop(api);
    assert_false(trial_find(board, "upstream.api.retries", &out));
    for (int k = 0; k < OWN_SETTINGS; k++) /* and all of them are of that scope, and of no other */
        assert_string_equal(setting_tuning((int)own_setting_ids[k])->scope, "upstream");
    int count = 0;
    for (int i = 0; i < SETTING_COUNT; i++)
        count += setting_tuning(i) && strcmp(setting_tuning(i)->scope, "upstream") == 0;
    assert_int_equal(count, OWN_SETTINGS);
}

static void knows_what_it_does_not_know(void **state)
{
    struct trial_target out;
    (void)state;
    assert_false(trial_find(board, "pool.none.max", &out));
    assert_false(trial_find(board, "", &out));
    assert_null(setting_tuning(SETTING_SERVER_HEAD_BYTES));
    for (int i = 0; i < SETTING_COUNT; i++) {
        const struct setting_tuning *tuning = setting_tuning(i);
        if (tuning) /* what the engine changes is in force at once, in bounded steps */
            assert_true(setting_infos[i].live && tuning->step >= 1 && tuning->settle_s > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_setting_is_tried_and_let_go, begin, end),
        cmocka_unit_test_setup_teardown(a_canary_has_its_own_values, begin, end),
        cmocka_unit_test_setup_teardown(an_operator_wins_and_a_reload_that_changes_nothing_does_not_disturb, begin, end),
        cmocka_unit_test_setup_teardown(a_lease_that_nobody_renews_ends_all, begin, end),
        cmocka_unit_test_setup_teardown(an_upstream_has_settings_for_itself, begin, end),
        cmocka_unit_test_setup_teardown(knows_what_it_does_not_know, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
