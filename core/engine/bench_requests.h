/* bench_requests.h - the requests of a benchmark, as bytes before it begins.
 *
 * One, from the command line, or those that a Lua file makes: it returns a function that is
 * called with 1, 2, ... for each request once and returns a table { method, path, headers,
 * body }, or nil behind the last; then they are sent by turns. So no Lua runs while it is
 * measured, and a list of a hundred thousand is as fast as a single one.
 *
 * Owner:   whoever called bench_requests_make(); ends with bench_requests_done().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "bench/generator.h"
#include "engine/options.h"

enum { BENCH_SCRIPTED_MOST = 100000, BENCH_BYTES_MOST = 256 << 20, BENCH_WHY = 240 };

struct bench_requests {
    struct bench_request *list;
    size_t count, room, bytes;
};

/* What a request has that says nothing else. */
struct bench_defaults {
    struct str authority, path;
};

/* False: `why` says it. */
bool bench_requests_make(struct bench_requests *r, const struct options *o, const struct bench_defaults *site, char why[BENCH_WHY]);
void bench_requests_done(struct bench_requests *r);
