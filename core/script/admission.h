/* admission.h - the door in front of a class of requests: so many at once, and a
 * short queue for the others.
 *
 * The queue is ordered by priority, then by arrival. A request is turned away at
 * once when it would wait longer than it may, as far as can be told: its place,
 * times what a request takes, over the limit. When the queue is full, one of
 * lower priority makes room.
 *
 * Owner:   one per class and worker, for the life of the process.
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/limiter.h"
#include "script/dispatch.h"

enum admission_priority { PRIORITY_CRITICAL, PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW, PRIORITIES };

struct admission_opts {
    struct limiter *limiter;
    enum admission_priority priority;
    uint32_t queue;    /* requests that may wait in this worker */
    uint64_t queue_ms; /* and for how long; 0: half of what a request takes */
    bool observe;      /* count only */
};

/* Lets a request in (STAGE_GO), queues it, or answers 503. */
enum stage_result admission_enter(struct dispatch *d, const struct admission_opts *opts);
