/* limit.h - what --fail-on says: "[METHOD /route ]p99>250ms", "[METHOD /route ]errors>1%".
 *
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "replay/routes.h"

struct limit {
    struct str route; /* len 0: all */
    double quantile;  /* below 0: the share of 5xx */
    double most;      /* ms, or percent */
};

/* False when the text is no limit. It must outlive *out. */
bool limit_read(const char *text, struct limit *out);

/* Whether the limit is passed, or cannot be judged; says so on stderr. */
bool limit_passed(const struct limit *limit, const char *text, const struct routes *r);
