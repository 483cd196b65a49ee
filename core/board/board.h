/* board.h - the shared memory between supervisor, workers and control.
 *
 * One anonymous segment made by the supervisor before it forks, so nothing is
 * left in the file system however the processes end. Plain atomics, no locks;
 * each part names its one writer.
 *
 *     +--------+----------+--------+-----------+---------+----------------+--------+
 *     | header | settings | routes | processes | gen.    | lane x lanes   | peers  |
 *     +--------+----------+--------+-----------+---------+----------------+--------+
 *      once     control    any, CAS  its process control   its writer      peers.h
 *
 * The first lanes are the workers', the others those of guests (guests.h).
 *
 * Owner:   the supervisor; ends with its last process.
 * Threads: as said at each part.
 */
// SPDX-License-Identifier: MIT
#pragma once

#include "base/str.h"
#include "board/benchmark.h"
#include "board/clients.h"
#include "board/guests.h"
#include "board/peers.h"
#include "board/limiter.h"
#include "board/own.h"
#include "board/pools.h"
#include "board/rates.h"
#include "board/settings.h"
#include "board/statements.h"
#include "board/task_lanes.h"
#include "board/trials.h"
#include "io/tls.h"
#include "stats/lane.h"

#include <stdatomic.h>

enum {
    BOARD_WORKERS_MAX = 64,
    BOARD_PROCESSES = BOARD_WORKERS_MAX + 2, /* 0 supervisor, 1 control, 2.. workers */
    BOARD_ROUTE_NAME = 120,
    BOARD_QUARANTINE = 16,
    BOARD_SCRIPT_NAME = 160,
    ROUTE_OTHER = 0,   /* what came after the table was full */
    ROUTE_REFUSED = 1, /* malformed requests */
    ROUTE_NONE = 2,    /* no route matched, nothing upstream */
    ROUTE_BENCHMARK = 3, /* requests of our own benchmark, in no statistic */
};

/* A route is named by method and template, never by path, and keeps its index
 * for the life of the board, over all generations. */
struct board_route {
    _Atomic uint32_t state; /* 0 free, 2 ready; else its low bits are 1: being written */
    char method[16];        /* "GET", or "*" */
    char name[BOARD_ROUTE_NAME]; /* "/api/users/:id" */
};

enum role { ROLE_SUPERVISOR, ROLE_CONTROL, ROLE_WORKER };

struct board_process {
    _Atomic uint32_t role;
    _Atomic int32_t pid; /* 0: not running. Writer: supervisor */
    _Atomic uint32_t restarts; /* Writer: supervisor */
    _Atomic uint64_t started_ns; /* CLOCK_MONOTONIC. Writer: supervisor */
    _Atomic uint64_t heartbeat_ns; /* Writer: the process, each loop turn */
    _Atomic uint64_t generation; /* the one it serves. Writer: the process */
    _Atomic uint64_t failed_generation; /* the last it could not load */
    _Atomic uint32_t ready; /* it accepts connections */
    _Atomic uint32_t running; /* a script runs now: `script` names it */
    _Atomic uint32_t script; /* index of the route whose handler runs */
    _Atomic uint64_t loop_lag_ns; /* longest of the last second */
    _Atomic uint64_t lua_bytes; /* heap of its current generation */
    _Atomic uint64_t gc_cycles; /* garbage collections of that, from one end to the next */
    _Atomic uint64_t gc_pause_ns; /* longest that was timed in the last second, see limits.h */
};

/* Which set of scripts is in force. Writer: control (supervisor at start). */
struct board_generation {
    _Atomic uint64_t active;    /* workers switch to it at a loop boundary */
    _Atomic uint64_t newest;    /* highest number given out */
    _Atomic uint64_t reloads_ok;
    _Atomic uint64_t reloads_refused;
    _Atomic uint64_t rollbacks;
    _Atomic uint64_t activated_ns;
};

struct board_quarantine {
    _Atomic uint32_t route;  /* index + 1; 0 free. Writer: supervisor */
    _Atomic uint32_t kills;  /* workers it took down */
    _Atomic uint64_t generation; /* on which */
};

struct board {
    uint64_t magic;
    uint64_t size_bytes;
    uint32_t workers;
    uint32_t lanes; /* the workers' and the guests' */
    _Atomic uint32_t lanes_used; /* the workers', and up to the last that a guest ever had. Writers: guests */
    uint32_t routes_max;
    uint64_t started_unix_ms;
    int fd; /* of the segment, inherited by all processes; -1: private */
    _Atomic uint32_t draining; /* Writer: supervisor */
    _Atomic double cpu_share;  /* of what we may use, 0 to 1; 0 while unknown. Writer: control, each second */
    _Atomic uint32_t reload_wanted; /* counts requests to reload. Writers: supervisor, control */
    struct settings settings;
    struct own_settings own; /* as settings */
    struct trials trials;
    struct benchmark benchmark; /* control */
    struct board_generation generation;
    struct board_quarantine quarantine[BOARD_QUARANTINE];
    struct board_process processes[BOARD_PROCESSES];
    struct board_route routes[LANE_ROUTES_MAX];
    _Atomic uint32_t route_count;
    uint64_t hash_seed; /* random: nobody outside can choose what collides */
    struct rates rates; /* any worker, CAS */
    struct clients clients[BOARD_WORKERS_MAX]; /* its worker */
    struct limiters limiters;
    struct pools pools;
    struct statements statements;
    struct task_lanes tasks;
    struct tls_tickets tickets; /* control */
    uint64_t lane_bytes; /* size of one lane */
    uint64_t lanes_offset;
    uint64_t peers_offset;
};

struct board_opts {
    uint32_t workers;    /* 1 to BOARD_WORKERS_MAX */
    uint32_t routes_max; /* 8 to LANE_ROUTES_MAX; 0 means 256 */
    uint32_t peers_max;  /* 1 to PEERS_MAX; 0 means 256 */
    uint32_t guests;     /* lanes for attached processes, up to GUESTS_MAX */
    bool is_private;     /* memory of this process alone; a fork has a copy of its own */
};

/* Creates the segment, with settings at their defaults and the fixed routes
 * registered. NULL when memory is out. */
struct board *board_new(const struct board_opts *opts);
void board_free(struct board *board);

/* A fingerprint of how the segment is laid out: two programs with the same one can share it. */
uint64_t board_layout(void);

static inline struct lane *board_lane(struct board *board, uint32_t lane)
{
    return (struct lane *)((char *)board + board->lanes_offset + lane * board->lane_bytes);
}

/* How many lanes there is something to read in: to look at others would be to give them memory. */
static inline uint32_t board_lanes(const struct board *board)
{
    return atomic_load_explicit(&board->lanes_used, memory_order_acquire);
}

static inline struct peers *board_peers(struct board *board)
{
    return (struct peers *)((char *)board + board->peers_offset);
}

static inline struct board_process *board_worker(struct board *board, uint32_t worker)
{
    return &board->processes[2 + worker];
}

/* Hash of a key for the tables on the board; `scope` tells equal keys of different uses apart. */
uint64_t board_hash(const struct board *board, struct str key, uint64_t scope);

/* Index of a route, registered if new; ROUTE_OTHER when the table is full.
 * Any process may call it at any time. Names beyond the field are cut. A scan:
 * for when scripts load, not for each request. */
uint32_t board_route(struct board *board, struct str method, struct str name);
