// SPDX-License-Identifier: MIT
#include "proxy/budget.h"

#include <math.h>

enum { WINDOW_MS = 10000, FADE_MS = 100 };

/* What is left of an attempt that faded long ago must not cost a whole one. */
#define RESIDUE 0.01

static void fade(struct budget *b, uint64_t now_ms)
{
    uint64_t passed = now_ms - b->faded_ms;
    if (passed < FADE_MS)
        return;
    double left = exp(-(double)passed / WINDOW_MS);
    b->faded_ms = now_ms;
    b->requests *= left;
    b->extras *= left;
    b->hedges *= left;
}

void budget_request(struct budget *b, uint64_t now_ms)
{
    fade(b, now_ms);
    b->requests++;
}

bool budget_take(struct budget *b, uint64_t now_ms, double share, double floor)
{
    fade(b, now_ms);
    if (b->extras + 1 > share * b->requests + floor + RESIDUE)
        return false;
    b->extras++;
    return true;
}

bool budget_take_hedge(struct budget *b, uint64_t now_ms, double share, double floor,
                       double hedge_share)
{
    fade(b, now_ms);
    if (b->hedges + 1 > hedge_share * b->requests || !budget_take(b, now_ms, share, floor))
        return false;
    b->hedges++;
    return true;
}
