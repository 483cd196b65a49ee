/* frame.h - what a window says of one route and of the host, plain and as bytes.
 *
 * A frame is the difference between two readings, kept sparse: a route with
 * fifty requests in a second takes about a hundred bytes instead of 16 KB.
 * Frames add up exactly: the sum of the frames of ten seconds is the frame of
 * those ten seconds.
 *
 * Threads: any.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/lane.h"

/* One route, plain: sums over workers and time. 16 KB. */
struct stats_route {
    uint32_t route; /* index on the board */
    uint64_t requests;
    uint64_t status[6]; /* by hundreds; [0] no answer */
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t sizes[SIZE_COUNT];
    uint64_t latency_sum_ns;
    uint64_t phase_count[PHASE_COUNT];
    uint64_t phase_sum_ns[PHASE_COUNT];
    uint32_t latency[SKETCH_BUCKETS];
    uint32_t phases[PHASE_COUNT][SKETCH_COARSE_BUCKETS];
};

/* What belongs to no route. */
struct stats_host {
    uint64_t started, finished, aborted, refused;
    uint64_t connections_accepted;
    uint64_t script_errors, script_interrupts;
    uint64_t in_flight, connections_open; /* gauges: as at the end */
    float cpu_share, memory_share, disk_share, load; /* as at the end; NaN: not available */
};

enum {
    FRAME_VARINT_MOST = 10,
    /* Every counter and every bucket in its longest form: 5 bytes of count, 2 of gap. */
    FRAME_BYTES_MOST = FRAME_VARINT_MOST * (16 + 3 * PHASE_COUNT) +
                       7 * (SKETCH_BUCKETS + PHASE_COUNT * SKETCH_COARSE_BUCKETS),
    FRAME_HOST_BYTES_MOST = FRAME_VARINT_MOST * 9 + 16,
};

/* Writes b - a, of at most FRAME_BYTES_MOST. Returns how many bytes those are. */
size_t frame_put(unsigned char *to, const struct stats_route *a, const struct stats_route *b);

/* Adds a frame to *out. Returns its end, or NULL when it is damaged: then *out
 * has taken a part of it. */
const unsigned char *frame_add(const unsigned char *from, const unsigned char *end,
                               struct stats_route *out);

/* The same of the host, but for a whole one: *out is overwritten. */
size_t frame_put_host(unsigned char *to, const struct stats_host *host);
const unsigned char *frame_get_host(const unsigned char *from, const unsigned char *end,
                                    struct stats_host *out);

/* Numbers of 7 bits a byte, low first. Reading gives the end, or NULL. */
unsigned char *varint_put(unsigned char *to, uint64_t value);
const unsigned char *varint_get(const unsigned char *from, const unsigned char *end,
                                uint64_t *value);

void stats_route_add(struct stats_route *to, const struct stats_route *from);

/* Adds what came later; gauges become those of `later`. */
void stats_host_add(struct stats_host *sum, const struct stats_host *later);
