/* historian.h - carries finished windows from memory to the archive.
 *
 *     rings (history.h) --take--> batch --every interval--> thread --> archive
 *
 * The loop copies bytes and never waits: SQLite is met by a thread of its own,
 * with one job at a time. While that one cannot write, its batch is tried again,
 * later and later; the next one grows up to a bound; what is above it stays in
 * the rings, and what those give up meanwhile is lost and counted. A control
 * process that died costs nothing: its successor goes on behind the newest
 * window that was written.
 *
 * Owner:   control; begins after the fork, ends with historian_stop().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/history.h"

struct historian;

struct historian_opts {
    const char *path;        /* of the file */
    struct board *board;     /* names of routes, and history.store_bytes, history.store_interval_s */
    struct history *history;
};

struct historian_state {
    bool open;
    bool troubled;          /* the last attempt failed */
    const char *why;        /* then; valid until the next tick */
    uint64_t written_ms;    /* end of the newest window in the file; 0: none */
    uint64_t file_bytes;
    uint64_t tier_bytes[4]; /* of 1 s, 10 s, 1 min, 1 h */
    uint64_t waiting_bytes; /* taken and not yet written */
    uint64_t writes, failures;
    uint64_t lost_s;        /* of history that never reached the file */
};

/* NULL when memory or threads are out. */
struct historian *historian_new(const struct historian_opts *opts);

/* Call it after each history_tick(). */
void historian_tick(struct historian *h, uint64_t now_unix_ms);

/* Until the job that runs is over: for tests. */
void historian_wait(struct historian *h);

/* Writes what is left, once, and ends. */
void historian_stop(struct historian *h, uint64_t now_unix_ms);

void historian_state(const struct historian *h, struct historian_state *out);
const char *historian_path(const struct historian *h);
