// SPDX-License-Identifier: MIT
#include "sys/resources.h"

#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>

static const uint64_t SECOND = 1000000000;
static struct resources r;

static void is(enum resource_id id, double wanted)
{
    if (!(fabs(r.value[id] - wanted) < 1e-9))
        fail_msg("%s.%s is %g (%s), not %g", resource_infos[id].section, resource_infos[id].name, r.value[id],
                 r.why[id] ? r.why[id] : "known", wanted);
}

static void missing(enum resource_id id, const char *why)
{
    if (resource_known(&r, id) || !r.why[id] || !strstr(r.why[id], why))
        fail_msg("%s.%s is %g (%s), not missing for: %s", resource_infos[id].section, resource_infos[id].name, r.value[id],
                 r.why[id] ? r.why[id] : "known", why);
}

static void sample_twice(void)
{
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    resources_sample(&r, 2 * SECOND);
}

static void says_why_nothing_is_known_on_an_empty_host(void **state)
{
    (void)state;
    sample_twice();
    for (int id = 0; id < RESOURCE_COUNT; id++)
        if (id != RESOURCE_FILES_LIMIT)
            missing((enum resource_id)id, "");
    missing(RESOURCE_CPU_SHARE, "/proc/stat");
    missing(RESOURCE_CPU_QUOTA, "no control group of ours has a CPU quota");
    missing(RESOURCE_MEMORY_SHARE, "neither a control group nor /proc/meminfo");
    missing(RESOURCE_PSI_IO_FULL_60, "no pressure stall information");
    missing(RESOURCE_IO_READ, "/proc/diskstats cannot be read");
    missing(RESOURCE_NET_DROPS, "/proc/net/dev cannot be read");
    missing(RESOURCE_FILES_OPEN, "/proc/sys/fs/file-nr");
}

static void reads_a_host_without_limits(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "0::/\n");
    fixture_write("/proc/stat", "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 100 800 0 0 0 0 0 0\ncpu1 1 2 3 4\ncpu2 1 2 3 4\ncpu3 1 2 3 4\n");
    fixture_write("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 250 kB\nSwapTotal: 100 kB\nSwapFree: 60 kB\n");
    fixture_write("/proc/loadavg", "1.5 2.5 3.5 1/2 3\n");
    fixture_write("/proc/vmstat", "pgfault 5\noom_kill 2\n");
    fixture_write("/proc/pressure/cpu", "some avg10=12.50 avg60=6.00 avg300=1.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    fixture_write("/proc/pressure/memory", "some avg10=2.00 avg60=1.00 avg300=0.00 total=9\nfull avg10=1.00 avg60=0.50 avg300=0.00 total=9\n");
    fixture_write("/proc/sys/fs/file-nr", "1056\t0\t9223372036854775807\n");
    resources_init(&r, fixture_root, fixture_root);
    resources_sample(&r, SECOND);
    missing(RESOURCE_CPU_SHARE, "second sample");
    missing(RESOURCE_CPU_STEAL, "second sample");
    /* One second: 200 ticks of 100 Hz in use, 50 of them stolen. */
    char text[200];
    long hz = sysconf(_SC_CLK_TCK);
    snprintf(text, sizeof text, "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 %ld 0 100 %ld 0 0 0 %ld 0 0\ncpu1 1 2 3 4\ncpu2 1 2 3 4\ncpu3 1 2 3 4\n",
             100 + hz * 3 / 2, 800 + hz * 2, hz / 2);
    fixture_write("/proc/stat", text);
    resources_sample(&r, 2 * SECOND);
    is(RESOURCE_CPU_USABLE, 4);
    is(RESOURCE_CPU_USED, 2);
    is(RESOURCE_CPU_SHARE, 0.5);
    is(RESOURCE_CPU_STEAL, 0.125);
    is(RESOURCE_LOAD_15, 3.5);
    is(RESOURCE_MEMORY_LIMIT, 1024000);
    is(RESOURCE_MEMORY_SHARE, 0.75);
    is(RESOURCE_MEMORY_SWAP, 40960);
    is(RESOURCE_MEMORY_OOM_KILLS, 2);
    is(RESOURCE_PSI_CPU_SOME_10, 0.125);
    is(RESOURCE_PSI_MEMORY_FULL_60, 0.005);
    missing(RESOURCE_PSI_IO_SOME_10, "no pressure stall information");
    is(RESOURCE_FILES_OPEN, 1056);
    assert_true(r.value[RESOURCE_DISK_SHARE] > 0 && r.value[RESOURCE_DISK_TOTAL] > r.value[RESOURCE_DISK_FREE]);
}

