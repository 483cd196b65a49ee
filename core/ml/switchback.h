/* switchback.h - an experiment in time: the change is switched on and off.
 *
 * For a setting that all requests share, for few workers, or where windows are
 * so autocorrelated that arms side by side drift apart by themselves. Time is
 * cut into pairs of blocks; a coin decides per pair which block has the change.
 * The coin makes the signs of the pair differences independent, so their mean
 * is tested against their own spread by a sequential t-test that is exact for
 * any number of pairs and may be looked at after each.
 *
 *      pair 0            pair 1            pair 2
 *      [ off ][ ON  ]    [ ON  ][ off ]    [ ON  ][ off ]
 *       ~~     ~~         ~~     ~~         the start of a block is washed out
 *
 * With two arms both take turns: the change is on arm 1 in an ON block and on
 * arm 2 in an off block, the value of a window is arm 1 minus arm 2, and the
 * difference of a pair is twice the effect.
 *
 * The right Haar prior on the spread and a normal prior of variance g on
 * effect / spread make the likelihood ratio of the t statistic a martingale.
 *
 * Source:  Bojinov, Simchi-Levi, Zhao: Design and analysis of switchback
 *          experiments, Management Science 69(7), 2023. Perez-Ortiz, Lardy, de
 *          Heide, Grünwald: E-statistics, group invariance and anytime-valid
 *          testing, Annals of Statistics 52(4), 2024. Liang et al.: Mixtures of
 *          g priors, JASA 103, 2008.
 * Owner:   the caller; plain memory, nothing to free.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/experiment.h"

#include <stdint.h>

struct switchback_opts {
    unsigned arms;       /* 1 or 2; 0: 1 */
    uint64_t block_ms;   /* 0: 30000 with one arm, 15000 with two */
    uint64_t washout_ms; /* of a block's start, not measured; 0: block_ms / 6 */
    uint64_t seed;       /* of the coins */
    double alpha;        /* 0: 0.05 */
    double mde;          /* 0: 0.03 */
    double harm;         /* 0: 0.02 */
    double g;            /* variance of effect / spread of a pair; 0: 1 */
    double sd_floor;     /* least spread of a pair; 0: 0.005 */
    unsigned least;      /* pairs before a verdict; 0: 4 */
    unsigned most;       /* horizon in pairs; 0: 10 with one arm, 8 with two */
};

struct switchback_moment {
    uint64_t block;
    bool on;        /* the change is on, with two arms: on arm 1 */
    bool measuring; /* past the wash-out */
    bool over;      /* past the last pair */
};

struct switchback {
    struct switchback_opts opts;
    uint64_t start_ms;
    uint64_t pair; /* that the sums below are of */
    double sum[2]; /* off, on */
    unsigned windows[2];
    double mean, scatter;            /* of the pair differences */
    struct experiment_result result; /* n: pairs; r and before are 0 */
};

void switchback_init(struct switchback *s, const struct switchback_opts *opts, uint64_t now_ms);

/* What holds at a time (not before the start). */
struct switchback_moment switchback_at(const struct switchback *s, uint64_t now_ms);

/* A window of length_ms that ends at end_ms. It counts when it lies in one
 * block behind its wash-out and is finite. A pair counts once a window behind
 * it was offered and both its blocks had one. Returns the verdict so far. */
enum experiment_verdict switchback_add(struct switchback *s, uint64_t end_ms, uint64_t length_ms,
                                       double value);

/* Time has come to now_ms, perhaps without a window: closes pairs that are over. */
enum experiment_verdict switchback_close(struct switchback *s, uint64_t now_ms);
