/* conformal.h - what a score means: its rank among the last W scores.
 *
 * Scores of any detector have a scale of their own, and drift moves it; a
 * fixed threshold then alarms a quarter of the time. The rank in a sliding
 * window is a p-value that stays honest: below alpha for about a share alpha
 * of ordinary samples, whatever the score's distribution.
 *
 * Source:  Laxhammar, Falkman: Sequential conformal anomaly detection in
 *          trajectories, 2011. Vovk, Gammerman, Shafer: Algorithmic learning
 *          in a random world, 2005.
 * Owner:   whoever called conformal_new(); ends with conformal_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stddef.h>

struct conformal;

/* Keeps the last `window` scores (1 to 2^20), 8 bytes each. NULL: no memory. */
struct conformal *conformal_new(size_t window);
void conformal_free(struct conformal *c);

/* (1 + scores kept that are >= s) / (1 + scores kept): 1 while there are none. A
 * NaN is unremarkable: 1. */
double conformal_p(const struct conformal *c, double s);

/* Remembers a score, the oldest gives way. A NaN is not remembered. */
void conformal_add(struct conformal *c, double s);

size_t conformal_count(const struct conformal *c);

/* The least of several channels' p-values, corrected for taking the least (Bonferroni). */
double conformal_least(const double *p, size_t channels);