static void counts_by_the_tightest_of_nested_groups(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "0::/outer/inner\n");
    fixture_write("/proc/stat", "cpu  1 0 1 8 0 0 0 0 0 0\ncpu0 1 2 3 4\ncpu1 1 2 3 4\ncpu2 1 2 3 4\ncpu3 1 2 3 4\n");
    fixture_write("/proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 999999 kB\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
    fixture_write("/sys/fs/cgroup/outer/cpu.max", "150000 100000\n");
    fixture_write("/sys/fs/cgroup/outer/cpu.stat", "usage_usec 1000000\nnr_periods 100\nnr_throttled 10\nthrottled_usec 500000\n");
    fixture_write("/sys/fs/cgroup/outer/memory.max", "8000000\n");
    fixture_write("/sys/fs/cgroup/outer/memory.current", "6000000\n");
    fixture_write("/sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 2000000\n");
    fixture_write("/sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
    fixture_write("/sys/fs/cgroup/outer/inner/cpu.stat", "usage_usec 7\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n");
    fixture_write("/sys/fs/cgroup/outer/inner/memory.max", "9000000\n");
    fixture_write("/sys/fs/cgroup/outer/inner/memory.current", "1\n");
    fixture_write("/sys/fs/cgroup/outer/inner/memory.events", "low 0\nhigh 3\nmax 1\noom 1\noom_kill 1\n");
    fixture_write("/sys/fs/cgroup/outer/inner/io.pressure", "some avg10=50.00 avg60=20.00 avg300=1 total=1\nfull avg10=40.00 avg60=10.00 avg300=1 total=1\n");
    fixture_write("/proc/pressure/io", "some avg10=1.00 avg60=1.00 avg300=1 total=1\nfull avg10=1.00 avg60=1.00 avg300=1 total=1\n");
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    fixture_write("/sys/fs/cgroup/outer/cpu.stat", "usage_usec 1750000\nnr_periods 110\nnr_throttled 14\nthrottled_usec 700000\n");
    resources_sample(&r, 2 * SECOND);
    is(RESOURCE_CPU_QUOTA, 1.5);
    is(RESOURCE_CPU_USABLE, 1.5);
    is(RESOURCE_CPU_USED, 0.75);
    is(RESOURCE_CPU_SHARE, 0.5);
    is(RESOURCE_CPU_THROTTLED, 0.4);
    is(RESOURCE_CPU_THROTTLED_TIME, 0.2);
    is(RESOURCE_MEMORY_LIMIT, 8000000);
    is(RESOURCE_MEMORY_USED, 6000000);
    is(RESOURCE_MEMORY_WORKING_SET, 4000000);
    is(RESOURCE_MEMORY_SHARE, 0.5);
    is(RESOURCE_MEMORY_OOM_KILLS, 1);
    is(RESOURCE_PSI_IO_SOME_10, 0.5); /* ours, not the host's */
    is(RESOURCE_PSI_IO_FULL_60, 0.1);
}

static void reads_control_groups_of_version_1(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n");
    fixture_write("/proc/stat", "cpu  1 0 1 8 0 0 0 0 0 0\ncpu0 1 2 3 4\ncpu1 1 2 3 4\n");
    fixture_write("/proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 999999 kB\n");
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "50000\n");
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat", "nr_periods 10\nnr_throttled 1\nthrottled_time 1000000000\n");
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage", "1000000000\n");
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    /* Inside of a container the path is the host's: the mount itself is ours. */
    fixture_write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000\n");
    fixture_write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "700000\n");
    fixture_write("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200000\n");
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpuacct.usage", "1250000000\n");
    fixture_write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat", "nr_periods 20\nnr_throttled 6\nthrottled_time 1300000000\n");
    resources_sample(&r, 2 * SECOND);
    is(RESOURCE_CPU_QUOTA, 0.5);
    is(RESOURCE_CPU_SHARE, 0.5);
    is(RESOURCE_CPU_THROTTLED, 0.5);
    is(RESOURCE_CPU_THROTTLED_TIME, 0.3);
    is(RESOURCE_MEMORY_LIMIT, 1000000);
    is(RESOURCE_MEMORY_WORKING_SET, 500000);
}

static void counts_whole_disks_once(void **state)
{
    (void)state;
    fixture_write("/sys/block/sda/size", "1000\n");
    fixture_write("/sys/block/sdb/size", "1000\n");
    fixture_write("/sys/block/dm-0/size", "1000\n");
    fixture_write("/proc/diskstats", "   8 0 sda 10 0 100 5 20 0 200 5 0 100 10\n   8 1 sda1 10 0 100 5 20 0 200 5 0 100 10\n"
                                     " 253 0 dm-0 10 0 100 5 20 0 200 5 0 100 10\n   8 16 sdb 0 0 0 0 0 0 0 0 0 0 0\n");
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    missing(RESOURCE_IO_READ, "second sample");
    fixture_write("/proc/diskstats", "   8 0 sda 15 0 110 5 40 0 400 5 0 350 10\n   8 1 sda1 15 0 110 5 40 0 400 5 0 350 10\n"
                                     " 253 0 dm-0 15 0 110 5 40 0 400 5 0 350 10\n   8 16 sdb 2 0 4 0 0 0 0 0 0 900 0\n");
    resources_sample(&r, 2 * SECOND);
    is(RESOURCE_IO_READ, 14 * 512);
    is(RESOURCE_IO_WRITTEN, 200 * 512);
    is(RESOURCE_IO_READS, 7);
    is(RESOURCE_IO_WRITES, 20);
    is(RESOURCE_IO_BUSY, 0.9);
    fixture_write("/proc/diskstats", "   7 0 loop0 1 0 1 1 1 0 1 1 0 1 1\n");
    resources_sample(&r, 3 * SECOND);
    missing(RESOURCE_IO_READ, "shows no disk");
}

