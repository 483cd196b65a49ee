/* limits.h - takes the processor and the memory back from a script.
 *
 * Processor: a timer on the CPU time of a thread ticks only while that
 * burns CPU, so an idle process never wakes for it and a request pays two
 * plain stores. When one and the same run is still on after its budget, the
 * tick arms a count hook: from then on every instruction of the script raises an
 * error, also behind pcall, until the run has unwound.
 *
 * Memory: the state's allocator counts. Above the soft cap it arms the same
 * hook, which collects garbage first and raises only if that did not help;
 * above the hard cap allocation is refused.
 *
 * A run that asks code of others (rules) gives each a part: the tick counts against that
 * alone, and its end takes the hook away again.
 *
 * Both need the JIT compiler off: compiled traces check no hooks, and running out of memory
 * inside one cannot be unwound.
 *
 * Owner:   each thread that runs Lua (its timer), and each state its struct heap.
 * Threads: any; the timer's signal is handled on the thread that it is about.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include <lua.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap {
    lua_Alloc alloc; /* LuaJIT's own */
    void *alloc_user;
    lua_State *L;
    size_t used_bytes;
    size_t soft_bytes;
    size_t hard_bytes;
    bool closing;
    uint64_t gc_cycles;   /* that have ended */
    uint64_t gc_pause_ns; /* longest since heap_gc_pause() */
};

/* Counts and caps the memory of a new state. */
void heap_open(struct heap *heap, lua_State *L, size_t soft_bytes, size_t hard_bytes);

/* LuaJIT collects in steps while a script allocates, and has no way to time them. So one
 * step more is made here and timed, to be called about once a second; full collections
 * are timed where they are made. Returns the longest since the call before, in ns. */
uint64_t heap_gc_pause(struct heap *heap);

/* Gives the allocator back; must come right before lua_close(). */
void heap_close(struct heap *heap);

/* Starts the CPU timer of the calling thread. Returns 0 or ERR_IO. */
int limits_start(void);
void limits_stop(void);

/* A script of this state runs from here on, for at most budget_ms of CPU time. */
void limits_enter(struct heap *heap, unsigned budget_ms);

/* The same for a task: `setting` names where the budget comes from; once *stop is
 * set, the run is interrupted as well. */
void limits_enter_task(struct heap *heap, unsigned budget_ms, const char *setting, const _Atomic bool *stop);

/* It has returned or yielded. True if it was interrupted meanwhile. */
bool limits_leave(void);

/* A part of a run that has a budget of its own: what it is interrupted for ends with it, and the
 * rest goes on with what it had left. */
struct limits_part {
    int ticks, budget_ticks; /* of what it is a part of */
    unsigned budget_ms;
    const char *setting;
    bool over; /* that is being interrupted itself */
};

/* Begins one of budget_ms of CPU time, in steps of LIMITS_TICK_MS. */
enum { LIMITS_TICK_MS = 5 };
void limits_begin_part(struct limits_part *part, unsigned budget_ms);

/* Ends it, and says in *used_ms what it used. True if it was interrupted. */
bool limits_end_part(const struct limits_part *part, unsigned *used_ms);
