/* client.h - the commands that ask a running engine: top, suggest, config diff and its like, alerts.
 *
 * They are Lua (lua/perilune/cli.lua), in a plain state: it is the user's own machine and program.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "engine/options.h"

/* The exit code: 0; 1: the engine cannot be asked, or it failed; 2: wrong usage, or it refused. */
int client_run(const struct options *options);
