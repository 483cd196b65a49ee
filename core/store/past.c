// SPDX-License-Identifier: MIT
#include "store/past.h"

#include "base/err.h"

static uint64_t step_ms(const struct past *p)
{
    return p->query.step_s * UINT64_C(1000);
}

bool past_is_memory(struct archive_query *q, struct history *history)
{
    uint64_t reach = history_reach_ms(history, q->from_ms, q->step_s), step = q->step_s * UINT64_C(1000);
    q->until_ms = reach ? reach : UINT64_MAX;
    return reach && reach <= q->from_ms / step * step;
}

static void give(struct past *p)
{
    struct history_step *s = &p->step;
    bool asked_for = s->to_ms > p->query.from_ms && s->from_ms < p->query.to_ms;
    if (s->to_ms && asked_for)
        p->on_step(p->arg, s);
}

static void add(struct past *p, uint64_t start_ms, double span_s, const struct stats_host *host, const struct stats_route *counts)
{
    if (p->step.to_ms && p->step.from_ms == start_ms) {
        stats_host_add(&p->host, host);
        stats_route_add(&p->counts, counts);
        p->step.span_s += span_s;
        return;
    }
    give(p);
    p->host = *host;
    p->counts = *counts;
    p->step = (struct history_step){start_ms, start_ms + step_ms(p), span_s, &p->host, &p->counts};
}

static void on_frame(void *arg, const struct archive_frame *f)
{
    struct past *p = arg;
    add(p, f->slot_ms / step_ms(p) * step_ms(p), (double)f->covered_ms / 1000, f->host, f->counts);
}

static void on_step(void *arg, const struct history_step *s)
{
    add(arg, s->from_ms, s->span_s, s->host, s->counts);
}

void past_read(struct past *p)
{
    p->result = archive_read(&p->query, on_frame, p);
}

bool past_finish(struct past *p, struct history *history)
{
    bool ok = history_series(history, p->thing, p->query.from_ms, p->query.to_ms, p->query.step_s, on_step, p);
    give(p);
    p->step = (struct history_step){0};
    return ok;
}
