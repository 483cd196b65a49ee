// SPDX-License-Identifier: MIT
#include "sys/machine.h"

#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>

static const uint64_t SECOND = 1000000000;
static struct machine machine;

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void says_that_nothing_is_available_on_an_empty_host(void **state)
{
    (void)state;
    machine_init(&machine, fixture_root, NULL);
    machine_sample(&machine, SECOND);
    machine_sample(&machine, 2 * SECOND);
    assert_false(machine.cpu_available);
    assert_false(machine.memory_available);
    assert_false(machine.disk_available);
    assert_false(machine.load_available);
}

static void takes_the_host_when_there_is_no_limit(void **state)
{
    (void)state;
    fixture_write("/proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\n"
                                "cpu0 50 0 50 400 0 0 0 0 0 0\ncpu1 50 0 50 400 0 0 0 0 0 0\n");
    fixture_write("/proc/meminfo", "MemTotal:        1000 kB\nMemFree: 1 kB\nMemAvailable:     250 kB\n");
    fixture_write("/proc/loadavg", "1.50 0.75 0.25 1/100 4242\n");
    machine_init(&machine, fixture_root, fixture_root);
    machine_sample(&machine, SECOND);
    assert_false(machine.cpu_available); /* a share needs two samples */
    fixture_write("/proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\n"
                                "cpu0 80 0 60 450 10 0 0 0 0 0\ncpu1 60 0 50 490 0 0 0 0 0 0\n");
    machine_sample(&machine, 2 * SECOND);
    assert_true(machine.cpu_available);
    assert_true(near(machine.cpu_share, 50.0 / 200));
    assert_true(machine.memory_available);
    assert_true(near(machine.memory_share, 0.75));
    assert_true(machine.load_available);
    assert_true(near(machine.load[0], 1.5) && near(machine.load[2], 0.25));
    assert_true(machine.disk_available);
    assert_true(machine.disk_share >= 0 && machine.disk_share <= 1);
}

static void does_not_make_up_a_share_when_the_counters_stand_still(void **state)
{
    (void)state;
    fixture_write("/proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n");
    machine_init(&machine, fixture_root, NULL);
    machine_sample(&machine, SECOND);
    machine_sample(&machine, 2 * SECOND);
    assert_false(machine.cpu_available);
}

static void takes_the_limits_of_its_control_group(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "0::/app\n");
    fixture_write("/proc/stat", "cpu0 0 0 0 100 0 0 0 0 0 0\n");
    fixture_write("/proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 999999 kB\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    fixture_write("/sys/fs/cgroup/app/cpu.max", "50000 100000\n");
    fixture_write("/sys/fs/cgroup/app/cpu.stat", "usage_usec 1000000\nnr_throttled 3\n");
    fixture_write("/sys/fs/cgroup/app/memory.max", "1000000\n");
    fixture_write("/sys/fs/cgroup/app/memory.high", "800000\n");
    fixture_write("/sys/fs/cgroup/app/memory.current", "500000\n");
    fixture_write("/sys/fs/cgroup/app/memory.stat", "anon 1\ninactive_file 100000\nactive_file 7\n");
    machine_init(&machine, fixture_root, NULL);
    machine_sample(&machine, SECOND);
    fixture_write("/sys/fs/cgroup/app/cpu.stat", "usage_usec 1250000\nnr_throttled 4\n");
    machine_sample(&machine, 2 * SECOND);
    assert_true(machine.cpu_available);
    assert_true(near(machine.cpu_share, 0.5)); /* 0.25 s of half a CPU */
    assert_true(machine.memory_available);
    assert_true(near(machine.memory_share, 0.5));
    fixture_write("/sys/fs/cgroup/app/cpu.stat", "usage_usec 9250000\n");
    machine_sample(&machine, 3 * SECOND);
    assert_true(near(machine.cpu_share, 1)); /* a burst is not more than all */
}

static void begins_anew_when_a_limit_appears(void **state)
{
    (void)state;
    fixture_write("/proc/stat", "cpu0 10 0 0 100 0 0 0 0 0 0\n");
    machine_init(&machine, fixture_root, NULL);
    machine_sample(&machine, SECOND);
    fixture_write("/proc/self/cgroup", "0::/\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu\n");
    fixture_write("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 5000000\n");
    machine_sample(&machine, 2 * SECOND);
    assert_false(machine.cpu_available);
    fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 5100000\n");
    machine_sample(&machine, 3 * SECOND);
    assert_true(machine.cpu_available);
    assert_true(near(machine.cpu_share, 0.1));
}

static void ignores_a_memory_limit_above_what_there_is(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "0::/\n");
    fixture_write("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 900 kB\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "memory\n");
    fixture_write("/sys/fs/cgroup/memory.max", "9223372036854771712\n");
    fixture_write("/sys/fs/cgroup/memory.current", "1024\n");
    machine_init(&machine, fixture_root, NULL);
    machine_sample(&machine, SECOND);
    assert_true(machine.memory_available);
    assert_true(near(machine.memory_share, 0.1));
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(says_that_nothing_is_available_on_an_empty_host),
        UNIT(takes_the_host_when_there_is_no_limit),
        UNIT(does_not_make_up_a_share_when_the_counters_stand_still),
        UNIT(takes_the_limits_of_its_control_group),
        UNIT(begins_anew_when_a_limit_appears),
        UNIT(ignores_a_memory_limit_above_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
