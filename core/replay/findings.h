/* findings.h - what the counts of a log say: error bursts, changes, patterns, and what to look at first.
 *
 * A burst is a run of time units (10 s, or a bucket where that is wider) whose 5xx are far above what the usual
 * share would give by chance (mean + 4 sqrt(mean) + 2). Changes come from steps.h, patterns from kmeans.h
 * over minutes of (log rps, log latency, error share).
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "replay/routes.h"
#include "replay/timeline.h"

enum { BURSTS_MOST = 10, CHANGES_MOST = 8, PATTERNS_MOST = 5, HINTS_MOST = 8, HINT_TEXT = 320 };

struct burst {
    int64_t from_s, to_s;
    uint64_t requests, errors;
};

struct change {
    int64_t at_s;
    const char *what, *unit; /* "mean latency", "ms" */
    double before, after;    /* in the unit */
};

struct pattern {
    char name[64];
    double share; /* of the minutes with traffic */
    double rps, latency_ms, errors; /* latency below 0: not known; errors: share */
    int64_t last_s;
};

struct hint {
    double weight;
    char text[HINT_TEXT];
};

struct findings {
    struct burst bursts[BURSTS_MOST];
    struct change changes[2 * CHANGES_MOST];
    struct pattern patterns[PATTERNS_MOST];
    struct hint hints[HINTS_MOST]; /* heaviest first */
    unsigned burst_count, bursts_found, change_count, pattern_count, hint_count;
};

/* 0 or ERR_NOMEM. The routes are settled. */
int findings_make(struct findings *out, const struct timeline *s, const struct routes *r);
