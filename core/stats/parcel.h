/* parcel.h - what an application elsewhere has measured since its last parcel, as bytes.
 *
 *     head { 'r' method name frame | 's' method name slow sample }*
 *
 * Texts and frames (frame.h) are their length and their bytes, numbers are varints. Both sides are
 * built with the same sketches and phases, or part: the head has a fingerprint of those. What comes
 * in is from somewhere else, so reading trusts nothing.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "stats/frame.h"

enum { PARCEL_SENDER = 16 };

struct parcel_head {
    unsigned char sender[PARCEL_SENDER]; /* random; of one process */
    uint64_t sequence;                   /* 1, 2, ...: one that comes again was taken already */
    uint64_t started, finished, aborted; /* requests since the last one */
    bool last;                           /* nothing comes behind it */
};

/* How sketches and phases are laid out. */
uint64_t parcel_format(void);

void parcel_begin(struct buf *out, const struct parcel_head *head);
void parcel_add_route(struct buf *out, struct str method, struct str name, const struct stats_route *before, const struct stats_route *now);
void parcel_add_slow(struct buf *out, struct str name, const struct slow_sample *slow);

enum parcel_kind { PARCEL_END, PARCEL_ROUTE, PARCEL_SLOW };

struct parcel_entry {
    enum parcel_kind kind;
    struct str method, name;   /* into the bytes */
    struct stats_route counts; /* of PARCEL_ROUTE */
    struct slow_sample slow;   /* of PARCEL_SLOW; its route means nothing */
};

/* Reads the head, and moves *bytes behind it. 0; ERR_INVAL: no parcel; ERR_PROTOCOL: of another format. */
int parcel_open(struct str *bytes, struct parcel_head *head);

/* The next entry. 0, of kind PARCEL_END at the end, or ERR_INVAL. */
int parcel_next(struct str *bytes, struct parcel_entry *out);
