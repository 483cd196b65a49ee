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

/* When what is read in this turn of the loop had arrived. The kernel knows, and tells
 * who asks with each read, which costs as much as all other measuring. So it is asked
 * only where the answer may matter: after turns of more than ARRIVAL_SLOW_NS, for
 * one read in ARRIVAL_SAMPLE, and for a while after one that had waited for long.
 * Else: when the poll has blocked, just now; when it has not, halfway through the
 * turn before. */
enum { ARRIVAL_SLOW_NS = 2000000, ARRIVAL_BLOCKED_NS = 30000, ARRIVAL_SAMPLE = 16, ARRIVAL_WATCH_NS = 100000000 };

struct arrivals {
    uint64_t prepared_ns;  /* the turn began to poll */
    uint64_t polled_ns;    /* the turn before had polled */
    uint64_t estimate_ns;
    uint64_t watch_ns;     /* until then all reads ask */
    uint32_t reads;
    bool fresh;            /* nothing has been read in this turn */
    bool slow;
};

struct io {
    uv_loop_t loop;
    struct wheel wheel;
    uint64_t now_ns;   /* time of the event being handled */
    uint64_t now_ms;   /* the same, in ms; the wheel's clock */
    uint64_t unix_ms;  /* wall clock, refreshed each tick */
    int64_t wall_ahead_ns; /* wall clock less the monotonic one, the same */
    char date[32];     /* RFC 9110 date, 29 bytes, refreshed each second */
    uint64_t date_second;
    struct arrivals arrivals;
    uv_prepare_t prepare;
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

void io_begin_reads(struct io *io); /* the first of a turn */

/* Something is about to be read: whether the kernel shall be asked when it came. Else
 * arrivals.estimate_ns is what is known. */
static inline bool io_asks_arrival(struct io *io)
{
    if (io->arrivals.fresh)
        io_begin_reads(io);
    return io->arrivals.slow || ++io->arrivals.reads % ARRIVAL_SAMPLE == 0;
}

/* What the kernel said. */
static inline void io_note_arrival(struct io *io, uint64_t arrived_ns)
{
    if (io->now_ns - arrived_ns > ARRIVAL_SLOW_NS)
        io->arrivals.watch_ns = io->now_ns + ARRIVAL_WATCH_NS;
}

/* Closes what is left on the loop, runs it dry and frees it. */
void io_done(struct io *io);
