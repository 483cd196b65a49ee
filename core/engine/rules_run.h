/* rules_run.h - `perilune rules list|test|new`: the rules of suggestions, without an engine.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/options.h"

/* 0; 1: a rule failed its test; 2: wrong usage, or files that cannot be loaded, with file and line. */
int rules_run(const struct options *options);
