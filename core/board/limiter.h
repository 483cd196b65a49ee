/* limiter.h - how many requests of a class may be under way at once, found by
 * watching what more of them cost.
 *
 *     workers: admit, release > lanes (one writer each)
 *     control: once a second lanes > window > vegas step > limit
 *
 * Vegas: of `limit` requests under way, limit * (1 - rtt0 / rtt) wait in a queue
 * somewhere behind us. Few: the limit grows by log10(limit); many: it shrinks by
 * as much. rtt0, what a request takes when nothing waits, is the 5th percentile of
 * the window means of ten minutes, so healthy traffic is never throttled to
 * measure it. The limit grows only while it is being used and while more under
 * way has not meant less done, and stays within three times the peak of a
 * minute. Requests that wait for our own loop are a brake at once.
 *
 * Sources: Brakmo, O'Malley, Peterson, "TCP Vegas", SIGCOMM 1994; Netflix
 *          concurrency-limits.
 * Owner:   the board. Threads: as said.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LIMITER_CLASSES = 64,
    LIMITER_WORKERS = 64,
    LIMITER_HISTORY = 600, /* window means that rtt0 comes from */
    LIMITER_RECENT = 60,   /* windows that peak and correlation come from */
    LIMITER_SAMPLES = 10,  /* a window of fewer tells nothing */
};

/* What one worker counts for a class. Writer: that worker; all but the gauge only grow. */
struct limiter_lane {
    _Alignas(64) _Atomic uint32_t inflight; /* gauge */
    _Atomic uint32_t peak;                  /* since control looked; control clears it */
    _Atomic uint64_t finished, latency_us;  /* of admitted requests, from admission to end */
    _Atomic uint64_t lag_us;                /* time the same requests waited for the loop */
    _Atomic uint64_t queued, rejected, waited_us;
};

/* One class: the routes that share a limit. Writer of the rest: control. */
struct limiter {
    _Atomic uint64_t key;    /* 0: free. Any worker, CAS */
    _Atomic uint32_t limit;  /* what may be under way */
    _Atomic uint32_t rtt0_us;
    _Atomic uint32_t adaptive, least, most; /* from the policy; any worker */
    char name[64];
    struct limiter_lane lanes[LIMITER_WORKERS];
};

struct limiters {
    struct limiter classes[LIMITER_CLASSES];
};

struct limiter_opts {
    const char *name; /* for people */
    bool adaptive;    /* false: the limit is `most` */
    uint32_t initial, least, most;
};

/* The class of a key, made when new; NULL when there are too many. New bounds
 * take effect at once. */
struct limiter *limiter_get(struct limiters *all, uint64_t key, const struct limiter_opts *opts);

uint32_t limiter_inflight(const struct limiter *l, uint32_t workers);

/* A worker is gone, and what it had under way with it. */
void limiters_forget_worker(struct limiters *all, uint32_t worker);

/* ---- control ---- */

/* One second of one class. */
struct limiter_window {
    uint32_t finished, peak;  /* requests */
    double rtt_us, lag_us;    /* means */
};

/* What control remembers of one class. Zeroed at first. */
struct limiter_memory {
    double limit;
    float means[LIMITER_HISTORY]; /* ring */
    uint32_t mean_count;
    float peaks[LIMITER_RECENT], done[LIMITER_RECENT]; /* rings */
    uint32_t recent_count;
    uint32_t settled;             /* windows since the limit last changed */
    uint64_t finished, latency_us, lag_us; /* of the lanes, as last seen */
};

/* The new limit after one window: pure, so that it can be tested against a model. */
double limiter_step(struct limiter_memory *m, const struct limiter_window *w, uint32_t least, uint32_t most);

/* Looks at all classes; once a second. `memory` has LIMITER_CLASSES entries. */
void limiters_tick(struct limiters *all, struct limiter_memory *memory, uint32_t workers);
