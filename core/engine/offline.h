/* offline.h - the commands that serve nothing: check, doctor, config show.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/options.h"

/* Each returns the exit code. */
int check_run(const struct options *options);
int doctor_run(const struct options *options);
int config_show_run(const struct options *options);
