/* directives.h - what a message says about caching it.
 *
 * Cache-Control is read leniently in form (any case, quoted or bare values)
 * and strictly in meaning: of values given twice the smaller holds, a number
 * that is none counts as 0, a field that cannot be split forbids storing.
 * A targeted field (CDN-Cache-Control) is a structured dictionary, and as a
 * whole is ignored when it is none.
 *
 * Sources: RFC 9111 5.2, RFC 5861, RFC 8246, RFC 9213, RFC 9651 3.2.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"

enum { DIRECTIVE_ABSENT = -1, DIRECTIVE_MOST_S = 2147483647 }; /* RFC 9111 1.2.2 */

struct directives {
    bool present; /* at least one was there */
    bool no_store;
    bool no_cache;         /* also with field names: we do not edit stored answers */
    bool is_private;       /* the same */
    bool is_public;
    bool must_revalidate;
    bool proxy_revalidate;
    bool only_if_cached;
    bool must_understand;
    bool no_transform;
    /* seconds, DIRECTIVE_ABSENT without */
    int64_t max_age;
    int64_t s_maxage;
    int64_t min_fresh;
    int64_t max_stale;     /* without a value: DIRECTIVE_MOST_S */
    int64_t stale_while_revalidate;
    int64_t stale_if_error;
};

void directives_init(struct directives *d);

/* Adds the directives of one Cache-Control field value. */
void directives_read(struct directives *d, struct str value);

/* Reads the joined value of a targeted field. False: it is empty or no
 * dictionary, and must be treated as if it were absent. */
bool directives_read_targeted(struct directives *d, struct str value);
