/* json.h - the scalars of one JSON object in one line, without building a tree.
 *
 * A nested member is known by its path, "request.uri"; what is inside of arrays is skipped. Strings come
 * as they are written: json_plain() resolves their escapes. The scanner accepts what is JSON and a bit
 * more (any word is a literal); what it accepts never decides more than which fields an entry has.
 *
 * Threads: any; no state but the caller's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { JSON_PATH = 128, JSON_DEPTH = 32 };

struct json {
    const char *start, *p, *end;
    unsigned depth;
    size_t path_len, prefix[JSON_DEPTH]; /* how long the path of each open object is */
    bool began, failed, closed;
    char path[JSON_PATH];
};

struct json_value {
    struct str path, text;
    bool string, escaped;
};

void json_init(struct json *j, struct str line);

/* The next scalar; false at the end, or where it stops being JSON (`failed`, at j->p). */
bool json_next(struct json *j, struct json_value *out);

/* Resolves escapes into `out`, cut to its size. Returns the length. A broken escape is '?'. */
size_t json_plain(struct str text, char *out, size_t size);
