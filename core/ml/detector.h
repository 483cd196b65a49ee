/* detector.h - samples of many signals in, calibrated alarms out.
 *
 *     sample > channels > smoothed > severity, and p-values > alarm
 *
 * Three channels look at a sample (signals on a scale of about 0 to 1, or
 * logarithms). EDGE and SHIFT are how far it is from the mean of the previous
 * 30 and 240 samples, in spreads that are usual for that; PATTERN is the
 * residual of the sample together with some earlier ones (see residual.h):
 * a movement whose shape or company is unusual. Each is the logarithm of a sum of
 * squares, placed between median and 99th percentile of the clean
 * training set, so that channels add up. The severity is their weighted sum,
 * smoothed; the alarm comes from the rank of all channels' sum among its last values
 * (conformal.h), and the share of ranks that alarm is steered so that its false-alarm
 * rate holds under drift and after events.
 *
 * Source:  Gibbs, Candes: Adaptive conformal inference under distribution shift,
 *          NeurIPS 2021, for the steering.
 * Owner:   whoever called detector_fit(); ends with detector_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

#include <stdbool.h>

enum detector_channel { DETECTOR_EDGE, DETECTOR_SHIFT, DETECTOR_PATTERN, DETECTOR_CHANNELS };

struct detector;

struct detector_opts {
    double alpha;  /* share of ordinary samples that may alarm; 0: 0.01 */
    size_t window; /* scores a rank is taken among; 0: 3000 */
    double smooth; /* weight of the newest in the severity of EDGE and SHIFT; 0: 0.1 */
    bool whole;    /* PATTERN is the distance in all directions (Mahalanobis), not the residual alone: for
                    * little to learn from, where no direction is explained for certain */
};

struct verdict {
    double severity;                 /* 0 ordinary, 1 and above as the worst of training */
    double score[DETECTOR_CHANNELS]; /* on the same scale, not smoothed */
    double p[DETECTOR_CHANNELS];
    double p_all; /* of their sum */
    bool alarm;
};

/* Learns from at least 64 clean rows. 0, ERR_INVAL, ERR_TOO_LARGE (more than 170
 * columns) or ERR_NOMEM. The ranks begin with the end of the training set. */
int detector_fit(struct detector **out, const struct mat *train, const struct detector_opts *opts);
void detector_free(struct detector *d);

/* Judges the next sample; row has as many values as a row of the training set. NaN: not known. */
struct verdict detector_next(struct detector *d, const double *row);

/* Whose the last sample's score in a channel is: share[cols], in all 1 (or all 0). What lowers it counts nothing. */
void detector_parts(struct detector *d, enum detector_channel channel, double *share);

size_t detector_bytes(const struct detector *d);
