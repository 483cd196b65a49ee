/* recorder.h - what an application measures, written into a lane.
 *
 *     span_begin > span_phase ... > span_end > lane > frames, as with requests that the engine served
 *
 * The lane is on a private board (own.h) or on that of a running engine (board/attach.h). After a
 * fork the child of an attached application takes a lane of its own with its first span; a private
 * board is copied by the fork itself.
 *
 * Owner:   one per engine object of the application.
 * Threads: one at a time; each thread that measures has a recorder of its own.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "board/attach.h"

enum { RECORDER_NAMES = 2048 };

struct recorder {
    struct board *board;
    struct lane *lane;        /* NULL: none was free after a fork; spans are counted as lost */
    struct attached *attached; /* NULL: a private board */
    void (*on_fork)(void *);   /* NULL, or called before the first span of a child */
    void *on_fork_user;
    unsigned forks;
    unsigned moves;           /* a span that began before the last one is lost */
    uint64_t lost;
    struct {
        uint64_t hash; /* 0: free */
        uint32_t route;
    } names[RECORDER_NAMES]; /* of routes seen, so that the board is not searched for each span */
};

struct span {
    struct recorder *recorder; /* NULL: not begun, or over */
    unsigned moves;
    uint32_t route;
    uint64_t began_ns;         /* CLOCK_MONOTONIC */
    uint64_t phase_ns[PHASE_COUNT];
};

/* How it ended. */
struct span_result {
    uint32_t status;     /* 100 to 599; 0: the client went away */
    uint64_t bytes_in, bytes_out;
    uint64_t latency_ns; /* 0: since span_begin() */
    const char *trace_id; /* 32 hex digits, or NULL */
};

void recorder_init(struct recorder *r, struct board *board, uint32_t lane, struct attached *attached);

/* Goes on with a lane of another board. */
void recorder_move(struct recorder *r, struct board *board, uint32_t lane);

/* Whether spans can be written: there is a lane, after a fork a new one. If not, one is counted as lost. */
bool recorder_follow(struct recorder *r);

/* Nothing is written any more; spans that are still open are lost. */
void recorder_close(struct recorder *r);

/* Whether a request that took so long is kept among the slow ones, with its trace. */
bool recorder_is_slow(const struct recorder *r, uint64_t latency_ns);

/* How many forks lie between the program that loaded this library and this process. */
unsigned recorder_forks(void);

/* Index of a route on the board, registered when it is new. Methods beyond 15 bytes and names beyond 119 are cut. */
uint32_t recorder_route(struct recorder *r, struct str method, struct str name);

void span_begin(struct recorder *r, uint32_t route, struct span *out);
static inline void span_phase(struct span *s, enum phase phase, uint64_t ns)
{
    s->phase_ns[phase] += ns;
}
void span_end(struct span *s, const struct span_result *result);

/* What span_end() writes: a request that has ended. Only after recorder_follow(); latency_ns is not 0. */
void recorder_record(struct recorder *r, uint32_t route, const uint64_t phase_ns[PHASE_COUNT], const struct span_result *result);
