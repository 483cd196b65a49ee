/* guards.h - what ends an experiment at once: errors, and a long tail.
 *
 * Errors: given all errors of a window, how many of them the canary has is
 * binomial with its share of the requests, unless its rate is higher. The
 * evidence is the mean of the likelihood ratios for some rate ratios, multiplied
 * over windows: under no effect it reaches 100 in at most 1 of 100 experiments,
 * no matter how long they run. Errors come in bursts; the windows before the
 * change tell by how much they scatter more than Poisson (Fano factor), and the
 * evidence is deflated by that.
 *
 * Tail: the canary's p99 above a multiple of the control's in 3 of 5 windows.
 *
 * Source:  Grünwald, de Heide, Koolen: Safe testing, JRSS-B 86(5), 2024.
 *          Turner, Grünwald: Exact anytime-valid confidence intervals for
 *          contingency tables, 2023.
 * Owner:   the caller; plain memory, nothing to free.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { ERROR_GUARD_RATIOS = 7, TAIL_GUARD_MOST = 32 };

struct error_guard_opts {
    double trips_at;  /* evidence; 0: 100 */
    double inflation; /* of the Fano factor; 0: 1.25 */
};

struct error_guard {
    struct error_guard_opts opts;
    unsigned windows;                 /* before the change */
    double requests, errors, squares; /* over them: sums, and of errors^2 / requests */
    double log_evidence[ERROR_GUARD_RATIOS];
    bool tripped; /* stays */
};

void error_guard_init(struct error_guard *g, const struct error_guard_opts *opts);

/* A window before the change, both arms together. */
void error_guard_before(struct error_guard *g, uint64_t requests, uint64_t errors);

/* A window after it. Returns whether the guard has tripped. */
bool error_guard_add(struct error_guard *g, uint64_t canary_requests, uint64_t canary_errors,
                     uint64_t control_requests, uint64_t control_errors);

double error_guard_evidence(const struct error_guard *g);
double error_guard_fano(const struct error_guard *g); /* inflated, at least 1 */

struct tail_guard_opts {
    double ratio;      /* canary / control; 0: 1.5 */
    unsigned bad, of;  /* windows, `of` to TAIL_GUARD_MOST; 0: 3 of 5 */
    uint64_t requests; /* in each arm for a window to count; 0: 50 */
};

struct tail_guard {
    struct tail_guard_opts opts;
    uint32_t history; /* a bit a window, the newest lowest */
    bool tripped;     /* stays */
};

void tail_guard_init(struct tail_guard *g, const struct tail_guard_opts *opts);
bool tail_guard_add(struct tail_guard *g, double canary_p99, uint64_t canary_requests,
                    double control_p99, uint64_t control_requests);
