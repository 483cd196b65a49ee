/* trials.h - values that a trial holds in force, for as long as its lease lasts.
 *
 *     try    > the trial's value is what workers read from now on
 *     untry  > the stable value is
 *     canary > which workers read the values that are only for a canary
 *     renew  > all of them stay until then; control does it while it lives
 *     expire > nobody has renewed: all are let go
 *
 * Nothing here is remembered by whoever made the trial: a control process that
 * dies or hangs takes its trials with it, because the supervisor lets go of what
 * is on trial when control ends, and of what has outlived its lease.
 *
 * Owner:   the board.
 * Threads: control; the supervisor when control has died or the lease is over.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/own.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct board;

struct trials {
    _Atomic uint64_t until_ns; /* end of the lease, CLOCK_MONOTONIC; 0: nothing is on trial */
    _Atomic uint64_t expired;  /* how often a lease ended by itself, or with control */
};

enum trial_kind { TRIAL_SETTING, TRIAL_OWN, TRIAL_POOL_MAX, TRIAL_POOL_MIN };

/* What a name stands for: that of a setting, "upstream.<name>.retries" (see own.h), "pool.<id>.max", "pool.<id>.min". */
struct trial_target {
    enum trial_kind kind;
    int index; /* of the setting, of the upstream's slot or of the pool, on the board */
    enum own_setting which; /* TRIAL_OWN */
};

/* False: there is nothing of this name. */
bool trial_find(const struct board *board, const char *name, struct trial_target *out);

double trial_value(const struct board *board, struct trial_target target);
double trial_stable(const struct board *board, struct trial_target target);
bool trial_is_on(const struct board *board, struct trial_target target);

/* Values are checked by the caller (setting_check()). canary_only is for settings whose value each worker acts on by itself. */
void trial_try(struct board *board, struct trial_target target, double value, bool canary_only);
void trial_untry(struct board *board, struct trial_target target);

/* The workers of the canary, a bit each; 0: none. */
void trials_canary(struct board *board, uint64_t workers);

void trials_renew(struct board *board, uint64_t until_ns);

/* Lets go of all when the lease is over; clear does it at once. True: something was on trial. */
bool trials_expire(struct board *board, uint64_t now_ns);
bool trials_clear(struct board *board);
