/* offline.h - the commands that serve nothing: check, doctor, config show.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/config.h"
#include "engine/options.h"

/* Each returns the exit code. */
int check_run(const struct options *options);
int doctor_run(const struct options *options);
int config_show_run(const struct options *options);

/* For these: the configuration as `run` would read it, with what is wrong; and that, printed. */
bool offline_config(const struct options *o, struct config *config, struct problems *problems);
void offline_print(const struct problems *problems, FILE *to);
