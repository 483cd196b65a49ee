// SPDX-License-Identifier: MIT
#include "replay/timeline.h"

#include <string.h>

void bucket_join(struct bucket *to, const struct bucket *from)
{
    to->requests += from->requests;
    to->errors += from->errors;
    to->timed += from->timed;
    to->seconds += from->seconds;
}

/* The smallest multiple of `width` not above t; t may be below 0. */
static int64_t align(int64_t t, int64_t width)
{
    int64_t rest = t % width;
    return t - (rest < 0 ? rest + width : rest);
}

static void restart(struct timeline *s, int64_t at_s)
{
    memset(s->buckets, 0, sizeof s->buckets);
    s->width_s = 1;
    s->first_s = at_s;
    s->used = 1;
    s->strays += s->placed;
    s->placed = 0;
}

static void double_width(struct timeline *s)
{
    int64_t width = s->width_s * 2, first = align(s->first_s, width);
    size_t shift = first < s->first_s; /* the old bucket 0 is the second half of the new one */
    size_t used = s->used ? (s->used - 1 + shift) / 2 + 1 : 0;
    if (shift) { /* from the top, or a bucket would land on one not yet read: only by one, in place */
        struct bucket carry = {0};
        for (size_t i = 0; i < used; i++) {
            struct bucket sum = carry, low = {0}, high = {0};
            size_t even = 2 * i; /* old index of the second half; the first half was carried */
            if (even < s->used)
                low = s->buckets[even];
            if (even + 1 < s->used)
                high = s->buckets[even + 1];
            bucket_join(&sum, &low);
            s->buckets[i] = sum;
            carry = high;
        }
    } else {
        for (size_t i = 0; i < used; i++) {
            struct bucket sum = s->buckets[2 * i];
            if (2 * i + 1 < s->used)
                bucket_join(&sum, &s->buckets[2 * i + 1]);
            s->buckets[i] = sum;
        }
    }
    memset(s->buckets + used, 0, (TIMELINE_BUCKETS - used) * sizeof *s->buckets);
    s->used = used;
    s->first_s = first;
    s->width_s = width;
}

static int64_t end_of(const struct timeline *s)
{
    return timeline_time(s, s->used);
}

/* Makes the series reach a time. */
static void stretch(struct timeline *s, int64_t at_s)
{
    int64_t from = at_s < s->first_s ? at_s : s->first_s, to = at_s >= end_of(s) ? at_s + 1 : end_of(s);
    while (to - align(from, s->width_s) > (int64_t)TIMELINE_BUCKETS * s->width_s)
        double_width(s);
    if (at_s < s->first_s) {
        size_t by = (size_t)((s->first_s - align(at_s, s->width_s)) / s->width_s);
        memmove(s->buckets + by, s->buckets, s->used * sizeof *s->buckets);
        memset(s->buckets, 0, by * sizeof *s->buckets);
        s->used += by;
        s->first_s -= (int64_t)by * s->width_s;
    }
    size_t index = (size_t)((at_s - s->first_s) / s->width_s);
    if (index >= s->used)
        s->used = index + 1;
}

/* Whether a time far from all others is believed by now. */
static bool believe(struct timeline *s, int64_t at_s)
{
    bool agrees = s->agreeing && at_s - s->stray_s < TIMELINE_FAR_S && s->stray_s - at_s < TIMELINE_FAR_S;
    s->agreeing = agrees ? s->agreeing + 1 : 1;
    s->stray_s = at_s;
    int64_t from = at_s < s->first_s ? at_s : s->first_s, to = at_s > end_of(s) ? at_s : end_of(s);
    if (to - from > TIMELINE_MOST_S) {
        if (s->agreeing <= s->placed)
            return false;
        restart(s, at_s);
        s->agreeing = 0;
        return true;
    }
    if (s->agreeing < TIMELINE_AGREE)
        return false;
    s->agreeing = 0;
    return true;
}

void timeline_add(struct timeline *s, int64_t at_s, bool error, double seconds)
{
    if (!s->width_s)
        restart(s, at_s);
    if (at_s < s->first_s || at_s >= end_of(s)) {
        bool far = at_s - end_of(s) > TIMELINE_FAR_S || s->first_s - at_s > TIMELINE_FAR_S;
        if (far && !believe(s, at_s)) {
            s->strays++;
            return;
        }
        stretch(s, at_s);
    }
    s->placed++;
    struct bucket *b = &s->buckets[(at_s - s->first_s) / s->width_s];
    b->requests++;
    b->errors += error;
    b->timed += seconds >= 0;
    b->seconds += seconds >= 0 ? seconds : 0;
}
