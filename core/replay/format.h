/* format.h - access log lines by a pattern, nginx's log_format as it is written.
 *
 * A variable reaches to the literal behind it; one before a '"' may hold
 * escaped quotes, as Apache writes them.
 *
 * Threads: any; a compiled format is constant.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum field { FIELD_IGNORED, FIELD_TIME, FIELD_REQUEST, FIELD_STATUS, FIELD_BYTES, FIELD_SECONDS, FIELD_COUNT };

enum { FORMAT_ITEMS = 48 };

struct format {
    const char *name;
    struct format_item {
        struct str literal; /* or, when its p is NULL, a variable */
        enum field field;
    } items[FORMAT_ITEMS];
    unsigned count;
    bool has_time, has_status, has_seconds;
};

struct entry {
    struct str method, path;
    unsigned status;
    uint64_t bytes;
    int64_t at_s;       /* unix time */
    double seconds;     /* below 0: not in the line */
};

/* The pattern must outlive *out. On failure *why says what is missing. */
bool format_compile(struct format *out, const char *name, const char *pattern, const char **why);

/* False puts the offset of the first byte that does not fit into *bad. */
bool format_read(const struct format *f, struct str line, struct entry *out, size_t *bad);

/* Known formats, the one that tells most first; NULL behind the last. */
const char *format_known(unsigned index, const char **pattern);
