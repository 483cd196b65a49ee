/* wheel.h - coarse timers for deadlines that almost never fire.
 *
 * A hashed timing wheel (Varghese and Lauck, 1987) that moves lazily: pushing
 * a deadline back only stores the number; the timer is relinked when its old
 * slot comes round. So a kept-alive connection pays one store per request.
 * Deadlines fire up to one tick (WHEEL_TICK_MS) late.
 *
 * Owner:   the loop's struct io; timers are embedded in what they time.
 * Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <stdint.h>

enum { WHEEL_TICK_MS = 16, WHEEL_SLOTS = 512 };

struct timer {
    struct timer *next, *prev; /* private; NULL when in no slot */
    uint64_t deadline_ms;      /* private; 0: not armed */
    uint64_t slot_ms;          /* private: when its slot comes round */
    void (*on_fire)(struct timer *t);
};

struct wheel {
    struct timer slots[WHEEL_SLOTS]; /* list heads */
    uint64_t tick;                   /* last tick that was run */
};

void wheel_init(struct wheel *w, uint64_t now_ms);

/* Arms or moves a timer; on_fire runs once. */
void wheel_set(struct wheel *w, struct timer *t, uint64_t deadline_ms);

/* Disarms. Must be called before the memory of an armed timer goes. */
void wheel_clear(struct timer *t);

/* Fires what is due. Timers may be set, cleared and freed by what fires. */
void wheel_run(struct wheel *w, uint64_t now_ms);
