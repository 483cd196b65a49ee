// SPDX-License-Identifier: MIT
#include "stats/arms.h"

#include "base/err.h"

#include <stdlib.h>

enum { BYTES = 4 << 20 /* of an arm: minutes of a hundred busy routes */ };

struct arms {
    struct board *board;
    uint64_t canary;
    struct history *history[ARM_COUNT];
};

struct arms *arms_new(struct board *board)
{
    struct arms *a = calloc(1, sizeof *a);
    if (a)
        a->board = board;
    return a;
}

static void end(struct arms *a)
{
    for (int i = 0; i < ARM_COUNT; i++) {
        history_free(a->history[i]);
        a->history[i] = NULL;
    }
    a->canary = 0;
}

void arms_free(struct arms *a)
{
    if (a)
        end(a);
    free(a);
}

int arms_set(struct arms *a, uint64_t canary)
{
    uint64_t workers = a->board->workers < 64 ? (UINT64_C(1) << a->board->workers) - 1 : UINT64_MAX;
    if (canary == a->canary)
        return 0;
    end(a);
    if (!canary)
        return 0;
    if ((canary & ~workers) || canary == workers)
        return ERR_INVAL;
    a->history[ARM_CANARY] = history_of_workers(a->board, BYTES, canary);
    a->history[ARM_CONTROL] = history_of_workers(a->board, BYTES, workers & ~canary);
    if (!a->history[ARM_CANARY] || !a->history[ARM_CONTROL]) {
        end(a);
        return ERR_NOMEM;
    }
    a->canary = canary;
    return 0;
}

void arms_tick(struct arms *a, uint64_t now_unix_ms)
{
    for (int i = 0; a->canary && i < ARM_COUNT; i++)
        history_tick(a->history[i], now_unix_ms);
}

struct history *arms_history(const struct arms *a, enum arm arm)
{
    return a ? a->history[arm] : NULL;
}
