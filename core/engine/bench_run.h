/* bench_run.h - `perilune bench`: the generator of core/bench behind the command line.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/options.h"

enum { BENCH_INVALID = 3 };

/* 0; 1: the server cannot be reached or the report not written; 2: wrong usage; BENCH_INVALID:
 * the result may not be believed, or no rate was borne. */
int bench_command_run(const struct options *options);
