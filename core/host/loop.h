/* loop.h - a loop of ours inside a program that has one of its own, or none.
 *
 *     program's loop: fd readable, or timeout over > step() > what has ended > coroutines go on
 *     no loop:        wait() until it has ended
 *
 * A loop of libuv can be looked at from outside by its descriptor and the time of its
 * next timer, so any other loop can drive it, and nothing of libuv need be the same in
 * both. Nothing in here calls Lua: what has ended is a list of numbers, and Lua
 * (lua/perilune/embed/loop.lua) asks for them and resumes whoever waits.
 *
 * A fork leaves the child with a copy of descriptors that the parent goes on using, so
 * the child does nothing with it, not even close it.
 *
 * Owner:   the object of Lua that has it; host_loop_new() to host_loop_free().
 * Threads: the one that runs Lua.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "io/io.h"

#include <lua.h>
#include <sys/types.h>

struct host_loop {
    struct io io;
    pid_t pid;
    uint64_t last;    /* number given out */
    unsigned pending; /* of those not ended */
    struct buf ended; /* their numbers, for Lua to take */
    bool slow;        /* its ticks are, for nothing is pending */
    void (*on_tick)(void *user); /* or NULL */
    void *user;
};

/* Something that Lua may wait for; embedded in it. */
struct host_wait {
    struct host_loop *loop; /* NULL: not begun, or ended */
    uint64_t number;
};

/* What every object with a loop begins with. */
struct host_object {
    struct host_loop *loop; /* NULL: closed */
};

/* NULL: out of memory or descriptors. */
struct host_loop *host_loop_new(void);

/* Closes all that is on it; then what was may be freed, and last the loop. */
void host_loop_stop(struct host_loop *loop);
void host_loop_free(struct host_loop *loop);

/* False in a child that was forked after it was made. */
bool host_loop_is_ours(const struct host_loop *loop);

/* The object at 1, of this class, to be used now: the clock is read. Raises when it was
 * closed, or is the parent's. */
struct host_object *host_object_at(lua_State *L, const char *class);

void host_wait_begin(struct host_wait *wait, struct host_loop *loop);
void host_wait_end(struct host_wait *wait);

/* Pushes nothing when it has ended, else its number; returns how many. */
int host_wait_push(lua_State *L, const struct host_wait *wait);

/* Adds to the methods on top, of the class of this name: ours, fd, timeout, step, wait, ended. */
void host_loop_methods(lua_State *L, const char *class);
