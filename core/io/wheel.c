// SPDX-License-Identifier: MIT
#include "io/wheel.h"

#include <stddef.h>

static void unlink_timer(struct timer *t)
{
    if (!t->next)
        return;
    t->next->prev = t->prev;
    t->prev->next = t->next;
    t->next = t->prev = NULL;
}

static void link_timer(struct wheel *w, struct timer *t)
{
    uint64_t tick = t->deadline_ms / WHEEL_TICK_MS + 1;
    if (tick <= w->tick)
        tick = w->tick + 1;
    if (tick >= w->tick + WHEEL_SLOTS)
        tick = w->tick + WHEEL_SLOTS - 1;
    struct timer *head = &w->slots[tick % WHEEL_SLOTS];
    t->slot_ms = tick * WHEEL_TICK_MS;
    t->prev = head;
    t->next = head->next;
    head->next->prev = t;
    head->next = t;
}

void wheel_init(struct wheel *w, uint64_t now_ms)
{
    w->tick = now_ms / WHEEL_TICK_MS;
    for (int i = 0; i < WHEEL_SLOTS; i++)
        w->slots[i].next = w->slots[i].prev = &w->slots[i];
}

void wheel_set(struct wheel *w, struct timer *t, uint64_t deadline_ms)
{
    t->deadline_ms = deadline_ms ? deadline_ms : 1;
    if (t->next && t->slot_ms <= deadline_ms + 2ULL * WHEEL_TICK_MS)
        return; /* its slot comes first: it moves on from there */
    unlink_timer(t);
    link_timer(w, t);
}

void wheel_clear(struct timer *t)
{
    unlink_timer(t);
    t->deadline_ms = 0;
}

static void run_slot(struct wheel *w, struct timer *head, uint64_t now_ms)
{
    /* Detach the whole list: what fires may link new timers to this slot. */
    struct timer due = {.next = &due, .prev = &due};
    if (head->next != head) {
        due.next = head->next;
        due.prev = head->prev;
        due.next->prev = due.prev->next = &due;
        head->next = head->prev = head;
    }
    while (due.next != &due) {
        struct timer *t = due.next;
        unlink_timer(t);
        if (t->deadline_ms > now_ms) {
            link_timer(w, t);
        } else {
            t->deadline_ms = 0;
            t->on_fire(t);
        }
    }
}

void wheel_run(struct wheel *w, uint64_t now_ms)
{
    uint64_t tick = now_ms / WHEEL_TICK_MS;
    if (tick > w->tick + WHEEL_SLOTS) /* slept longer than one turn */
        w->tick = tick - WHEEL_SLOTS;
    while (w->tick < tick) {
        w->tick++;
        run_slot(w, &w->slots[w->tick % WHEEL_SLOTS], now_ms);
    }
}
