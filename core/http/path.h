/* path.h - one canonical form of a path, used by routing, scripts and upstreams.
 *
 * Canonical (RFC 3986 6.2.2): unreserved characters are decoded, escapes in
 * upper case, dot segments removed. Nothing else changes: "%2F" stays "%2F"
 * and "//" stays "//", so canonical and raw form mean the same resource.
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/arena.h"

/* Canonical form of a path that begins with '/' and whose escapes are valid.
 * The result is `raw` itself when nothing can change. False: it climbs above
 * the root, or memory is out (out->p is NULL). */
bool path_rewrite(struct arena *a, struct str raw, struct str *out);
static inline bool path_canonical(struct arena *a, struct str raw, struct str *out)
{
    for (const char *p = raw.p, *end = p + raw.len; p < end; p++)
        if (*p == '%' || (*p == '.' && p[-1] == '/'))
            return path_rewrite(a, raw, out);
    *out = raw;
    return true;
}

/* Decodes every %XX (and '+' as a space when `form`). p is NULL without memory. */
struct str path_decode(struct arena *a, struct str s, bool form);

/* Takes the next name=value of a query string, undecoded. */
bool query_next(struct str *rest, struct str *name, struct str *value);
