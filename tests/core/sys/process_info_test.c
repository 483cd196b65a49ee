// SPDX-License-Identifier: MIT
#include "sys/process_info.h"

#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>

static void reads_resident_memory_in_bytes(void **state)
{
    (void)state;
    uint64_t rss = 0;
    fixture_write("/proc/42/statm", "1000 25 10 1 0 100 0\n");
    assert_true(process_rss_bytes(fixture_root, 42, &rss));
    assert_int_equal(rss, 25 * sysconf(_SC_PAGESIZE));
}

static void sums_what_threads_waited_for_a_cpu(void **state)
{
    (void)state;
    double wait_s = 0;
    fixture_write("/proc/42/task/42/schedstat", "5736557000 1500000000 6\n");
    fixture_write("/proc/42/task/44/schedstat", "1 250000000 6\n");
    fixture_write("/proc/42/task/45/schedstat", "garbage");
    assert_true(process_cpu_wait_s(fixture_root, 42, &wait_s));
    assert_true(wait_s == 1.75);
    fixture_write("/proc/43/task/43/comm", "x");
    assert_false(process_cpu_wait_s(fixture_root, 43, &wait_s)); /* a kernel without the figure */
    assert_false(process_cpu_wait_s(fixture_root, 44, &wait_s));
}

static void reads_what_a_process_calls_itself(void **state)
{
    (void)state;
    char title[32];
    const char args[] = "postgres: app shop 127.0.0.1(5) SELECT\0\0\0";
    fixture_write_bytes("/proc/42/cmdline", args, sizeof args - 1);
    assert_true(process_title(fixture_root, 42, title, sizeof title));
    assert_string_equal(title, "postgres: app shop 127.0.0.1(5)"); /* cut to fit */
    fixture_write_bytes("/proc/43/cmdline", "sh\0-c\0true", 10);
    assert_true(process_title(fixture_root, 43, title, sizeof title));
    assert_string_equal(title, "sh -c true");
    fixture_write("/proc/44/cmdline", ""); /* a thread of the kernel */
    assert_false(process_title(fixture_root, 44, title, sizeof title));
    assert_false(process_title(fixture_root, 45, title, sizeof title));
}

static void counts_open_descriptors(void **state)
{
    (void)state;
    uint64_t fds = 0;
    fixture_write("/proc/42/fd/0", "");
    fixture_write("/proc/42/fd/1", "");
    fixture_write("/proc/42/fd/17", "");
    assert_true(process_open_fds(fixture_root, 42, &fds));
    assert_int_equal(fds, 3);
}

static void knows_nothing_of_a_process_that_is_gone(void **state)
{
    (void)state;
    uint64_t value = 7;
    assert_false(process_rss_bytes(fixture_root, 42, &value));
    assert_false(process_open_fds(fixture_root, 42, &value));
    fixture_write("/proc/43/statm", "garbage");
    assert_false(process_rss_bytes(fixture_root, 43, &value));
    assert_int_equal(value, 7);
}

static void sees_a_descriptor_of_its_own_process_open_and_close(void **state)
{
    (void)state;
    uint64_t before, open_now, after, limit;
    if (!process_open_fds("", getpid(), &before))
        skip(); /* no /proc here */
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(process_open_fds("", getpid(), &open_now));
    close(fd);
    assert_true(process_open_fds("", getpid(), &after));
    assert_int_equal(open_now, before + 1);
    assert_int_equal(after, before);
    assert_true(process_fd_limit(&limit));
    assert_true(limit > before);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIT(reads_resident_memory_in_bytes),
        UNIT(sums_what_threads_waited_for_a_cpu),
        UNIT(reads_what_a_process_calls_itself),
        UNIT(counts_open_descriptors),
        UNIT(knows_nothing_of_a_process_that_is_gone),
        UNIT(sees_a_descriptor_of_its_own_process_open_and_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
