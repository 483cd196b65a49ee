/* statements.h - what SQL statements cost, by their shape: the text without
 * comments, white space and literals.
 *
 * Calls per request are counted as well, so that a handler which asks in a loop
 * (N+1) is named with its route.
 *
 * Owner:   the board.
 * Threads: a shape any worker, CAS; each lane its worker; any reader.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "stats/lane.h"

enum {
    STATEMENTS_MAX = 128, /* what comes after them shares the first, "(other)" */
    STATEMENT_TEXT = 320, /* longer shapes are told apart, but shown cut */
    STATEMENT_POOL = 64,
    STATEMENT_WORKERS = 64, /* what control asks is not counted */
};

/* One worker. */
struct statement_lane {
    _Alignas(64) lane_counter calls, rows, errors, time_sum_ns;
    lane_counter requests;      /* that called it at all */
    lane_counter most;          /* calls by one of them */
    lane_counter most_route;    /* its route's index on the board */
    struct sketch_coarse time;  /* from sent to answered */
};

struct board_statement {
    _Atomic uint32_t state; /* 0 free, 1 being written, 2 ready */
    uint64_t hash;          /* of pool and whole shape */
    char pool[STATEMENT_POOL];
    char text[STATEMENT_TEXT];
    struct statement_lane lanes[STATEMENT_WORKERS];
};

struct statements {
    struct board_statement list[STATEMENTS_MAX];
};

/* Writes the shape of an SQL text to `out` (of sql.len + 1 bytes); its length. */
size_t statement_shape(struct str sql, char *out);

/* Index of a shape, registered when new; 0 when there are too many. */
uint32_t statements_open(struct statements *all, uint64_t hash, struct str pool, struct str shape);

static inline struct statement_lane *statements_lane(struct statements *all, uint32_t index, uint32_t worker)
{
    return &all->list[index].lanes[worker];
}
