/* benchmark.h - the benchmark that the control API runs now: how workers tell its requests from traffic.
 *
 * Its requests carry a header with a random text that nobody else knows. What
 * they cost is recorded under ROUTE_BENCHMARK, which the history leaves out:
 * so they are in no statistic, no alert, no model and no trial.
 *
 * Threads: control writes (text first, then `active`, released), any process reads.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum { BENCHMARK_TAG = 32 }; /* hex digits: 128 random bits */

struct benchmark {
    _Atomic uint32_t active;
    char tag[BENCHMARK_TAG];
};
