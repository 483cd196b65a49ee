/* bind_benchmark.h - the benchmark of the control API, for the scripts of control.
 *
 *     core.benchmark.begin()      a text that nobody else knows; workers tell requests with the
 *                                 header Perilune-Benchmark: <text> from traffic until finish()
 *     core.benchmark.finish()
 *     core.benchmark.requests()   how many such requests there were since the start of the engine
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"

#include <lua.h>

/* Sets the field `benchmark` of the table on top. */
void bind_benchmark_open(lua_State *L, struct board *board);
