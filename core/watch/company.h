/* company.h - the signals of one thing in each other's company: is what they do together usual?
 *
 *     row of all signals > quarantine > reservoir > detector, ranks
 *                        > judged by them > alarm > unusual
 *
 * A signal alone (series.h) cannot tell that the latency no longer follows the load while both stay
 * within what is usual. So the last clean rows are kept, a detector (ml/detector.h) learns from the
 * older two thirds of them, and the rest, which it has not seen, calibrate it: a score is worth its rank
 * among those and later ones that no detector has learnt from (split conformal), so a share alpha of
 * ordinary samples alarms even though there are hardly more rows than directions.
 *
 * Twelve alarms in the last sixteen samples make a thing unusual, at most four usual again. A sample is
 * learnt when it has spent sixteen samples in quarantine and the thing did not become unusual meanwhile,
 * so an event leaves no trace in what is usual, nor do the samples that it began with. Single alarms are
 * learnt: they are ordinary by definition, and without them what is usual would shrink with each fit.
 * What is far out, or comes while a signal has moved, is not learnt. What lasts for adopt_ms is learnt
 * anew, as of a signal.
 *
 * Signals that are constant, or not known in most rows, take no part until the next fit; a row of which
 * most is not known is none.
 *
 * Cost at 21 signals that all move, on a 2-core x86-64: a fit 31 ms of CPU time (36 at most), a sample 10 us, 254 KB.
 * Fits are the caller's to spread: company_due(), company_fit().
 *
 * Source:  Papadopoulos, Proedrou, Vovk, Gammerman: Inductive confidence machines for regression, ECML
 *          2002 (split conformal). Gibbs, Candes: Adaptive conformal inference under distribution shift,
 *          NeurIPS 2021 (the share of ranks that alarm is steered).
 * Owner:   whoever called company_new(); ends with company_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "ml/detector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COMPANY_NEEDED = 384, COMPANY_ROWS = 768, COMPANY_REFIT = 256, COMPANY_COLS_MOST = 64 };

struct company;

struct company_opts {
    double alpha;      /* share of ordinary samples that may alarm; 0: 0.01 */
    uint64_t adopt_ms; /* unusual for so long: learn anew */
};

struct company_state {
    double severity; /* over about twenty samples: 0 ordinary, 1 the worst hundredth of ordinary ones; NaN: not judged yet */
    double p;        /* of the last sample */
    enum detector_channel channel; /* that leads */
    bool alarm;      /* the last sample */
    bool unusual;
    uint64_t since_ms; /* unusual: the first alarm of those that made it so */
    uint32_t samples;  /* and so many samples ago */
    uint32_t learnt, needed; /* clean rows */
    uint32_t fits;
};

/* Whose an alarm is. */
struct company_part {
    uint32_t column;
    double share; /* 0 to 1 */
};

/* `floors[cols]`: the least spread of each signal that means anything, above 0. NULL: no memory, or more
 * columns than COMPANY_COLS_MOST. */
struct company *company_new(uint32_t cols, const double *floors);
void company_free(struct company *c);

/* Judges the next row, in the signals' scales; NaN: not known. `clean`: it may be learnt. */
void company_add(struct company *c, const struct company_opts *opts, const double *row, bool clean, uint64_t now_ms);

/* An experiment ran: what was remarkable before it says nothing of what comes. */
void company_pause(struct company *c);

/* Clean rows that wait to be learnt from; 0: too few, or an event is on. */
uint32_t company_due(const struct company *c);

/* Learns from the clean rows. Where that cannot be (no memory, nothing moves) it begins anew. */
void company_fit(struct company *c);

struct company_state company_state(const struct company *c);

/* The signals with the largest shares of the last alarms, the first of `most`. Returns how many. */
unsigned company_parts(const struct company *c, struct company_part *out, unsigned most);

size_t company_bytes(const struct company *c);
