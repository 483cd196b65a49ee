// SPDX-License-Identifier: MIT
#include "script/admission.h"

#include "http/filter.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOOK_MS = 2, SHORTEST_MS = 1, LONGEST_MS = 1000 };

/* A request in the queue, or let in. */
struct ticket {
    struct ending ending; /* of the exchange: it leaves the class */
    struct door *door;
    struct dispatch *dispatch; /* NULL once it is let in */
    struct ticket *next, *prev;
    enum admission_priority priority;
    uint64_t arrived_ns, until_ms, admitted_ns;
};

/* A class in this worker. */
struct door {
    struct door *next_door;
    struct limiter *limiter;
    struct limiter_lane *lane;
    struct io *io;
    struct lane *counters;
    uint32_t workers;
    struct ticket *first[PRIORITIES], *last[PRIORITIES];
    uint32_t length[PRIORITIES], waiting;
    uv_timer_t look; /* slots that other workers have freed, and who has waited too long */
    bool opening;
};

static struct door *doors; /* of this process */

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* ---- the queue ---- */

static void append(struct ticket *t)
{
    struct door *door = t->door;
    t->next = NULL;
    t->prev = door->last[t->priority];
    *(t->prev ? &t->prev->next : &door->first[t->priority]) = t;
    door->last[t->priority] = t;
    door->length[t->priority]++;
    door->waiting++;
}

static void take_out(struct ticket *t)
{
    struct door *door = t->door;
    *(t->prev ? &t->prev->next : &door->first[t->priority]) = t->next;
    *(t->next ? &t->next->prev : &door->last[t->priority]) = t->prev;
    door->length[t->priority]--;
    door->waiting--;
}

static struct ticket *first_of(const struct door *door)
{
    for (int p = 0; p < PRIORITIES; p++)
        if (door->first[p])
            return door->first[p];
    return NULL;
}

/* ---- in and out ---- */

static void on_look(uv_timer_t *timer);

static void look_in(struct door *door, uint64_t ms)
{
    uv_timer_start(&door->look, on_look, ms, 0);
}

static bool has_room(const struct door *door)
{
    uint32_t limit = atomic_load_explicit(&door->limiter->limit, memory_order_relaxed);
    return limiter_inflight(door->limiter, door->workers) < limit;
}

static void leave(struct exchange *ex, struct ending *ending)
{
    struct ticket *t = (struct ticket *)ending;
    struct door *door = t->door;
    struct limiter_lane *lane = door->lane;
    if (!t->admitted_ns)
        return; /* it never was inside */
    atomic_store_explicit(&lane->inflight, atomic_load_explicit(&lane->inflight, memory_order_relaxed) - 1,
                          memory_order_relaxed);
    if (ex->status) {
        add(&lane->finished, 1);
        add(&lane->latency_us, (door->io->now_ns - t->admitted_ns) / 1000);
        add(&lane->lag_us, ex->phase_ns[PHASE_QUEUE] / 1000);
    }
    if (door->waiting && !door->opening) /* not from here: this exchange is being taken down */
        look_in(door, 0);
}

static void let_in(struct ticket *t)
{
    struct limiter_lane *lane = t->door->lane;
    uint32_t inflight = atomic_load_explicit(&lane->inflight, memory_order_relaxed) + 1;
    atomic_store_explicit(&lane->inflight, inflight, memory_order_relaxed);
    if (inflight > atomic_load_explicit(&lane->peak, memory_order_relaxed))
        atomic_store_explicit(&lane->peak, inflight, memory_order_relaxed);
    t->admitted_ns = t->door->io->now_ns;
}

static void refuse(struct door *door, struct exchange *ex)
{
    struct http_header retry = {STR("Retry-After"), STR("1")};
    add(&door->lane->rejected, 1);
    lane_add(&door->counters->counters[COUNTER_LIMIT_REFUSED], 1);
    exchange_problem(ex, 503, "overloaded", "too many requests are under way, and this one would wait too long",
                     &retry, 1);
}

static void turn_away(struct ticket *t)
{
    struct dispatch *d = t->dispatch;
    struct exchange *ex = d->ex;
    take_out(t);
    dispatch_answered(d);
    refuse(t->door, ex);
}