static void leaves_the_loopback_interface_out(void **state)
{
    (void)state;
    const char *head = "Inter-|   Receive            |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n";
    char text[800];
    snprintf(text, sizeof text, "%s    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1000 10 0 0 0 0 0 0 500 5 0 0 0 0 0 0\n", head);
    fixture_write("/proc/net/dev", text);
    fixture_write("/proc/net/snmp", "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm OutSegs RetransSegs InErrs\nTcp: 1 100 5 0\n");
    fixture_write("/proc/net/netstat", "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 0 3\nIpExt: InOctets\nIpExt: 9\n");
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    snprintf(text, sizeof text, "%s    lo: 99 99 99 99 0 0 0 0 99 99 99 99 0 0 0 0\n  eth0:3000 30 1 2 0 0 0 0 900 9 3 4 0 0 0 0\n", head);
    fixture_write("/proc/net/dev", text);
    fixture_write("/proc/net/snmp", "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm OutSegs RetransSegs InErrs\nTcp: 1 100 15 0\n");
    resources_sample(&r, 3 * SECOND);
    is(RESOURCE_NET_RECEIVED, 1000);
    is(RESOURCE_NET_SENT, 200);
    is(RESOURCE_NET_PACKETS_IN, 10);
    is(RESOURCE_NET_ERRORS, 2);
    is(RESOURCE_NET_DROPS, 3);
    is(RESOURCE_NET_RETRANSMITS, 5);
    is(RESOURCE_NET_OVERFLOWS, 0);
    fixture_write("/proc/net/snmp", "Tcp: short\n");
    resources_sample(&r, 4 * SECOND);
    missing(RESOURCE_NET_RETRANSMITS, "does not tell");
}

static void a_counter_that_began_anew_gives_no_rate(void **state)
{
    (void)state;
    fixture_write("/proc/net/dev", "head\n  eth0: 1000 10 0 0 0 0 0 0 500 5 0 0 0 0 0 0\n");
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    fixture_write("/proc/net/dev", "head\n  eth0: 10 1 0 0 0 0 0 0 600 5 0 0 0 0 0 0\n");
    resources_sample(&r, 2 * SECOND);
    missing(RESOURCE_NET_RECEIVED, "second sample");
    is(RESOURCE_NET_SENT, 100);
}

static void begins_anew_when_a_quota_appears(void **state)
{
    (void)state;
    fixture_write("/proc/stat", "cpu0 10 0 0 100 0 0 0 0 0 0\n");
    resources_init(&r, fixture_root, NULL);
    resources_sample(&r, SECOND);
    fixture_write("/proc/self/cgroup", "0::/\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "cpu\n");
    fixture_write("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 5000000\n");
    resources_sample(&r, 2 * SECOND);
    missing(RESOURCE_CPU_SHARE, "second sample");
    fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 5100000\n");
    resources_sample(&r, 3 * SECOND);
    is(RESOURCE_CPU_SHARE, 0.1);
    fixture_write("/sys/fs/cgroup/cpu.stat", "usage_usec 15100000\n");
    resources_sample(&r, 4 * SECOND);
    is(RESOURCE_CPU_SHARE, 1); /* a burst is not more than all */
    missing(RESOURCE_CPU_THROTTLED, "cpu.stat of the control group");
}

static void does_not_make_up_a_share_when_the_counters_stand_still(void **state)
{
    (void)state;
    fixture_write("/proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n");
    sample_twice();
    missing(RESOURCE_CPU_SHARE, "stand still");
    missing(RESOURCE_CPU_STEAL, "stand still");
    is(RESOURCE_CPU_USABLE, 1);
}

static void ignores_a_memory_limit_above_what_there_is(void **state)
{
    (void)state;
    fixture_write("/proc/self/cgroup", "0::/\n");
    fixture_write("/proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 900 kB\n");
    fixture_write("/sys/fs/cgroup/cgroup.controllers", "memory\n");
    fixture_write("/sys/fs/cgroup/memory.max", "9223372036854771712\n");
    fixture_write("/sys/fs/cgroup/memory.current", "1024\n");
    sample_twice();
    is(RESOURCE_MEMORY_SHARE, 0.1);
    is(RESOURCE_MEMORY_LIMIT, 1024000);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(says_why_nothing_is_known_on_an_empty_host), UNIT(reads_a_host_without_limits),
        UNIT(counts_by_the_tightest_of_nested_groups),    UNIT(reads_control_groups_of_version_1),
        UNIT(counts_whole_disks_once),                    UNIT(leaves_the_loopback_interface_out),
        UNIT(a_counter_that_began_anew_gives_no_rate),    UNIT(begins_anew_when_a_quota_appears),
        UNIT(does_not_make_up_a_share_when_the_counters_stand_still),
        UNIT(ignores_a_memory_limit_above_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
