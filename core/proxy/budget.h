/* budget.h - how many attempts beyond the first an upstream may be asked for.
 *
 * Retries help when one peer fails and harm when all do. So they, and hedges,
 * share one budget: a share of the requests of the last ten seconds, plus a
 * floor for upstreams with little traffic. Running out suppresses the attempt
 * and nothing else. Counts fade exponentially instead of falling out of a
 * window, which needs three numbers and no ring.
 *
 * Each worker has its own budget: it sees its share of the requests, so the
 * shares add up to the same bound without a contended counter on each request;
 * only the floor is per worker.
 *
 * Source:  Finagle, "RetryBudget"; Google SRE, "Addressing Cascading Failures".
 * Owner:   a plain struct, zero is empty.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint64_t faded_ms; /* when the counts were last brought up to date */
    double requests;
    double extras; /* retries and hedges */
    double hedges;
};

void budget_request(struct budget *b, uint64_t now_ms);

/* Takes one attempt of `share` of the requests plus `floor`. */
bool budget_take(struct budget *b, uint64_t now_ms, double share, double floor);

/* The same for a hedge, which has a bound of its own besides and no floor there. */
bool budget_take_hedge(struct budget *b, uint64_t now_ms, double share, double floor,
                       double hedge_share);
