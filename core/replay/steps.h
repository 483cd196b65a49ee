/* steps.h - when did the level of a series over time change for good?
 *
 * The segmentation with the least sum of costs plus a penalty per change, exactly. A cost knows the level only,
 * never the spread: a quiet stretch of a share or of a latency that comes in few values is no change of its level.
 * Shares cost their binomial deviance (errors of requests), levels the weighted squares about their mean. The penalty is
 * 5 log n x dispersion x (1 + r)/(1 - r): dispersion and lag-1 autocorrelation r are those of what the segments
 * leave over, found in three passes. A share's dispersion is at least 1, that of independent requests.
 *
 * A series above STEPS_UNITS is joined to so many units; a change is then known to one of these.
 *
 * Source:  Jackson et al.: An algorithm for optimal partitioning of data on an interval, IEEE Signal Processing
 *          Letters 12, 2005.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { STEPS_UNITS = 2048 };

struct step_unit {
    double weight, value; /* requests and share of errors, or a level and what it counts */
};

struct step {
    size_t at; /* index of the first unit after it */
    double before, after;
    double weight; /* cost without it minus cost with it, in penalties */
};

/* The `most` weightiest that change the level by at least `least`, in order of time; *count says how many.
 * Every weight is above 0. 0 or ERR_NOMEM. */
int steps_find(const struct step_unit *units, size_t n, bool shares, double least, struct step *out, size_t most, size_t *count);
