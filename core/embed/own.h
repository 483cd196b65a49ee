/* own.h - the whole loop inside an application: a private board, its history, and a brain.
 *
 *     recorder > lane > history > watch > brain (analyzer, rules, suggestions, trials)
 *
 * Driven by own_tick() a few times a second, by the application or by a thread of its own. Files of
 * the rules folder are read again when they change; a set that is wrong leaves the old one at work.
 * After a fork the child goes on with copies of everything; a thread is begun anew.
 *
 * Owner:   an engine object of the application; own_new() to own_free().
 * Threads: any, one at a time inside (a lock); spans take no lock (recorder.h).
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "board/board.h"

struct own;

struct own_opts {
    const char *rules;    /* folder; NULL: the built-in rules alone */
    const char *state;    /* folder of the journals; NULL: nothing outlives the process */
    size_t history_bytes; /* of memory; 0: 1 MiB */
    unsigned routes_max;  /* 0: 64 */
    bool thread;          /* ticks by itself */
};

/* NULL: `why` says everything that is wrong, one line each. */
struct own *own_new(const struct own_opts *opts, struct buf *why);
void own_free(struct own *o);

struct board *own_board(struct own *o);

/* Does what is due: frames, signals, files that have changed, the functions of the loop. */
void own_tick(struct own *o);

/* Calls a function of lua/perilune/embed/own.lua; see brain_call(). */
int own_call(struct own *o, const char *function, struct str arguments, struct buf *out);

struct own_state {
    uint64_t generation;    /* how often the rules were loaded */
    const char *problems;   /* of the files as they are now; "" when they are in force */
    size_t lua_bytes;       /* heap of the brain */
    bool has_thread;
};
/* Valid until the next call of this object. */
void own_state(struct own *o, struct own_state *out);
