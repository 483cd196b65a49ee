/* cause.h - which of many signals changed first and most: the likely cause of an event.
 *
 * A signal's blame for a sample is change^2 x (1 + tail): change is how far it is from the
 * mean of its previous 60, in the spreads that are usual for that; tail is -log of the share
 * of training samples at least as far out at that end. Right first, on the public half of
 * SMD / ASD: this .89 / .75, change^2 alone .91 / .70, change .89 / .65, sqrt(change) x tail
 * .73 / .75, change^2 x tail .89 / .70, robust z .75 / .62.
 *
 * An event's ranking is by the sums of blame over its samples.
 *
 * Owner:   whoever called cause_fit(); ends with cause_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/mat.h"

struct cause;

/* Learns from rows of clean samples. 0, ERR_INVAL (fewer than 64 rows, or no columns),
 * ERR_TOO_LARGE (more than 4096 columns) or ERR_NOMEM. */
int cause_fit(struct cause **out, const struct mat *train);
void cause_free(struct cause *c);

size_t cause_cols(const struct cause *c);

/* Joins the next sample; blame[cols] gets its blame, 0 and above. A NaN has none and is not
 * remembered. */
void cause_next(struct cause *c, const double *row, double *blame);
