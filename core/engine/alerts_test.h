/* alerts_test.h - `perilune alerts test`: asks the running engine how often alerts would have fired.
 *
 * The engine of the state folder is asked over its control API (POST alerts/test); its history is what
 * is replayed, so nothing is guessed here.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/options.h"

/* Prints a line per policy, and the sum. 0; 1: the engine cannot be asked; 2: wrong usage, or the policy is refused. */
int alerts_test_run(const struct options *options);
