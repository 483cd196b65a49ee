/* brain.h - the analyzer and the rules in a Lua state of their own, inside an application.
 *
 * The application's state is not touched: what goes in and comes out is plain data (plain.h). What
 * runs in here is under limits that need no signal: a hook counts instructions, looks at the CPU
 * time of the thread and at the heap, and raises an error that no pcall survives for long.
 *
 * Owner:   own.h. Threads: one at a time.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "base/problems.h"
#include "script/keep.h"
#include "watch/watch.h"

#include <lua.h>

struct brain;

struct brain_opts {
    struct board *board;
    struct history *history;
    struct resources *resources;
    struct watch *watch;
    struct keep *keep;  /* what is learnt outlives a brain */
    const char *rules;  /* folder; NULL: the built-in rules alone */
    const char *state;  /* folder of the journals; NULL: nothing outlives the process */
    uint64_t number;    /* of the generation */
};

/* Reads the folder and loads all of it. NULL: *problems says everything that is wrong. */
struct brain *brain_new(const struct brain_opts *opts, struct problems *problems);
void brain_free(struct brain *b);

/* Changes whenever a file of the folder is touched. */
uint64_t brain_signature(const char *rules);

/* Calls a function of lua/perilune/embed/own.lua with plain arguments (plain.h) and appends its plain
 * results. Returns 0, or ERR_SCRIPT with the message in *out. */
int brain_call(struct brain *b, const char *function, struct str arguments, struct buf *out);

size_t brain_bytes(const struct brain *b);
