/* task_lanes.h - what the task threads of each process did: by kind of work and by
 * priority.
 *
 * Gauges are written under the lock of the pool that they describe, the rest by
 * the loop of its process; counters only grow. A worker that dies leaves its
 * counters to its successor, and its gauges are cleared by the supervisor.
 *
 * Owner:   the board.
 * Threads: one writer at a time, any reader, by plain atomics.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "stats/lane.h"

/* id, name */
#define TASK_KIND_LIST(X)                                                                          \
    X(COMPRESS, "compress") /* bodies of answers */                                                \
    X(KERNEL, "kernel")     /* work in C by name: hashes, codings, numbers */                      \
    X(LUA, "lua")           /* functions of modules */                                             \
    X(CONNECT, "connect")   /* to databases, on threads of their own */

enum task_kind {
#define X(id, name) TASK_##id,
    TASK_KIND_LIST(X)
#undef X
        TASK_KINDS
};

enum task_priority { TASK_CRITICAL, TASK_HIGH, TASK_NORMAL, TASK_LOW, TASK_PRIORITIES };

enum { TASK_WORKERS = 64, TASK_CONTROL = TASK_WORKERS, TASK_PROCESSES };

struct task_lane {
    _Atomic uint32_t queued, running;
    lane_counter done, failed, cancelled, expired; /* how they ended */
    lane_counter refused;                          /* the queue was full */
    lane_counter wait_sum_ns, run_sum_ns, cpu_sum_ns;
    struct sketch_coarse wait; /* from asked for to begun */
    struct sketch_coarse run;  /* from begun to ended */
};

/* One process. */
struct task_process {
    _Alignas(64) _Atomic uint32_t width; /* threads that it may have; 0: tasks run on the loop */
    _Atomic uint32_t threads;            /* that it has */
    _Atomic uint32_t lost;               /* of them, those that do not come back from their task */
    _Atomic uint32_t most;               /* tasks queued or running that it takes */
    _Atomic double busy_share;           /* of its threads, in the last second */
    lane_counter busy_ns;                /* of all its threads together */
    struct task_lane lanes[TASK_KINDS][TASK_PRIORITIES];
};

struct task_lanes {
    struct task_process processes[TASK_PROCESSES]; /* workers, then control */
};

const char *task_kind_name(enum task_kind kind);
const char *task_priority_name(enum task_priority priority);

/* TASK_PRIORITIES: there is none of this name. */
enum task_priority task_priority_find(struct str name);

/* A worker is gone, and with it its queue. */
void task_lanes_forget(struct task_process *p);
