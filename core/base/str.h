/* str.h - a view of bytes that somebody else owns.
 *
 * Nothing here allocates; a view is valid as long as what it looks at.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p; /* not NUL-terminated */
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
/* For printf("%.*s", STR_ARG(s)). */
#define STR_ARG(s) (int)(s).len, (s).p

static inline struct str str_from(const char *text)
{
    return (struct str){text, text ? strlen(text) : 0};
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && memcmp(a.p, b.p, a.len) == 0;
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && memcmp(s.p, prefix.p, prefix.len) == 0;
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Compares without regard to the case of ASCII letters. */
bool str_iequal(struct str a, struct str b);

/* Removes spaces and tabs (HTTP's OWS) from both ends. */
struct str str_trim(struct str s);

/* Takes the next element of a list separated by `separator` from *rest,
 * trimmed; false at the end. Empty elements are skipped. */
bool str_next(struct str *rest, char separator, struct str *out);

/* Parses a whole decimal number. False on anything else and on overflow. */
bool str_to_u64(struct str s, uint64_t *out);

/* Parses a whole finite number as JSON writes it. */
bool str_to_double(struct str s, double *out);

/* Edits (insertions, deletions, replacements) that turn a into b, or 99 when
 * either is longer than 63 bytes. For "did you mean". */
unsigned str_distance(struct str a, struct str b);

/* FNV-1a, 64 bit (draft-eastlake-fnv): for tables, not against adversaries. */
uint64_t str_hash(struct str s);
