/* novel.h - has this series looked like this before? Nearest-neighbour novelty.
 *
 * Three views of the newest point are compared with the series' own bounded
 * past: its value, and mean and deviation of a short and a long block that
 * ends with it. Each distance to the nearest neighbour is divided by its
 * running mean plus a small share of the range; the score is the mean of
 * log(1 + that). Blocks enter the past one block late, so that a point is
 * never compared with a block that overlaps it.
 *
 * An event is announced once: the score is given out only while it exceeds
 * `rise` times the largest of the last `quiet` points. No look-ahead: neither
 * range nor length of the series is known before.
 *
 * Source:  Keogh, Lin, Fu: HOT SAX, 2005, for discords; the views are our own.
 * Owner:   whoever called novel_new(); ends with novel_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>

struct novel;

struct novel_opts {
    uint32_t block;   /* points of the short block, 4 to 1024; 0: 64. The long one has 2.5 times as many */
    double share;     /* of the range, added to the running mean; 0: 0.0025 */
    double rise;      /* how much more than the recent past is an event; 0: 1.2 */
    uint32_t quiet;   /* points of that past, at most 4096; 0: 30 */
};

struct novel_score {
    double raw;   /* how novel the point is */
    double event; /* the same when it is a new event, else 0 */
};

/* NULL: no memory, or options out of bounds. 54 KB with defaults. */
struct novel *novel_new(const struct novel_opts *opts);
void novel_free(struct novel *n);

/* Scores the next point against the past and joins it to that. A NaN or an infinity
 * scores 0 and is not remembered. */
struct novel_score novel_next(struct novel *n, double x);
