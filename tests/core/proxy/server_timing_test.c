// SPDX-License-Identifier: MIT
#include "proxy/server_timing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "stats/lane.h"

static uint64_t phase[PHASE_COUNT];

static uint64_t db_of(const char *value)
{
    memset(phase, 0, sizeof phase);
    server_timing_read(str_from(value), phase);
    return phase[PHASE_DB];
}

static uint64_t sum(void)
{
    uint64_t all = 0;
    for (int i = 0; i < PHASE_COUNT; i++)
        all += phase[i];
    return all;
}

static void reads_durations_in_ms(void **state)
{
    (void)state;
    assert_int_equal(db_of("db;dur=9.5"), 9500000);
    assert_int_equal(db_of("db;dur=.4"), 400000);
    assert_int_equal(db_of(" DB ; desc=x ; DUR=2 , cache;dur=1"), 2000000);
    assert_int_equal(phase[PHASE_CACHE], 1000000);
    assert_int_equal(db_of("db;dur=1,db;dur=2"), 3000000);
    assert_int_equal(db_of("redis;dur=3, pool_wait;dur=4, queue;dur=5"), 0);
    assert_int_equal(phase[PHASE_REDIS] + phase[PHASE_POOL_WAIT] + phase[PHASE_QUEUE], 12000000);
}

static void ignores_what_it_does_not_know_or_trust(void **state)
{
    (void)state;
    const char *odd[] = {"",          ",,;;",        "db",          "db;dur",       "db;dur=",       "db;dur=-1",    "db;dur=nan",
                         "db;dur=1e9", "db;dur=inf", "db;dur=0x10", "total;dur=5", "write;dur=5", "db=5",         ";dur=5",
                         "db;dur=1e999", "db;dur=.", "db;dur=3600000.1"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        db_of(odd[i]);
        if (sum())
            fail_msg("'%s' counted", odd[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_durations_in_ms), cmocka_unit_test(ignores_what_it_does_not_know_or_trust),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
