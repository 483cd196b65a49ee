/* blocks.h - response times by the second in which they should have begun, and how far the whole may be trusted.
 *
 * Answers of one second share its weather: a collection, a neighbour, a full queue. An interval that takes them for
 * independent is far too narrow, so whole blocks are drawn again with replacement (block bootstrap), and the quantiles of
 * each draw's merged sketch make the interval. Blocks begin with 1 s; when a run outgrows BLOCKS_MOST of them they are
 * merged by pairs, so memory is bounded whatever its length.
 *
 * Source:  Efron, Tibshirani: An introduction to the bootstrap, 1993, chapters 8 and 13 (percentile interval); Kuensch: The
 *          jackknife and the bootstrap for general stationary observations, Annals of Statistics 17(3), 1989.
 * Owner:   the caller.  Threads: one.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/sketch.h"

#include <stdbool.h>
#include <stdint.h>

enum { BLOCKS_MOST = 256, BLOCKS_LEAST = 10 /* fewer say nothing about the weather */ };

struct bench_block {
    uint32_t answered;
    uint32_t response[SKETCH_BUCKETS];
};

struct bench_blocks {
    uint64_t length_ns;
    unsigned count; /* the last may be under way */
    struct bench_block *list;
};

struct bench_interval { /* holds the true value in 95 of 100 cases */
    double low, high;
};

struct bench_intervals {
    struct bench_interval per_second, p50_ms, p95_ms, p99_ms;
};

/* False: no memory. */
bool bench_blocks_init(struct bench_blocks *b);
void bench_blocks_done(struct bench_blocks *b);

/* The block of a moment, counted from the begin of what is measured. */
struct bench_block *bench_blocks_at(struct bench_blocks *b, uint64_t after_ns);

/* Forgets a last block that was not whole when the run ended. */
void bench_blocks_end(struct bench_blocks *b, double seconds);

/* Takes over the blocks of another run, which may be made longer on the way. */
void bench_blocks_append(struct bench_blocks *b, struct bench_blocks *more);

/* False: fewer than BLOCKS_LEAST, or no memory; nothing is written then. */
bool bench_blocks_intervals(const struct bench_blocks *b, uint64_t seed, struct bench_intervals *out);
