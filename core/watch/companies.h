/* companies.h - which things are judged as a whole (company.h), and when that is learnt.
 *
 * The host and every pool are; of the routes those COMPANY_ROUTES in which most time is spent, so memory
 * is bounded. A route that became busier than one of them by half takes its place, and learns anew.
 *
 * A fit takes long for a thread that also answers (see company.h), so there is at most one in a tick, of
 * the thing that waits longest, and none until the ticks since have paid for the last: COMPANY_FIT_MS of
 * CPU time each.
 *
 * Owner:   the watch, in which it lies.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "watch/company.h"

enum { COMPANY_ROUTES = 16 };
#define COMPANY_FIT_MS 2.5

struct watched;

struct companies {
    double debt_ms; /* CPU time of the last fit that ticks have not paid for yet */
    double fit_ms;  /* of the longest */
    uint32_t fits, ticks;
};

/* Each tick: a thing that has no company and deserves one gets it, and one learns. */
void companies_tick(struct companies *cs, struct watched *const *things, unsigned count);
