/* format.h - the kinds of access log lines.
 *
 * PATTERN is text as an nginx log_format describes it: a variable reaches to the literal behind it; one
 * before a '"' may hold escaped quotes. JSON and LTSV are tables of keys.
 *
 * Threads: any; a compiled format is constant.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "replay/entry.h"

enum format_kind { FORMAT_PATTERN, FORMAT_JSON, FORMAT_LTSV };
enum { FORMAT_ITEMS = 64 };

struct format_key {
    const char *name;
    enum field field;
};

struct format {
    const char *name;  /* NULL: none yet */
    const char *shape; /* how a line looks, for people */
    enum format_kind kind;
    const struct format_key *keys; /* of JSON and LTSV, ended by a NULL name */
    struct format_item {
        struct str literal; /* or, when its p is NULL, a variable */
        enum field field;
    } items[FORMAT_ITEMS];
    unsigned count;
};

/* A pattern must outlive *out. On failure *why says what is missing. */
bool format_compile(struct format *out, const char *name, const char *pattern, const char **why);

/* False puts the offset of the first byte that does not fit into *bad. */
bool format_read(const struct format *f, struct str line, struct entry *out, size_t *bad);

/* The known formats, the one that tells most first; false behind the last. */
bool format_known(unsigned index, struct format *out);

/* Whether a line that can be read belongs to this format rather than to one further down. */
bool format_suits(const struct format *f, const struct entry *e);
