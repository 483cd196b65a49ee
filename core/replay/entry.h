/* entry.h - one request as a log tells it, and how its parts are written.
 *
 * Times are read as they come: "10/Oct/2000:13:55:36 -0700" (with or without brackets, fraction or zone),
 * RFC 3339, seconds or milliseconds since 1970. A time without zone counts as UTC.
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum field {
    FIELD_IGNORED, FIELD_TIME, FIELD_REQUEST, FIELD_METHOD, FIELD_PATH, FIELD_STATUS, FIELD_BYTES,
    FIELD_SECONDS,
    FIELD_DOTTED_SECONDS, /* must hold a '.', or it could be Apache's %D */
    FIELD_MS, FIELD_US, FIELD_NS,
};

enum { ENTRY_SCRATCH = 2048 };

struct entry {
    struct str method, path; /* path.p NULL: no path that can be believed */
    unsigned status;         /* 0: no answer */
    uint64_t bytes;
    int64_t at_s;            /* unix time */
    double seconds;          /* below 0: not in the line */
    bool asked;              /* the line says what was asked for, whatever that is */
    size_t scratch_used;
    char scratch[ENTRY_SCRATCH]; /* where escaped text is written in plain */
};

void entry_init(struct entry *e);

/* False when the text is not what the field may be. Durations add up. */
bool entry_set(struct entry *e, enum field field, struct str text);
