/* replay.h - `perilune replay`: what an access log says about a service.
 *
 *     file, gz, stdin > lines > format.h > entry.h > routes.h (sketches), timeline.h (over time)
 *                                                       > findings.h > report.h, limit.h
 *
 * One pass in constant memory.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

enum { REPLAY_FILES = 256, REPLAY_LIMITS = 32, REPLAY_FAILED = 3, REPLAY_UNKNOWN = 4 };

struct replay_opts {
    const char *files[REPLAY_FILES]; /* "-": stdin; a pattern that is no file is a glob */
    unsigned file_count;
    const char *format;     /* by name; NULL: guess */
    const char *log_format; /* nginx's; NULL: guess */
    const char *report;     /* terminal, html, json, md; NULL: terminal */
    const char *output;     /* NULL: stdout */
    const char *fail_on[REPLAY_LIMITS]; /* "p99>250ms", "GET /users/:id errors>1%" */
    unsigned limit_count;
};

/* Prints the report. 0; 1: cannot read or write; 2: wrong usage; REPLAY_FAILED: a limit of
 * --fail-on is passed; REPLAY_UNKNOWN: no format fits the first lines. */
int replay_run(const struct replay_opts *opts);