/* Turns away who has waited too long, lets in who fits. */
static void open_door(struct door *door)
{
    door->opening = true;
    for (int p = 0; p < PRIORITIES; p++)
        while (door->first[p] && door->io->now_ms >= door->first[p]->until_ms)
            turn_away(door->first[p]);
    struct ticket *t;
    while ((t = first_of(door)) && has_room(door)) {
        struct dispatch *d = t->dispatch;
        take_out(t);
        t->dispatch = NULL;
        add(&door->lane->waited_us, (door->io->now_ns - t->arrived_ns) / 1000);
        let_in(t);
        dispatch_go(d);
    }
    door->opening = false;
    if (door->waiting)
        look_in(door, LOOK_MS);
}

static void on_look(uv_timer_t *timer)
{
    struct door *door = timer->data;
    io_now(door->io);
    open_door(door);
}

static struct door *door_of(struct dispatch *d, struct limiter *limiter)
{
    struct script *s = d->script;
    for (struct door *door = doors; door; door = door->next_door)
        if (door->limiter == limiter)
            return door;
    struct door *door = calloc(1, sizeof *door);
    if (!door)
        return NULL;
    uint32_t worker = (uint32_t)(s->process - board_worker(s->board, 0));
    *door = (struct door){.next_door = doors, .limiter = limiter, .lane = &limiter->lanes[worker], .io = s->io,
                          .counters = s->lane, .workers = s->board->workers};
    uv_timer_init(&s->io->loop, &door->look);
    door->look.data = door;
    doors = door;
    return door;
}

/* ---- entering ---- */

static void cancel(struct dispatch *d)
{
    take_out(d->user);
}

static uint64_t patience_ms(const struct door *door, const struct admission_opts *opts)
{
    uint64_t half_ms = atomic_load_explicit(&door->limiter->rtt0_us, memory_order_relaxed) / 2000;
    if (opts->queue_ms)
        return opts->queue_ms;
    return half_ms < SHORTEST_MS ? SHORTEST_MS : half_ms > LONGEST_MS ? LONGEST_MS : half_ms;
}

/* Whether its turn will come in time: who is before it, a request's time, the limit. */
static bool is_hopeless(const struct door *door, enum admission_priority priority, uint64_t patience)
{
    uint64_t before = 0, rtt0_us = atomic_load_explicit(&door->limiter->rtt0_us, memory_order_relaxed);
    uint32_t limit = atomic_load_explicit(&door->limiter->limit, memory_order_relaxed);
    for (int p = 0; p <= (int)priority; p++)
        before += door->length[p];
    return before * rtt0_us / (limit ? limit : 1) > patience * 1000;
}

/* Makes room in a full queue; false when nobody in it matters less. */
static bool make_room(struct door *door, enum admission_priority priority)
{
    for (int p = PRIORITIES - 1; p > (int)priority; p--)
        if (door->last[p]) {
            turn_away(door->last[p]);
            return true;
        }
    return false;
}

enum stage_result admission_enter(struct dispatch *d, const struct admission_opts *opts)
{
    struct door *door = door_of(d, opts->limiter);
    struct ticket *t = door ? arena_alloc(d->ex->arena, sizeof *t) : NULL;
    if (!t) {
        exchange_problem(d->ex, 503, "out_of_memory", "the server is out of memory", NULL, 0);
        return STAGE_ANSWERED;
    }
    *t = (struct ticket){.ending = {.run = leave}, .door = door, .priority = opts->priority,
                         .arrived_ns = door->io->now_ns};
    exchange_on_end(d->ex, &t->ending);
    bool room = !door->waiting && has_room(door);
    if (opts->observe && !room)
        lane_add(&door->counters->counters[COUNTER_LIMIT_OBSERVED], 1);
    if (room || opts->observe) {
        let_in(t);
        return STAGE_GO;
    }
    uint64_t patience = patience_ms(door, opts);
    if (is_hopeless(door, opts->priority, patience) ||
        (door->waiting >= opts->queue && !make_room(door, opts->priority))) {
        refuse(door, d->ex);
        return STAGE_ANSWERED;
    }
    t->dispatch = d;
    t->until_ms = door->io->now_ms + patience;
    d->user = t;
    d->cancel = cancel;
    append(t);
    add(&door->lane->queued, 1);
    if (!uv_is_active((uv_handle_t *)&door->look))
        look_in(door, LOOK_MS);
    return STAGE_WAIT;
}
