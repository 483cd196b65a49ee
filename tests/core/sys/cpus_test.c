// SPDX-License-Identifier: MIT
#include "sys/cpus.h"

#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <sched.h>

static void finds_the_tightest_quota_of_all_ancestors(void **state)
{
    (void)state;
    struct cgroup group;
    double cpus = 0;
    fixture_write("/proc/self/cgroup", "0::/kube/pod/app\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    fixture_write("/sys/fs/cgroup/kube/cpu.max", "800000 100000\n");
    fixture_write("/sys/fs/cgroup/kube/pod/cpu.max", "150000 100000\n");
    fixture_write("/sys/fs/cgroup/kube/pod/app/cpu.max", "max 100000\n");
    assert_true(cpus_quota(fixture_root, &cpus, &group));
    assert_true(cpus == 1.5);
    assert_non_null(strstr(group.path, "/kube/pod"));
    assert_null(strstr(group.path, "/app"));
}

static void reads_the_top_of_a_cgroup_namespace(void **state)
{
    (void)state;
    double cpus = 0;
    fixture_write("/proc/self/cgroup", "0::/\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu\n");
    fixture_write("/sys/fs/cgroup/cpu.max", "50000 200000\n");
    assert_true(cpus_quota(fixture_root, &cpus, NULL));
    assert_true(cpus == 0.25);
}

static void finds_groups_beside_those_of_version_1(void **state)
{
    (void)state;
    double cpus = 0;
    fixture_write("/proc/self/cgroup", "3:cpu:/old\n0::/new\n");
    fixture_write("/sys/fs/cgroup/unified/new/cpu.max", "300000 100000\n");
    assert_true(cpus_quota(fixture_root, &cpus, NULL));
    assert_true(cpus == 3);
}

static void uses_what_is_visible_of_a_path_outside_the_namespace(void **state)
{
    (void)state;
    double cpus = 0;
    fixture_write("/proc/self/cgroup", "0::/host/container\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu\n");
    fixture_write("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_true(cpus_quota(fixture_root, &cpus, NULL));
    assert_true(cpus == 2);
}

static void finds_no_quota_where_there_is_none(void **state)
{
    (void)state;
    double cpus = 0;
    assert_false(cpus_quota(fixture_root, &cpus, NULL));
    fixture_write("/proc/self/cgroup", "3:cpu:/old\n");
    assert_false(cpus_quota(fixture_root, &cpus, NULL));
    fixture_write("/proc/self/cgroup", "0::/a\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu\n");
    fixture_write("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_false(cpus_quota(fixture_root, &cpus, NULL));
    fixture_write("/sys/fs/cgroup/a/cpu.max", "nonsense");
    assert_false(cpus_quota(fixture_root, &cpus, NULL));
}

static void counts_at_least_one_and_no_more_than_the_affinity(void **state)
{
    (void)state;
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_in_range(cpus_effective(), 1, (uintmax_t)CPU_COUNT(&set));
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(finds_the_tightest_quota_of_all_ancestors),
        UNIT(reads_the_top_of_a_cgroup_namespace),
        UNIT(finds_groups_beside_those_of_version_1),
        UNIT(uses_what_is_visible_of_a_path_outside_the_namespace),
        UNIT(finds_no_quota_where_there_is_none),
        UNIT(counts_at_least_one_and_no_more_than_the_affinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
