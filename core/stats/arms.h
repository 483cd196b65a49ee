/* arms.h - the workers of a canary and the other workers, measured apart.
 *
 * While an experiment compares workers side by side, each of its two arms has a
 * history of its own: the same frames as those of the whole service, second by
 * second, of the lanes of its workers alone. Without one nothing is kept and a
 * tick costs nothing.
 *
 *      lanes of the workers   0   1   2   3
 *                             |   +---+---+--> ARM_CONTROL
 *                             +--------------> ARM_CANARY
 *
 * Owner:   control; ends with arms_free().
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/history.h"

enum arm { ARM_CANARY, ARM_CONTROL, ARM_COUNT };

struct arms;

struct arms *arms_new(struct board *board);
void arms_free(struct arms *a);

/* The workers of the canary, a bit each; all others are the control. Goes on when it is what runs already; 0 ends it.
 * ERR_INVAL when an arm would be without a worker, ERR_NOMEM. */
int arms_set(struct arms *a, uint64_t canary);

/* As history_tick(). */
void arms_tick(struct arms *a, uint64_t now_unix_ms);

/* NULL: nothing is measured apart. */
struct history *arms_history(const struct arms *a, enum arm arm);
