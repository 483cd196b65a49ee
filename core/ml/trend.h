/* trend.h - does a series rise or fall, how fast, and is that more than chance?
 *
 * Theil-Sen: the median of the slopes between all pairs of samples; a third of
 * the samples may be wrong. Mann-Kendall: are later samples more often above
 * earlier ones, with the variance corrected for ties and inflated by
 * (1 + r)/(1 - r), r being the lag-1 autocorrelation around the line, because
 * samples that remember each other look like a trend.
 *
 * A series above TREND_SAMPLES is cut into so many blocks and their medians are
 * looked at: 131 thousand pairs at most.
 *
 * Source:  Sen: Estimates of the regression coefficient based on Kendall's tau,
 *          JASA 63, 1968. Yue, Wang: The Mann-Kendall test modified by effective
 *          sample size, Water Resources Management 18, 2004.
 * Threads: any; no state.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { TREND_SAMPLES = 512 };

struct trend {
    size_t n;      /* finite samples */
    double slope;  /* per step from one sample to the next; NaN below 3 samples */
    double lo, hi; /* of the slope, with 95 % confidence */
    double level;  /* of the line at the last sample (index n - 1, finite or not) */
    double tau;    /* Kendall's, -1 to 1 */
    double p;      /* two-sided; 1 below 3 samples and for constants */
    double r;      /* autocorrelation around the line that was corrected for */
    double spread; /* robust, of the samples (or blocks) around the line */
};

/* 0 or ERR_NOMEM. */
int trend_fit(const double *x, size_t n, struct trend *out);

struct crossing {
    bool crosses;           /* the line reaches the threshold, now or later */
    double steps;           /* after the last sample; 0: it is there already */
    double soonest, latest; /* for the slopes hi and lo; infinite: perhaps never */
};

/* When the line reaches a threshold; `rising`: from below. */
struct crossing trend_crossing(const struct trend *t, double threshold, bool rising);
