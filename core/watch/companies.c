// SPDX-License-Identifier: MIT
#include "watch/companies.h"

#include "base/clock.h"
#include "watch/watch.h"

enum { CHOOSE_EVERY = 16 /* ticks */ };

static const double BUSIER = 1.5;

static void give(struct watched *t)
{
    double floors[SIGNALS_MOST];
    for (unsigned i = 0; i < watch_signals(t->kind); i++)
        floors[i] = watch_signal(t->kind, i).floor;
    t->company = company_new(watch_signals(t->kind), floors);
}

/* The quietest route that has a company, or the busiest that has none. */
static struct watched *route_of(struct watched *const *things, unsigned count, bool has)
{
    struct watched *best = NULL;
    for (unsigned i = 0; i < count; i++) {
        struct watched *t = things[i];
        if (t->kind != WATCH_ROUTE || (t->company != NULL) != has)
            continue;
        if (!best || (has ? t->busy < best->busy : t->busy > best->busy))
            best = t;
    }
    return best;
}

static unsigned routes_with_one(struct watched *const *things, unsigned count)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++)
        n += things[i]->kind == WATCH_ROUTE && things[i]->company;
    return n;
}

static void choose_route(struct watched *const *things, unsigned count)
{
    struct watched *busiest = route_of(things, count, false);
    if (!busiest || busiest->busy <= 0)
        return;
    if (routes_with_one(things, count) >= COMPANY_ROUTES) {
        struct watched *quietest = route_of(things, count, true);
        if (busiest->busy < BUSIER * quietest->busy)
            return;
        company_free(quietest->company);
        quietest->company = NULL;
    }
    give(busiest);
}

static void fit_one(struct companies *cs, struct watched *const *things, unsigned count)
{
    struct company *longest = NULL;
    uint32_t due = 0;
    for (unsigned i = 0; i < count; i++) {
        struct company *c = things[i]->company;
        if (c && company_due(c) > due) {
            due = company_due(c);
            longest = c;
        }
    }
    if (!longest)
        return;
    double began = clock_cpu_ms();
    company_fit(longest);
    cs->debt_ms = clock_cpu_ms() - began;
    cs->fit_ms = cs->debt_ms > cs->fit_ms ? cs->debt_ms : cs->fit_ms;
    cs->fits++;
}

void companies_tick(struct companies *cs, struct watched *const *things, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!things[i]->company && things[i]->kind != WATCH_ROUTE)
            give(things[i]);
    if (cs->ticks++ % CHOOSE_EVERY == 0)
        choose_route(things, count);
    cs->debt_ms -= COMPANY_FIT_MS;
    if (cs->debt_ms <= 0)
        fit_one(cs, things, count);
}
