/* timeline.h - requests over time in a fixed number of buckets, whatever the timestamps are.
 *
 * Buckets are a second wide at first and double when the log is longer than they are; a line from before
 * the first moves the origin. A time far from all others (TIMELINE_FAR_S) is believed only when
 * TIMELINE_AGREE lines say the same; so one mad clock cannot stretch the series. One that would make it longer
 * than TIMELINE_MOST_S starts it anew, once there are more such lines than others. Lines not believed are counted in `strays`.
 *
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TIMELINE_BUCKETS = 16384,
    TIMELINE_FAR_S = 86400,
    TIMELINE_AGREE = 16,
    TIMELINE_MOST_S = 800 * 86400,
};

struct bucket {
    uint64_t requests, errors; /* errors: 5xx */
    uint64_t timed;            /* requests with a duration */
    double seconds;
};

struct timeline {
    int64_t first_s; /* start of bucket 0, a multiple of width_s */
    int64_t width_s;
    size_t used; /* buckets up to the newest */
    uint64_t placed, strays;
    int64_t stray_s; /* where the last strays agree */
    uint64_t agreeing;
    struct bucket buckets[TIMELINE_BUCKETS];
};

/* From zeroed memory. `seconds` below 0: not known. */
void timeline_add(struct timeline *s, int64_t at_s, bool error, double seconds);

void bucket_join(struct bucket *to, const struct bucket *from);

static inline int64_t timeline_time(const struct timeline *s, size_t bucket)
{
    return s->first_s + (int64_t)bucket * s->width_s;
}
