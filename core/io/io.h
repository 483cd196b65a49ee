/* io.h - what everything on one loop shares: the loop, one read buffer, the
 * wheel of deadlines, and the time as of this turn.
 *
 * Reads of all connections land in one buffer and are consumed or copied
 * before the callback returns, so an idle connection holds no buffer.
 *
 * Owner:   the process; io_init() to io_done().
 * Threads: the loop's.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "io/wheel.h"

#include <uv.h>

enum { IO_READ_BYTES = 64 * 1024, IO_SPARE_BUFFERS = 64 };

struct io {
    uv_loop_t loop;
    struct wheel wheel;
    uint64_t now_ns;   /* time of the event being handled */
    uint64_t now_ms;   /* the same, in ms; the wheel's clock */
    uint64_t unix_ms;  /* wall clock, refreshed each tick */
    int64_t wall_ahead_ns; /* wall clock less the monotonic one, the same */
    char date[32];     /* RFC 9110 date, 29 bytes, refreshed each second */
    uint64_t date_second;
    uv_timer_t ticker; /* drives the wheel */
    void (*on_tick)(struct io *io); /* each tick, or NULL */
    void *user;
    struct buf plain; /* what TLS has just opened */
    struct buf spare[IO_SPARE_BUFFERS]; /* output buffers that nobody writes to now */
    unsigned spare_count;
    char read_buffer[IO_READ_BYTES];
};

int io_init(struct io *io);

/* Reads the clock; called at the start of each event and at edges inside it. */
static inline uint64_t io_now(struct io *io)
{
    io->now_ns = clock_now_ns();
    io->now_ms = io->now_ns / 1000000;
    return io->now_ns;
}

/* Closes what is left on the loop, runs it dry and frees it. */
void io_done(struct io *io);
