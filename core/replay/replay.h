/* replay.h - `perilune replay`: what an access log says about a service.
 *
 * One pass in constant memory: lines > entries > routes (sketches) and a series
 * of buckets over time, whose width doubles when the log is longer than they are.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

enum { REPLAY_FILES = 256, REPLAY_FAILED = 3, REPLAY_UNKNOWN = 4 };

struct replay_opts {
    const char *files[REPLAY_FILES]; /* "-": stdin */
    unsigned file_count;
    const char *log_format; /* nginx's; NULL: guess */
    const char *fail_on;    /* "p99>250ms", "errors>1%"; NULL: never */
};

/* Prints the report to stdout. 0; 1: cannot read; 2: wrong usage; REPLAY_FAILED:
 * --fail-on holds; REPLAY_UNKNOWN: no format fits the first line. */
int replay_run(const struct replay_opts *opts);
