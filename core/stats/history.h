/* history.h - what the lanes said, second by second: frames in three tiers.
 *
 * Lanes only grow; a frame is the difference between two readings of one
 * thing, all workers summed. Things are the routes by their index on the board,
 * then the connection pools (pool_frame.h) by their name, which are in no total. Frames are kept sparse in three byte rings, of
 * 1 s, 10 s and 60 s, that share a budget of bytes; the oldest give way. The
 * memory is made by the supervisor and outlives a crash of control: its
 * successor goes on where it ended. A crash in the middle of a tick costs the
 * window it was about to write, never the ring.
 *
 * Owner:   the supervisor, before it forks; ends with history_free().
 * Threads: one process at a time (control) ticks and queries.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/board.h"
#include "stats/pool_frame.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    HISTORY_POOL = LANE_ROUTES_MAX, /* the first pool */
    HISTORY_POOLS = 4 * POOLS_MAX,  /* that are remembered; then those that are longest gone are forgotten */
    HISTORY_THINGS = HISTORY_POOL + HISTORY_POOLS,
};

struct stats_view {
    uint64_t from_ms, to_ms; /* unix time */
    double span_s;           /* really covered; 0 when there is nothing yet */
    struct stats_host host;
    struct stats_route total; /* over all routes; its `route` means nothing */
    struct stats_route *routes; /* those that had requests */
    uint32_t route_count;
    struct stats_route *pools; /* those that did something; of history_after() only */
    uint32_t pool_count;
};

struct history;

/* `bytes` is for the rings; the readings they are differences of take up to
 * three times 16 KB per active route on top. NULL when memory is out. */
struct history *history_new(struct board *board, size_t bytes);
void history_free(struct history *h);

/* One of seconds only, of the workers whose bits are set and of no pool: a part of what is measured, for a while. */
struct history *history_of_workers(struct board *board, size_t bytes, uint64_t workers);

/* Appends the frames whose time has come. Call it every 100 to 1000 ms; a
 * window ends with the first tick behind a multiple of its period. */
void history_tick(struct history *h, uint64_t now_unix_ms);

/* The machine's state, for the frames that follow. NaN: not available. */
void history_note_machine(struct history *h, float cpu_share, float memory_share, float disk_share,
                          float load);

/* Merges the frames of the last `span_s` seconds before the last tick, from the
 * finest tier that holds them (in at most 900 frames, where there is a choice);
 * 0 means since the start, straight from the lanes. False when memory is out. */
bool history_merge(struct history *h, double span_s, struct stats_view *view);
void stats_view_free(struct stats_view *view);

/* The pool of a name as a thing; -1: nothing is known of it, neither of its past nor on the board. */
int history_pool(struct history *h, const char *name);
const char *history_pool_name(const struct history *h, uint32_t thing);

/* The 1 s frames that ended behind `after_ms`, of pools too; without a total. */
bool history_after(struct history *h, uint64_t after_ms, struct stats_view *view);

/* One step of a series: [from_ms, to_ms), aligned to multiples of the step.
 * Steps without a frame are left out. */
struct history_step {
    uint64_t from_ms, to_ms;
    double span_s; /* covered by frames */
    const struct stats_host *host;
    const struct stats_route *counts; /* of the thing asked for, or of all routes */
};
typedef void history_step_fn(void *arg, const struct history_step *step);

/* Calls `on_step` for each step between from_ms and to_ms, in order. `thing` is -1 for all
 * routes. False when memory is out. */
bool history_series(struct history *h, int thing, uint64_t from_ms, uint64_t to_ms, uint32_t step_s,
                    history_step_fn *on_step, void *arg);

/* From when on that series is from frames of memory; 0: not at all. */
uint64_t history_reach_ms(struct history *h, uint64_t from_ms, uint32_t step_s);

/* Ends the windows as they stand, for when nobody will tick any more. */
void history_end(struct history *h, uint64_t now_unix_ms);

struct history_window {
    uint64_t from_ms, to_ms;
    const struct stats_host *host;
};

/* Calls `on_window` for each 1 s window that ended behind after_ms, in order, and `on_frame` for
 * each frame of it: bytes for frame_add(), with some to spare. Ends early when on_window says
 * false. False when memory is out. */
typedef bool history_window_fn(void *arg, const struct history_window *window);
typedef void history_frame_fn(void *arg, uint32_t thing, const unsigned char *bytes, size_t size);
bool history_windows(struct history *h, uint64_t after_ms, history_window_fn *on_window,
                     history_frame_fn *on_frame, void *arg);

enum { HISTORY_TIERS = 3 };

struct history_memory {
    size_t ring_bytes;      /* the budget */
    size_t lanes_per_route; /* over all workers */
    size_t readings_per_route; /* over all tiers */
    uint32_t routes, routes_max;
    struct {
        uint32_t period_s;
        size_t ring_bytes, used_bytes;
        uint64_t windows;   /* written since the start */
        uint64_t dropped;   /* frames that did not fit into the ring at all */
        double held_s;      /* how far back it goes */
    } tiers[HISTORY_TIERS];
};
void history_memory(const struct history *h, struct history_memory *out);
